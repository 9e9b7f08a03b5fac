# An orderly end of the dispatcher loses no answer that it has received, whatever keeps it from writing them: nothing is
# paid for again, and no prediction that was named is submitted again. What cannot be written in time waits in a file
# for the next dispatcher, and no such file, be it torn, foreign or old, stops anything.

use strict;
use warnings;

use Fcntl qw(:mode);
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

# sessions of the test do not wait for a standby that is not there; the dispatcher does
$ENV{PGOPTIONS} = '-c synchronous_commit=local';

my $n = 20;
my $standin = StandIn->new;
my $node = new_node(name => 'stop', conf => "genjob.shutdown_grace = '2 s'\nmax_wal_senders = 2\nwal_level = replica\nlog_min_messages = warning");
create_server($node, 'painter', 'openai-images', $standin, max_in_flight => 2 * $n);
create_server($node, 'replicate', 'replicate', $standin, max_in_flight => 2 * $n, model => 'painter', poll_interval => '200 ms');
my $oid = query("SELECT oid FROM pg_database WHERE datname = 'postgres'");
my $spool = $node->data_dir . "/pg_genjob/$oid.spool";

# $n jobs whose calls are answered when their rows have been locked: the session that has them locked, and how. Until
# then the stand-in stands still, and the kernel takes the calls.
sub answered_but_locked
{
	my ($server, $lock) = @_;
	my $session = Session->new($node);
	query('DELETE FROM gen_jobs');
	$standin->reset;
	kill 'STOP', $standin->pid;
	query(
		qq{INSERT INTO gen_jobs (server, request)
		SELECT '$server', jsonb_build_object('prompt', 'job ' || i, 'standin', jsonb_build_object('id', 'job ' || i,
			'latency_ms', 400))
		FROM generate_series(1, $n) i});
	$node->poll_query_until('postgres', "SELECT count(*) = $n FROM genjob.activity WHERE phase = 'calling'")
	  or die 'the jobs are not called';
	$session->query("BEGIN; SELECT count(*) FROM (SELECT FROM gen_jobs FOR UPDATE) r");
	$session->query($lock) if defined $lock;
	kill 'CONT', $standin->pid;
	$standin->wait_for(sub { $_[0]{answered} >= $n });
	return $session;
}

# The longer rows are locked, the longer the dispatcher waits between two tries. Returns when it waits for seconds.
sub wait_for_back_off
{
	sleep 4;
	return;
}

# All jobs end, each in its first attempt, and the stand-in has been sent each once.
sub sent_once
{
	my ($what) = @_;
	ok(wait_all_ended($node), "$what: all jobs end");
	is(query('SELECT state, count(*), max(attempt), max(losses), count(error), count(result) FROM gen_jobs GROUP BY 1'),
		"succeeded|$n|1|0|0|$n", '... well, in their first attempt');
	my $counts = $standin->counts;
	is_deeply([ map { $_->{arrived} } values %{ $counts->{ids} } ], [ (1) x $n ], "... $n of $n are not paid for again");
	is(query('SELECT count(*), count(DISTINCT job_id), bool_and(sha256(data) = sha256) FROM gen_outputs'), "$n|$n|t",
		'... and each has its picture');
	ok($node->poll_query_until('postgres', qq{SELECT NOT EXISTS (SELECT FROM pg_ls_dir('pg_genjob') f WHERE f ~ 'spool')}),
		'... no file is left');
	return;
}

sub end_by_terminating
{
	my $pid = dispatcher_pid($node);
	query("SELECT pg_terminate_backend($pid)");
	return sub { wait_dispatcher($node, 'postgres', $pid) };
}

