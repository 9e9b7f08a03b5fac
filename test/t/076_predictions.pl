# Predictions that were paid for: nothing that a provider, an administrator or another server does while one is worked
# on throws it away, and no server that does not answer keeps those of others from being asked.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use GenJobTest;
use StandIn;

my $node = new_node(conf => "synchronous_commit = off\ngenjob.max_in_flight = 5000");

# A prediction at a server that speaks as Replicate does
sub predict
{
	my ($server, $id, %script) = @_;
	return enqueue($node, $server,
		StandIn::request(version => 'v', input => { prompt => 'a' }, standin => { id => $id, latency_ms => 300, %script }));
}

subtest 'predictions 1: an outage of the provider at the deadline fails a prediction that has succeeded' => sub {
	my $standin = StandIn->new;
	create_server($node, 'outage', 'replicate', $standin, timeout => '3 s', poll_interval => '100 ms');
	my $id = predict('outage', 'outage', latency_ms => 500, poll_faults => [ ({ status => 503 }) x 4 ]);
	ok(wait_state($node, $id, 'succeeded'), 'what ended before the deadline is fetched after it');
	is(query("SELECT now() - started_at > interval '3 s' OR finished_at - started_at > interval '3 s' FROM gen_jobs WHERE id = $id"), 't', '... since nobody could say so before');
	is($standin->counts->{ids}{outage}{submitted}, 1, '... paid for once');
	$standin->stop;
};

subtest 'predictions 2: a prediction of which the provider says nothing is waited for without end' => sub {
	my $standin = StandIn->new;
	create_server($node, 'silent', 'replicate', $standin, timeout => '1 s', poll_interval => '100 ms');
	my $id = predict('silent', 'silent', poll_faults => [ { status => 503 } ], repeat => 1);
	ok(wait_state($node, $id, 'failed'), 'it fails in the end');
	like(job($node, $id)->{error}, qr/ended within the option timeout.*may still run and cost money: look for it at the provider.*HTTP 503/, '... and says how to look for it');
	is(query("SELECT remote_id IS NOT NULL AND finished_at - started_at BETWEEN interval '1.5 s' AND interval '60 s' FROM gen_jobs WHERE id = $id"), 't', '... by its id, not before twice the time');
	$standin->stop;
};

subtest 'predictions 3: a prediction that is still running at the deadline goes on at the expense of its owner' => sub {
	my $standin = StandIn->new;
	create_server($node, 'endless', 'replicate', $standin, timeout => '1 s', poll_interval => '100 ms');
	my $id = predict('endless', 'endless', outcome => 'never');
	ok(wait_state($node, $id, 'failed'), 'it fails');
	eventually("SELECT error ~ 'confirmed it' AND remote IS NULL FROM gen_jobs WHERE id = $id", '... and the provider confirms that it was cancelled');
	like(job($node, $id)->{error}, qr/did not end within the option timeout.*may still run and cost money.*confirmed it/, '... as the error says');
	is($standin->counts->{ids}{endless}{cancelled}, 1, '... once');
	$standin->stop;
};

subtest 'predictions 4: an answer that is there is given up since it cannot be fetched at the deadline' => sub {
	my $standin = StandIn->new;
	create_server($node, 'queue', 'fal', $standin, timeout => '2 s', poll_interval => '100 ms', model => 'fal-ai/flux');
	my $id = enqueue($node, 'queue', StandIn::request(prompt => 'a', standin => { id => 'result', latency_ms => 200,
		result_faults => [ ({ status => 503 }) x 3 ] }));
	ok(wait_state($node, $id, 'succeeded'), 'its result comes after the deadline') or diag(explain(job($node, $id)));
	is($standin->counts->{ids}{result}{submitted}, 1, '... paid for once');
	$standin->stop;
};

subtest 'predictions 5: a short outage of the host of the files loses outputs' => sub {
	my $standin = StandIn->new;
	create_server($node, 'files', 'replicate', $standin, poll_interval => '100 ms');
	my $id = predict('files', 'files', download_faults => [ ({ status => 503 }) x 12 ]);
	my $began = time;
	eventually("SELECT EXISTS (SELECT FROM genjob.activity WHERE job_id = $id AND phase = 'downloading')", 'the download is tried');
	ok($standin->wait_for(sub { $_[0]{downloads} >= 6 }), '... again and again');
	is(query("SELECT state FROM gen_jobs WHERE id = $id"), 'running', '... and not given up after a few seconds');
	query("SELECT genjob.cancel($id)");
	$standin->stop;
};

