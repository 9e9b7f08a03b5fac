# Waiting for a job: CALL genjob.run() and genjob.wait().

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

# In how many seconds after its cause a wait must have ended
my $soon = $ENV{GENJOB_TEST_SLACK_S} // 10;

# a wait that nobody ends fails rather than hangs
$ENV{PGOPTIONS} = "-c statement_timeout=${PostgreSQL::Test::Utils::timeout_default}s";

my $node = new_node();
my $standin = StandIn->new;
my $stalled = StandIn::request(prompt => 'for ever', faults => [ { stall => 1 } ], repeat => 1);
create_server($node, 'images', 'openai-images', $standin);
create_server($node, 'echo', 'http', $standin, path => '/echo');
query('CREATE ROLE stranger LOGIN; GRANT INSERT, SELECT ON gen_jobs TO stranger');

sub enqueue_after
{
	my ($parent) = @_;
	return query(qq{INSERT INTO gen_jobs (server, request, after)
		VALUES ('images', '{"prompt": "next"}', '{$parent}') RETURNING id});
}

sub cancel
{
	my ($id) = @_;
	query("SELECT genjob.cancel($id)");
	return;
}

sub is_waiting
{
	my ($session) = @_;
	return $node->poll_query_until('postgres',
		"SELECT wait_event IN ('GenjobWait', 'Extension') FROM pg_stat_activity WHERE pid = "
		  . $session->pid);
}

# Passes if a wait ends at once, now that its cause has come.
sub ends_soon
{
	my ($waiting, $cause) = @_;
	my $from = time;
	$waiting->answer;
	my $delay = time - $from;
	ok($delay < $soon, "$cause ends the wait at once") or diag("it took $delay s");
	return;
}

# ---- genjob.run ----

subtest 'run() gives the id, state, result, usage and error of its job' => sub {
	my $usage = '{"input_tokens": 2, "total_tokens": 3, "output_tokens": 1}';
	my ($id, $rest) = split /\|/, query(q{CALL genjob.run('images', '{"prompt": "a cat"}')}), 2;
	is($rest, qq(succeeded|{"data": [{"b64_json": {"\$output": 1}}], "usage": $usage, "created": 1700000000}|$usage|),
		'of a job that succeeded');
	is(query("SELECT request FROM gen_jobs WHERE id = $id"), '{"prompt": "a cat"}', '... whose id it is');
	($id, $rest) = split /\|/, query(q{CALL genjob.run('images', '{"size": "8x8"}')}), 2;
	like($rest, qr/^failed\|\|\|server "images" answered HTTP 400: Missing required parameter: 'prompt'\./,
		'... also of a job that failed');
	is(query("SELECT request FROM gen_jobs WHERE id = $id"), '{"size": "8x8"}', '... whose id it is');
};

subtest 'run() takes inputs, and works in a procedure and at every isolation level' => sub {
	like(query(q{CALL genjob.run('echo', '{"a": {"$input": 1}}', inputs => ARRAY['abc'::bytea], timeout => '1 min')}),
		qr/"a": "YWJj"/, 'it takes inputs');
	is(query(
			q{DO $$
			DECLARE
				id bigint; state gen_job_state; result jsonb; usage jsonb; error text;
			BEGIN
				CALL genjob.run('echo', '{"b": 1}', NULL, NULL, id, state, result, usage, error);
				INSERT INTO gen_jobs (server, request) VALUES ('echo', result -> 'body');
			END $$;
			SELECT request FROM gen_jobs ORDER BY id DESC LIMIT 1}),
		'{"b": 1}', 'it can be called by a procedure, which goes on with its result');
	like(query(q{SET default_transaction_isolation = 'serializable'; CALL genjob.run('echo', '{"c": 1}')}),
		qr/^\d+\|succeeded\|.*"c": 1/, 'it sees the result whatever the isolation level');
};

subtest 'run() is refused where it cannot work, and to whom an INSERT is' => sub {
	my $error = refusal_of(q{BEGIN; CALL genjob.run('images', '{"prompt": "in a block"}'); COMMIT});
	like($error, qr/genjob\.run\(\) cannot be called in a transaction block/, 'in a transaction block it is refused');
	like($error, qr/HINT: .*COMMIT.*genjob\.wait/, '... with a hint at what does work');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE request ->> 'prompt' = 'in a block'}),
		'0', '... and no job is left behind');
	like(refusal_of(q{CALL genjob.run('nowhere', '{}')}),
		qr/server "nowhere" does not exist/, 'a server that does not exist is refused at once');
	like(refusal_of(q{CALL genjob.run('images', '{"prompt": "x"}')}, 'postgres', 'stranger'),
		qr/permission denied for foreign server images/, 'run() needs what an INSERT needs');
};

