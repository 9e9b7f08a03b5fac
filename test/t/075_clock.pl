# A calendar that is set, by an hour back or forward, while jobs run; and a name that comes to lead elsewhere. Both by a
# library that is preloaded into the server (test/standin/shim.c).

use strict;
use warnings;

use File::Basename qw(dirname);
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $standin = StandIn->new;
my $shim = dirname(StandIn::binary()) . '/shim.so';
my $n = 40;

sub write_file { my ($name, $text) = @_; open(my $file, '>', "$folder/$name.new"); print $file $text; close $file; rename("$folder/$name.new", "$folder/$name"); return; }

write_file('clock', 0);
write_file('host', '8.8.8.8');
chmod 0755, $folder;
my $node = new_node(start => 0);
{
	local $ENV{LD_PRELOAD} = $shim;
	local $ENV{SHIM_CLOCK} = "$folder/clock";
	local $ENV{SHIM_HOST} = "$folder/host";
	$node->start;
}
$node->safe_psql('postgres', 'CREATE EXTENSION genjob');
wait_dispatcher($node);

my $before = query('SELECT extract(epoch FROM clock_timestamp())');
write_file('clock', 3600);
plan skip_all => 'the clock of the server cannot be moved here' if query('SELECT extract(epoch FROM clock_timestamp())') - $before < 3000;
write_file('clock', 0);

create_server($node, 'asked', 'replicate', $standin, model => 'm', timeout => '60 s', poll_interval => '100 ms', max_in_flight => 2 * $n);
create_server($node, 'slow', 'openai-images', $standin, timeout => '20 s', max_in_flight => $n);
create_server($node, 'held', 'openai-images', $standin, retry_base => '100 ms');
create_server($node, 'rated', 'openai-images', $standin, rate_limit => '5/s');
create_server($node, 'narrow', 'openai-images', $standin, max_in_flight => 1);
create_server($node, 'retried', 'openai-images', $standin, retry_base => '100 ms');

# An hour back or forward with predictions, calls, a hold and a rate under way: all end in seconds.
sub step
{
	my ($number, $from, $to, $what) = @_;
	subtest "wires $number: a clock that is set an hour $what stops nothing and fails nothing" => sub {
		query('DELETE FROM gen_jobs');
		$standin->reset;
		write_file('clock', $from);
		my $slow = literal(StandIn::request(prompt => 'x', latency_ms => 3000));
		query("INSERT INTO gen_jobs (server, request) SELECT server, $slow FROM generate_series(1, $n), unnest(ARRAY['asked', 'slow']) server");
		# run_at is a time of the calendar: these are due whatever that says
		query("INSERT INTO gen_jobs (server, request, run_at) SELECT 'rated', '{\"prompt\": \"y\"}', '2000-01-01' FROM generate_series(1, 25)");
		my $refused = enqueue($node, 'held', StandIn::request(prompt => 'held', faults => [ { status => 429, retry_after => '5' } ]));
		ok($node->poll_query_until('postgres', "SELECT count(remote_id) = $n FROM gen_jobs WHERE server = 'asked'"), 'predictions run');
		# on a busy machine it may have been sent again by now
		eventually("SELECT attempt_errors IS NOT NULL FROM gen_jobs WHERE id = $refused", 'a server asks to wait');
		my $begun = time;
		write_file('clock', $to);
		# what the table has is by the calendar: another job of that server is due at once, and waits for the hold alone
		my $next = enqueue($node, 'held', { prompt => 'after the hold' });
		ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM gen_jobs WHERE id <> $refused AND state IN ('queued', 'running')"), 'all end');
		cmp_ok(time - $begun, '<', 30, '... soon');
		is(query("SELECT DISTINCT server, state, attempt FROM gen_jobs WHERE id <> $refused ORDER BY 1"), "asked|succeeded|1\nheld|succeeded|1\nrated|succeeded|1\nslow|succeeded|1", '... with success, at the first attempt');
		is($standin->counts(summary => 1)->{max_submitted_per_key}, 1, 'no prediction was submitted twice');
		write_file('clock', $from);
		query('DELETE FROM gen_jobs');
	};
	return;
}

