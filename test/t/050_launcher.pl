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
my $node = new_node(name => 'launcher', start => 0, conf => 'log_min_messages = warning');

sub refusal
{
	my ($sql, $database) = @_;
	my ($code, undef, $stderr) = $node->psql($database // 'postgres', $sql);
	return $code == 0 ? 'it was not refused' : $stderr;
}

sub reload_with
{
	my ($setting) = @_;
	query("ALTER SYSTEM SET $setting");
	query('SELECT pg_reload_conf()');
	return;
}

# The seconds of CPU time that a process has used.
sub cpu_seconds
{
	my ($pid) = @_;
	my @fields = split ' ', (slurp_file("/proc/$pid/stat") =~ s/.*\) //sr);
	return ($fields[11] + $fields[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

# ---- not in shared_preload_libraries ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
like(
	refusal('CREATE EXTENSION genjob'),
	qr/ERROR:  genjob must be loaded by shared_preload_libraries\nHINT:  Add "genjob" to shared_preload_libraries in postgresql.conf and restart/,
	'CREATE EXTENSION without shared_preload_libraries says what to do');
is(query("SELECT count(*) FROM pg_extension WHERE extname = 'genjob'"), '0', '... and leaves nothing behind');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'genjob'");
$node->restart;
query('CREATE EXTENSION genjob');
my $pid = wait_dispatcher($node);
ok($pid, 'done so, the database has a dispatcher');

# ---- names ----

my $wait_event = $node->pg_version < 17 ? 'Extension' : 'GenjobDispatcherMain';
ok( $node->poll_query_until(
		'postgres',
		qq{SELECT wait_event IS NOT NULL AND state = 'idle' FROM pg_stat_activity WHERE pid = $pid}),
	'the dispatcher comes to rest');
is( query(
		qq{SELECT datname, application_name, state, query, wait_event_type, wait_event FROM pg_stat_activity
		WHERE backend_type = 'genjob dispatcher'}),
	"postgres|genjob dispatcher: postgres|idle|0 calls in flight|Extension|$wait_event",
	'pg_stat_activity tells which dispatcher it is and what it does');
is( query(
		q{SELECT count(*), min(application_name), min(datname), min(wait_event_type), min(wait_event)
		FROM pg_stat_activity WHERE backend_type = 'genjob launcher'}),
	'1|genjob launcher||Extension|' . ($node->pg_version < 17 ? 'Extension' : 'GenjobLauncherMain'),
	'... and names the one launcher');
is( query(
		q{SELECT database, pid, state, since <= now(), last_error, last_error_at FROM genjob.workers}),
	"postgres|$pid|idle|t||",
	'genjob.workers has the dispatcher');

# ---- ended by an administrator ----

create_server($node, 'painter', 'openai-images', $standin, max_in_flight => 50, retry_base => '10 ms');
my $started = time;
query("SELECT pg_terminate_backend($pid)");
my $next = wait_dispatcher($node, 'postgres', $pid);
cmp_ok(time - $started, '<', 2, 'an idle dispatcher that is terminated is back at once');
$pid = $next;

my $job = enqueue($node, 'painter', StandIn::request(prompt => 'in flight', latency_ms => 1500));
$standin->wait_for(sub { $_[0]{in_flight} == 1 });
is( query("SELECT query FROM pg_stat_activity WHERE pid = $pid"),
	'1 call in flight',
	'pg_stat_activity tells how many calls are in flight');
is(query('SELECT state FROM genjob.workers'), 'busy', '... and genjob.workers says busy');
query("SELECT pg_terminate_backend($pid)");
ok( $node->poll_query_until('postgres', q{SELECT state = 'stopping' FROM genjob.workers}),
	'terminated with a call in flight, it is stopping');
my $later = enqueue($node, 'painter', { prompt => 'meanwhile' });
ok(wait_state($node, $job, 'succeeded'), 'the call in flight is let end');
is(job($node, $job)->{attempt}, 1, '... in its first attempt');
ok(wait_state($node, $later, 'succeeded'), 'a job that was enqueued meanwhile is run');
$next = wait_dispatcher($node, 'postgres', $pid);
is( query(qq{SELECT bool_and(s.started_at >= a.backend_start) FROM gen_jobs s, pg_stat_activity a
		WHERE a.pid = $next AND s.id = $later}),
	't',
	'... by the next dispatcher');
$pid = $next;

my $launcher = query(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'genjob launcher'});
query("SELECT pg_terminate_backend($launcher)");
ok( $node->poll_query_until(
		'postgres',
		qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'genjob launcher' AND pid <> $launcher}),
	'a launcher that is terminated is back');
$job = enqueue($node, 'painter', { prompt => 'of the next launcher' });
ok(wait_state($node, $job, 'succeeded'), '... while jobs go on');
is(dispatcher_pid($node), $pid, '... with the same dispatcher');
query("SELECT pg_terminate_backend($pid)");
$pid = wait_dispatcher($node, 'postgres', $pid);
ok($pid, '... which the new launcher replaces when it ends');
$job = enqueue($node, 'painter', { prompt => 'of the next dispatcher' });
ok(wait_state($node, $job, 'succeeded'), '... by one that runs jobs');

# with pg_cancel_backend() all the while jobs are claimed, called and reported
query(
	q{INSERT INTO gen_jobs (server, request)
	SELECT 'painter', jsonb_build_object('prompt', 'cancel ' || i, 'standin', jsonb_build_object('latency_ms', i % 40))
	FROM generate_series(1, 300) i});
query(qq{DO \$\$
	BEGIN
		FOR i IN 1..1500 LOOP
			PERFORM pg_cancel_backend($pid), pg_sleep(0.0005);
		END LOOP;
	END \$\$});
ok(wait_all_ended($node), 'jobs end while pg_cancel_backend() rains on the dispatcher');
is( query(q{SELECT count(*) FILTER (WHERE state = 'succeeded'), max(attempt), sum(failures) FROM gen_jobs
		WHERE request ->> 'prompt' LIKE 'cancel %'}),
	'300|1|0',
	'... each in its first attempt');
is(dispatcher_pid($node), $pid, '... and with the same dispatcher');

# ---- genjob.enabled ----

$job = enqueue($node, 'painter', StandIn::request(prompt => 'last one', latency_ms => 1000));
$standin->wait_for(sub { $_[0]{in_flight} == 1 });
reload_with('genjob.enabled = off');
ok( $node->poll_query_until('postgres', q{SELECT state = 'stopping' FROM genjob.workers}),
	'genjob.enabled = off stops the dispatcher');
$later = enqueue($node, 'painter', { prompt => 'not now' });
ok(wait_state($node, $job, 'succeeded'), '... which lets the calls in flight end');
ok( $node->poll_query_until('postgres', q{SELECT state = 'stopped' AND pid IS NULL FROM genjob.workers}),
	'... and leaves');
is(job($node, $later)->{state}, 'queued', '... while jobs can be enqueued');
reload_with('genjob.enabled = on');
ok(wait_state($node, $later, 'succeeded'), 'genjob.enabled = on runs them');
is(job($node, $job)->{attempt}, 1, 'nothing was sent twice');

# ---- two databases with jobs at once ----

query('CREATE DATABASE second');
query('CREATE EXTENSION genjob', 'second');
wait_dispatcher($node, 'second');
create_server($node, 'painter', 'openai-images', $standin, database => 'second');
$standin->reset;
foreach my $database (qw(postgres second))
{
	query(
		q{INSERT INTO gen_jobs (server, request) SELECT 'painter', '{"prompt": "both", "standin": {"latency_ms": 2000}}'
		FROM generate_series(1, 4)}, $database);
}
$standin->wait_for(sub { $_[0]{in_flight} == 8 });
pass('a database created later has its own dispatcher, and both have calls in flight at once');
is( query(q{SELECT string_agg(format('%s %s', database, state), ', ' ORDER BY database) FROM genjob.workers}),
	'postgres busy, second busy',
	'genjob.workers has both');
is(query('SELECT count(*), min(server) FROM genjob.activity', 'second'),
	'4|painter', '... and genjob.activity the calls of the own database');
ok(wait_all_ended($node) && wait_all_ended($node, 'second'), 'the jobs of both end');

# ---- a library and an extension of different versions ----

my $version = query(q{SELECT extversion FROM pg_extension WHERE extname = 'genjob'}, 'second');
my $due = query(
	q{INSERT INTO gen_jobs (server, request, run_at) VALUES ('painter', '{"prompt": "soon"}', now() + interval '1 s')
	RETURNING id}, 'second');
query(
	q{BEGIN;
	UPDATE pg_extension SET extversion = '9.9.9' WHERE extname = 'genjob';
	ALTER SERVER painter OPTIONS (ADD timeout '1 min');
	COMMIT}, 'second');
like(
	refusal(q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "x"}')}, 'second'),
	qr/ERROR:  the extension genjob is of version 9\.9\.9, but the loaded library is of version \Q$version\E\nHINT:  Run ALTER EXTENSION genjob UPDATE/,
	'the first INSERT of a session says that the versions differ, and what to do');
ok( $node->poll_query_until(
		'postgres',
		q{SELECT last_error LIKE 'the extension is not of version%ALTER EXTENSION genjob UPDATE%' FROM genjob.workers
		WHERE database = 'second'}),
	'genjob.workers says the same');
$pid = dispatcher_pid($node, 'second');
ok($pid, 'the dispatcher stays');
ok($node->poll_query_until('second', "SELECT run_at < now() - interval '1 s' FROM gen_jobs WHERE id = $due"),
	'a job becomes due');
my $used = cpu_seconds($pid);
sleep 1;
cmp_ok(cpu_seconds($pid) - $used, '<', 0.3, '... for which the dispatcher does not spin');
is(job($node, $due, 'second')->{state}, 'queued', '... nor does it run it');
query("UPDATE pg_extension SET extversion = '$version' WHERE extname = 'genjob'", 'second');
$job = enqueue($node, 'painter', { prompt => 'again' }, database => 'second');
ok(wait_state($node, $job, 'succeeded', 'second') && wait_state($node, $due, 'succeeded', 'second'),
	'once the versions agree again, jobs run');

# ---- a database in which no dispatcher can start ----

my $oid = query(q{SELECT oid FROM pg_database WHERE datname = 'second'});
my $file = $node->data_dir . "/base/$oid/PG_VERSION";
my $log_begin = -s $node->logfile;
rename $file, "$file.away" or die "could not rename $file: $!";
query("SELECT pg_terminate_backend($pid)");
ok( $node->poll_query_until(
		'postgres', q{SELECT state = 'failed' AND pid IS NULL FROM genjob.workers WHERE database = 'second'}),
	'a dispatcher that cannot start is shown as failed');
$job = enqueue($node, 'painter', { prompt => 'elsewhere' });
ok(wait_state($node, $job, 'succeeded'), '... and disturbs no other');
$node->wait_for_log(qr/(?:FATAL: .*?){3}/s, $log_begin);
my $tries = () = slurp_file($node->logfile, $log_begin) =~ /FATAL:/g;
my ($first, $third) = (slurp_file($node->logfile, $log_begin) =~ /^\S+ (\S+) \S+ \[\d+\].*FATAL:/mg)[ 0, 2 ];
cmp_ok(seconds_between($first, $third), '>', 1.5, '... tries again less and less often');
rename "$file.away", $file or die "could not rename $file.away: $!";
ok(wait_dispatcher($node, 'second'), '... and is back when the cause is gone');

# The seconds between two times of day as the log has them.
sub seconds_between
{
	my ($from, $to) = map { my ($h, $m, $s) = split /:/; $h * 3600 + $m * 60 + $s } @_;
	return $to >= $from ? $to - $from : $to - $from + 86400;
}

# ---- a database that takes no connections ----

query('ALTER DATABASE second ALLOW_CONNECTIONS false');
$log_begin = -s $node->logfile;
query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher'
	AND datname = 'second'});
