# What another cluster has claimed is not run here: neither rows that logical replication brings, nor predictions of a
# dump. Nobody pays twice, and what was paid for is asked about by whoever takes it over.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest qw(!query);
use StandIn;

my $standin = StandIn->new;
my $conf = "wal_level = logical\ngenjob.rescan_interval = '1 h'\nlog_min_messages = warning\n";
my $here = new_node(name => 'here', conf => $conf, init => { allows_streaming => 'logical' });
my $there = new_node(name => 'there', conf => $conf);
# calls that only the other cluster makes come here
my $other = StandIn->new;

create_server($here, 'painter', 'replicate', $standin, poll_interval => '100 ms');
create_server($there, 'painter', 'replicate', $other, poll_interval => '100 ms', paused => 'on');

# A prediction of the server painter that ends when it is told to; waits until its name is in the table.
sub begin_prediction
{
	my ($what) = @_;
	my $id = enqueue($here, 'painter',
		StandIn::request(version => 'v', input => { prompt => $what }, standin => { id => $what, latency_ms => 600_000 }));
	$here->poll_query_until('postgres', "SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id") or die "no prediction $what";
	return $id;
}

sub query
{
	my ($node, $sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

sub is_there
{
	my ($id, $condition, $what) = @_;
	return ok($there->poll_query_until('postgres', "SELECT $condition FROM gen_jobs WHERE id = $id"), $what)
	  || diag(query($there, "SELECT state, attempt, claimed_elsewhere, error FROM gen_jobs WHERE id = $id"));
}

# ---- logical replication ----

my $copied = begin_prediction('copied at first');
query($here, 'CREATE PUBLICATION jobs FOR TABLE gen_jobs, gen_outputs');
query($there, 'CREATE SUBSCRIPTION jobs CONNECTION ' . literal($here->connstr('postgres')) . ' PUBLICATION jobs');
$there->wait_for_subscription_sync($here, 'jobs');
my $applied = begin_prediction('applied');
my $cancelled = begin_prediction('cancelled');
is_there($_, "state = 'running' AND claimed_elsewhere", 'a job that runs at the publisher runs at the subscriber, elsewhere')
  foreach $copied, $applied;
is_there($cancelled, "state = 'running' AND remote_id IS NOT NULL", '... with the name of its prediction');

my $dispatcher = dispatcher_pid($there);
query($there, "SELECT pg_terminate_backend($dispatcher)");
wait_dispatcher($there, 'postgres', $dispatcher);
# what it finds when it starts it has found once it has seen to a job of its own
create_server($there, 'own', 'openai-images', $other);
my $own = enqueue($there, 'own', { prompt => 'own' }, id => 1_000_000);
ok(wait_state($there, $own, 'succeeded'), 'a dispatcher of the subscriber starts');
is($other->counts->{total}, 1, '... and adopts nothing of the publisher');
query($there, "SELECT genjob.cancel($cancelled)");
is(query($there, "SELECT state, remote IS NULL FROM gen_jobs WHERE id = $cancelled"), 'cancelled|t', 'a job that is cancelled at the subscriber');
$own = enqueue($there, 'own', { prompt => 'own' }, id => 1_000_001);
ok(wait_state($there, $own, 'succeeded') && $other->counts->{total} == 2, '... is not cancelled at the provider');

my ($code, undef, $stderr) = $there->psql('postgres', "UPDATE gen_jobs SET claimed_elsewhere = false WHERE id = $copied");
like($stderr, qr/column "claimed_elsewhere" of gen_jobs is set by genjob/, 'nobody sets the mark');
($code, undef, $stderr) = $here->psql('postgres', "UPDATE gen_jobs SET state = 'queued' WHERE id = $copied");
like($stderr, qr/cannot change state of job $copied from "running" to "queued"/, 'a job of one\'s own is not taken over');

$standin->finish;
ok(wait_state($here, $_, 'succeeded'), 'the publisher ends a job') foreach $copied, $applied;
is_there($_, "state = 'succeeded'", '... and the subscriber gets its end') foreach $copied, $applied;
$here->wait_for_catchup('jobs');
is( query($there, "SELECT apply_error_count, (SELECT count(*) FROM gen_outputs WHERE job_id IN ($copied, $applied)) FROM pg_stat_subscription_stats"),
	'0|' . query($here, "SELECT count(*) FROM gen_outputs WHERE job_id IN ($copied, $applied)"),
	'... and its outputs, without an error');

# ---- the subscriber takes over ----

my $taken = begin_prediction('taken over');
my $request = query($here, "SELECT request FROM gen_jobs WHERE id = $taken");
is_there($taken, "state = 'running' AND remote_id IS NOT NULL", 'a prediction of the publisher');

# a dump of it for the last part
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$here->command_ok([ 'pg_dump', '-Fc', '-d', $here->connstr('postgres'), '-f', $dump, '--no-publications' ], 'a dump with a prediction in it');
$here->stop('immediate');
query($there, 'ALTER SUBSCRIPTION jobs DISABLE');
query($there, 'ALTER SUBSCRIPTION jobs SET (slot_name = NONE)');
query($there, 'DROP SUBSCRIPTION jobs');
query($there, "ALTER SERVER painter OPTIONS (SET url " . literal($standin->url) . ", SET paused 'off')");
my $before = $standin->counts;
query($there, "UPDATE gen_jobs SET state = 'queued' WHERE state = 'running' AND claimed_elsewhere");
$standin->wait_for(sub { $_[0]{polls} > $before->{polls} });
$standin->finish;
is_there($taken, "state = 'succeeded' AND attempt = 2 AND NOT claimed_elsewhere", 'the subscriber takes it over');
is($standin->counts->{predictions}, $before->{predictions}, '... and submits nothing: it asks about the prediction');

# ---- a dump ----

$there->safe_psql('postgres', 'CREATE DATABASE restored');
$there->command_ok([ 'pg_restore', '-d', $there->connstr('restored'), $dump ], 'the dump is restored');
ok(wait_dispatcher($there, 'restored'), '... and has a dispatcher');
ok(wait_state($there, $taken, 'succeeded', 'restored'), 'a prediction that was running when the dump was made succeeds');
is(query($there, "SELECT attempt, remote_id = " . literal(job($there, $taken)->{remote_id}) . " FROM gen_jobs WHERE id = $taken", 'restored'),
	'2|t', '... under its name');
is($standin->counts->{predictions}, $before->{predictions}, '... and is not submitted again');

$standin->stop;
$other->stop;
done_testing();