step(61, 0, -3600, 'back');
step(62, 0, 3600, 'forward');

# Jobs that a calendar an hour back must not delay: a backlog that was due, a retry, and one that a server's hold keeps.
# Their run_at is the default, or genjob's.
subtest 'wires 64: a clock that is set an hour back keeps due what was due, and retries' => sub {
	query('DELETE FROM gen_jobs');
	$standin->reset;
	write_file('clock', 0);
	my $slow = literal(StandIn::request(prompt => 'n', latency_ms => 200));
	query("INSERT INTO gen_jobs (server, request) SELECT 'narrow', $slow FROM generate_series(1, 20)");
	my $retried = enqueue_named($node, 'retried', 'r', { faults => [ { status => 500, retry_after => '10' } ] });
	my $held = enqueue_named($node, 'held', 'h', { faults => [ { status => 429, retry_after => '10' } ] });
	ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM gen_jobs WHERE id IN ($retried, $held) AND attempt = 1 AND state = 'queued'"),
		'one waits for its retry, one for its server');
	my $behind = enqueue($node, 'held', { prompt => 'behind it' });
	my $begun = time;
	write_file('clock', -3600);
	my $later = enqueue($node, 'narrow', { prompt => 'later' }, run_at => query("SELECT clock_timestamp() + interval '30 min'"));
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM gen_jobs WHERE id <> $later AND state IN ('queued', 'running')"), 'all end');
	cmp_ok(time - $begun, '<', 60, '... soon');
	is(query("SELECT DISTINCT state FROM gen_jobs WHERE id <> $later"), 'succeeded', '... with success');
	is(query("SELECT state, attempt, run_at > clock_timestamp() + interval '20 min' FROM gen_jobs WHERE id = $later"), 'queued|0|t',
		'a time that was chosen after that stays');
	write_file('clock', 0);
	query('DELETE FROM gen_jobs');
};

# The step is less than the retry's wait: a second look must not take the retry for one that was not moved yet.
subtest 'a clock that is set back moves a retry once, whoever looks again, and no time that was chosen' => sub {
	my $moved = sub { return query("SELECT extract(epoch FROM run_at) FROM gen_jobs WHERE id = $_[0]") };
	query('DELETE FROM gen_jobs');
	$standin->reset;
	write_file('clock', 0);
	my $retried = enqueue_named($node, 'retried', 'm', { faults => [ { status => 500, retry_after => '1000' } ] });
	my $chosen = enqueue_named($node, 'slow', 'c', { faults => [ { status => 400 } ] });
	my $put_off = enqueue_named($node, 'held', 'p', { faults => [ { status => 429, retry_after => '1000' } ] });
	ok(wait_state($node, $chosen, 'failed'), 'a job fails');
	query("UPDATE gen_jobs SET state = 'queued', run_at = clock_timestamp() + interval '2 h' WHERE id = $chosen");
	ok($node->poll_query_until('postgres', "SELECT count(*) = 3 FROM gen_jobs WHERE attempt = 1 AND state = 'queued'"),
		'... and others wait');
	query("UPDATE gen_jobs SET run_at = clock_timestamp() + interval '3 h' WHERE id = $put_off");
	my ($before, @times) = ($moved->($retried), map { $moved->($_) } $chosen, $put_off);
	write_file('clock', -600);
	enqueue($node, 'slow', { prompt => 'has it look' });
	my $is_moved = "SELECT extract(epoch FROM run_at) < $before - 500 FROM gen_jobs WHERE id = $retried";
	ok($node->poll_query_until('postgres', $is_moved), 'the retry is moved');
	my $after = $moved->($retried);
	foreach my $i (1 .. 2)
	{
		my $pid = dispatcher_pid($node);
		query("SELECT pg_terminate_backend($pid)");
		wait_dispatcher($node, 'postgres', $pid);
		ok(wait_state($node, enqueue($node, 'slow', { prompt => "looks $i" }), 'succeeded'),
			'another dispatcher has looked');
	}
	is($moved->($retried), $after, 'it is not moved again');
	is($moved->($chosen), $times[0], 'a time that was chosen for a job that had failed stays');
	is($moved->($put_off), $times[1], '... and one that was chosen for a retry');
	write_file('clock', 0);
	query('DELETE FROM gen_jobs');
};