subtest 'run() gives the job as it is when the time is up' => sub {
	my $outcome = query("CALL genjob.run('images', "
		  . literal(StandIn::request(prompt => 'slow', latency_ms => 600_000)) . ", timeout => '300 ms')");
	# it may be so short a time that no dispatcher has begun it
	like($outcome, qr/^\d+\|(?:queued|running)\|\|\|$/, 'run() does not wait for its end');
	cancel($outcome =~ /^(\d+)/);
};

subtest 'run() holds neither a transaction id nor a snapshot, and ends when its job is cancelled' => sub {
	my $session = Session->new($node);
	$session->send("CALL genjob.run('images', " . literal($stalled) . ')');
	ok(is_waiting($session), 'it waits');
	eventually(q{SELECT count(*) = 1 FROM gen_jobs WHERE request ->> 'prompt' = 'for ever' AND state = 'running'},
		'... for a job that runs');
	is(query('SELECT state, backend_xid IS NULL, backend_xmin IS NULL FROM pg_stat_activity WHERE pid = '
			  . $session->pid),
		'active|t|t', 'a backend in run() holds neither a transaction id nor a snapshot');
	my $running = query(q{SELECT id FROM gen_jobs WHERE request ->> 'prompt' = 'for ever' AND state = 'running'});
	cancel($running);
	like($session->answer, qr/^$running\|cancelled\|\|\|cancelled by role/, 'run() ends when its job is cancelled');
	$session->quit;
};

# ---- genjob.wait ----

subtest 'wait() gives the row of a job at once when it has ended' => sub {
	my @waiting = map { Session->new($node) } 1 .. 3;
	my $id = enqueue($node, 'images', StandIn::request(prompt => 'awaited', latency_ms => 1500));
	$_->send("SELECT id, state, clock_timestamp() - finished_at < interval '$soon s' FROM genjob.wait($id, '1 min')")
	  foreach @waiting;
	is_waiting($_) foreach @waiting;
	is($_->answer, "$id|succeeded|t", 'at its end') foreach @waiting;
	is(query("SELECT (genjob.wait($id)).attempt"), '1', 'of a job that has ended already it gives the row');
	is(query('SELECT genjob.wait(NULL::bigint) IS NULL'), 't', 'of NULL it gives NULL');
	$_->quit foreach @waiting;
};

subtest 'wait() gives the row as it is when the time is up, and can be cancelled' => sub {
	my $stall = enqueue($node, 'images', $stalled);
	my $began = time;
	is(query("SELECT state IN ('queued', 'running') FROM genjob.wait($stall, '300 ms')"),
		't', 'after the timeout wait() gives the row as it is then');
	my $took = time - $began;
	ok($took >= 0.3 && $took < 0.3 + $soon, '... and that is when the time is up') or diag("it took $took s");
	is(query("SELECT id FROM genjob.wait($stall, '0 s')"), $stall, 'a timeout of nothing only looks');
	is(query("SELECT id FROM genjob.wait($stall, '-1 day')"), $stall, '... and so does one below');
	like(refusal_of("SET statement_timeout = '200 ms'; SELECT genjob.wait($stall)"),
		qr/canceling statement due to statement timeout/, 'a wait can be cancelled');
	cancel($stall);
};

subtest 'wait() for a job that does not exist, or is of somebody else, is an error' => sub {
	my $stall = enqueue($node, 'images', $stalled);
	like(refusal_of('SELECT genjob.wait(424242)'), qr/job 424242 does not exist\nHINT:/,
		'a job that does not exist is an error');
	is(query(
			qq{CREATE FUNCTION wait_or_not(id bigint) RETURNS text LANGUAGE plpgsql AS \$\$
			BEGIN
				RETURN (genjob.wait(id, '0 s')).id;
			EXCEPTION
				WHEN no_data_found THEN RETURN 'none';
			END \$\$;
			SELECT wait_or_not(424242), wait_or_not($stall), wait_or_not(424242)}),
		"none|$stall|none", '... that can be caught');
	like(refusal_of("SELECT genjob.wait($stall)", 'postgres', 'stranger'),
		qr/job $stall does not exist/, '... and so is one of somebody else');
	cancel($stall);
};