ok( $node->poll_query_until(
		'postgres', q{SELECT NOT EXISTS (SELECT FROM genjob.workers WHERE database = 'second')}),
	'a database that takes no connections is given up');
my $refused = () = slurp_file($node->logfile, $log_begin) =~ /not currently accepting connections/g;
cmp_ok($refused, '<=', 1, '... without more than one failed start');
query('ALTER DATABASE second ALLOW_CONNECTIONS true');
ok(wait_dispatcher($node, 'second'), '... and served again as soon as it takes them');

# ---- too few background workers ----

$node->stop;
# one for PostgreSQL's own logical replication launcher, one for genjob's, one dispatcher
$node->append_conf('postgresql.conf', 'max_worker_processes = 3');
$log_begin = -s $node->logfile;
$node->start;
$node->wait_for_log(
	qr/WARNING:  genjob found no free background worker for a dispatcher.*?HINT:  Increase max_worker_processes/s,
	$log_begin);
pass('too few background workers: the log says so, with a hint');
my ($served) = query(
	q{SELECT datname FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher'});
my $starved = $served eq 'postgres' ? 'second' : 'postgres';
$job = enqueue($node, 'painter', { prompt => 'starved' }, database => $starved);
is(job($node, $job, $starved)->{state}, 'queued', 'a database without dispatcher keeps its jobs');
query('DROP EXTENSION genjob CASCADE', $served);
ok(wait_state($node, $job, 'succeeded', $starved), '... until a worker is free');

$standin->stop;
$node->stop;
done_testing();
