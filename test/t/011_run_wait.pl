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
my $soon = $ENV{GENJOB_TEST_SLACK_S} // 1;

# a wait that nobody ends fails rather than hangs
$ENV{PGOPTIONS} = "-c statement_timeout=${PostgreSQL::Test::Utils::timeout_default}s";

my $node = new_node();
my $standin = StandIn->new;
my $stalled = StandIn::request(prompt => 'for ever', faults => [ { stall => 1 } ], repeat => 1);
create_server($node, 'images', 'openai-images', $standin);
create_server($node, 'echo', 'http', $standin, path => '/echo');

sub refused
{
	my ($sql, @params) = @_;
	my (undef, undef, $error) = $node->psql('postgres', $sql, @params);
	return $error;
}

sub enqueue_after
{
	my ($parent) = @_;
	return query(qq{INSERT INTO gen_jobs (server, request, after) VALUES ('images', '{"prompt": "next"}', '{$parent}') RETURNING id});
}

sub is_waiting
{
	my ($session) = @_;
	return $node->poll_query_until('postgres',
		"SELECT wait_event IN ('GenjobWait', 'Extension') FROM pg_stat_activity WHERE pid = "
		  . $session->pid);
}

# ---- genjob.run ----

is( query(q{CALL genjob.run('images', '{"prompt": "a cat"}')}),
	'1|succeeded|{"data": [{"b64_json": {"$output": 1}}], "usage": '
	  . '{"input_tokens": 2, "total_tokens": 3, "output_tokens": 1}, "created": 1700000000}|'
	  . '{"input_tokens": 2, "total_tokens": 3, "output_tokens": 1}|',
	'run() gives the job\'s id, state, result, usage and error');
like(
	query(q{CALL genjob.run('images', '{"size": "8x8"}')}),
	qr/^2\|failed\|\|\|server "images" answered HTTP 400: Missing required parameter: 'prompt'\./,
	'... also of a job that failed');
is( query(
		q{CALL genjob.run('echo', '{"a": {"$input": 1}}', inputs => ARRAY['abc'::bytea], timeout => '1 min')})
	  =~ /"a": "YWJj"/,
	1,
	'it takes inputs');
is( query(
		q{DO $$
		DECLARE
			id bigint; state gen_job_state; result jsonb; usage jsonb; error text;
		BEGIN
			CALL genjob.run('echo', '{"b": 1}', NULL, NULL, id, state, result, usage, error);
			INSERT INTO gen_jobs (server, request) VALUES ('echo', result -> 'body');
		END $$;
		SELECT request FROM gen_jobs ORDER BY id DESC LIMIT 1}),
	'{"b": 1}',
	'it can be called by a procedure, which goes on with its result');

is( query(q{SET default_transaction_isolation = 'serializable'; CALL genjob.run('echo', '{"c": 1}')})
	  =~ /^\d+\|succeeded\|.*"c": 1/,
	1, 'it sees the result whatever the isolation level');

my $error = refused(q{BEGIN; CALL genjob.run('images', '{"prompt": "in a block"}'); COMMIT});
like($error, qr/genjob\.run\(\) cannot be called in a transaction block/, 'in a transaction block it is refused');
like($error, qr/HINT: .*COMMIT.*genjob\.wait/, '... with a hint at what does work');
is(query(q{SELECT count(*) FROM gen_jobs WHERE request ->> 'prompt' = 'in a block'}),
	'0', '... and no job is left behind');
like(
	refused(q{CALL genjob.run('nowhere', '{}')}),
	qr/server "nowhere" does not exist/,
	'a server that does not exist is refused at once');
query('CREATE ROLE stranger LOGIN; GRANT INSERT, SELECT ON gen_jobs TO stranger');
like(
	refused(q{CALL genjob.run('images', '{"prompt": "x"}')}, extra_params => [ '-U', 'stranger' ]),
	qr/permission denied for foreign server images/,
	'run() needs what an INSERT needs');

my $began = time;
like(
	query(
		"CALL genjob.run('images', "
		  . literal(StandIn::request(prompt => 'slow', latency_ms => 4000))
		  . ", timeout => '300 ms')"),
	qr/^\d+\|running\|\|\|$/,
	'after the timeout run() gives the job as it is then');
cmp_ok(time - $began, '<', 3.5, '... and does not wait for its end');

# ---- no snapshot while it waits ----

my $session = Session->new($node);
$session->send("CALL genjob.run('images', " . literal($stalled) . ')');
$standin->wait_for(sub { $_[0]{in_flight} >= 1 });
is_waiting($session);
is( query(
		'SELECT state, backend_xid IS NULL, backend_xmin IS NULL FROM pg_stat_activity WHERE pid = '
		  . $session->pid),
	'active|t|t',
	'a backend in run() holds neither a transaction id nor a snapshot');
