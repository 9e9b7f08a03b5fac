# Which job runs when, what holds it back, and what stops it.

use strict;
use warnings;

use Time::HiRes qw(time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

# By how many seconds more than asked for something may come late on a busy machine
my $slack = $ENV{GENJOB_TEST_SLACK_S} // 10;

my $node = new_node(conf => "genjob.shutdown_grace = '1 s'\ngenjob.max_in_flight = 60");
my $standin = StandIn->new;
my $counted = StandIn->new;    # for tests that count what is in flight
my $stall = [ { stall => 1 } ];

create_server($node, 'one', 'openai-images', $standin, max_in_flight => 1);
create_server($node, 'fine', 'openai-images', $standin);

# Inserts jobs in one transaction and gives their ids; each is [server, script, column => value, ...].
sub insert
{
	my (@jobs) = @_;
	my @sql = map {
		my ($server, $script, %columns) = @$_;
		my %row = (server => $server, request => StandIn::request(%$script), %columns);
		my @names = sort keys %row;
		'INSERT INTO gen_jobs (' . join(', ', @names) . ') VALUES ('
		  . join(', ', map { $row{$_} =~ /^now\(\)/ ? $row{$_} : literal($row{$_}) } @names)
		  . ') RETURNING id';
	} @jobs;
	return split /\n/, query('BEGIN; ' . join('; ', @sql) . '; COMMIT');
}

sub prompt
{
	my ($prompt, %script) = @_;
	return { id => $prompt, prompt => $prompt, %script };
}

sub states
{
	my (@ids) = @_;
	return query('SELECT string_agg(state::text, \' \' ORDER BY id) FROM gen_jobs WHERE id IN (' . join(', ', @ids) . ')');
}

sub all_are
{
	my ($state, @ids) = @_;
	return $node->poll_query_until('postgres',
		"SELECT count(*) = @{[scalar @ids]} FROM gen_jobs WHERE state = '$state' AND id IN (" . join(', ', @ids) . ')');
}

subtest 'order' => sub {
	$standin->reset;
	query("SELECT genjob.pause('one')");
	insert(
		[ 'one', prompt('fifth'), run_at => 'now() - interval \'1 min\'', priority => -1 ],
		[ 'one', prompt('third') ],
		[ 'one', prompt('fourth') ],
		[ 'one', prompt('first'), priority => 7 ],
		[ 'one', prompt('second'), run_at => 'now() - interval \'1 s\'' ]);
	is(query("SELECT genjob.resume('one')"), 't', 'resume() of a paused server');
	ok(wait_all_ended($node), 'its jobs run');
	is( join(' ', map { $_->{id} } $standin->requests),
		'first second third fourth fifth',
		'in the order of priority, then run_at, then id');
	is($standin->counts->{max_in_flight}, 1, '... one at a time');
};

subtest 'when' => sub {
	my ($later) = insert([ 'one', prompt('later'), run_at => 'now() + interval \'3 s\'' ]);
	is(query("SELECT queued, later FROM genjob.servers WHERE server = 'one'"), '0|1', 'genjob.servers counts what is not due');
	ok(wait_state($node, $later, 'succeeded'), 'a job with a run_at in the future runs');
	is( query("SELECT started_at >= run_at, started_at < run_at + interval '$slack s' FROM gen_jobs WHERE id = $later"),
		't|t', '... then');
	($later) = insert([ 'one', prompt('much later'), run_at => '2100-01-01' ]);
	query("UPDATE gen_jobs SET run_at = now() WHERE id = $later");
	ok(wait_state($node, $later, 'succeeded'), 'and at once when run_at is moved forward');

	create_server($node, 'paused', 'openai-images', $standin, paused => 'on');
	my ($blocker) = insert([ 'one', prompt('blocker', faults => $stall) ]);
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	my @expiring = insert(
		[ 'one', prompt('expires'), expires_at => 'now() + interval \'800 ms\'' ],
		[ 'paused', prompt('expires'), expires_at => 'now() + interval \'800 ms\'' ],
		[ 'one', prompt('expires'), run_at => 'now() + interval \'1 h\'', expires_at => 'now() + interval \'800 ms\'' ],
		[ 'one', prompt('expires'), expires_at => 'now() - interval \'1 s\'' ]);
	query("UPDATE gen_jobs SET expires_at = now() WHERE id = $blocker");
	ok(all_are('failed', @expiring), 'jobs that have not started by expires_at fail');
	is( query('SELECT count(*), min(error) FROM gen_jobs WHERE id IN (' . join(', ', @expiring) . ')'
			  . " AND finished_at >= expires_at AND (finished_at < expires_at + interval '$slack s' OR expires_at < created_at) AND attempt = 0"),
		'4|the job was not started before expires_at. Look at genjob.servers for what delayed it.',
		'... then and not before, whether the server is busy or paused, and say so');
	is(query("SELECT state FROM gen_jobs WHERE id = $blocker"), 'running', '... and one that has started goes on');
	is($standin->arrived('expires'), 0, '... and nothing of the others was sent');
	query("SELECT genjob.cancel($blocker)");
};

subtest 'how many' => sub {
	$counted->reset;
	create_server($node, 'four', 'openai-images', $counted, max_in_flight => 4);
	insert(map { [ 'four', prompt("four $_", latency_ms => 50) ] } 1 .. 40);
	ok(wait_all_ended($node), 'forty jobs end');
	is($counted->counts(summary => 1)->{max_in_flight}, 4, 'of which four were in flight at a time');

	create_server($node, 'many', 'openai-images', $counted, max_in_flight => 100);
	create_server($node, 'other', 'openai-images', $counted, max_in_flight => 30);
	$counted->reset;
	insert(map { [ ($_ % 4 ? 'many' : 'other'), prompt("together $_", faults => $stall) ] } 1 .. 200);
	$counted->wait_for(sub { $_[0]{in_flight} == 60 });
	eventually("SELECT bool_or(held_reason = 'genjob.max_in_flight is reached') FROM genjob.servers",
		'genjob.max_in_flight holds jobs back, and genjob.servers says so');
	query('ALTER SYSTEM SET genjob.max_in_flight = 65');
	$node->reload;
	$counted->wait_for(sub { $_[0]{in_flight} == 65 });
	pass('it is raised by a reload');
	is($counted->counts(summary => 1)->{max_in_flight}, 65, '... and is the most of all servers together');
	query("UPDATE gen_jobs SET state = 'cancelled' WHERE state IN ('queued', 'running')");
	$counted->wait_for(sub { $_[0]{in_flight} == 0 });

	$counted->reset;
	create_server($node, 'wide', 'openai-images', $counted, max_in_flight => 2);
	my @wide = insert(map { [ 'wide', prompt("wide $_", faults => $stall) ] } 1 .. 12);
	$counted->wait_for(sub { $_[0]{in_flight} == 2 });
	eventually("SELECT in_flight = 2 AND queued = 10 AND held_reason = 'max_in_flight is reached' FROM genjob.servers WHERE server = 'wide'",
		'genjob.servers: in flight, queued, and why');
	is( query("SELECT count(*), min(attempt), max(phase), bool_and(elapsed >= '0') FROM genjob.activity WHERE server = 'wide'"),
		'2|1|calling|t', 'genjob.activity has the calls in flight');
	query(q{ALTER SERVER wide OPTIONS (SET max_in_flight '7')});
	$counted->wait_for(sub { $_[0]{in_flight} == 7 });
	pass('ALTER SERVER raises max_in_flight at once');
	query(q{ALTER SERVER wide OPTIONS (SET max_in_flight '1')});
	query("SELECT genjob.cancel(id) FROM gen_jobs WHERE server = 'wide' AND state = 'running' ORDER BY id LIMIT 6");
	$counted->wait_for(sub { $_[0]{aborted} == 6 });
	eventually("SELECT in_flight = 1 FROM genjob.servers WHERE server = 'wide'", 'six are cancelled');
	is($counted->counts(summary => 1)->{total}, 7, '... and after it was lowered none takes their place');
	query("UPDATE gen_jobs SET state = 'cancelled' WHERE state IN ('queued', 'running')");
	$counted->wait_for(sub { $_[0]{in_flight} == 0 });
};

subtest 'a slow server and a dead one' => sub {
	create_server($node, 'slow', 'openai-images', $standin, max_in_flight => 5);
	create_server($node, 'dead', 'openai-images', 'http://127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port(), retry_base => '1 ms', max_attempts => 1000000);
	my @stuck = insert(map { [ ($_ % 2 ? 'slow' : 'dead'), prompt("stuck $_", faults => $stall), priority => 100 ] } 1 .. 200);
	eventually("SELECT held_reason LIKE 'could not reach server \"dead\" at %' FROM genjob.servers WHERE server = 'dead'",
		'a dead server has been tried');
	my @fine = insert(map { [ 'fine', prompt("fine $_") ] } 1 .. 50);
	my $began = time;
	ok(all_are('succeeded', @fine), 'beside a slow server and a dead one, another works on');
	cmp_ok(time - $began, '<', 2 + $slack, '... as if they were not there');
	is(query("SELECT count(*) FROM gen_jobs WHERE server IN ('slow', 'dead') AND state IN ('queued', 'running')"),
		'200', '... whose jobs wait');
	query("UPDATE gen_jobs SET state = 'cancelled' WHERE server IN ('slow', 'dead')");
	$standin->wait_for(sub { $_[0]{in_flight} == 0 });
};

subtest 'pause and resume' => sub {
	my ($under_way) = insert([ 'fine', prompt('under way', latency_ms => 1500) ]);
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	is(query("SELECT genjob.pause('fine'), genjob.pause('fine')"), 't|f', 'pause() says whether it did anything');
	my ($held) = insert([ 'fine', prompt('held') ]);
	my ($unheld) = insert([ 'one', prompt('not held') ]);
	ok(wait_state($node, $under_way, 'succeeded'), 'a call in flight goes on when its server is paused');
	ok(wait_state($node, $unheld, 'succeeded'), '... and so do other servers');
	is(query("SELECT held_reason FROM genjob.servers WHERE server = 'fine'"), 'paused: genjob.resume() ends it', 'genjob.servers says so');
	$node->restart;
	wait_dispatcher($node);
	($unheld) = insert([ 'one', prompt('not held either') ]);
	ok(wait_state($node, $unheld, 'succeeded'), 'after a restart other servers work');
	is(query("SELECT state, attempt FROM gen_jobs WHERE id = $held"), 'queued|0', '... and the paused one is still paused');
	query("SELECT genjob.resume('fine')");
	ok(wait_state($node, $held, 'succeeded'), 'resume() lets its jobs run');
};

subtest 'servers and privileges that go away' => sub {
	create_server($node, 'gone', 'openai-images', $standin, paused => 'on');
	create_server($node, 'moved', 'openai-images', $standin, paused => 'on');
	create_server($node, 'in_use', 'openai-images', $standin);
	create_server($node, $_, 'openai-images', $standin, paused => 'on') foreach qw(revoked unmapped);
	query(q{CREATE ROLE app LOGIN; GRANT USAGE ON FOREIGN SERVER revoked, unmapped TO app; GRANT INSERT, SELECT ON gen_jobs TO app});
	my ($gone, $moved, $in_use) =
	  insert([ 'gone', prompt('gone') ], [ 'moved', prompt('moved') ], [ 'in_use', prompt('in use', latency_ms => 1500) ]);
	my ($revoked, $unmapped) = split /\n/,
	  query(q{INSERT INTO gen_jobs (server, request) VALUES ('revoked', '{"prompt": "a"}'), ('unmapped', '{"prompt": "a"}') RETURNING id},
		'postgres', 'app');
	my ($beside) = insert([ 'revoked', prompt('of another role') ]);
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	query(q{
		DROP SERVER gone CASCADE; DROP SERVER in_use CASCADE; ALTER SERVER moved RENAME TO moved_away;
		REVOKE USAGE ON FOREIGN SERVER revoked FROM app; SELECT genjob.resume('revoked');
		DROP USER MAPPING FOR PUBLIC SERVER unmapped; SELECT genjob.resume('unmapped')});
	ok(wait_all_ended($node), 'jobs whose server or privilege goes away end');
	is(states($gone, $moved, $revoked, $unmapped), 'failed failed failed failed', '... as failed');
	like(job($node, $gone)->{error}, qr/^server "gone" does not exist\. Create it with CREATE SERVER gone /, 'server dropped: the error says so');
	like(job($node, $moved)->{error}, qr/^server "moved" does not exist\. /, 'server renamed: the error says so');
	like(job($node, $revoked)->{error}, qr/^permission denied for foreign server revoked\. GRANT USAGE ON FOREIGN SERVER revoked TO app\./, 'USAGE revoked: the error says so');
	like(job($node, $unmapped)->{error}, qr/^user mapping not found for user "app", server "unmapped"\. CREATE USER MAPPING FOR app /, 'user mapping dropped: the error says so');
	is(states($beside, $in_use), 'succeeded succeeded', 'a job of another role, and one in flight, succeed');
	create_server($node, 'gone', 'openai-images', $standin);
	query(q{GRANT USAGE ON FOREIGN SERVER revoked TO app; CREATE USER MAPPING FOR app SERVER unmapped OPTIONS (api_key 'x'); ALTER SERVER moved_away RENAME TO moved; SELECT genjob.resume('moved')});
	is(query("SELECT bool_and(genjob.retry(id)) FROM gen_jobs WHERE state = 'failed' AND id IN ($gone, $moved, $revoked, $unmapped)"), 't', 'once they are back, retry()');
	ok(all_are('succeeded', $gone, $moved, $revoked, $unmapped), '... runs the jobs');
};

sub hang
{
	my ($n) = @_;
	$counted->reset;
	query("INSERT INTO gen_jobs (server, request) SELECT 'hung', jsonb_build_object('prompt', 'hung ' || i, 'standin', '{\"faults\": [{\"stall\": true}], \"repeat\": true}'::jsonb) FROM generate_series(1, $n) i");
	$counted->wait_for(sub { $_[0]{in_flight} == 50 });
	return;
}

sub all_aborted
{
	my ($what) = @_;
	my $from = time;
	my $counts = $counted->wait_for(sub { $_[0]{in_flight} == 0 });
	my $took = time - $from;
	ok($counts->{aborted} == 50 && $took < $slack, "$what closes the connections of those that run at once")
	  or diag("$counts->{aborted} aborted after $took s");
	is($counts->{total}, 50, '... and no other is sent');
	return;
}

subtest 'stopping many' => sub {
	create_server($node, 'hung', 'openai-images', $counted, max_in_flight => 50);
	hang(2000);
	is( query("WITH stopped AS (UPDATE gen_jobs SET state = 'cancelled' WHERE server = 'hung' RETURNING id) SELECT count(*) FROM stopped"),
		'2000', 'UPDATE cancels 2,000 queued and running jobs');
	all_aborted('it');
	is(query("SELECT state, count(*), bool_and(finished_at IS NOT NULL), min(error) FROM gen_jobs WHERE server = 'hung' GROUP BY state"),
		'cancelled|2000|t|cancelled by role "' . query('SELECT current_user') . '"', '... all of which are cancelled, and say by whom');
	hang(100);
	query("DELETE FROM gen_jobs WHERE server = 'hung'");
	all_aborted('DELETE');
	hang(100);
	query('TRUNCATE gen_jobs CASCADE');
	all_aborted('TRUNCATE');
};

subtest 'an answer that comes too late' => sub {
	my $session = Session->new($node);
	my ($cancelled, $retried) = insert([ 'one', prompt('cancelled', latency_ms => 60_000) ], [ 'fine', prompt('retried', latency_ms => 6000) ]);
	$standin->wait_for(sub { $_[0]{in_flight} == 2 });
	is(query("SELECT genjob.cancel($cancelled), genjob.cancel($cancelled)"), 't|f', 'cancel() of a running job');
	eventually("SELECT NOT EXISTS (SELECT FROM genjob.activity WHERE job_id = $cancelled)", '... ends its call');
	$standin->wait_for(sub { $_[0]{in_flight} <= 1 });
	is($standin->counts->{ids}{cancelled}{aborted}, 1, '... and closes its connection at once');

	# the answer is there, but the row is being cancelled in a transaction that is still open
	$session->query("BEGIN; UPDATE gen_jobs SET state = 'cancelled' WHERE id = $retried");
	$standin->wait_for(sub { $_[0]{in_flight} == 0 });
	my ($next) = insert([ 'fine', prompt('next') ]);
	ok(wait_state($node, $next, 'succeeded'), 'while a row that has an answer is locked, other jobs run and are written');
	is(query("SELECT state FROM gen_jobs WHERE id = $retried"), 'running', '... but not that one');
	$session->query('COMMIT');
	eventually("SELECT in_flight = 0 FROM genjob.servers WHERE server = 'fine'", 'once the lock is released the answer is dealt with');
	is( query("SELECT state, result IS NULL, (SELECT count(*) FROM gen_outputs WHERE job_id = id) FROM gen_jobs WHERE id = $retried"),
		'cancelled|t|0', '... and changes nothing, for the job was cancelled');
	$session->quit;
};

subtest 'rows that are locked' => sub {
	my $session = Session->new($node);
	query("SELECT genjob.pause('fine')");
	my @queue = insert(map { [ 'fine', prompt("queue $_") ] } 1 .. 5);
	$session->query("BEGIN; SELECT id FROM gen_jobs WHERE id = $queue[1] FOR UPDATE");
	query("SELECT genjob.resume('fine')");
	ok(all_are('succeeded', @queue[ 0, 2 .. 4 ]), 'a row that someone has locked keeps back no other job from being claimed');
	is(states($queue[1]), 'queued', '... but itself');
	$session->query('COMMIT');
	ok(wait_state($node, $queue[1], 'succeeded'), '... until the lock is released');
	is($standin->arrived('queue 2'), 1, '... and then is sent once');

	@queue = insert(map { [ 'fine', prompt("answered $_", latency_ms => 1500) ] } 1 .. 5);
	$standin->wait_for(sub { $_[0]{in_flight} == 5 });
	# no answer comes before the row is locked
	kill 'STOP', $standin->pid;
	$session->query("BEGIN; SELECT id FROM gen_jobs WHERE id = $queue[1] FOR UPDATE");
	kill 'CONT', $standin->pid;
	ok(all_are('succeeded', @queue[ 0, 2 .. 4 ]), 'nor from being written');
	is(states($queue[1]), 'running', '... but itself');
	$session->query('COMMIT');
	ok(wait_state($node, $queue[1], 'succeeded'), '... until the lock is released');
	is(query("SELECT attempt, (SELECT count(*) FROM gen_outputs WHERE job_id = id) FROM gen_jobs WHERE id = $queue[1]"), '1|1', '... with its output');
	is($standin->arrived('answered 2'), 1, '... and one call');
	$session->quit;
};

subtest 'a trigger of the user\'s' => sub {
	# for a while genjob.servers shows what a trigger has refused, also behind another reason
	create_server($node, 'refused', 'openai-images', $standin);
	query(q{
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			RAISE 'not this one';
		END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON gen_jobs FOR EACH ROW
			WHEN (NEW.state = 'succeeded' AND NEW.request ->> 'prompt' = 'poisoned 3') EXECUTE FUNCTION refuse()});
	my @queue = insert(map { [ 'refused', prompt("poisoned $_", latency_ms => 100) ] } 1 .. 5);
	ok(all_are('succeeded', @queue[ 0, 1, 3, 4 ]), 'a trigger that refuses the result of one job keeps back no other');
	eventually("SELECT last_error = 'not this one' AND last_error_at IS NOT NULL FROM genjob.workers WHERE database = 'postgres'",
		'genjob.workers has the error');
	is(states($queue[2]), 'running', 'the job waits');
	query('DROP TRIGGER refuse ON gen_jobs');
	ok(wait_state($node, $queue[2], 'succeeded'), 'once the trigger is dropped its result is written');
	is(query("SELECT attempt, (SELECT count(*) FROM gen_outputs WHERE job_id = id) FROM gen_jobs WHERE id = $queue[2]"), '1|1', '... whole');
	is($standin->arrived('poisoned 3'), 1, '... and was paid for once');

	query(q{CREATE TRIGGER refuse BEFORE UPDATE ON gen_jobs FOR EACH ROW
		WHEN (NEW.state = 'running' AND NEW.request ->> 'prompt' = 'unclaimed 3') EXECUTE FUNCTION refuse()});
	@queue = insert(map { [ 'refused', prompt("unclaimed $_") ] } 1 .. 5);
	ok(all_are('succeeded', @queue[ 0, 1, 3, 4 ]), 'a trigger that refuses the start of one job keeps back no other');
	is(states($queue[2]) . ' ' . $standin->arrived('unclaimed 3'), 'queued 0', '... and that one is not sent');
	query("DROP TRIGGER refuse ON gen_jobs; SELECT genjob.cancel($queue[2])");
};

subtest 'a table that is locked' => sub {
	my $session = Session->new($node);
	my ($locked_out) = insert([ 'fine', prompt('locked out', latency_ms => 1000) ]);
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	kill 'STOP', $standin->pid;
	$session->query('BEGIN; LOCK TABLE gen_jobs');
	kill 'CONT', $standin->pid;
	$standin->wait_for(sub { $_[0]{in_flight} == 0 });
	eventually("SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'gen_jobs'::regclass", 'the dispatcher waits for a table that is locked');
	$session->query('COMMIT');
	ok(wait_state($node, $locked_out, 'succeeded'), '... and writes the result when it is not');
	$session->quit;
};

$_->stop foreach $standin, $counted;
$node->stop;
done_testing();
