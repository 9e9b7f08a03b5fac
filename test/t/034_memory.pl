# What a job costs the dispatcher while it waits: a prediction little more than its row, a plain call its connection.
# What a burst of calls held is given back.
#
# Memory is what only the dispatcher has (/proc/PID/smaps_rollup), compared with what it had before.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use GenJobTest;
use StandIn;

plan skip_all => figures_mean_nothing() if figures_mean_nothing();

my $jobs = 2000;
my $node = new_node(conf => "genjob.max_in_flight = $jobs");
my $standin = StandIn->new(backlog => 4096);
my $pid = dispatcher_pid($node);
plan skip_all => 'needs /proc/PID/smaps_rollup' unless -r "/proc/$pid/smaps_rollup";

# Bytes that this process alone has.
sub memory { return private_memory($pid) * 1024 * 1024 }

sub insert
{
	my ($server, $n, $request) = @_;
	query("INSERT INTO gen_jobs (server, request) SELECT '$server', $request FROM generate_series(1, $n) i");
	return;
}

# Cancels all jobs that run; true once no call is left. What a subtest leaves, the next one ends: nobody waits for that
# after the last.
sub cancel_all
{
	query(q{UPDATE gen_jobs SET state = 'cancelled' WHERE state = 'running'});
	return $node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM genjob.activity');
}

# One job of each kind first: catalogs, plans and libraries are not what is measured.
create_server($node, 'plain', 'openai-images', $standin, max_in_flight => $jobs);
create_server($node, 'remote', 'replicate', $standin,
	max_in_flight => $jobs, model => 'owner/name', poll_interval => '100ms');
insert('plain', 50, q{jsonb_build_object('prompt', 'warm ' || i)});
insert('remote', 50, q{jsonb_build_object('input', jsonb_build_object('prompt', 'warm ' || i))});
ok(wait_server_ended($node, 'plain') && wait_server_ended($node, 'remote'), 'some jobs of each kind end');
my $before = memory();

subtest 'calls that are waited for take little more than their connections' => sub {
	cancel_all();
	my $before = memory();
	insert('plain', $jobs,
		q{jsonb_build_object('prompt', 'job ' || i, 'standin', jsonb_build_object('latency_ms', 20000))});
	$standin->wait_for(sub { $_[0]{in_flight} == $jobs });
	# from libcurl 8.7 on each call keeps 16 kB for sending
	my ($major, $minor) = `curl-config --version` =~ /(\d+)\.(\d+)/;
	my $most = ($major // 8) > 8 || (($major // 8) == 8 && ($minor // 7) >= 7) ? 35_000 : 30_000;
	my $each = (memory() - $before) / $jobs;
	note("they take $each bytes each");
	cmp_ok($each, '<', $most, "$jobs calls wait for their answers with less than $most bytes each");
	ok(cancel_all(), '... and can all be cancelled');
};

subtest 'predictions that are waited for take little more than their rows' => sub {
	cancel_all();
	insert('remote', $jobs,
		q{jsonb_build_object('input', jsonb_build_object('prompt', 'job ' || i),
			'standin', jsonb_build_object('latency_ms', 3600000))});
	eventually("SELECT count(*) = $jobs FROM gen_jobs
		WHERE server = 'remote' AND state = 'running' AND remote_id IS NOT NULL", "$jobs predictions are under way");
	ok(poll_until(sub { memory() <= $before + 10_000 * $jobs }),
		'... for less than 10,000 bytes each, and what the calls took is given back')
	  or diag('they take ' . int((memory() - $before) / $jobs) . ' bytes each');

	my $start = time;
	my $polls = $standin->counts(summary => 1)->{polls};
	sleep 2;
	my $rate = ($standin->counts(summary => 1)->{polls} - $polls) / (time - $start);
	cmp_ok($rate, '>', 0, '... they are asked about');
	cmp_ok($rate, '<', 3_000, '... some 2,000 times a second at most, and a burst, although each could be ten times');
};

$standin->stop;
$node->stop;
done_testing();