subtest 'a clock that is set back while no dispatcher runs keeps more than a thousand jobs due' => sub {
	query('DELETE FROM gen_jobs');
	query(q{ALTER SYSTEM SET genjob.enabled = off; SELECT pg_reload_conf()});
	my $is_gone = q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher')};
	ok($node->poll_query_until('postgres', $is_gone), 'there is no dispatcher');
	query(q{SELECT genjob.pause('narrow')});
	query(q{INSERT INTO gen_jobs (server, request) SELECT 'narrow', '{"prompt": "f"}' FROM generate_series(1, 2500)});
	write_file('clock', -3600);
	query(q{ALTER SYSTEM RESET genjob.enabled; SELECT pg_reload_conf()});
	ok($node->poll_query_until('postgres', 'SELECT bool_and(run_at <= clock_timestamp()) FROM gen_jobs'),
		'all are due');
	query(q{SELECT genjob.resume('narrow')});
	write_file('clock', 0);
	query('DELETE FROM gen_jobs');
};

# No commit tells the dispatcher of it, and the next rescan is ten minutes away.
subtest 'wires 88: a clock that is set forward makes jobs due, and an idle dispatcher does not learn of it' => sub {
	query('DELETE FROM gen_jobs');
	$standin->reset;
	write_file('clock', 0);
	query(q{CREATE FUNCTION public.fails_once(job gen_jobs) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		IF clock_timestamp() < (SELECT created_at + interval '20 min' FROM gen_jobs WHERE id = job.id) THEN RAISE 'not yet'; END IF; END $$;
		ALTER FUNCTION public.fails_once(gen_jobs) OWNER TO CURRENT_USER});
	my $called = enqueue($node, 'slow', { prompt => 'calls' }, on_done => 'public.fails_once');
	ok($node->poll_query_until('postgres', "SELECT attempts > 0 FROM genjob.callbacks WHERE job_id = $called"),
		'a call has failed');
	query("UPDATE genjob.callbacks SET run_at = clock_timestamp() + interval '30 min' WHERE job_id = $called");
	my $due = enqueue($node, 'slow', { prompt => 'due' }, run_at => query("SELECT clock_timestamp() + interval '30 min'"));
	my $back = enqueue($node, 'slow', { prompt => 'not due' }, run_at => query("SELECT clock_timestamp() + interval '3 h'"));
	my $late = enqueue($node, 'slow', { prompt => 'late' }, run_at => query("SELECT clock_timestamp() + interval '50 min'"),
		expires_at => query("SELECT clock_timestamp() + interval '40 min'"));
	ok(wait_state($node, enqueue($node, 'slow', { prompt => 'now' }), 'succeeded'), 'all are known');
	ok($node->poll_query_until('postgres', q{SELECT bool_and(state = 'idle') FROM genjob.workers}), 'it is idle');
	write_file('clock', 3600);
	ok($node->poll_query_until('postgres', "SELECT state = 'succeeded' FROM gen_jobs WHERE id = $due"), 'a job is due');
	ok($node->poll_query_until('postgres', "SELECT state = 'failed' FROM gen_jobs WHERE id = $late"),
		'one has expired');
	ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM genjob.callbacks WHERE job_id = $called)"),
		'a call is repeated');
	is(query("SELECT state FROM gen_jobs WHERE id = $back"), 'queued', 'a later one waits');
	write_file('clock', 0);
	write_file('clock', 4 * 3600);
	ok($node->poll_query_until('postgres', "SELECT state = 'succeeded' FROM gen_jobs WHERE id = $back"),
		'... until the clock is set again');
	write_file('clock', 0);
	query('DELETE FROM gen_jobs');
};