my $running = query(q{SELECT max(id) FROM gen_jobs WHERE request ->> 'prompt' = 'for ever'});
query("SELECT genjob.cancel($running)");
is($session->answer =~ /^$running\|cancelled\|\|\|cancelled by role/, 1, 'run() ends when its job is cancelled');

# ---- genjob.wait ----

my @waiting = map { Session->new($node) } 1 .. 3;
my $id = enqueue($node, 'images', StandIn::request(prompt => 'awaited', latency_ms => 1500));
$_->send("SELECT id, state, clock_timestamp() - finished_at < interval '$soon s' FROM genjob.wait($id, '1 min')")
  foreach @waiting;
is_waiting($_) foreach @waiting;
is($_->answer, "$id|succeeded|t", 'wait() gives the job at once when it has ended') foreach @waiting;
is( query("SELECT (genjob.wait($id)).attempt"), '1', 'of a job that has ended already it gives the row');
is(query('SELECT genjob.wait(NULL::bigint) IS NULL'), 't', 'of NULL it gives NULL');

my ($stall) = enqueue($node, 'images', $stalled);
$began = time;
is(query("SELECT state IN ('queued', 'running') FROM genjob.wait($stall, '300 ms')"),
	't', 'after the timeout wait() gives the row as it is then');
my $took = time - $began;
ok($took >= 0.3 && $took < 0.3 + $soon, '... and that is when the time is up') or diag("it took $took s");
is(query("SELECT id FROM genjob.wait($stall, '0 s')"), $stall, 'a timeout of nothing only looks');
is(query("SELECT id FROM genjob.wait($stall, '-1 day')"), $stall, '... and so does one below');
like(
	refused("SET statement_timeout = '200 ms'; SELECT genjob.wait($stall)"),
	qr/canceling statement due to statement timeout/,
	'a wait can be cancelled');
like(refused('SELECT genjob.wait(424242)'), qr/job 424242 does not exist\nHINT:/, 'a job that does not exist is an error');
is( query(
		qq{CREATE FUNCTION wait_or_not(id bigint) RETURNS text LANGUAGE plpgsql AS \$\$
		BEGIN
			RETURN (genjob.wait(id, '0 s')).id;
		EXCEPTION
			WHEN no_data_found THEN RETURN 'none';
		END \$\$;
		SELECT wait_or_not(424242), wait_or_not($stall), wait_or_not(424242)}),
	"none|$stall|none", '... that can be caught');
like(
	refused("SELECT genjob.wait($stall)", extra_params => [ '-U', 'stranger' ]),
	qr/job $stall does not exist/,
	'... and so is one of somebody else');
$error = refused(
	q{BEGIN; INSERT INTO gen_jobs (server, request) VALUES ('images', '{"prompt": "too early"}');
	SELECT genjob.wait(currval('gen_jobs_id_seq'))});
like($error, qr/was inserted or changed in this same transaction/, 'to wait for a job of one\'s own transaction is refused');
like($error, qr/HINT:  COMMIT first/, '... with a hint');

# ... nor can one end that its own transaction keeps from the dispatcher
sub stands_still
{
	my ($statements, $waits, $expected, $name) = @_;
	like(refused("SET statement_timeout = '20 s'; BEGIN; $statements; SELECT $waits"), $expected, $name);
	return;
}
my $next = enqueue_after($stall);
stands_still("SELECT FROM gen_jobs WHERE id = $stall FOR UPDATE",
	"genjob.wait($stall)", qr/job $stall is locked by this same transaction\nDETAIL:.*\nHINT:  COMMIT first/, 'nor for one that it has locked');
stands_still("SELECT FROM gen_jobs WHERE id = $stall FOR SHARE; SAVEPOINT s; SELECT FROM gen_jobs WHERE id = $stall FOR UPDATE",
	"genjob.wait_any(ARRAY[$stall])", qr/job $stall is locked by this same transaction/, '... twice');
stands_still("UPDATE gen_jobs SET priority = 1 WHERE id = $stall",
	"genjob.wait(ARRAY[$stall])", qr/job $stall was inserted or changed in this same transaction/, '... or changed');
stands_still("UPDATE gen_jobs SET priority = 1 WHERE id = $stall",
	"genjob.wait($next)",
	qr/job $stall was inserted or changed in this same transaction\nDETAIL:  .*job $next waits for it\./,
	'... nor for one that waits for such a one');
stands_still('LOCK TABLE gen_jobs IN SHARE MODE', "genjob.wait($stall)", qr/table "gen_jobs" is locked by this same transaction/, '... or all of them');
is( query("BEGIN; SELECT FROM gen_jobs WHERE id = $stall FOR KEY SHARE; SAVEPOINT s; SELECT FROM gen_jobs WHERE id = $stall FOR UPDATE;"
		  . " ROLLBACK TO s; SELECT state IN ('queued', 'running') FROM genjob.wait($next, '0 s'); COMMIT"),
	'f', 'what a foreign key locks, and what was rolled back, is not in the way');
