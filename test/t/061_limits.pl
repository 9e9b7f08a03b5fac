# What a server may be given: a rate, what it asks for, and nothing while it cannot be reached. The
# dispatcher's clock runs 15 times as fast as the system's; started_at is by that clock.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node(conf => 'genjob.debug_clock_speed = 15');
my $standin = StandIn->new;

sub insert
{
	my ($server, $n) = @_;
	query(qq{INSERT INTO gen_jobs (server, request) SELECT '$server', '{"prompt": "a"}' FROM generate_series(1, $n)});
	return;
}

subtest 'a rate' => sub {
	create_server($node, 'paced', 'openai-images', $standin, rate_limit => '120/min', rate_burst => 10, paused => 'on');
	insert('paced', 1000);
	query("SELECT genjob.resume('paced')");
	eventually("SELECT held_reason = 'rate_limit is reached' AND held_until IS NOT NULL AND tokens < 1 FROM genjob.servers WHERE server = 'paced'",
		'a rate is obeyed, and genjob.servers says until when');
	# Where the machine has stood still, a part of the rate is lost: then another minute is looked at. Each begins behind
	# the burst, and has one again where it was lost.
	my $minute = q{SELECT count(*) AS n FROM gen_jobs a JOIN gen_jobs b
		ON b.started_at > a.started_at AND b.started_at <= a.started_at + interval '60 s'
		WHERE a.server = 'paced' AND b.server = 'paced'
			AND a.started_at + interval '60 s' < (SELECT max(started_at) FROM gen_jobs WHERE server = 'paced')
		GROUP BY a.started_at, a.id};
	eventually("SELECT coalesce(max(n) >= 114, false) FROM ($minute) m", '... with 120 a minute, within 5 %');
	my $burst = query(q{SELECT count(*) FROM gen_jobs WHERE server = 'paced' AND started_at = (SELECT min(started_at) FROM gen_jobs WHERE server = 'paced')});
	is($burst, 10, '... as many as rate_burst says start at once');
	my $most = query("SELECT max(n) FROM ($minute) m");
	cmp_ok($most, '<=', 131, '... and never more than 120 and a burst');
	query(q{ALTER SERVER paced OPTIONS (DROP rate_burst, DROP rate_limit)});
	eventually_succeed('paced', 'without the rate the others start');
};

subtest 'a rate, and claims that fail' => sub {
	create_server($node, 'scarce', 'openai-images', $standin, rate_limit => '1/min', rate_burst => 5);
	query(q{
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN RAISE data_exception USING message = 'refused by a test'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON gen_jobs FOR EACH ROW WHEN (new.server = 'scarce') EXECUTE FUNCTION refuse()});
	insert('scarce', 1);
	eventually(q{SELECT last_error LIKE '%refused by a test%' FROM genjob.workers}, 'a claim fails');
	query(q{BEGIN; DROP TRIGGER refuse ON gen_jobs;
		INSERT INTO gen_jobs (server, request) SELECT 'scarce', '{"prompt": "a"}' FROM generate_series(1, 4); COMMIT});
	eventually_succeed('scarce', 'when it can succeed the job runs');
	cmp_ok(query(q{SELECT extract(epoch FROM max(started_at) - min(started_at)) FROM gen_jobs WHERE server = 'scarce'}),
		'<', 59, '... and so many more as are left of rate_burst: the claim that failed has used up nothing');
};

subtest 'a server that asks to wait' => sub {
	create_server($node, 'told', 'openai-images', $standin, max_in_flight => 1);
	create_server($node, 'beside', 'openai-images', $standin, max_in_flight => 1);
	my $refused = enqueue($node, 'told', StandIn::request(id => 'refused', prompt => 'refused', faults => [ { status => 429, retry_after => '120' } ]), priority => 1);
	eventually("SELECT state = 'queued' AND attempt = 1 FROM gen_jobs WHERE id = $refused", 'a job is refused with Retry-After');
	insert('told', 5);
	insert('beside', 5);
	eventually("SELECT queued = 5 AND later = 1 AND in_flight = 0 AND held_reason = 'the server asked to wait' AND held_until IS NOT NULL FROM genjob.servers WHERE server = 'told'",
		'... and so are all others of its server held, as genjob.servers says');
	eventually_succeed('beside', '... but none of another server');
	is(query("SELECT count(*) FROM gen_jobs WHERE server = 'told' AND state = 'succeeded'"), 0, '... while they wait');
	eventually_succeed('told', 'when the time is over they run');
	is( query(qq{SELECT sum(failures), sum(attempt), min(started_at) >= (SELECT (attempt_errors -> 0 ->> 'at')::timestamptz + interval '119 s' FROM gen_jobs WHERE id = $refused)
		FROM gen_jobs WHERE server = 'told'}),
		'0|7|t', '... not before, and no attempt of theirs was used up');
};