sub end_by_disabling
{
	$node->append_conf('postgresql.conf', 'genjob.enabled = off');
	$node->reload;
	$node->poll_query_until('postgres',
		q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher')});
	return sub {
		$node->append_conf('postgresql.conf', 'genjob.enabled = on');
		$node->reload;
		wait_dispatcher($node);
	};
}

sub end_by_stopping
{
	$node->stop('fast');
	return sub { $node->start; wait_dispatcher($node) };
}

my %ends = (
	'pg_ctl stop -m fast' => \&end_by_stopping,
	'pg_terminate_backend()' => \&end_by_terminating,
	'genjob.enabled = off' => \&end_by_disabling);

my $try = 1;
foreach my $how (sort keys %ends)
{
	subtest "stops @{[$try++]}: answers that wait for their next try are thrown away by $how" => sub {
		my $session = answered_but_locked('painter');
		wait_for_back_off();
		$session->quit;
		$ends{$how}->()->();
		sent_once($how);
	};
	subtest "stops @{[$try++]}: predictions that were named and not saved yet are submitted again after $how" => sub {
		my $session = answered_but_locked('replicate');
		wait_for_back_off();
		$session->quit;
		$ends{$how}->()->();
		sent_once($how);
	};
}

subtest "stops @{[$try++]}: rows stay locked until the grace has ended, and answers are lost" => sub {
	foreach my $server (qw(painter replicate))
	{
		my $session = answered_but_locked($server);
		my $begun = time;
		my $begin = end_by_disabling();
		cmp_ok(time - $begun, '<', 30, "$server: the dispatcher leaves after genjob.shutdown_grace");
		ok(-f $spool, '... and leaves a file');
		is(sprintf('%o', S_IMODE((stat $spool)[2])), '600', '... that nobody else may read');
		is(query("SELECT count(*) FROM gen_jobs WHERE state = 'running'"), $n, '... the jobs are as they were');
		$session->quit;
		$begin->();
		sent_once($server);
	}
};

subtest "stops @{[$try++]}: predictions whose names wait in the file run on after their jobs were cancelled" => sub {
	my $session = answered_but_locked('replicate');
	my $begin = end_by_disabling();
	ok(-f $spool, 'there is a file');
	$session->quit;
	is(query('SELECT count(*) FROM gen_jobs WHERE genjob.cancel(id)'), $n, 'then they are cancelled');
	$begin->();
	ok($node->poll_query_until('postgres', q{SELECT bool_and(state = 'cancelled' AND remote IS NULL AND error ~ 'confirmed it') FROM gen_jobs}),
		'... and the provider is told of each');
	ok($node->poll_query_until('postgres', qq{SELECT NOT EXISTS (SELECT FROM pg_ls_dir('pg_genjob') f WHERE f ~ 'spool')}), '... no file is left');
};

# a number beyond those that count up
subtest 'stops 21: predictions whose names wait in the file run on after their jobs were cancelled and retried' => sub {
	my $session = answered_but_locked('replicate');
	my $begin = end_by_disabling();
	$session->quit;
	is(query('SELECT count(*) FROM gen_jobs WHERE genjob.cancel(id)'), $n, 'jobs are cancelled whose predictions have no name in the table');
	is(query('SELECT count(*) FROM gen_jobs WHERE genjob.retry(id)'), $n, '... and retried');
	$begin->();
	ok(wait_all_ended($node), 'all jobs end');
	is(query(q{SELECT state, count(*), max(attempt) FROM gen_jobs GROUP BY 1}), "succeeded|$n|2", '... well');
	$standin->wait_for(sub { $_[0]{cancels} >= $n });
	my $counts = $standin->counts;
	is($counts->{cancels}, $n, "the provider was told of each of the first predictions");
	ok($node->poll_query_until('postgres', qq{SELECT NOT EXISTS (SELECT FROM pg_ls_dir('pg_genjob') f WHERE f ~ 'spool')}), '... no file is left');
};

subtest "stops @{[$try++]}: rows stay locked by a prepared transaction, over a stop and a start" => sub {
	my $session = answered_but_locked('painter', "PREPARE TRANSACTION 'locks'");
	my $begun = time;
	my $begin = end_by_stopping();
	cmp_ok(time - $begun, '<', 30, 'the server stops soon after genjob.shutdown_grace');
	$begin->();
	$begin = end_by_stopping();
	$begin->();
	ok(-f $spool, 'the file stays while its answers cannot be written');
	is(query("SELECT count(*) FROM gen_jobs WHERE state = 'running'"), $n, '... and the jobs are still running');
	query("COMMIT PREPARED 'locks'");
	sent_once('when they are unlocked');
};

subtest "stops @{[$try++]}: a stop while a synchronous standby is away" => sub {
	query('DELETE FROM gen_jobs');
	my $session = answered_but_locked('painter');
	$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
	$node->reload;
	$session->quit;
	$node->poll_query_until('postgres',
		"SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher'");
	my $begun = time;
	$node->stop('fast');
	cmp_ok(time - $begun, '<', 30, 'the server stops');
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$node->start;
	wait_dispatcher($node);
	sent_once('without it');
};

subtest "stops @{[$try++]}: LOCK TABLE over a stop" => sub {
	my $session = answered_but_locked('painter', 'LOCK TABLE gen_jobs');
	my $begin = end_by_disabling();
	$session->quit;
	$begin->();
	sent_once('when it is unlocked');
};

subtest "stops @{[$try++]}: a file that is torn, foreign or full of nonsense stops the dispatcher" => sub {
	my $session = answered_but_locked('painter');
	my $begin = end_by_disabling();
	$session->quit;
	my $whole = slurp_file($spool);
	my $half = substr($whole, 0, length($whole) / 2);
	my $header = substr($whole, 0, 24);
	my $bit = $whole;
	substr($bit, 24 + 16 + 100, 1) = chr(ord(substr($bit, 24 + 16 + 100, 1)) ^ 1);
	my $foreign = $whole;
	substr($foreign, 16, 1) = chr(ord(substr($foreign, 16, 1)) ^ 1);
	my %files = (
		'nothing' => '',
		'nonsense' => 'x' x 100000,
		'a foreign one' => $foreign,
		'a flipped bit' => $bit,
		'a length beyond all bounds' => $header . pack('LLQ', 0x67726563, 0, 2**62) . 'x' x 1000,
		'a length within the file, and nonsense in it' => $header . pack('LLQ', 0x67726563, 0, 900) . 'x' x 900);
	foreach my $name (sort keys %files)
	{
		open(my $file, '>', $spool) or die;
		print $file $files{$name};
		close $file;
		my $offset = -s $node->logfile;
		$node->append_conf('postgresql.conf', 'genjob.enabled = on');
		$session = Session->new($node);
		$session->query("BEGIN; SELECT count(*) FROM (SELECT FROM gen_jobs FOR UPDATE) r");
		$node->reload;
		wait_dispatcher($node);
		ok(wait_for_log($node, qr/genjob could not read all answers in file/, $offset), "$name: a warning");
		ok(!-f $spool && -f "$spool.bad", '... the file is set aside');
		unlink "$spool.bad";
		end_by_disabling();
		$session->quit;
		unlink $spool;
		query("INSERT INTO gen_jobs (server, request) VALUES ('painter', '{\"prompt\": \"beside $name\"}')");
	}
	open(my $file, '>', $spool) or die;
	print $file $half;
	close $file;
	$begin->();
	ok(wait_all_ended($node), 'half of a file: all jobs end');
	my ($once, $again) = split /\|/, query(
		"SELECT count(*) FILTER (WHERE attempt = 1), count(*) FILTER (WHERE attempt > 1) FROM gen_jobs WHERE state = 'succeeded' AND request ->> 'prompt' ~ '^job'");
	is($once + $again, $n, '... all succeed');
	ok(-f "$spool.bad", '... and the file is set aside');
	unlink "$spool.bad";
};

subtest "stops @{[$try++]}: an old file brings an answer to a job that is another one now" => sub {
	my $session = answered_but_locked('painter');
	my $begin = end_by_disabling();
	$session->quit;
	my $first = query('SELECT min(id) FROM gen_jobs');
	my $old = slurp_file($spool);
	# the same ids again, as after a TRUNCATE ... RESTART IDENTITY, in their first attempt
	query('DELETE FROM gen_jobs');
	query(
		qq{INSERT INTO gen_jobs (id, server, request)
		SELECT i, 'painter', jsonb_build_object('prompt', 'another ' || i, 'standin',
			'{"faults": [{"latency_ms": 600000}]}'::jsonb) FROM generate_series($first, $first + $n - 1) i});
	unlink $spool;
	$begin->();
	$standin->wait_for(sub { $_[0]{in_flight} == $n });
	$begin = end_by_disabling();
	open(my $file, '>', $spool) or die;
	print $file $old;
	close $file;
	$begin->();
	ok($node->poll_query_until('postgres', "SELECT bool_and(attempt = 2 OR state = 'succeeded') FROM gen_jobs"),
		'they go on');
	is(query("SELECT count(*) FROM gen_jobs WHERE attempt = 1"), '0', '... none took the old answer');
	ok(!-f $spool, '... and the file is gone');
};

subtest "stops @{[$try++]}: DROP DATABASE leaves files behind" => sub {
	query('CREATE DATABASE other');
	$node->safe_psql('other', 'CREATE EXTENSION genjob');
	wait_dispatcher($node, 'other');
	my $other = query("SELECT oid FROM pg_database WHERE datname = 'other'");
	ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_ls_dir('pg_genjob') f WHERE f ~ '^$other'"),
		'there are files of a database');
	query('DROP DATABASE other');
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_ls_dir('pg_genjob') f WHERE f ~ '^$other'"),
		'... that go with it');
};

$standin->stop;
$node->stop;
done_testing();

sub wait_for_log
{
	my ($server, $pattern, $offset) = @_;
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	while (time < $until)
	{
		return 1 if substr(slurp_file($server->logfile), $offset) =~ $pattern;
		sleep 0.1;
	}
	return 0;
}