sub stands_still
{
	my ($statements, $waits, $expected, $name) = @_;
	like(refusal_of("SET statement_timeout = '20 s'; BEGIN; $statements; SELECT $waits"), $expected, $name);
	return;
}

subtest 'wait() is refused for a job that its own transaction keeps from the dispatcher' => sub {
	my $error = refusal_of(
		q{BEGIN; INSERT INTO gen_jobs (server, request) VALUES ('images', '{"prompt": "too early"}');
		SELECT genjob.wait(currval('gen_jobs_id_seq'))});
	like($error, qr/was inserted or changed in this same transaction/,
		'to wait for a job of one\'s own transaction is refused');
	like($error, qr/HINT:  COMMIT first/, '... with a hint');

	my $stall = enqueue($node, 'images', $stalled);
	my $next = enqueue_after($stall);
	stands_still("SELECT FROM gen_jobs WHERE id = $stall FOR UPDATE",
		"genjob.wait($stall)",
		qr/job $stall is locked by this same transaction\nDETAIL:.*\nHINT:  COMMIT first/,
		'nor for one that it has locked');
	stands_still(
		"SELECT FROM gen_jobs WHERE id = $stall FOR SHARE; SAVEPOINT s;"
		  . " SELECT FROM gen_jobs WHERE id = $stall FOR UPDATE",
		"genjob.wait_any(ARRAY[$stall])", qr/job $stall is locked by this same transaction/, '... twice');
	stands_still("UPDATE gen_jobs SET priority = 1 WHERE id = $stall",
		"genjob.wait(ARRAY[$stall])",
		qr/job $stall was inserted or changed in this same transaction/, '... or changed');
	stands_still("UPDATE gen_jobs SET priority = 1 WHERE id = $stall",
		"genjob.wait($next)",
		qr/job $stall was inserted or changed in this same transaction\nDETAIL:  .*job $next waits for it\./,
		'... nor for one that waits for such a one');
	stands_still('LOCK TABLE gen_jobs IN SHARE MODE', "genjob.wait($stall)",
		qr/table "gen_jobs" is locked by this same transaction/, '... or all of them');
	is(query("BEGIN; SELECT FROM gen_jobs WHERE id = $stall FOR KEY SHARE;"
			  . " SAVEPOINT s; SELECT FROM gen_jobs WHERE id = $stall FOR UPDATE;"
			  . " ROLLBACK TO s; SELECT state IN ('queued', 'running') FROM genjob.wait($next, '0 s'); COMMIT"),
		'f', 'what a foreign key locks, and what was rolled back, is not in the way');
	cancel($next);
	cancel($stall);
};

subtest 'wait() sees an end that came after the snapshot of its transaction' => sub {
	my $session = Session->new($node);
	is($session->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) > -1 FROM gen_jobs'),
		't', 'a transaction has its snapshot');
	my $id = enqueue($node, 'images', StandIn::request(prompt => 'after the snapshot', latency_ms => 300));
	is($session->query("SELECT state FROM genjob.wait($id, '1 min')"),
		'succeeded', 'wait() sees the end of a job that its transaction\'s snapshot does not even know');
	is($session->query("SELECT count(*) FROM gen_jobs WHERE id = $id"), '0', '... which stays as it was');
	$session->query('COMMIT');
	$session->quit;
};

# ---- woken, not polling ----

subtest 'a backend that waits sleeps until an UPDATE ends its job' => sub {
	my $session = Session->new($node);
	my $stall = enqueue($node, 'images', $stalled);
	$session->send("SELECT state FROM genjob.wait($stall)");
	is_waiting($session);
	SKIP:
	{
		skip 'there is no /proc here', 1 unless -r '/proc/' . $session->pid . '/status';
		# On a busy machine it may come to rest late; one that polls never does.
		my $switches;
		foreach (1 .. 10)
		{
			my $before = voluntary_switches($session->pid);
			sleep 1;    # the measured second
			$switches = voluntary_switches($session->pid) - $before;
			last if $switches <= 1;
		}
		cmp_ok($switches, '<=', 1, 'a backend that waits sleeps');
	}
	ok(!$session->has_ended, '... and does not end before its job');
	query("UPDATE gen_jobs SET state = 'cancelled' WHERE id = $stall");
	ends_soon($session, 'an UPDATE to cancelled');
	is($session->answer, 'cancelled', '... which gives the row as it is now');
	$session->quit;
};

