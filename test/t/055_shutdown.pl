# Stopping the server with calls in flight: what ends within genjob.shutdown_grace is reported first, what
# does not is taken up after the start, and the stop takes no longer than that.

use strict;
use warnings;

use Time::HiRes qw(time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'shutdown', conf => "genjob.shutdown_grace = '5 s'\nlog_min_messages = log");
create_server($node, 'painter', 'openai-images', $standin, max_in_flight => 4);

# Jobs whose calls take so many ms each, and begin together; their ids. None is answered before stop_seconds().
sub begin_calls
{
	my (@latencies) = @_;
	$standin->reset;
	my @rows = map { "('painter', " . literal(StandIn::request(prompt => "takes $_ ms", faults => [ { latency_ms => $_ } ])) . ')' } @latencies;
	my @ids = split /\n/, query('INSERT INTO gen_jobs (server, request) VALUES ' . join(', ', @rows) . ' RETURNING id');
	$standin->wait_for(sub { $_[0]{in_flight} == 4 });
	kill 'STOP', $standin->pid;
	return @ids;
}

# How many seconds it takes to stop the server.
sub stop_seconds
{
	my ($mode) = @_;
	my $offset = -s $node->logfile;
	my $begun = time;
	my $told = fork // die "cannot fork: $!\n";
	if ($told == 0)
	{
		# without the end of a test, which would stop the server
		eval { $node->wait_for_log(qr/received $mode shutdown request/, $offset) };
		kill 'CONT', $standin->pid;
		POSIX::_exit(0);
	}
	$node->stop($mode);
	my $took = time - $begun;
	waitpid $told, 0;
	return $took;
}

# How jobs stand, before a dispatcher has touched them after the start.
sub states_after_stop
{
	my (@ids) = @_;
	my @rows = split /\n/, query(
		'SELECT state, attempt, (SELECT count(*) FROM gen_outputs WHERE job_id = id) FROM gen_jobs WHERE id IN ('
		  . join(', ', @ids)
		  . ') ORDER BY id');
	return join ', ', @rows;
}

sub start_without_dispatcher
{
	$node->append_conf('postgresql.conf', 'genjob.enabled = off');
	$node->start;
	return;
}

sub enable
{
	$node->append_conf('postgresql.conf', 'genjob.enabled = on');
	$node->reload;
	wait_dispatcher($node);
	return;
}

sub set_grace
{
	my ($grace) = @_;
	$node->append_conf('postgresql.conf', "genjob.shutdown_grace = '$grace'");
	$node->reload;
	eventually("SELECT current_setting('genjob.shutdown_grace')::interval = '$grace'::interval", "a grace of $grace");
	return;
}

subtest 'a fast stop: two calls end in time, two do not, one was not begun' => sub {
	set_grace('5 s');
	my @ids = begin_calls(1200, 1500, 60_000, 60_000);
	push @ids, enqueue($node, 'painter', { prompt => 'not begun' });
	my $seconds = stop_seconds('fast');
	cmp_ok($seconds, '>', 4.5, 'a stop waits for calls in flight');
	cmp_ok($seconds, '<', 20, '... as long as genjob.shutdown_grace at most');
	my $counts = $standin->counts;
	is("$counts->{answered} answered, $counts->{aborted} aborted, $counts->{in_flight} in flight",
		'2 answered, 2 aborted, 0 in flight',
		'... then ends those that are left');
	start_without_dispatcher();
	is( states_after_stop(@ids),
		'succeeded|1|1, succeeded|1|1, running|1|0, running|1|0, queued|0|0',
		'what was answered in time had been written, and nothing more was begun');
	enable();
	ok(wait_all_ended($node), 'after the start the others go on');
	is( states_after_stop(@ids),
		'succeeded|1|1, succeeded|1|1, succeeded|2|1, succeeded|2|1, succeeded|1|1',
		'... and succeed');
	is(query('SELECT sum(failures) FROM gen_jobs'), '0', 'a stop is no failure of a job');
};

subtest 'nothing is waited for when all calls have ended' => sub {
	set_grace('60 s');
	my @ids = begin_calls((1000) x 4);
	cmp_ok(stop_seconds('fast'), '<', 20, 'a stop ends with the last call, not with the grace');
	start_without_dispatcher();
	is(states_after_stop(@ids), join(', ', ('succeeded|1|1') x 4), '... and all is written');
	enable();
};

subtest 'a smart stop waits for clients, and then as a fast one for calls' => sub {
	set_grace('5 s');
	my @ids = begin_calls(60_000, (1000) x 3);
	cmp_ok(stop_seconds('smart'), '<', 20, 'a smart stop is bounded by the grace as well');
	start_without_dispatcher();
	is(states_after_stop(@ids), 'running|1|0, ' . join(', ', ('succeeded|1|1') x 3), '... and writes what ends in it');
	enable();
	ok(wait_all_ended($node), '... and the rest after the start');
};

subtest 'without grace' => sub {
	set_grace('0');
	my @ids = begin_calls((60_000) x 4);
	cmp_ok(stop_seconds('fast'), '<', 20, 'genjob.shutdown_grace = 0 stops at once');
	my $counts = $standin->wait_for(sub { $_[0]{in_flight} == 0 });
	is($counts->{aborted}, 4, '... and ends all calls');
	$node->start;
	ok(wait_all_ended($node), '... which are made again after the start');
	is(states_after_stop(@ids), join(', ', ('succeeded|2|1') x 4), '... once');
	my $again = $standin->counts;
	is_deeply([ map { $_->{arrived} } values %{ $again->{keys} } ], [ (2) x 4 ], '... under the same Idempotency-Key');

	unlike(slurp_file($node->logfile), qr/genjob could not|"genjob dispatcher" \(PID \d+\) exited with exit code/,
		'no dispatcher has failed');
};

$standin->stop;
$node->stop;
done_testing();
