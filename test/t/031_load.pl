# Many jobs at once: none waits for another, and each is sent exactly once.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node(conf => 'genjob.max_in_flight = 1000');
my $standin = StandIn->new(backlog => 4096);

# How a server's jobs ended, and how many seconds after they were inserted the last did.
sub results
{
	my ($server) = @_;
	return split /\|/,
	  query("SELECT count(*), count(*) FILTER (WHERE state = 'succeeded' AND attempt = 1), "
		  . 'extract(epoch FROM max(finished_at) - max(created_at)), '
		  . "(SELECT count(DISTINCT job_id) FROM gen_outputs JOIN gen_jobs ON id = job_id WHERE server = '$server')"
		  . " FROM gen_jobs WHERE server = '$server'");
}

sub sent_once
{
	my ($n) = @_;
	my $counts = $standin->counts(summary => 1);
	is($counts->{total}, $n, '... so many calls have arrived');
	is($counts->{answered}, $n, '... and were answered');
	is("$counts->{distinct_keys} $counts->{max_per_key}", "$n 1", '... each once, with a key of its own');
	is("$counts->{distinct_ids} $counts->{max_per_id}", "$n 1", '... one for each job');
	return $counts;
}

subtest 'a thousand jobs that take two seconds each' => sub {
	$standin->reset;
	create_server($node, 'thousand', 'openai-images', $standin, max_in_flight => 1000);
	# no answer comes before all have been called, however slow this machine is
	kill 'STOP', $standin->pid;
	query(q{INSERT INTO gen_jobs (server, request)
		SELECT 'thousand', jsonb_build_object('prompt', 'job ' || i,
			'standin', jsonb_build_object('id', 'job ' || i, 'latency_ms', 2000)) FROM generate_series(1, 1000) i});
	eventually(q{SELECT count(*) = 1000 FROM genjob.activity WHERE phase = 'calling'}, 'a thousand are called');
	kill 'CONT', $standin->pid;
	ok(wait_server_ended($node, 'thousand'), 'a thousand jobs of 2 s end');
	my ($jobs, $good, $seconds, $pictures) = results('thousand');
	is("$jobs $good $pictures", '1000 1000 1000', '... all of them well, with a picture');
	cmp_ok($seconds, '>=', 2, '... and not before they were done');
	my $counts = sent_once(1000);
	cmp_ok($counts->{max_in_flight}, '>', 900, '... nearly all of them at the same time');
};

subtest 'ten thousand jobs through a hundred places' => sub {
	$standin->reset;
	create_server($node, 'narrow', 'openai-images', $standin, max_in_flight => 100);
	query(q{INSERT INTO gen_jobs (server, request)
		SELECT 'narrow', jsonb_build_object('prompt', 'job ' || i,
			'standin', jsonb_build_object('id', 'job ' || i, 'latency_ms', 10)) FROM generate_series(1, 10000) i});
	ok(wait_server_ended($node, 'narrow'), 'ten thousand jobs end');
	my ($jobs, $good, $seconds, $pictures) = results('narrow');
	is("$jobs $good $pictures", '10000 10000 10000', '... all of them well, with a picture');
	my $counts = sent_once(10000);
	is($counts->{max_in_flight}, 100, '... a hundred at a time');
	diag(sprintf '10,000 jobs took %.1f s', $seconds) if $ENV{GENJOB_TEST_VERBOSE};
	is(query('SELECT count(*) FROM genjob.activity'), '0', 'and nothing is left in flight');
	is( query(q{SELECT queued, in_flight, succeeded, failed, retried FROM genjob.servers WHERE server = 'narrow'}),
		'0|0|10000|0|0',
		'... as genjob.servers has counted');
};

$standin->stop;
$node->stop;
done_testing();
