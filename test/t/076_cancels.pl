# What is cancelled is cancelled at its provider too: in the pace that it bears, however often it refuses, and over a
# restart.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use GenJobTest;
use StandIn;

my $node = new_node(conf => "synchronous_commit = off\ngenjob.max_in_flight = 5000\nrestart_after_crash = on");
my $standin = StandIn->new(backlog => 4096);

# N predictions that do not end, at a server that speaks as Replicate does, all of them named
sub run_predictions
{
	my ($server, $n, %script) = @_;
	my $request = literal(StandIn::request(version => 'v', input => { prompt => 'a' },
		standin => { outcome => 'never', %script }));
	query("INSERT INTO gen_jobs (server, request) SELECT '$server', $request FROM generate_series(1, $n)");
	return eventually("SELECT count(*) = $n FROM gen_jobs WHERE server = '$server' AND state = 'running' AND remote_id IS NOT NULL", "$n predictions run");
}

sub cancel_all
{
	my ($server) = @_;
	return query("UPDATE gen_jobs SET state = 'cancelled' WHERE server = '$server' AND state = 'running'");
}

sub all_told
{
	my ($server, $what) = @_;
	return eventually("SELECT bool_and(remote IS NULL AND error ~ 'confirmed it') FROM gen_jobs WHERE server = '$server'", $what);
}

my %slow = (cancel_faults => [ { latency_ms => 20 } ], repeat => 1);

subtest 'predictions 8: 2,000 cancels at once are more than the provider takes' => sub {
	create_server($node, 'flood', 'replicate', $standin, max_in_flight => 2000, poll_interval => '60 s');
	create_server($node, 'beside', 'openai-images', $standin);
	run_predictions('flood', 2000, %slow);
	$standin->cancel_capacity(10);
	cancel_all('flood');
	my $id = enqueue($node, 'beside', '{"prompt": "b"}');
	ok(wait_state($node, $id, 'succeeded'), 'a job of another server goes on');
	# on a busy machine it takes its time, and so do they
	my $cancelled = $standin->counts(summary => 1)->{cancelled};
	my $took = query("SELECT extract(epoch FROM finished_at - created_at) FROM gen_jobs WHERE id = $id");
	ok($cancelled < 2000 || $took < 2, '... without waiting for them') or diag("$cancelled cancelled, $took s");
	all_told('flood', 'each is confirmed');
	my $counts = $standin->counts(summary => 1);
	is($counts->{cancelled}, 2000, 'all 2,000 have reached the provider');
	cmp_ok($counts->{cancels}, '<', 3000, '... few of them more than once');
	$standin->cancel_capacity(0);
	$standin->reset;
};

subtest 'predictions 9: the server is restarted before the provider was told' => sub {
	create_server($node, 'restarted', 'replicate', $standin, max_in_flight => 2000, poll_interval => '60 s');
	run_predictions('restarted', 2000, %slow);
	$standin->cancel_capacity(2);
	cancel_all('restarted');
	$standin->wait_for(sub { $_[0]{cancelled} > 50 });
	$node->stop('immediate');
	my $before = $standin->counts(summary => 1)->{cancelled};
	cmp_ok($before, '<', 2000, 'some have not been told');
	$standin->cancel_capacity(10);
	$node->start;
	all_told('restarted', '... they are after the restart');
	is($standin->counts(summary => 1)->{cancelled}, 2000, 'all 2,000 have reached the provider');
	is(query("SELECT count(*) FROM gen_jobs WHERE server = 'restarted' AND state <> 'cancelled'"), 0, '... and nothing else became of them');
	$standin->cancel_capacity(0);
	$standin->reset;
};

subtest 'predictions 10: the dispatcher is killed, or stopped, with cancels under way' => sub {
	create_server($node, 'killed', 'replicate', $standin, max_in_flight => 200, poll_interval => '60 s');
	run_predictions('killed', 200, %slow);
	$standin->cancel_capacity(2);
	cancel_all('killed');
	$standin->wait_for(sub { $_[0]{cancelled} > 10 });
	my $pid = wait_dispatcher($node);
	query("SELECT pg_terminate_backend($pid)");
	wait_dispatcher($node, 'postgres', $pid);
	$standin->cancel_capacity(0);
	all_told('killed', 'all are told');
	is($standin->counts(summary => 1)->{cancelled}, 200, '... and have reached the provider');
	$standin->reset;
};