query("SELECT genjob.cancel($next)");

# in repeatable read: a snapshot from before the job's end, and even from before the job
$session = Session->new($node);
is($session->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM gen_jobs LIMIT 1'),
	'1', 'a transaction has its snapshot');
$id = enqueue($node, 'images', StandIn::request(prompt => 'after the snapshot', latency_ms => 300));
is($session->query("SELECT state FROM genjob.wait($id, '1 min')"),
	'succeeded', 'wait() sees the end of a job that its transaction\'s snapshot does not even know');
is($session->query("SELECT count(*) FROM gen_jobs WHERE id = $id"), '0', '... which stays as it was');
$session->query('COMMIT');

# ---- woken, not polling ----

$session->send("SELECT state FROM genjob.wait($stall)");
is_waiting($session);
SKIP:
{
	skip 'there is no /proc here', 1 unless -r '/proc/' . $session->pid . '/status';
	sleep 0.2;
	my $before = voluntary_switches($session->pid);
	sleep 1;    # the measured second
	cmp_ok(voluntary_switches($session->pid) - $before, '<=', 1, 'a backend that waits sleeps');
}
ok(!$session->has_ended, '... and does not end before its job');

sub ends_soon
{
	my ($waiting, $cause) = @_;
	my $from = time;
	$waiting->answer;
	my $delay = time - $from;
	ok($delay < $soon, "$cause ends the wait at once") or diag("it took $delay s");
	return;
}

query("UPDATE gen_jobs SET state = 'cancelled' WHERE id = $stall");
ends_soon($session, 'an UPDATE to cancelled');
is($session->answer, 'cancelled', '... which gives the row as it is now');

$id = enqueue($node, 'images', $stalled);
is($session->send("SELECT genjob.wait($id)") && is_waiting($session), 1, 'another waits');
query("DELETE FROM gen_jobs WHERE id = $id");
ends_soon($session, 'DELETE of the job');
like($session->messages, qr/job $id does not exist/, '... with an error');

$id = enqueue($node, 'images', $stalled);
is($session->send("SELECT genjob.wait($id)") && is_waiting($session), 1, 'another waits');
is( query('SELECT count(*) FROM pg_locks WHERE pid = ' . $session->pid . " AND relation = 'gen_jobs'::regclass"),
	'0', 'a wait holds no lock on gen_jobs');
query('TRUNCATE gen_jobs, gen_outputs');
ends_soon($session, 'TRUNCATE');
like($session->messages, qr/job $id does not exist/, '... with an error');

# one that fails, and one that is tried again in between
create_server($node, 'brisk', 'openai-images', $standin, retry_base => '10 ms');
$id = enqueue($node, 'brisk',
	StandIn::request(
		id => 'second',
		prompt => 'second time',
		latency_ms => 200,
		faults => [ { status => 503 } ]));
is($session->query("SELECT state, attempt FROM genjob.wait($id, '1 min')"),
	'succeeded|2', 'wait() waits through attempts that fail');

# ---- jobs that are gone ----

create_server($node, 'paused', 'openai-images', $standin, paused => 'on');
my ($first, $other) = map { enqueue($node, 'paused', { prompt => "gone $_" }) } 1 .. 2;
$session->send("SELECT state FROM genjob.wait_any(ARRAY[$first, $other])");
ok(is_waiting($session), 'wait_any() waits');
query("DELETE FROM gen_jobs WHERE id = $first");
ends_soon($session, 'the DELETE of one of its jobs');
like($session->messages, qr/job $first does not exist/, '... with an error');
my $done = enqueue($node, 'images', { prompt => 'done' });
ok(wait_state($node, $done, 'succeeded'));
$session->send("SELECT state FROM genjob.wait_any(ARRAY[$other])");
ok(is_waiting($session));
query('TRUNCATE gen_jobs, gen_outputs');
ends_soon($session, 'a TRUNCATE');
like($session->messages, qr/job $other does not exist/, '... with an error');
$id = enqueue($node, 'paused', { prompt => 'without the extension' });
my $caller = Session->new($node);
my $any = Session->new($node);
$session->send("SELECT state FROM genjob.wait($id)");
$any->send("SELECT state FROM genjob.wait_any(ARRAY[$id])");
$caller->send(q{CALL genjob.run('paused', '{"prompt": "run"}')});
ok(is_waiting($_)) foreach $session, $any, $caller;
query('DROP EXTENSION genjob CASCADE');
foreach ($session, $any, $caller)
{
	ends_soon($_, 'DROP EXTENSION');
	like($_->messages, qr/the extension genjob is not installed|gen_jobs" does not exist/, '... with an error');
}

$_->quit foreach $session, $any, $caller, @waiting;
$standin->stop;
$node->stop;
done_testing();
