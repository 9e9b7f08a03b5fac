# What another cluster has claimed is not run here: neither rows that logical replication brings, nor predictions of a
# dump. Nobody pays twice, and what was paid for is asked about by whoever takes it over.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $conf = "wal_level = logical\ngenjob.rescan_interval = '1 h'\nlog_min_messages = warning\n";
my $here = new_node(name => 'here', conf => $conf, init => { allows_streaming => 'logical' });
my $there = new_node(name => 'there', conf => $conf);
# calls that only the other cluster makes come here
my $other = StandIn->new;

# A server at both clusters, which is paused at the subscriber.
sub create_servers
{
	my ($server) = @_;
	create_server($here, $server, 'replicate', $standin, poll_interval => '100 ms');
	create_server($there, $server, 'replicate', $other, poll_interval => '100 ms', paused => 'on');
	return;
}

# A prediction at the publisher that ends when it is told to; returns when its name is in the table.
sub begin_prediction
{
	my ($server, $what) = @_;
	my $id = enqueue($here, $server,
		StandIn::request(version => 'v', input => { prompt => $what },
			standin => { id => $what, latency_ms => 600_000 }));
	$here->poll_query_until('postgres',
		"SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id") or die "no prediction $what";
	return $id;
}

# Starts the publisher if a subtest has stopped it.
sub start_publisher
{
	return if $here->psql('postgres', 'SELECT 1') == 0;
	$here->start;
	query_node($here, 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
	wait_dispatcher($here);
	return;
}

# From now on the subscriber has all rows of the publisher. The first time it gets those that there are.
sub subscribe
{
	return if query_node($there, 'SELECT count(*) FROM pg_subscription') > 0;
	query_node($there, 'TRUNCATE gen_jobs CASCADE');
	query_node($there,
		'CREATE SUBSCRIPTION jobs CONNECTION ' . literal($here->connstr('postgres')) . ' PUBLICATION jobs');
	$there->wait_for_subscription_sync($here, 'jobs');
	return;
}

sub unsubscribe
{
	query_node($there, 'ALTER SUBSCRIPTION jobs DISABLE');
	query_node($there, 'ALTER SUBSCRIPTION jobs SET (slot_name = NONE)');
	query_node($there, 'DROP SUBSCRIPTION jobs');
	return;
}

sub is_there
{
	my ($id, $condition, $what) = @_;
	return ok($there->poll_query_until('postgres', "SELECT $condition FROM gen_jobs WHERE id = $id"), $what)
	  || diag(query_node($there, "SELECT state, attempt, claimed_elsewhere, error FROM gen_jobs WHERE id = $id"));
}

query_node($here, 'CREATE PUBLICATION jobs FOR TABLE gen_jobs, gen_outputs');

subtest 'a prediction that a dump has is asked about where the dump is restored, and not submitted again' => sub {
	start_publisher();
	create_servers('dumped');
	my $id = begin_prediction('dumped', 'dumped');
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
	my @database = ('-d', $here->connstr('postgres'));
	$here->command_ok([ 'pg_dump', '-Fc', @database, '-f', $dump, '--no-publications' ],
		'a dump with a prediction in it');
	$standin->finish;
	my $before = $standin->counts->{predictions};

	query_node($there, 'CREATE DATABASE restored');
	$there->command_ok([ 'pg_restore', '-d', $there->connstr('restored'), $dump ], 'the dump is restored');
	ok(wait_dispatcher($there, 'restored'), '... and has a dispatcher');
	ok(wait_state($there, $id, 'succeeded', 'restored'),
		'a prediction that was running when the dump was made succeeds');
	my $remote_id = literal(job($here, $id)->{remote_id});
	is(query_node($there, "SELECT attempt, remote_id = $remote_id FROM gen_jobs WHERE id = $id", 'restored'), '2|t',
		'... under its name');
	is($standin->counts->{predictions}, $before, '... and is not submitted again');
};

subtest 'what runs at a publisher is left to it, and its end comes to the subscriber' => sub {
	start_publisher();
	create_servers('painter');
	create_server($there, 'own', 'openai-images', $other);
	my $copied = begin_prediction('painter', 'copied at first');
	subscribe();
	my $applied = begin_prediction('painter', 'applied');
	my $cancelled = begin_prediction('painter', 'cancelled');
	is_there($_, "state = 'running' AND claimed_elsewhere",
		'a job that runs at the publisher runs at the subscriber, elsewhere')
	  foreach $copied, $applied;
	is_there($cancelled, "state = 'running' AND remote_id IS NOT NULL", '... with the name of its prediction');

	$other->reset;
	my $dispatcher = wait_dispatcher($there);
	query_node($there, "SELECT pg_terminate_backend($dispatcher)");
	wait_dispatcher($there, 'postgres', $dispatcher);
	# what it finds when it starts it has found once it has seen to a job of its own
	# its id is not one of the publisher's
	my $own = enqueue($there, 'own', { prompt => 'own' }, id => 1_000_000);
	ok(wait_state($there, $own, 'succeeded'), 'a dispatcher of the subscriber starts');
	is($other->counts->{total}, 1, '... and adopts nothing of the publisher');
	query_node($there, "SELECT genjob.cancel($cancelled)");
	is(query_node($there, "SELECT state, remote IS NULL FROM gen_jobs WHERE id = $cancelled"), 'cancelled|t',
		'a job that is cancelled at the subscriber');
	$own = enqueue($there, 'own', { prompt => 'own' }, id => 1_000_001);
	ok(wait_state($there, $own, 'succeeded') && $other->counts->{total} == 2, '... is not cancelled at the provider');

	my ($code, undef, $stderr) = $there->psql('postgres',
		"UPDATE gen_jobs SET claimed_elsewhere = false WHERE id = $copied");
	like($stderr, qr/column "claimed_elsewhere" of gen_jobs is set by genjob/, 'nobody sets the mark');
	($code, undef, $stderr) = $here->psql('postgres', "UPDATE gen_jobs SET state = 'queued' WHERE id = $copied");
	like($stderr, qr/cannot change state of job $copied from "running" to "queued"/,
		'a job of one\'s own is not taken over');

	$standin->finish;
	ok(wait_state($here, $_, 'succeeded'), 'the publisher ends a job') foreach $copied, $applied;
	is_there($_, "state = 'succeeded'", '... and the subscriber gets its end') foreach $copied, $applied;
	$here->wait_for_catchup('jobs');
	my $outputs = "SELECT count(*) FROM gen_outputs WHERE job_id IN ($copied, $applied)";
	is( query_node($there, "SELECT apply_error_count, ($outputs) FROM pg_stat_subscription_stats"),
		'0|' . query_node($here, $outputs),
		'... and its outputs, without an error');
};

subtest 'a subscriber that takes a prediction over asks about it, and submits nothing' => sub {
	start_publisher();
	create_servers('heir');
	subscribe();
	my $taken = begin_prediction('heir', 'taken over');
	is_there($taken, "state = 'running' AND remote_id IS NOT NULL", 'a prediction of the publisher');
	$here->stop('immediate');
	unsubscribe();
	query_node($there, "ALTER SERVER heir OPTIONS (SET url " . literal($standin->url) . ", SET paused 'off')");
	my $before = $standin->counts;
	query_node($there, "UPDATE gen_jobs SET state = 'queued' WHERE state = 'running' AND claimed_elsewhere");
	$standin->wait_for(sub { $_[0]{polls} > $before->{polls} });
	$standin->finish;
	is_there($taken, "state = 'succeeded' AND attempt = 2 AND NOT claimed_elsewhere", 'the subscriber takes it over');
	is($standin->counts->{predictions}, $before->{predictions},
		'... and submits nothing: it asks about the prediction');
};

$standin->stop;
$other->stop;
done_testing();