subtest 'predictions 11: a provider that does not answer is told once' => sub {
	create_server($node, 'deaf', 'replicate', $standin, max_in_flight => 20, poll_interval => '60 s');
	run_predictions('deaf', 5, cancel_faults => [ { status => 503 }, { cut => 'accept' }, { status => 500 } ]);
	cancel_all('deaf');
	all_told('deaf', 'each is told until it has heard');
	is($standin->counts(summary => 1)->{cancels}, 20, '... after three failures');

	my $id = enqueue($node, 'deaf', StandIn::request(version => 'v', input => { prompt => 'a' },
		standin => { outcome => 'never', id => 'ended', cancel_faults => [ { status => 404 } ], repeat => 1 }));
	eventually("SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id", 'a prediction');
	query("SELECT genjob.cancel($id)");
	eventually("SELECT error ~ 'did not confirm it' AND remote IS NULL FROM gen_jobs WHERE id = $id", '... of which the provider knows nothing any more');
	is($standin->counts->{ids}{ended}{cancels}, 1, '... is not asked about again');
	$standin->reset;
};

subtest 'predictions 12: the rows of running predictions are deleted' => sub {
	create_server($node, 'deleted', 'replicate', $standin, max_in_flight => 300, poll_interval => '60 s');
	run_predictions('deleted', 300, %slow);
	$standin->cancel_capacity(5);
	query("DELETE FROM gen_jobs WHERE server = 'deleted'");
	ok($standin->wait_for(sub { $_[0]{cancelled} == 300 }), 'all reach the provider');
	$standin->cancel_capacity(0);
	$standin->reset;
};

subtest 'predictions 13: the key is replaced before the provider is told' => sub {
	my $guarded = StandIn->new(api_key => 'sk-old-secret');
	create_server($node, 'guarded', 'replicate', $guarded, api_key => 'sk-old-secret', max_in_flight => 20, poll_interval => '60 s');
	run_predictions('guarded', 5);
	query("ALTER USER MAPPING FOR PUBLIC SERVER guarded OPTIONS (SET api_key 'sk-wrong-secret')");
	cancel_all('guarded');
	ok($guarded->wait_for(sub { $_[0]{cancels} + 0 >= 0 && $_[0]{total} >= 10 }), 'the provider refuses');
	query("ALTER USER MAPPING FOR PUBLIC SERVER guarded OPTIONS (SET api_key 'sk-old-secret')");
	all_told('guarded', '... until the key is right');
	is($guarded->counts(summary => 1)->{cancelled}, 5, '... and all reach it');
	$guarded->stop;
};

subtest 'predictions 14: a rate limit starves jobs for cancels, or cancels for jobs' => sub {
	create_server($node, 'paced', 'replicate', $standin, max_in_flight => 100, poll_interval => '60 s');
	run_predictions('paced', 40);
	query("ALTER SERVER paced OPTIONS (ADD rate_limit '10/s', ADD rate_burst '1')");
	my $request = literal(StandIn::request(version => 'v', input => { prompt => 'a' }, standin => { latency_ms => 600_000 }));
	query("BEGIN; UPDATE gen_jobs SET state = 'cancelled' WHERE server = 'paced';
		INSERT INTO gen_jobs (server, request) SELECT 'paced', $request FROM generate_series(1, 40); COMMIT");
	my $counts = $standin->wait_for(sub { $_[0]{cancelled} >= 10 });
	my $started = $counts->{predictions} - 40;
	ok($started >= $counts->{cancelled} / 2 && $started <= 2 * $counts->{cancelled}, 'they take turns')
	  or diag("$started started, $counts->{cancelled} cancelled");
	$counts = $standin->wait_for(sub { $_[0]{cancelled} == 40 && $_[0]{predictions} == 80 });
	ok(1, '... and all get there');
	cancel_all('paced');
	$standin->reset;
};

subtest 'predictions 15: a job is retried before the provider was told of it' => sub {
	create_server($node, 'again', 'replicate', $standin, max_in_flight => 20, poll_interval => '100 ms');
	my $id = enqueue($node, 'again', StandIn::request(version => 'v', input => { prompt => 'a' },
		standin => { id => 'again', latency_ms => 600_000, cancel_faults => [ { status => 503 } ] }));
	eventually("SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id", 'a prediction');
	query("SELECT genjob.cancel($id)");
	ok($standin->wait_for(sub { $_[0]{cancels} >= 1 }), '... that the provider is told of in vain');
	query("SELECT genjob.retry($id)");
	ok($standin->wait_for(sub { $_[0]{predictions} == 2 && $_[0]{cancelled} == 1 }),
		'it runs again, and the first one is cancelled all the same');
	$standin->finish;
	ok(wait_state($node, $id, 'succeeded'), '... it succeeds');
	unlike(job($node, $id)->{error} // '', qr/confirm/, '... and the note on the first one does not stand on it');
};

$standin->stop;
$node->stop;
done_testing();
