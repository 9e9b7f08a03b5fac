# The launcher and its dispatchers: what they are called, how they come back, and what they do where
# something is amiss with the server's configuration, a database or the extension.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
# the module's log_min_messages leaves warnings out
my $node = new_node(name => 'launcher', extension => 0, conf => 'log_min_messages = warning');

# Returns the process id of a database's dispatcher. Makes what is missing: the extension and its server, there and in
# the database postgres, and the workers that a subtest took away.
sub dispatcher_of
{
	my ($database) = @_;
	if (query('SHOW max_worker_processes') < 16)
	{
		$node->append_conf('postgresql.conf', 'max_worker_processes = 16');
		$node->restart;
	}
	foreach my $name ('postgres', $database)
	{
		next if query(q{SELECT count(*) FROM pg_extension WHERE extname = 'genjob'}, $name);
		query('CREATE EXTENSION genjob', $name);
		create_server($node, 'painter', 'openai-images', $standin,
			max_in_flight => 50, retry_base => '10 ms', database => $name);
	}
	return wait_dispatcher($node, $database);
}

# Drops a database, and returns when nothing shows it any more.
sub drop_database
{
	my ($name) = @_;
	query("DROP DATABASE $name WITH (FORCE)");
	return $node->poll_query_until('postgres',
		"SELECT NOT EXISTS (SELECT FROM genjob.workers WHERE database = '$name')");
}