subtest 'wires 66: a clock that goes to and fro loses no job' => sub {
	query('DELETE FROM gen_jobs');
	$standin->reset;
	query("INSERT INTO gen_jobs (server, request) SELECT 'narrow', '{\"prompt\": \"f\"}' FROM generate_series(1, 3000)");
	enqueue_named($node, 'retried', "z$_", { faults => [ { status => 500 } ] }) for 1 .. 5;
	foreach my $i (1 .. 12)
	{
		write_file('clock', (0, -7200, 3600)[ $i % 3 ]);
		sleep 0.2;
	}
	write_file('clock', -7200);
	ok($node->poll_query_until('postgres', "SELECT bool_and(state = 'succeeded') FROM gen_jobs"), 'all end well')
	  || diag(query('SELECT server, state, attempt, count(*), min(run_at), clock_timestamp() FROM gen_jobs GROUP BY 1, 2, 3'));
	write_file('clock', 0);
	query('DELETE FROM gen_jobs');
};

subtest 'wires 65: a date in Retry-After is read by the clock of the server' => sub {
	$standin->reset;
	write_file('clock', -3600);
	my $id = enqueue_named($node, 'held', 'dated', { faults => [ { status => 429, retry_after => { date_in_s => 2 } } ] });
	ok(wait_state($node, $id, 'succeeded'), 'a job goes on after the hold');
	is(query("SELECT finished_at - created_at < interval '1 min' FROM gen_jobs WHERE id = $id"), 't', '... and not an hour later');
	write_file('clock', 0);
};

subtest 'wires 63: the name of a server that was public comes to lead to this machine: nothing follows it, no secret is told' => sub {
	write_file('clock', 0);
	write_file('host', '8.8.8.8');
	$standin->reset;
	# connections to 8.8.8.8 come to the stand-in all the same
	create_server($node, 'moving', 'replicate', 'http://moving.test:' . $standin->port, model => 'm', poll_interval => '100 ms', timeout => '10 s');
	my @ids = map { enqueue($node, 'moving', StandIn::request(prompt => "m$_", latency_ms => 60_000)) } 1 .. 3;
	ok($node->poll_query_until('postgres', "SELECT count(remote_id) = 3 FROM gen_jobs WHERE server = 'moving'"), 'predictions run at a public server');
	is(query("SELECT DISTINCT remote ->> 'private' FROM gen_jobs WHERE server = 'moving'"), 'false', '... which is known');
	ok($node->poll_query_until('postgres', "SELECT bool_and(phase = 'waiting' OR phase = 'polling') FROM genjob.activity"), '... and asked about');
	my $polls = sub { my $c = $standin->counts(summary => 1); return $c->{polls} };
	$standin->wait_for(sub { $_[0]{polls} > 0 });

	# a process that has no connection to it, and has not looked up its name
	write_file('host', '127.0.0.1');
	my $pid = dispatcher_pid($node);
	query("SELECT pg_terminate_backend($pid)");
	wait_dispatcher($node, 'postgres', $pid);
	my $had = $polls->();
	query("SELECT genjob.cancel($ids[0])");
	ok($node->poll_query_until('postgres', "SELECT coalesce(error ~ 'did not confirm it', false) FROM gen_jobs WHERE id = $ids[0]"), 'a cancel does not reach it');
	ok(wait_state($node, $ids[1], 'failed'), 'nor does a question');
	like(job($node, $ids[1])->{error}, qr/leads into a private network|may still run/, '... which the job says');
	is($polls->() - $had, 0, 'nobody on this machine was asked');
	is($standin->counts->{cancels} // 0, 0, '... or told to cancel');
	write_file('host', '8.8.8.8');
	query('DELETE FROM gen_jobs');
};

$standin->stop;
$node->stop;
done_testing();
