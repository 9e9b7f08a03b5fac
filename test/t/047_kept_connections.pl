# Connections that are kept between two calls, and die meanwhile. A request that the server cannot have taken is sent again
# on a new connection, which is no second call; one that it may have taken is not; and no call fails because a server
# closes without saying so.

use strict;
use warnings;

use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_LINGER);
use Time::HiRes qw(sleep);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;
my @servers;

# How many of the jobs of a server came to what.
sub states
{
	my ($server) = @_;
	return $node->safe_psql('postgres',
		"SELECT state, attempt, count(*), min(error) FROM gen_jobs WHERE server = '$server' GROUP BY 1, 2 ORDER BY 1, 2");
}

# Runs N jobs, after which each has been sent once. Up to RESETS of them may have met with a reset, which says nothing of what
# the server has taken, before it is known that this server closes its connections: they have a second attempt.
sub run_jobs
{
	my ($server, $n, $request, $resets) = @_;
	$standin->reset;
	$node->safe_psql('postgres', "INSERT INTO gen_jobs (server, request) SELECT '$server', @{[literal($request)]}::jsonb FROM generate_series(1, $n)");
	wait_all_ended($node);
	my $again = $node->safe_psql('postgres', "SELECT count(*) FROM gen_jobs WHERE server = '$server' AND attempt = 2");
	my $first = $n - ($again <= ($resets // 0) ? $again : 0);
	note("$again resets");
	is(states($server), join("\n", "succeeded|1|$first|", $first < $n ? "succeeded|2|$again|" : ()), 'all succeed at the first attempt');
	my $counts = $standin->counts(summary => 1);
	is($counts->{total}, $n, '... and as many calls have arrived');
	is($counts->{max_per_key}, 1, '... each once');
	return $counts;
}

# ---- a server that closes behind a chunked answer, and says nothing of it: llama-server ----

my $messages = '"messages": [{"role": "user", "content": "a cat"}]';
foreach my $case ([ 'at once', 'true', 1000 ], [ '1 ms later', '1', 200 ], [ '20 ms later', '20', 100 ])
{
	my ($when, $hang_up, $n) = @$case;
	create_server($node, "chat $hang_up", 'openai-chat', $standin, max_in_flight => 4, retry_base => '1 s');
	subtest "a server closes $when behind each stream" => sub {
		run_jobs("chat $hang_up", $n, qq({$messages, "standin": {"faults": [{"hang_up": $hang_up}], "repeat": true}}));
	};
}

subtest 'a server closes behind each answer of a known length' => sub {
	create_server($node, 'whole', 'openai-chat', $standin, max_in_flight => 4);
	# On each of the four connections one call can be under way when the first meets with it, and once more two seconds later,
	# when one closing might have been a restart.
	run_jobs('whole', 300, qq({$messages, "stream": false, "standin": {"faults": [{"hang_up": true}], "repeat": true}}), 8);
};

subtest 'connections of a server that does not close are used again' => sub {
	create_server($node, 'keeper', 'openai-chat', 'http://localhost:' . $standin->port, max_in_flight => 4);
	# none is used again in the first 20 ms, for the server might close it
	run_jobs('keeper', 100, qq({$messages, "stream": false}));
	sleep 0.1;
	$node->safe_psql('postgres', "DELETE FROM gen_jobs WHERE server = 'keeper'");
	my $counts = run_jobs('keeper', 100, qq({$messages, "stream": false}));
	cmp_ok($counts->{connections}, '<', 20, 'by many calls each');
};

# ---- a server that closes just when the next request comes ----

# A server that ends its first connection. How: 'fin' closes it once close_resting() says so, 'rst' reads the second
# request and resets it. Other connections answer, also beside the first. Notes what it reads in a log, whose name it
# gives with its URL.
sub serve
{
	my ($habit) = @_;
	my $socket = IO::Socket::INET->new(Listen => 10, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "cannot listen: $!\n";
	my $log = PostgreSQL::Test::Utils::tempdir() . '/log' . $socket->sockport;
	append_to_file($log, '');
	my $pid = fork // die "cannot fork: $!\n";
	if ($pid == 0)
	{
		$SIG{TERM} = $SIG{INT} = 'DEFAULT';
		$SIG{CHLD} = 'IGNORE';
		my $n = 0;
		while (1)
		{
			my $client = $socket->accept or next;
			my $is_first = $n++ == 0;
			next if (fork // die "cannot fork: $!\n") != 0;
			answer_requests($client, $log, $is_first ? $habit : '');
			POSIX::_exit(0);
		}
	}
	push @servers, $pid;
	return ('http://127.0.0.1:' . $socket->sockport, $log);
}

sub answer_requests
{
	my ($client, $log, $habit) = @_;
	while (my $request = read_request($client))
	{
		my $n = $request =~ /(?:"n": ?|[?&]n=)(\d+)/ ? $1 : '?';
		append_to_file($log, "$n\n");
		if ($habit eq 'rst' && $n eq '2')
		{
			setsockopt($client, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
			last;
		}
		print $client "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n", $request =~ /^HEAD/ ? '' : '{"ok": 123}';
		if ($habit eq 'fin')
		{
			sleep 0.01 until -e "$log.close";
			last;
		}
	}
	close $client;
	append_to_file("$log.closed", '') if $habit eq 'fin';
}

# Has the server of that log close its first connection, and returns when it has.
sub close_resting
{
	my ($log) = @_;
	append_to_file("$log.close", '');
	poll_until(sub { -e "$log.closed" }) or die 'the server does not close its connection';
	return;
}

sub run_one
{
	my ($server, $n) = @_;
	my $id = enqueue($node, $server, qq({"n": $n}));
	wait_all_ended($node);
	return job($node, $id);
}

subtest 'a kept connection ends while it rests' => sub {
	my ($url, $log) = serve('fin');
	create_server($node, 'resting', 'http', $url, on_unknown => 'fail');
	is(run_one('resting', 1)->{state}, 'succeeded', 'the first call');
	close_resting($log);
	is(run_one('resting', 2)->{state}, 'succeeded', 'the second has a new connection');
	is(slurp_file($log), "1\n2\n", '... each was sent once');
};

# The second call on a connection that is reset when the server has read the request: the job, and the server's log.
# A busy machine may notice so late that the first connection rests that the second call does without it: once more.
sub run_reset
{
	my ($name, %opts) = @_;
	my ($log, $job);
	for my $round (1 .. 10)
	{
		(my $url, $log) = serve('rst');
		create_server($node, "$name $round", 'http', $url, on_unknown => 'fail', %opts);
		is(run_one("$name $round", 1)->{state}, 'succeeded', "$name: the first call");
		# none is used again in the first 20 ms
		sleep 0.1;
		$job = run_one("$name $round", 2);
		last if $job->{state} ne 'succeeded' || slurp_file($log) ne "1\n2\n";
	}
	return ($job, slurp_file($log));
}

subtest 'a kept connection is reset when the request has been read' => sub {
	my ($job, $log) = run_reset('reset');
	is($job->{state}, 'failed', 'the second fails');
	like($job->{error},
		qr/^the connection to server "reset \d+" ended before the answer was complete: the server closed the kept connection while this call was being sent; it may or may not have read the call\. The call may have been accepted/,
		'... and says what happened');
	is($log, "1\n2\n", '... and is not sent again');
};

subtest 'a call without a body is not sent again either' => sub {
	foreach my $method (qw(GET DELETE HEAD))
	{
		my ($job, $log) = run_reset($method, method => $method);
		is($job->{state}, 'failed', "$method: the second fails");
		like($job->{error}, qr/The call may have been accepted/, '... and says what is not known');
		is($log, "1\n2\n", '... and is not sent again');
	}
};

subtest 'a server stands still while a kept connection ends' => sub {
	# The dispatcher is stopped after the first answer; the FIN comes meanwhile, and so does the next job.
	my ($url, $log) = serve('fin');
	create_server($node, 'stopped', 'http', $url, on_unknown => 'fail');
	is(run_one('stopped', 1)->{state}, 'succeeded', 'the first call');
	my $pid = dispatcher_pid($node);
	kill 'STOP', $pid;
	my $id = enqueue($node, 'stopped', '{"n": 2}');
	close_resting($log);
	kill 'CONT', $pid;
	wait_all_ended($node);
	is(job($node, $id)->{state}, 'succeeded', 'the second has a new connection');
	is(slurp_file($log), "1\n2\n", '... each was sent once');
};

kill 'TERM', @servers;
$node->stop;
done_testing();
