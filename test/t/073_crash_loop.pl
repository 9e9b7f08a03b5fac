# No input keeps a cluster, a database or a dispatcher in a circle: a job whose answer crashes PostgreSQL is put aside at
# the second time, one whose call never ends well has a last attempt, a row that cannot be read or written is failed
# alone, and an error needs no memory to be handled. Everybody else's jobs go on meanwhile.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'crash_loop', conf => "restart_after_crash = on\nlog_min_messages = warning");
create_server($node, 'painter', 'openai-images', $standin, max_in_flight => 200, retry_base => '10 ms');
create_server($node, 'files', 'openai-images', $standin, retry_base => '10 ms');

# a number of 131,072 digits is stored in 10 bytes; 9,000 of them are more text than a value can be
my $poison = "('[' || repeat('1e131071,', 8999) || '1e131071]')::jsonb";

sub enqueue_script
{
	my ($prompt, $script, %columns) = @_;
	return enqueue($node, 'painter', StandIn::request(prompt => $prompt, standin => { id => $prompt, %$script }), %columns);
}

sub arrived { my ($id) = @_; return $standin->counts->{ids}{$id}{arrived} // 0; }

# A job of somebody else's is run at once.
sub others_go_on
{
	my ($what) = @_;
	my $id = enqueue($node, 'painter', { prompt => "beside $what" });
	return ok(wait_state($node, $id, 'succeeded'), "$what: others' jobs go on");
}

sub begin_again
{
	my $pid = wait_dispatcher($node);
	query("SELECT pg_terminate_backend($pid)");
	wait_dispatcher($node, 'postgres', $pid);
	return;
}

sub log_offset { return -s $node->logfile; }

sub log_lines
{
	my ($offset, $pattern) = @_;
	return scalar(grep { /$pattern/ } split /\n/, substr(slurp_file($node->logfile), $offset));
}

my $try = 1;

# ---- crashes ----

# From now on the dispatcher dies while it writes the result of a job whose prompt has the word "fatal".
sub create_die
{
	query(
		q{CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
			COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID';
			PERFORM pg_sleep(10);
			RETURN NEW;
		END $$;
		CREATE TRIGGER die BEFORE UPDATE ON gen_jobs FOR EACH ROW
			WHEN (NEW.state = 'succeeded' AND NEW.request ->> 'prompt' ~ 'fatal')
			EXECUTE FUNCTION die()});
	return;
}

sub drop_die { return query('DROP FUNCTION die() CASCADE'); }

# Returns the id of a job that is put aside, with a saved answer, because its result crashed PostgreSQL.
sub put_aside
{
	my ($prompt) = @_;
	my $id = enqueue($node, 'painter',
		StandIn::request(prompt => $prompt, response_format => 'url', standin => { id => $prompt }));
	ok($node->poll_query_until('postgres', "SELECT state = 'failed' FROM gen_jobs WHERE id = $id"), 'it is put aside');
	return $id;
}

subtest "ends @{[$try++]}: a job crashes PostgreSQL whenever its result is written" => sub {
	create_die();
	my $id = enqueue_script('fatal', {});
	ok($node->poll_query_until('postgres', "SELECT state = 'failed' FROM gen_jobs WHERE id = $id"), 'it is put aside');
	my $job = job($node, $id);
	like($job->{error}, qr/^PostgreSQL crashed while this job's answer was handled.*genjob\.retry\(\)/, '... with words that say what to do');
	is($job->{attempt}, 2, '... in its second attempt');
	is(arrived('fatal'), 2, '... it was sent twice');
	others_go_on('then');
	is(query("SELECT state FROM gen_jobs WHERE id = $id"), 'failed', '... and it stays put aside');
	drop_die();
};

subtest "ends @{[$try++]}: one of many that are written together does" => sub {
	query('DELETE FROM gen_jobs');
	create_die();
	query(
		q{INSERT INTO gen_jobs (server, request)
		SELECT 'painter', jsonb_build_object('prompt', CASE WHEN i = 17 THEN 'fatal too' ELSE 'harmless ' || i END,
			'standin', jsonb_build_object('latency_ms', 300)) FROM generate_series(1, 40) i});
	ok(wait_all_ended($node), 'all jobs end');
	is(query("SELECT state, count(*), max(attempt) <= 3, max(failures) FROM gen_jobs GROUP BY 1 ORDER BY 1"),
		"succeeded|39|t|0\nfailed|1|t|0", '... all but that one succeed');
	like(query("SELECT error FROM gen_jobs WHERE state = 'failed'"), qr/^PostgreSQL crashed while/, '... it is the one that is put aside');
	drop_die();
};

subtest "ends @{[$try++]}: what was saved of its answer is thrown away" => sub {
	create_die();
	my $id = put_aside('fatal, with a file');
	is(query("SELECT attempt, result ->> 'data' ~ 'http', remote FROM gen_jobs WHERE id = $id"), '1|t|',
		'... with the answer that had been saved');
	is(arrived('fatal, with a file'), 1, '... it was paid once');
	drop_die();
};

subtest "ends @{[$try++]}: genjob.retry() of such a job crashes it once more, and again, for ever" => sub {
	create_die();
	my $id = put_aside('fatal, and retried');
	query("SELECT genjob.retry($id)");
	ok($node->poll_query_until('postgres', "SELECT state = 'failed' FROM gen_jobs WHERE id = $id"), 'it is put aside again');
	others_go_on('then');
	drop_die();
};

subtest "ends @{[$try++]}: immediate stops, and crashes of others, while a result is written count against its job" => sub {
	query('DELETE FROM gen_jobs');
	query(
		q{CREATE TABLE held ();
		CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
			WHILE EXISTS (SELECT FROM public.held) LOOP PERFORM pg_sleep(0.01); END LOOP;
			RETURN NEW;
		END $$;
		CREATE TRIGGER hold BEFORE UPDATE ON gen_jobs FOR EACH ROW WHEN (NEW.state = 'succeeded') EXECUTE FUNCTION hold();
		INSERT INTO held DEFAULT VALUES});
	my $id = enqueue_script('unlucky', {});
	foreach my $i (1 .. 3)
	{
		$node->poll_query_until('postgres',
			"SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher'");
		if ($i == 2)
		{
			my $pid = wait_dispatcher($node);
			my $other = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
			kill 'KILL', $other or die "could not kill the checkpointer: $!";
			wait_dispatcher($node, 'postgres', $pid);
		}
		else
		{
			$node->stop('immediate');
			$node->start;
		}
	}
	query('DELETE FROM held');
	ok(wait_state($node, $id, 'succeeded'), 'the job goes on');
	is(query("SELECT attempt, failures FROM gen_jobs WHERE id = $id"), '4|0', '... no failure counts');
	query('DROP FUNCTION hold() CASCADE; DROP TABLE held');
};

subtest "ends @{[$try++]}: the dispatcher is killed again and again during a call" => sub {
	query('DELETE FROM gen_jobs');
	$standin->reset;
	my $id = enqueue_script('endless', { latency_ms => 600_000 }, max_attempts => 2);
	foreach my $i (1 .. 5)
	{
		# the stand-in may have the call before that in flight for a moment longer
		$standin->wait_for(sub { $_[0]{in_flight} == 1 && arrived('endless') == $i });
		is(query("SELECT losses, failures FROM gen_jobs WHERE id = $id"), ($i - 1) . '|' . ($i == 5 ? 1 : 0),
			'attempts that are lost are counted') if $i > 1;
		kill_dispatcher();
	}
	ok(wait_state($node, $id, 'failed'), 'from the fourth in a row on each is a failure of its own');
	like(job($node, $id)->{error}, qr/^genjob or the database server stopped while the call was in flight\..*All 2 attempts are used up/,
		'... which the job says');
	is(arrived('endless'), 5, '... it is not sent any more');
};

subtest "ends @{[$try++]}: an answer between does not reset the count" => sub {
	my $id = enqueue_script('now and then',
		{ faults => [ ({ latency_ms => 600_000 }) x 2, { status => 500 }, { latency_ms => 600_000 } ] });
	foreach my $i (1 .. 2)
	{
		$standin->wait_for(sub { $_[0]{in_flight} == 1 && arrived('now and then') == $i });
		kill_dispatcher();
	}
	$standin->wait_for(sub { $_[0]{in_flight} == 1 && arrived('now and then') == 4 });
	is(query("SELECT losses, failures FROM gen_jobs WHERE id = $id"), '0|1', 'it does');
	query("SELECT genjob.cancel($id)");
};

subtest "ends @{[$try++]}: a job that its server deferred twenty times waits a minute after one crash" => sub {
	my $id = enqueue_script('deferred', { faults => [ ({ status => 429, headers => { 'retry-after-ms' => '50' } }) x 20, { latency_ms => 600_000 } ] });
	$standin->wait_for(sub { arrived('deferred') == 21 });
	kill_dispatcher();
	ok(wait_state($node, $id, 'succeeded'), 'it is sent again');
	is(query("SELECT attempt, failures, losses, started_at - (attempt_errors -> -1 ->> 'at')::timestamptz < interval '30 s' FROM gen_jobs WHERE id = $id"),
		'22|0|0|t', '... and not a minute later');
};

# ---- rows that cannot be read ----

subtest "ends @{[$try++]}: an orphan whose column remote cannot be read keeps the database from claiming" => sub {
	query('DELETE FROM gen_jobs');
	$node->append_conf('postgresql.conf', 'genjob.enabled = off');
	$node->reload;
	$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher')});
	run_unreported($node,
		qq{INSERT INTO gen_jobs (server, request, state, attempt, idempotency_key, started_at, remote)
			SELECT 'painter', jsonb_build_object('prompt', 'orphan ' || i), 'running', 1, gen_random_uuid(), now(),
				CASE WHEN i = 3 THEN jsonb_build_object('answer', $poison) END FROM generate_series(1, 5) i;});
	$node->append_conf('postgresql.conf', 'genjob.enabled = on');
	$node->reload;
	others_go_on('beside it');
	ok(wait_all_ended($node), 'all jobs end');
	is(query("SELECT state, count(*) FROM gen_jobs WHERE request ->> 'prompt' ~ 'orphan' GROUP BY 1 ORDER BY 1"),
		"succeeded|4\nfailed|1", '... the other orphans well');
	like(query("SELECT error FROM gen_jobs WHERE state = 'failed'"),
		qr/^the column remote of this job cannot be read: .*look for it at the provider/, '... that one says which column');
};

subtest "ends @{[$try++]}: ... and a trigger keeps it from being failed" => sub {
	query('DELETE FROM gen_jobs');
	run_unreported($node,
		qq{INSERT INTO gen_jobs (server, request, state, attempt, idempotency_key, started_at, remote)
			VALUES ('painter', '{"prompt": "stubborn"}', 'running', 1, gen_random_uuid(), now(), jsonb_build_object('answer', $poison));});
	query(
		q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RAISE 'not this one'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON gen_jobs FOR EACH ROW WHEN (OLD.remote IS NOT NULL) EXECUTE FUNCTION refuse()});
	begin_again();
	others_go_on('beside it');
	is(query("SELECT state FROM gen_jobs WHERE request ->> 'prompt' = 'stubborn'"), 'running', 'it is left as it is');
	like(query('SELECT last_error FROM genjob.workers WHERE database = current_database()'), qr/not this one/,
		'... which genjob.workers says');
	query('DROP FUNCTION refuse() CASCADE');
	begin_again();
	ok($node->poll_query_until('postgres', "SELECT state = 'failed' FROM gen_jobs WHERE request ->> 'prompt' = 'stubborn'"),
		'... until it can be');
};

subtest "ends @{[$try++]}: a request that cannot be read is claimed again and again" => sub {
	query('DELETE FROM gen_jobs');
	my $offset = log_offset();
	run_unreported($node,
		qq{INSERT INTO gen_jobs (server, request, run_at) SELECT 'painter',
			CASE WHEN i = 5 THEN jsonb_build_object('prompt', $poison) ELSE jsonb_build_object('prompt', 'readable ' || i) END,
			now() - interval '1 min' FROM generate_series(1, 9) i;});
	begin_again();
	ok(wait_all_ended($node), 'all jobs end');
	is(query('SELECT state, count(*) FROM gen_jobs GROUP BY 1 ORDER BY 1'), "succeeded|8\nfailed|1", '... the others well');
	like(query("SELECT error FROM gen_jobs WHERE state = 'failed'"), qr/^(the column )?request (of this job cannot be read: |has a number of more than 1000 digits)/,
		'... that one says which column');
	cmp_ok(log_lines($offset, 'genjob could not claim jobs'), '<=', 2, '... the log says it once');
};

subtest "ends @{[$try++]}: what a cancelled job says of its prediction cannot be read" => sub {
	query('DELETE FROM gen_jobs');
	my $offset = log_offset();
	run_unreported($node,
		qq{INSERT INTO gen_jobs (server, request, state, attempt, idempotency_key, started_at, finished_at, remote)
			SELECT 'painter', '{"prompt": "cancelled"}', 'cancelled', 1, gen_random_uuid(), now(), now(), jsonb_build_object(key, $poison)
			FROM unnest('{id, urls}'::text[]) key;});
	begin_again();
	others_go_on('beside them');
	is(log_lines($offset, 'genjob could not claim jobs'), 0, 'no claim fails for them');
	is(query("SELECT state, count(*) FROM gen_jobs WHERE request ->> 'prompt' = 'cancelled' GROUP BY 1"), 'cancelled|2', '... they stay cancelled');
};

subtest "ends @{[$try++]}: a column attempt_errors that cannot be added to keeps a result from being written" => sub {
	plan skip_all => 'only with GENJOB_TEST_LONG, for it takes a gigabyte' unless $ENV{GENJOB_TEST_LONG};
	query('DELETE FROM gen_jobs');
	my $id = enqueue_script('many errors', { faults => [ { status => 500 } ], latency_ms => 500 }, run_at => '2100-01-01');
	# 268,435,455 bytes are what an array may have
	run_unreported($node,
		qq{UPDATE gen_jobs SET attempt_errors = jsonb_build_array(repeat('x', 268435400)), run_at = now() WHERE id = $id;});
	begin_again();
	ok(wait_state($node, $id, 'succeeded'), 'the job goes on');
	is(query("SELECT attempt, failures, jsonb_array_length(attempt_errors) FROM gen_jobs WHERE id = $id"), '2|1|1', '... with a new list of errors');
};

subtest "ends @{[$try++]}: genjob.wait() for a job whose result cannot be shown says nothing about it" => sub {
	query('DELETE FROM gen_jobs');
	run_unreported($node,
		qq{INSERT INTO gen_jobs (server, request, state, attempt, result) VALUES ('painter', '{"prompt": "huge"}', 'succeeded', 1, $poison);});
	my $id = query('SELECT max(id) FROM gen_jobs');
	my ($status, $out, $err) = $node->psql('postgres', "SELECT genjob.wait($id)");
	like($err, qr/column "result" of job $id is too large to be shown/, 'it names the job and the column');
	is(query("SELECT state FROM gen_jobs WHERE id = $id"), 'succeeded', '... other columns can be read');
	query('DELETE FROM gen_jobs');
};

# ---- what a trigger refuses ----

# From now on a trigger refuses results with the SQLSTATE that table refused has, if any.
sub create_refuse
{
	query(
		q{CREATE TABLE refused (sqlstate text);
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		DECLARE code text;
		BEGIN
			SELECT r.sqlstate INTO code FROM public.refused r;
			IF code IS NOT NULL THEN RAISE 'refused with %', code USING ERRCODE = code; END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON gen_jobs FOR EACH ROW WHEN (NEW.state = 'succeeded') EXECUTE FUNCTION refuse()});
	return;
}

sub drop_refuse { return query('DROP FUNCTION refuse() CASCADE; DROP TABLE refused'); }

subtest "ends @{[$try++]}: a trigger that raises 22012, 54000 or XX000 costs the result and the usage" => sub {
	query('DELETE FROM gen_jobs');
	create_refuse();
	foreach my $code (qw(22012 54000 XX000))
	{
		query("INSERT INTO refused VALUES ('$code')");
		my $id = enqueue($node, 'painter', { prompt => "refused by $code" });
		ok($node->poll_query_until('postgres',
				"SELECT last_error ~ 'refused with $code' AND state = 'blocked' FROM genjob.workers WHERE database = current_database()"),
			"$code: genjob.workers says so");
		is(query("SELECT state FROM gen_jobs WHERE id = $id"), 'running', '... the result waits in memory');
		query('TRUNCATE refused');
		ok(wait_state($node, $id, 'succeeded'), '... and is written when the trigger lets it');
		is(query("SELECT attempt, result IS NOT NULL, (SELECT count(*) FROM gen_outputs WHERE job_id = $id) FROM gen_jobs WHERE id = $id"),
			'1|t|1', '... whole');
	}
	drop_refuse();
};

subtest "ends @{[$try++]}: a result that the column refuses is kept for ever in memory" => sub {
	# with a trigger the dispatcher writes by a statement
	create_refuse();
	my $answer = '{"created": 1, "data": [], "x": ' . '1' x 140_000 . '}';
	my $id = enqueue($node, 'painter', StandIn::request(prompt => 'a long number',
			standin => { faults => [ { body => $answer, content_type => 'application/json' } ] }));
	ok($node->poll_query_until('postgres', "SELECT state IN ('succeeded', 'failed') FROM gen_jobs WHERE id = $id"), 'it is written');
	is(query("SELECT attempt FROM gen_jobs WHERE id = $id"), '1', '... of the first attempt');
	drop_refuse();
};

subtest "ends @{[$try++]}: a disk that refuses 100 results fills the log" => sub {
	query('DELETE FROM gen_jobs');
	create_refuse();
	query("INSERT INTO refused VALUES ('53100')");
	my $offset = log_offset();
	$standin->reset;
	query(q{INSERT INTO gen_jobs (server, request) SELECT 'painter', jsonb_build_object('prompt', 'many ' || i) FROM generate_series(1, 100) i});
	$standin->wait_for(sub { $_[0]{answered} == 100 });
	sleep 3;
	cmp_ok(log_lines($offset, 'genjob could not write the result'), '<=', 2, 'it does not');
	query('TRUNCATE refused');
	ok(wait_all_ended($node), '... and they are written when there is room');
	is(query("SELECT count(*) FROM gen_jobs WHERE state = 'succeeded' AND attempt = 1"), '100', '... all of the first attempt');
	drop_refuse();
};

subtest "ends @{[$try++]}: what a trigger changes while the dispatcher writes is neither checked nor told" => sub {
	query('DELETE FROM gen_jobs');
	query(
		q{CREATE FUNCTION cancel_siblings() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
			UPDATE public.gen_jobs SET state = 'cancelled' WHERE request ->> 'prompt' = 'sibling' AND state = 'running';
			UPDATE public.gen_jobs SET run_at = now() WHERE request ->> 'prompt' = 'later';
			RETURN NULL;
		END $$;
		CREATE TRIGGER cancel_siblings AFTER UPDATE ON gen_jobs FOR EACH ROW
			WHEN (NEW.state = 'succeeded' AND NEW.request ->> 'prompt' = 'first') EXECUTE FUNCTION cancel_siblings()});
	my $sibling = enqueue_script('sibling', { latency_ms => 600_000 });
	my $later = enqueue($node, 'painter', { prompt => 'later' }, run_at => '2100-01-01');
	$standin->wait_for(sub { arrived('sibling') == 1 });
	my $first = enqueue($node, 'painter', { prompt => 'first' });
	ok(wait_state($node, $first, 'succeeded'), 'the first job is written');
	is(query("SELECT state, finished_at IS NOT NULL, error ~ 'cancelled by role' FROM gen_jobs WHERE id = $sibling"), 'cancelled|t|t',
		'... its sibling is cancelled as a session would have');
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM genjob.activity WHERE job_id = $sibling"), '... its call is cut');
	ok(wait_state($node, $later, 'succeeded'), '... and one that became due is run');
	query('DROP FUNCTION cancel_siblings() CASCADE');
};

# ---- memory ----

SKIP:
{
	skip 'needs prlimit', 1 unless -d '/proc/self' && `prlimit --version 2>/dev/null`;
	subtest "ends @{[$try++]}: there is no memory for an answer, nor for the error about it" => sub {
		query('DELETE FROM gen_jobs');
		my $pid = wait_dispatcher($node);
		my ($kb) = slurp_file("/proc/$pid/status") =~ /^VmSize:\s+(\d+) kB/m;
		system('prlimit', '--pid', $pid, '--as=' . (($kb + 40_000) * 1024)) == 0 or die 'prlimit failed';
		my @ids = map {
			enqueue($node, 'painter',
				StandIn::request(prompt => "large $_", standin => { id => "large $_", faults => [ { huge => $_ * 1_000_000 } ] }),
				max_attempts => 1)
		} 5, 10, 20, 30, 60;
		# of one that can be received and not be written the answer waits
		ok($node->poll_query_until('postgres',
				"SELECT count(*) FILTER (WHERE state IN ('failed', 'succeeded')) + count(DISTINCT a.job_id) = 5 AND count(*) FILTER (WHERE phase <> 'saving') = 0"
				  . " FROM gen_jobs LEFT JOIN genjob.activity a ON a.job_id = id"),
			'each ends, or its answer waits');
		others_go_on('then');
		is(dispatcher_pid($node), $pid, '... in the same dispatcher');
		begin_again();
		ok(wait_all_ended($node), '... and another one writes what waited');
		is(query('SELECT max(attempt) FROM gen_jobs'), '1', '... of the first attempt');
	};
}

subtest "ends @{[$try++]}: 50 answers of 10 MB at once take more than genjob.max_memory" => sub {
	plan skip_all => figures_mean_nothing() if figures_mean_nothing();
	plan skip_all => 'needs /proc/PID/status' unless -r '/proc/self/status';
	my $bound = 256;
	my $large = new_node(name => 'large', conf => "synchronous_commit = off\nautovacuum = off\nmax_wal_size = '4GB'");
	my $default = $large->safe_psql('postgres', q{SELECT setting FROM pg_settings WHERE name = 'genjob.max_memory'});
	my ($total) = slurp_file('/proc/meminfo') =~ /^MemTotal:\s+(\d+) kB/m;
	cmp_ok($default, '<=', $total / 4096 > 64 ? $total / 4096 : 64, 'by default it is a quarter of the memory at most');
	cmp_ok($default, '<=', 1024, '... and a gigabyte at most');
	$large->append_conf('postgresql.conf', "genjob.max_memory = '$bound MB'");
	$large->reload;
	create_server($large, 'painter', 'openai-images', $standin, max_in_flight => 300);
	create_server($large, 'json', 'http', $standin, path => '/echo', max_in_flight => 300);
	my %requests = (
		painter => StandIn::request(prompt => 'a picture', size => '1600x1600'),
		json => StandIn::request(prompt => 'json', standin => { faults => [ { huge => 10_000_000 } ], repeat => 1 }));
	# to judge and to write a picture takes 2 times its bytes, JSON 12: of that 6 are reserved, and one is written at a time
	my %spare = (painter => 32, json => 130);
	my %jobs = (painter => 50, json => 15);
	my $pid = dispatcher_pid($large);
	foreach my $server (qw(painter json))
	{
		$large->safe_psql('postgres',
			"INSERT INTO gen_jobs (server, request) SELECT '$server', '$requests{$server}' FROM generate_series(1, $jobs{$server})");
		my ($most, $ended, $asked) = (0, 0, 0);
		my $until = time + $PostgreSQL::Test::Utils::timeout_default;
		until ($ended || time > $until)
		{
			my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
			$most = $kb / 1024 if $kb / 1024 > $most;
			sleep 0.005;
			next if time - $asked < 0.5;
			$ended = $large->safe_psql('postgres',
				"SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE state IN ('queued', 'running'))") eq 't';
			$asked = time;
		}
		is($large->safe_psql('postgres', "SELECT state, count(*), max(attempt) FROM gen_jobs WHERE server = '$server' GROUP BY 1"),
			"succeeded|$jobs{$server}|1", "$server: all answers arrive");
		cmp_ok($most, '<', $bound + $spare{$server}, sprintf('... in %d MB', $most));
	}
	$large->stop;
};

$standin->stop;
$node->stop;
done_testing();
