# While calls are in flight genjob has no transaction and no snapshot open, and while nothing is to be
# done it runs no query and does not wake.

use strict;
use warnings;

use Time::HiRes qw(sleep);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'transactions', conf => "log_line_prefix = '%m [%p] %b '\nlog_statement = all");
create_server($node, 'painter', 'openai-images', $standin, max_in_flight => 50);

subtest 'no transaction while calls are in flight' => sub {
	query('DELETE FROM gen_jobs');
	$standin->reset;
	# Each turn looks in a transaction of its own, so that pg_stat_activity is fresh.
	query(
		q{
		CREATE TABLE samples (at timestamptz, pid int, backend_type text, state text, xact_start timestamptz,
			backend_xid xid, backend_xmin xid, calls bigint);
		CREATE TABLE is_enough ();
		CREATE PROCEDURE sample() LANGUAGE plpgsql AS $$
		BEGIN
			WHILE NOT EXISTS (SELECT FROM is_enough) LOOP
				INSERT INTO samples
					SELECT clock_timestamp(), a.pid, a.backend_type, a.state, a.xact_start, a.backend_xid, a.backend_xmin,
						(SELECT count(*) FROM genjob.activity)
					FROM pg_stat_activity a WHERE a.backend_type LIKE 'genjob%';
				COMMIT;
				PERFORM pg_sleep(0.05);
			END LOOP;
		END $$});
	my $sampler = Session->new($node);
	$sampler->send('CALL sample()');
	ok($node->poll_query_until('postgres', 'SELECT count(*) > 5 FROM samples'), 'samples are taken');

	# two waves of calls: all of the first for 5 s, and then some that end and are reported meanwhile
	query(
		q{INSERT INTO gen_jobs (server, request)
		SELECT 'painter', jsonb_build_object('prompt', 'long ' || i, 'standin', jsonb_build_object('latency_ms', 5000))
		FROM generate_series(1, 20) i});
	$standin->wait_for(sub { $_[0]{in_flight} == 20 });
	eventually("SELECT state = 'idle' FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher'",
		'twenty calls are in flight, and the dispatcher rests');
	my $first = query('SELECT clock_timestamp()');
	my $last = $first;
	# the last time at which none was answered yet
	until ($standin->counts(summary => 1)->{answered} > 0)
	{
		my $now = query('SELECT clock_timestamp()');
		$last = $now if $standin->counts(summary => 1)->{answered} == 0;
		sleep 0.05;
	}
	query(
		q{INSERT INTO gen_jobs (server, request)
		SELECT 'painter', jsonb_build_object('prompt', 'short ' || i, 'standin', jsonb_build_object('latency_ms', 100 * i))
		FROM generate_series(1, 20) i});
	ok(wait_all_ended($node), 'jobs of 5 s and of less end');
	# and at rest again for as long as that took
	eventually('SELECT count(*) > 20 FROM samples WHERE at > (SELECT max(finished_at) FROM gen_jobs)',
		'and then nothing');
	query('INSERT INTO is_enough DEFAULT VALUES');
	$sampler->answer;
	$sampler->quit;
	is(query(q{SELECT count(*) FILTER (WHERE state = 'succeeded'), max(attempt) FROM gen_jobs}), '40|1', '... well');

	my $in_wait = "at BETWEEN '$first'::timestamptz AND '$last'::timestamptz";
	is( query(
			qq{SELECT count(*) >= 10, min(calls), count(DISTINCT pid) FROM samples
			WHERE $in_wait AND backend_type = 'genjob dispatcher'}),
		't|20|1',
		'samples were taken while 20 calls were in flight');
	is( query(
			qq{SELECT count(*) FROM samples WHERE $in_wait
			AND (state <> 'idle' OR xact_start IS NOT NULL OR backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)}),
		'0',
		'in none of them has a process of genjob a transaction, an xid or a snapshot');
	is( query(
			q{SELECT count(*) FROM samples
			WHERE state LIKE 'idle in transaction%' OR xact_start < at - interval '2.5 s'}),
		'0',
		'at no time is one idle in a transaction, or has one for half as long as a call takes');
	is( query(
			q{SELECT count(*) FILTER (WHERE state = 'idle' AND xact_start IS NULL AND backend_xmin IS NULL) > 0.75 * count(*)
			FROM samples}),
		't',
		'in most samples there is none at all, also while jobs are claimed and reported');
};

subtest 'an idle dispatcher does nothing' => sub {
	my $has_statements =
	  query(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements'});
	if ($has_statements)
	{
		$node->append_conf('postgresql.conf', "shared_preload_libraries = 'genjob, pg_stat_statements'");
		$node->restart;
		wait_dispatcher($node);
		query('CREATE EXTENSION pg_stat_statements');
	}
	my $of_genjob = q{query LIKE '%gen_jobs%' OR query LIKE '%pg_extension%'};
	enqueue($node, 'painter', { prompt => 'before the rest' });
	enqueue($node, 'painter', { prompt => 'later' }, run_at => '2100-01-01');
	ok( $node->poll_query_until(
			'postgres',
			q{SELECT count(*) = 1 FROM gen_jobs WHERE state <> 'succeeded'}),
		'after a last job there is nothing to do now');
	my %pids = map { split /\|/ } split /\n/,
	  query(q{SELECT backend_type, pid FROM pg_stat_activity WHERE backend_type LIKE 'genjob%'});
	is(join(', ', sort keys %pids), 'genjob dispatcher, genjob launcher', 'both processes are there');
	SKIP:
	{
		skip 'pg_stat_statements is not installed', 1 unless $has_statements;
		cmp_ok(
			query(qq{SELECT count(*) FROM pg_stat_statements WHERE $of_genjob}),
			'>', 3, 'pg_stat_statements has what the dispatcher runs');
	}
	# what the last job makes the server's processes do is done
	my %before;
	$before{$_} = voluntary_switches($pids{$_}) foreach keys %pids;
	foreach (1 .. 10)
	{
		sleep 1;
		my %now = map { $_ => voluntary_switches($pids{$_}) } keys %pids;
		my $changed = grep { $now{$_} != $before{$_} } keys %pids;
		%before = %now;
		last unless $changed;
	}
	query('SELECT pg_stat_statements_reset()') if $has_statements;
	my $log_begin = -s $node->logfile;
	$before{$_} = voluntary_switches($pids{$_}) foreach keys %pids;
	query('CREATE TABLE others (i int); INSERT INTO others SELECT generate_series(1, 1000); DROP TABLE others');
	sleep 5;
	foreach my $type (sort keys %pids)
	{
		cmp_ok(voluntary_switches($pids{$type}) - $before{$type}, '<=', 1, "$type does not wake in 5 s, though others work");
	}
	SKIP:
	{
		skip 'pg_stat_statements is not installed', 1 unless $has_statements;
		is( query(qq{SELECT count(*) FROM pg_stat_statements WHERE $of_genjob}),
			'0', '... and no query of genjob is in pg_stat_statements');
	}
	unlike(slurp_file($node->logfile, $log_begin), qr/\] genjob/, '... nor anything in the log with log_statement = all');
	is( query(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'genjob%' AND pid IN (}
			  . join(', ', values %pids)
			  . ')'),
		'2',
		'... and they are the same processes all the while');
};

$standin->stop;
$node->stop;
done_testing();