subtest 'a DELETE or TRUNCATE of the job ends a wait, which holds no lock on the table' => sub {
	my $session = Session->new($node);
	my $id = enqueue($node, 'images', $stalled);
	is($session->send("SELECT genjob.wait($id)") && is_waiting($session), 1, 'a session waits');
	query("DELETE FROM gen_jobs WHERE id = $id");
	ends_soon($session, 'DELETE of the job');
	like($session->messages, qr/job $id does not exist/, '... with an error');

	$id = enqueue($node, 'images', $stalled);
	is($session->send("SELECT genjob.wait($id)") && is_waiting($session), 1, 'another waits');
	is(query('SELECT count(*) FROM pg_locks WHERE pid = ' . $session->pid . " AND relation = 'gen_jobs'::regclass"),
		'0', 'a wait holds no lock on gen_jobs');
	query('TRUNCATE gen_jobs, gen_outputs');
	ends_soon($session, 'TRUNCATE');
	like($session->messages, qr/job $id does not exist/, '... with an error');
	$session->quit;
};

subtest 'wait() waits through attempts that fail' => sub {
	create_server($node, 'brisk', 'openai-images', $standin, retry_base => '10 ms');
	my $id = enqueue($node, 'brisk',
		StandIn::request(id => 'second', prompt => 'second time', latency_ms => 200, faults => [ { status => 503 } ]));
	is(query("SELECT state, attempt FROM genjob.wait($id, '1 min')"), 'succeeded|2', 'until it succeeds');
};

# ---- jobs that are gone ----

subtest 'wait_any() ends with an error when one of its jobs is gone' => sub {
	create_server($node, 'paused', 'openai-images', $standin, paused => 'on');
	my $session = Session->new($node);
	my ($first, $other) = map { enqueue($node, 'paused', { prompt => "gone $_" }) } 1 .. 2;
	$session->send("SELECT state FROM genjob.wait_any(ARRAY[$first, $other])");
	ok(is_waiting($session), 'wait_any() waits');
	query("DELETE FROM gen_jobs WHERE id = $first");
	ends_soon($session, 'the DELETE of one of its jobs');
	like($session->messages, qr/job $first does not exist/, '... with an error');
	my $done = enqueue($node, 'images', { prompt => 'done' });
	ok(wait_state($node, $done, 'succeeded'), 'other jobs run');
	$session->send("SELECT state FROM genjob.wait_any(ARRAY[$other])");
	ok(is_waiting($session), 'it waits again');
	query('TRUNCATE gen_jobs, gen_outputs');
	ends_soon($session, 'a TRUNCATE');
	like($session->messages, qr/job $other does not exist/, '... with an error');
	$session->quit;
};

subtest 'DROP EXTENSION ends every wait with an error' => sub {
	query('CREATE DATABASE leaving');
	query('CREATE EXTENSION genjob', 'leaving');
	create_server($node, 'still', 'openai-images', $standin, paused => 'on', database => 'leaving');
	my $id = enqueue($node, 'still', { prompt => 'without the extension' }, database => 'leaving');
	my ($session, $any, $caller) = map { Session->new($node, database => 'leaving') } 1 .. 3;
	$session->send("SELECT state FROM genjob.wait($id)");
	$any->send("SELECT state FROM genjob.wait_any(ARRAY[$id])");
	$caller->send(q{CALL genjob.run('still', '{"prompt": "run"}')});
	ok(is_waiting($_), 'a session waits') foreach $session, $any, $caller;
	query('DROP EXTENSION genjob CASCADE', 'leaving');
	foreach ($session, $any, $caller)
	{
		ends_soon($_, 'DROP EXTENSION');
		like($_->messages, qr/the extension genjob is not installed|gen_jobs" does not exist/, '... with an error');
		$_->quit;
	}
};

$standin->stop;
$node->stop;
done_testing();