subtest 'predictions 6: a key that is replaced ends the predictions that run with it' => sub {
	my $standin = StandIn->new(api_key => 'sk-old-secret');
	create_server($node, 'rotated', 'replicate', $standin, api_key => 'sk-old-secret', poll_interval => '100 ms');
	my $id = predict('rotated', 'rotated', latency_ms => 1500);
	eventually("SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id", 'a prediction is named');
	query("ALTER USER MAPPING FOR PUBLIC SERVER rotated OPTIONS (SET api_key 'sk-wrong-secret')");
	ok($standin->wait_for(sub { (grep { ($_->{headers}{Authorization} // $_->{headers}{authorization} // '') =~ /sk-wrong-secret/ } $standin->requests(50)) > 0 }),
		'the next question brings the new key');
	is(query("SELECT state FROM gen_jobs WHERE id = $id"), 'running', '... which the provider refuses, and the prediction is not given up');
	query("ALTER USER MAPPING FOR PUBLIC SERVER rotated OPTIONS (SET api_key 'sk-old-secret')");
	ok(wait_state($node, $id, 'succeeded'), '... and has its answer as soon as the key is right');
	is($standin->counts(summary => 1)->{predictions}, 1, '... paid for once');
	$standin->stop;
};

subtest 'predictions 7: a dozen servers that answer no question keep others from being asked' => sub {
	my $deaf = StandIn->new;
	my $well = StandIn->new;
	create_server($node, 'well', 'replicate', $well, poll_interval => '100 ms');
	my $quiet = predict('well', 'quiet');
	ok(wait_state($node, $quiet, 'succeeded'), 'a prediction of 0.3 s');
	my $took = query("SELECT extract(epoch FROM finished_at - started_at) FROM gen_jobs WHERE id = $quiet");
	foreach my $i (1 .. 12)
	{
		create_server($node, "deaf_$i", 'replicate', $deaf, poll_interval => '100 ms', max_in_flight => 100);
		my $request = literal(StandIn::request(version => 'v', input => { prompt => 'a' }, standin => { latency_ms => 100, poll_faults => [ { stall => 1 } ], repeat => 1 }));
		query("INSERT INTO gen_jobs (server, request) SELECT 'deaf_$i', $request FROM generate_series(1, 80)");
	}
	ok($deaf->wait_for(sub { $_[0]{polls} >= 500 }), 'hundreds of questions are not answered');
	# what else the machine has to do must not decide
	my $took_beside;
	foreach my $try (1 .. 5)
	{
		my $beside = predict('well', "beside $try");
		ok(wait_state($node, $beside, 'succeeded'), 'a prediction of another server beside them');
		$took_beside = query("SELECT extract(epoch FROM finished_at - started_at) FROM gen_jobs WHERE id = $beside");
		last if $took_beside < 10 * $took;
	}
	cmp_ok($took_beside, '<', 10 * $took, '... takes what it takes') or diag("$took s, then $took_beside s");
	note("$took s, then $took_beside s beside 960 unanswered");
	query("UPDATE gen_jobs SET state = 'cancelled' WHERE state = 'running'");
	$_->stop for $deaf, $well;
};

subtest 'predictions 21: an address of a pool gets more calls than max_in_flight, by jobs that must go back to it' => sub {
	my @members = map { StandIn->new } 1, 2;
	create_server($node, 'pool', 'openai-images', join(', ', map { $_->url } @members), max_in_flight => 1, retry_base => '500 ms', retry_max => '500 ms');
	my @cut = map { enqueue($node, 'pool', StandIn::request(prompt => "cut $_", standin => { id => "cut $_", faults => [ { latency_ms => 1000, cut => 'accept' } ] })) } 1, 2;
	ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM gen_jobs WHERE id IN ($cut[0], $cut[1]) AND state = 'running'"), 'two jobs are called');
	query("SELECT genjob.pause('pool')");
	ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM gen_jobs WHERE id IN ($cut[0], $cut[1]) AND failures = 1"), 'two jobs whose calls were cut are to go back to where they were');
	my @stalled = map { enqueue($node, 'pool', StandIn::request(prompt => "stalled $_", standin => { id => "stalled $_", faults => [ { stall => 1 } ] }), priority => 9) } 1;
	ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM gen_jobs WHERE id IN ($cut[0], $cut[1]) AND state = 'queued' AND run_at <= now()"), 'they are due when another comes first');
	query("SELECT genjob.resume('pool')");
	my $most = 0;
	my $until = time + 4;
	my $succeeded = "SELECT count(*) FROM gen_jobs WHERE id IN ($cut[0], $cut[1]) AND state = 'succeeded'";
	while (time < $until || (query($succeeded) == 0 && time < $until + $PostgreSQL::Test::Utils::timeout_default))
	{
		my $now = query("SELECT max(in_flight - max_in_flight) FROM genjob.backends WHERE server = 'pool'");
		$most = $now if $now > $most;
	}
	is($most, 0, 'no address has more than it may');
	is(query($succeeded), 1, '... and the job waits whose address has no room');
	query("SELECT genjob.cancel($stalled[0])");
	ok(wait_state($node, $_, 'succeeded'), '... until it has') for @cut;
	my @arrived = map { my $i = $_; [ map { $_->counts->{ids}{"cut $i"}{arrived} // 0 } @members ] } 1, 2;
	is_deeply([ map { scalar grep { $_ > 0 } @$_ } @arrived ], [ 1, 1 ], '... each went to one address only');
	$_->stop for @members;
};

$node->stop;
done_testing();