subtest 'a server that cannot be reached' => sub {
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	create_server($node, 'down', 'openai-images', "http://127.0.0.1:$port", max_in_flight => 4);
	insert('down', 20);
	eventually("SELECT failures >= 7 AND in_flight = 0 AND state = 'broken' AND until IS NOT NULL AND error LIKE 'could not reach server \"down\" at %' FROM genjob.backends WHERE server = 'down'",
		'a server that cannot be reached is tried now and then, as genjob.backends says');
	like(query("SELECT allowed, held_reason FROM genjob.servers WHERE server = 'down'"), qr/^0\|could not reach server "down" at /, '... and genjob.servers');
	my $failures = query("SELECT sum(failures) FROM gen_jobs WHERE server = 'down'");
	cmp_ok($failures, '<=', 4, '... and only what came before that was found out counts as a failure');
	my $back = StandIn->new(port => $port, latency_ms => 700);
	# it answers when the probe has been seen
	kill 'STOP', $back->pid;
	eventually("SELECT state = 'probing' AND in_flight = 1 FROM genjob.backends WHERE server = 'down'", 'one call finds out that it is back');
	kill 'CONT', $back->pid;
	eventually_succeed('down', '... and all jobs run');
	my @requests = $back->requests;
	cmp_ok($requests[1]{time} - $requests[0]{time}, '>=', 0.69, '... after it');
	is(scalar @requests, 20, '... once each');
	is(query("SELECT sum(failures) FROM gen_jobs WHERE server = 'down'"), $failures, '... without a further failure');
	is(query("SELECT s.held_reason IS NULL, b.state, b.failures, b.error IS NULL OR b.error = '' FROM genjob.servers s JOIN genjob.backends b USING (server) WHERE server = 'down'"),
		't|ok|0|t', '... and nothing is held any more');
	$back->stop;
};

subtest 'a lone job' => sub {
	my $lone_port = PostgreSQL::Test::Cluster::get_free_port();
	create_server($node, 'lone', 'openai-images', "http://127.0.0.1:$lone_port", retry_max => '10 s');
	my $lone = enqueue($node, 'lone', '{"prompt": "a"}');
	eventually("SELECT failures >= 10 FROM genjob.backends WHERE server = 'lone'", 'a job whose server is down is tried more often than max_attempts');
	my $back = StandIn->new(port => $lone_port);
	ok(wait_state($node, $lone, 'succeeded'), '... and succeeds when that is back');
	is(query("SELECT failures, attempt >= 11 FROM gen_jobs WHERE id = $lone"), '4|t', '... with those failures that came before it was found out');
	$back->stop;
};

subtest 'a call that finds out, and then is a prediction that takes long' => sub {
	my $cloud_port = PostgreSQL::Test::Cluster::get_free_port();
	create_server($node, 'cloud', 'replicate', "http://127.0.0.1:$cloud_port", retry_max => '10 s', poll_interval => '1 d', model => 'a/b');
	my $endless = StandIn::request(input => { prompt => 'a' }, standin => { outcome => 'never' });
	enqueue($node, 'cloud', $endless);
	eventually("SELECT state = 'broken' FROM genjob.backends WHERE server = 'cloud'", 'a provider is down');
	my $cloud = StandIn->new(port => $cloud_port);
	eventually("SELECT state = 'ok' AND in_flight = 1 FROM genjob.backends WHERE server = 'cloud'", '... and back, and works on the job that found out');
	$cloud->stop;
	# a call on the connection that was kept may count as one that was cut
	enqueue($node, 'cloud', $endless, max_attempts => 100);
	eventually("SELECT state = 'broken' AND failures >= 6 FROM genjob.backends WHERE server = 'cloud'", 'it is down again');
	$cloud = StandIn->new(port => $cloud_port);
	eventually("SELECT state = 'ok' AND in_flight = 2 FROM genjob.backends WHERE server = 'cloud'", '... and back: another job finds out');
	is($cloud->counts(summary => 1)->{predictions}, 1, '... and is submitted');
	$cloud->stop;
};

$standin->stop;
$node->stop('immediate');
done_testing();