# The seconds of CPU time that a process has used.
sub cpu_seconds
{
	my ($pid) = @_;
	my @fields = split ' ', (slurp_file("/proc/$pid/stat") =~ s/.*\) //sr);
	return ($fields[11] + $fields[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

# The seconds between two times of day as the log has them.
sub seconds_between
{
	my ($from, $to) = map { my ($h, $m, $s) = split /:/; $h * 3600 + $m * 60 + $s } @_;
	return $to >= $from ? $to - $from : $to - $from + 86400;
}

# Passes once the dispatcher of a database shows this state in genjob.workers.
sub eventually_shows
{
	my ($state, $database, $what) = @_;
	return eventually("SELECT state = '$state' FROM genjob.workers WHERE database = '$database'", $what);
}

# ---- what is said and shown ----

subtest 'CREATE EXTENSION says what to do without shared_preload_libraries' => sub {
	dispatcher_of('postgres');
	query('CREATE DATABASE unloaded');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$node->restart;
	like(
		refusal_of('CREATE EXTENSION genjob', 'unloaded'),
		qr/ERROR:  genjob must be loaded by shared_preload_libraries\nHINT:  Add "genjob" to shared_preload_libraries in postgresql.conf and restart/,
		'it is refused');
	is(query("SELECT count(*) FROM pg_extension WHERE extname = 'genjob'", 'unloaded'),
		'0', '... and leaves nothing behind');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'genjob'");
	$node->restart;
	query('CREATE EXTENSION genjob', 'unloaded');
	ok(wait_dispatcher($node, 'unloaded'), 'done so, the database has a dispatcher');
	drop_database('unloaded');
};

subtest 'pg_stat_activity and genjob.workers tell which process is which, and what it does' => sub {
	my $pid = dispatcher_of('postgres');
	my $wait_event = $node->pg_version < 17 ? 'Extension' : 'GenjobDispatcherMain';
	eventually("SELECT wait_event IS NOT NULL AND state = 'idle' FROM pg_stat_activity WHERE pid = $pid",
		'the dispatcher comes to rest');
	is(query(qq{SELECT datname, application_name, state, query, wait_event_type, wait_event FROM pg_stat_activity
			WHERE backend_type = 'genjob dispatcher' AND datname = 'postgres'}),
		"postgres|genjob dispatcher: postgres|idle|0 calls in flight|Extension|$wait_event",
		'pg_stat_activity tells which dispatcher it is and what it does');
	is(query(q{SELECT count(*), min(application_name), min(datname), min(wait_event_type), min(wait_event)
			FROM pg_stat_activity WHERE backend_type = 'genjob launcher'}),
		'1|genjob launcher||Extension|' . ($node->pg_version < 17 ? 'Extension' : 'GenjobLauncherMain'),
		'... and names the one launcher');
	is(query(q{SELECT database, pid, state, since <= now(), last_error, last_error_at FROM genjob.workers
			WHERE database = 'postgres'}),
		"postgres|$pid|idle|t||", 'genjob.workers has the dispatcher');
};

# ---- ended by an administrator ----

subtest 'an idle dispatcher that is terminated is back at once' => sub {
	my $pid = dispatcher_of('postgres');
	my $started = time;
	query("SELECT pg_terminate_backend($pid)");
	wait_dispatcher($node, 'postgres', $pid);
	# a database whose dispatcher has failed would wait for a minute in the end
	cmp_ok(time - $started, '<', 20, 'soon');
};

subtest 'a dispatcher that is terminated lets its calls end, and the next one runs what came meanwhile' => sub {
	my $pid = dispatcher_of('postgres');
	my $job = enqueue($node, 'painter', StandIn::request(prompt => 'in flight', latency_ms => 1500));
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	is(query("SELECT query FROM pg_stat_activity WHERE pid = $pid"),
		'1 call in flight', 'pg_stat_activity tells how many calls are in flight');
	is(query(q{SELECT state FROM genjob.workers WHERE database = 'postgres'}),
		'busy', '... and genjob.workers says busy');
	query("SELECT pg_terminate_backend($pid)");
	eventually_shows('stopping', 'postgres', 'terminated with a call in flight, it is stopping');
	my $later = enqueue($node, 'painter', { prompt => 'meanwhile' });
	ok(wait_state($node, $job, 'succeeded'), 'the call in flight is let end');
	is(job($node, $job)->{attempt}, 1, '... in its first attempt');
	ok(wait_state($node, $later, 'succeeded'), 'a job that was enqueued meanwhile is run');
	my $next = wait_dispatcher($node, 'postgres', $pid);
	is(query(qq{SELECT bool_and(s.started_at >= a.backend_start) FROM gen_jobs s, pg_stat_activity a
			WHERE a.pid = $next AND s.id = $later}), 't', '... by the next dispatcher');
};

subtest 'a launcher that is terminated is back, and disturbs no dispatcher' => sub {
	my $pid = dispatcher_of('postgres');
	my $launcher = query(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'genjob launcher'});
	query("SELECT pg_terminate_backend($launcher)");
	eventually(qq{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'genjob launcher' AND pid <> $launcher}, 'a launcher that is terminated is back');
	my $job = enqueue($node, 'painter', { prompt => 'of the next launcher' });
	ok(wait_state($node, $job, 'succeeded'), '... while jobs go on');
	is(dispatcher_pid($node), $pid, '... with the same dispatcher');
	query("SELECT pg_terminate_backend($pid)");
	ok(wait_dispatcher($node, 'postgres', $pid), '... which the new launcher replaces when it ends');
	$job = enqueue($node, 'painter', { prompt => 'of the next dispatcher' });
	ok(wait_state($node, $job, 'succeeded'), '... by one that runs jobs');
};

subtest 'pg_cancel_backend() costs no job anything' => sub {
	my $pid = dispatcher_of('postgres');
	# all the while jobs are claimed, called and reported
	query(
		q{INSERT INTO gen_jobs (server, request)
		SELECT 'painter', jsonb_build_object('prompt', 'cancel ' || i,
			'standin', jsonb_build_object('latency_ms', i % 40))
		FROM generate_series(1, 300) i});
	query(qq{DO \$\$
		BEGIN
			FOR i IN 1..1500 LOOP
				PERFORM pg_cancel_backend($pid), pg_sleep(0.0005);
			END LOOP;
		END \$\$});
	ok(wait_all_ended($node), 'jobs end while pg_cancel_backend() rains on the dispatcher');
	is(query(q{SELECT count(*) FILTER (WHERE state = 'succeeded'), max(attempt), sum(failures) FROM gen_jobs
			WHERE request ->> 'prompt' LIKE 'cancel %'}), '300|1|0', '... each in its first attempt');
	is(dispatcher_pid($node), $pid, '... and with the same dispatcher');
};

subtest 'genjob.enabled = off stops the dispatcher when its calls have ended, and on starts one' => sub {
	dispatcher_of('postgres');
	my $job = enqueue($node, 'painter', StandIn::request(prompt => 'last one', latency_ms => 1000));
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	reload_with('genjob.enabled = off');
	eventually_shows('stopping', 'postgres', 'genjob.enabled = off stops the dispatcher');
	my $later = enqueue($node, 'painter', { prompt => 'not now' });
	ok(wait_state($node, $job, 'succeeded'), '... which lets the calls in flight end');
	eventually(q{SELECT state = 'stopped' AND pid IS NULL FROM genjob.workers WHERE database = 'postgres'},
		'... and leaves');
	is(job($node, $later)->{state}, 'queued', '... while jobs can be enqueued');
	reload_with('genjob.enabled = on');
	ok(wait_state($node, $later, 'succeeded'), 'genjob.enabled = on runs them');
	is(job($node, $job)->{attempt}, 1, 'nothing was sent twice');
};

# ---- more than one database ----

query('CREATE DATABASE second');
dispatcher_of('second');

subtest 'two databases have jobs at once' => sub {
	dispatcher_of($_) foreach qw(postgres second);
	query(
		q{INSERT INTO gen_jobs (server, request) SELECT 'painter', '{"prompt": "both", "standin": {"latency_ms": 2000}}'
		FROM generate_series(1, 4)}, $_) foreach qw(postgres second);
	$standin->wait_for(sub { $_[0]{in_flight} == 8 });
	pass('a database created later has its own dispatcher, and both have calls in flight at once');
	is(query(q{SELECT string_agg(format('%s %s', database, state), ', ' ORDER BY database) FROM genjob.workers}),
		'postgres busy, second busy', 'genjob.workers has both');
	is(query('SELECT count(*), min(server) FROM genjob.activity', 'second'),
		'4|painter', '... and genjob.activity the calls of the own database');
	ok(wait_all_ended($node) && wait_all_ended($node, 'second'), 'the jobs of both end');
};

subtest 'a library and an extension of different versions: no job runs, and both sides say what to do' => sub {
	my $pid = dispatcher_of('second');
	my $version = query(q{SELECT extversion FROM pg_extension WHERE extname = 'genjob'}, 'second');
	my $due = query(
		q{BEGIN;
		INSERT INTO gen_jobs (server, request, run_at)
		VALUES ('painter', '{"prompt": "soon"}', now() + interval '1 s')
		RETURNING id;
		UPDATE pg_extension SET extversion = '9.9.9' WHERE extname = 'genjob';
		ALTER SERVER painter OPTIONS (ADD timeout '1 min');
		COMMIT}, 'second');
	like(
		refusal_of(q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "x"}')}, 'second'),
		qr/ERROR:  the extension genjob is of version 9\.9\.9, but the loaded library is of version \Q$version\E\nHINT:  Run ALTER EXTENSION genjob UPDATE/,
		'the first INSERT of a session says that the versions differ, and what to do');
	eventually(
		q{SELECT last_error LIKE 'the extension is not of version%ALTER EXTENSION genjob UPDATE%' FROM genjob.workers
		WHERE database = 'second'}, 'genjob.workers says the same');
	is(dispatcher_pid($node, 'second'), $pid, 'the dispatcher stays');
	ok($node->poll_query_until('second', "SELECT run_at < now() - interval '1 s' FROM gen_jobs WHERE id = $due"),
		'a job becomes due');
	my $used = cpu_seconds($pid);
	sleep 1;
	cmp_ok(cpu_seconds($pid) - $used, '<', 0.3, '... for which the dispatcher does not spin');
	is(job($node, $due, 'second')->{state}, 'queued', '... nor does it run it');
	query("UPDATE pg_extension SET extversion = '$version' WHERE extname = 'genjob'", 'second');
	query('ALTER SERVER painter OPTIONS (DROP timeout)', 'second');
	my $job = enqueue($node, 'painter', { prompt => 'again' }, database => 'second');
	ok(wait_state($node, $job, 'succeeded', 'second') && wait_state($node, $due, 'succeeded', 'second'),
		'once the versions agree again, jobs run');
};

subtest 'a dispatcher that cannot start is tried again less and less often, and disturbs no other' => sub {
	my $pid = dispatcher_of('second');
	my $oid = query(q{SELECT oid FROM pg_database WHERE datname = 'second'});
	my $file = $node->data_dir . "/base/$oid/PG_VERSION";
	my $log_begin = -s $node->logfile;
	rename $file, "$file.away" or die "could not rename $file: $!";
	query("SELECT pg_terminate_backend($pid)");
	eventually(q{SELECT state = 'failed' AND pid IS NULL FROM genjob.workers WHERE database = 'second'},
		'a dispatcher that cannot start is shown as failed');
	my $job = enqueue($node, 'painter', { prompt => 'elsewhere' });
	ok(wait_state($node, $job, 'succeeded'), '... and disturbs no other');
	$node->wait_for_log(qr/(?:FATAL: .*?){3}/s, $log_begin);
	my ($first, $third) = (slurp_file($node->logfile, $log_begin) =~ /^\S+ (\S+) \S+ \[\d+\].*FATAL:/mg)[ 0, 2 ];
	cmp_ok(seconds_between($first, $third), '>', 1.5, '... tries again less and less often');
	rename "$file.away", $file or die "could not rename $file.away: $!";
	ok(wait_dispatcher($node, 'second'), '... and is back when the cause is gone');
};

subtest 'a database that takes no connections is given up until it takes them' => sub {
	my $pid = dispatcher_of('second');
	query('ALTER DATABASE second ALLOW_CONNECTIONS false');
	my $log_begin = -s $node->logfile;
	query("SELECT pg_terminate_backend($pid)");
	eventually(q{SELECT NOT EXISTS (SELECT FROM genjob.workers WHERE database = 'second')},
		'a database that takes no connections is given up');
	my $refused = () = slurp_file($node->logfile, $log_begin) =~ /not currently accepting connections/g;
	cmp_ok($refused, '<=', 1, '... without more than one failed start');
	query('ALTER DATABASE second ALLOW_CONNECTIONS true');
	ok(wait_dispatcher($node, 'second'), '... and served again as soon as it takes them');
};

subtest 'too few background workers: the log says so, and a database without dispatcher keeps its jobs' => sub {
	dispatcher_of($_) foreach qw(postgres second);
	my $log_begin = -s $node->logfile;
	# one for PostgreSQL's own logical replication launcher, one for genjob's, one dispatcher
	$node->append_conf('postgresql.conf', 'max_worker_processes = 3');
	$node->restart;
	$node->wait_for_log(
		qr/WARNING:  genjob found no free background worker for a dispatcher.*?HINT:  Increase max_worker_processes/s,
		$log_begin);
	pass('the log says so, with a hint');
	# the one that has the worker may be still about to connect
	$node->poll_query_until('postgres', q{SELECT count(datname) = 1 FROM pg_stat_activity
		WHERE backend_type = 'genjob dispatcher'});
	my $served = query(q{SELECT datname FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher'});
	my $starved = $served eq 'postgres' ? 'second' : 'postgres';
	my $job = enqueue($node, 'painter', { prompt => 'starved' }, database => $starved);
	is(job($node, $job, $starved)->{state}, 'queued', 'a database without dispatcher keeps its jobs');
	query('DROP EXTENSION genjob CASCADE', $served);
	ok(wait_state($node, $job, 'succeeded', $starved), '... until a worker is free');
};

$standin->stop;
$node->stop;
done_testing();
