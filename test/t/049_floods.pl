# An answer that comes in an unlucky way is no flood: what is read of it is paid for, and is not thrown away because a
# count of its bytes went wrong. (Real floods: 075_hostile_servers.)
#
# A library in the server (test/standin/shim.c) has it stand still just where it matters.

use strict;
use warnings;

use File::Basename qw(dirname);
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP SHUT_WR TCP_NODELAY);
use Time::HiRes qw(sleep);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Hostile;
use StandIn;

my $bytes = 3_000_000;
my $text = '{"text":"' . 'x' x ($bytes - 11) . '"}';
my $folder = PostgreSQL::Test::Utils::tempdir();
my @servers;

sub set_wire
{
	my ($what) = @_;
	open(my $file, '>', "$folder/wire.new") or die "cannot write $folder/wire.new: $!\n";
	print $file $what;
	close $file;
	rename("$folder/wire.new", "$folder/wire");
	return;
}

chmod 0755, $folder;
set_wire('0 0 0');
my $node = new_node(start => 0);
{
	local $ENV{LD_PRELOAD} = dirname(StandIn::binary()) . '/shim.so';
	local $ENV{SHIM_WIRE} = "$folder/wire";
	$node->start;
}
$node->safe_psql('postgres', 'CREATE EXTENSION genjob');
wait_dispatcher($node);
plan skip_all => 'no library can be preloaded into the server here'
  unless slurp_file('/proc/' . dispatcher_pid($node) . '/maps') =~ /shim\.so/;

# Sends all of it, in pieces of a size in bytes, with a pause in seconds between them.
sub say_all
{
	my ($client, $what, $piece, $pause) = @_;
	my $done = 0;
	while ($done < length $what)
	{
		$done += syswrite($client, $what, $piece, $done) // return;
		sleep $pause if $pause;
	}
	return;
}

# A server that serves each connection by a process of its own with CODE, which gets it and its number; gives its url.
sub serve
{
	my ($code) = @_;
	my $socket = IO::Socket::INET->new(Listen => 10, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "cannot listen: $!\n";
	my $pid = fork // die "cannot fork: $!\n";
	if ($pid == 0)
	{
		$SIG{PIPE} = $SIG{CHLD} = 'IGNORE';
		$SIG{TERM} = $SIG{INT} = 'DEFAULT';
		my $n = 0;
		while (my $client = $socket->accept)
		{
			$n++;
			my $child = fork // die "cannot fork: $!\n";
			if ($child == 0)
			{
				close $socket;
				setsockopt($client, IPPROTO_TCP, TCP_NODELAY, 1);
				$code->($client, $n);
				POSIX::_exit(0);
			}
			close $client;
		}
		POSIX::_exit(0);
	}
	push @servers, $pid;
	return 'http://127.0.0.1:' . $socket->sockport;
}

my $head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
my $answer = "${head}Content-Length: $bytes\r\n\r\n$text";

# The job has succeeded at its first attempt, with all of its answer.
sub is_whole
{
	my ($id, $what, $all) = @_;
	$node->poll_query_until('postgres', "SELECT state IN ('succeeded', 'failed') FROM gen_jobs WHERE id = $id");
	return is($node->safe_psql('postgres', "SELECT state, attempt, error, length(result->>'text') FROM gen_jobs WHERE id = $id"),
		'succeeded|1||' . (($all // $bytes) - 11), $what);
}

subtest 'more comes between two questions to the kernel' => sub {
	my $url = serve(sub { my ($client) = @_; say_all($client, $answer, 20_000, 0.01) while read_request($client); });
	create_server($node, 'between', 'http', $url, max_attempts => 1);
	set_wire('1000 10000 0');
	is_whole(enqueue($node, 'between', qq({"n": $_})), "answer $_ in small pieces is taken") foreach 1 .. 2;
	set_wire('0 0 0');
};

subtest 'a kept connection that brought megabytes is closed when it is used again' => sub {
	my $url = serve(
		sub {
			my ($client, $n) = @_;
			while (read_request($client))
			{
				say_all($client, $answer, 1_000_000, 0);
				last if $n == 1;
			}
			# when the next request is on its way
			sleep 0.01 until $n > 1 || -e "$folder/close_kept";
		});
	create_server($node, 'kept', 'http', $url, max_attempts => 1, on_unknown => 'fail');
	is_whole(enqueue($node, 'kept', '{"n": 1}'), 'the first answer is taken');
	sleep 0.1;
	# as long as to see that the connection has ended
	set_wire('1000 0 1');
	my $next = enqueue($node, 'kept', '{"n": 2}');
	append_to_file("$folder/close_kept", '');
	is_whole($next, 'the next one, over another connection, too');
	set_wire('0 0 0');
};

subtest 'a kept connection is closed in one direction, and what comes is read' => sub {
	append_to_file("$folder/read", '');
	my $url = serve(
		sub {
			my ($client, $n) = @_;
			for (my $read = 1; read_request($client); $read++)
			{
				append_to_file("$folder/read", "$n\n");
				say_all($client, "${head}Content-Length: 15\r\n\r\n{\"text\":\"xxxx\"}", 1000, 0);
				next if $read > 1 || $n > 1;
				# when the next request is on its way
				sleep 0.01 until -e "$folder/close";
				shutdown $client, SHUT_WR;
			}
		});
	create_server($node, 'half', 'http', $url, max_attempts => 1, on_unknown => 'fail');
	is_whole(enqueue($node, 'half', '{"n": 1}'), 'the first answer is taken', 15);
	sleep 0.1;
	set_wire('0 0 1');
	my $id = enqueue($node, 'half', '{"n": 2}');
	$node->poll_query_until('postgres', "SELECT state = 'running' FROM gen_jobs WHERE id = $id");
	sleep 0.2;
	append_to_file("$folder/close", '');
	ok($node->poll_query_until('postgres', "SELECT state IN ('failed', 'succeeded') FROM gen_jobs WHERE id = $id"), 'the next call ends');
	set_wire('0 0 0');
	# on a slow machine the connection had ended before that call, which then has another one
	my $job = job($node, $id);
	like($job->{error} // '', $job->{state} eq 'failed' ? qr/it may or may not have read the call/ : qr/^$/, '... and fails if it may have been taken');
	is(scalar(() = slurp_file("$folder/read") =~ /\n/g), 2, '... and is not sent again');
};

subtest 'each byte is a chunk of its own, and each chunk three records of TLS' => sub {
	my @certificate = ("$folder/server.crt", "$folder/server.key");
	system_or_bail('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30',
		'-subj', '/CN=server', '-addext', 'subjectAltName=IP:127.0.0.1', '-out', $certificate[0], '-keyout', $certificate[1]);
	my $hostile = Hostile->new(tls => \@certificate);
	create_server($node, 'chunks', 'http', $hostile->url('tls_tiny_chunks'), ca_file => $certificate[0], max_attempts => 1);
	is_whole(enqueue($node, 'chunks', '{}'), 'the answer is taken', 100_000);
	$hostile->stop;
};

kill 'TERM', @servers;
$node->stop;
done_testing();
