# The calls after a submission write nothing, so the marker counts the crashes for them: a download, a poll, a lookup,
# an upload or a cancel that crashes PostgreSQL whenever it is made is not made for ever. Other jobs go on, and nothing
# that was paid for is paid again.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(
	name => 'cut_calls',
	conf => "restart_after_crash = on\ngenjob.shutdown_grace = 1\nlog_min_messages = warning");
my %quick = (retry_base => '10 ms', retry_max => '50 ms', max_attempts => 2, poll_interval => '50 ms');
create_server($node, 'painter', 'openai-images', $standin, %quick);
create_server($node, 'asked', 'replicate', $standin, model => 'm', %quick);

my $forever = { latency_ms => 600_000 };
my $try = 30;

# Kills the dispatcher whenever the job's call is in that phase, until the job has ended. Returns how often.
sub kill_in_phase
{
	my ($id, $phase, $most) = @_;
	my $kills = 0;
	while ($kills < $most)
	{
		my $seen = "SELECT state NOT IN ('queued', 'running')
				OR EXISTS (SELECT FROM genjob.activity WHERE job_id = $id AND phase = '$phase')
			FROM gen_jobs WHERE id = $id";
		$node->poll_query_until('postgres', $seen) or last;
		last if query("SELECT state IN ('queued', 'running') FROM gen_jobs WHERE id = $id") ne 't';
		kill_dispatcher();
		$kills++;
	}
	return $kills;
}

sub goes_on
{
	my $id = enqueue($node, 'painter', { prompt => 'beside' });
	return ok(wait_state($node, $id, 'succeeded'), 'others go on');
}

subtest "ends $try: a download crashes PostgreSQL whenever it is made" => sub {
	$standin->reset;
	my $id = enqueue($node, 'asked',
		StandIn::request(prompt => 'd', standin => { id => 'd', download_faults => [ ($forever) x 20 ] }));
	is(kill_in_phase($id, 'downloading', 12), 5, 'after three crashes each counts, until the attempts are used up');
	ok(wait_state($node, $id, 'failed'), '... and the job fails');
	like(
		job($node, $id)->{error},
		qr/crashed 5 times in a row while this job's call "download" was under way.*genjob\.retry\(\)/,
		'... with words that say what to do');
	is(query("SELECT attempt, remote_id IS NOT NULL, result IS NOT NULL FROM gen_jobs WHERE id = $id"), '1|t|t',
		'... its prediction and its answer are kept');
	is($standin->counts->{ids}{d}{submitted}, 1, 'it was paid once');
	goes_on();
};
$try++;

subtest "ends $try: a poll crashes PostgreSQL whenever it is made" => sub {
	$standin->reset;
	my $id = enqueue($node, 'asked',
		StandIn::request(prompt => 'p',
			standin => { id => 'p', latency_ms => 3_600_000, poll_faults => [ ($forever) x 20 ] }));
	is(kill_in_phase($id, 'polling', 12), 5, 'after three crashes each counts, until the attempts are used up');
	ok(wait_state($node, $id, 'failed'), '... and the job fails');
	like(
		job($node, $id)->{error},
		qr/crashed 5 times in a row while this job's call "poll" was under way.*at the provider/,
		'... with words that say what to do');
	is($standin->counts->{ids}{p}{submitted}, 1, 'it was paid once');
	goes_on();
};
$try++;

subtest "ends $try: a cancel crashes PostgreSQL whenever it is made" => sub {
	$standin->reset;
	my $id = enqueue($node, 'asked',
		StandIn::request(prompt => 'c',
			standin => { id => 'c', latency_ms => 3_600_000, cancel_faults => [ ($forever) x 20 ] }));
	ok($node->poll_query_until('postgres', "SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id"),
		'a prediction runs');
	query("SELECT genjob.cancel($id)");
	foreach my $i (1 .. 5)
	{
		$standin->wait_for(sub { ($_[0]{cancels}) == $i });
		kill_dispatcher();
	}
	ok($node->poll_query_until('postgres', "SELECT error ~ 'did not confirm it' FROM gen_jobs WHERE id = $id"),
		'the job says that nobody confirmed it');
	is($standin->counts->{cancels}, 5, '... after five calls');
	goes_on();
};
$try++;

subtest "ends $try: crashes that are not its fault fail a download" => sub {
	$standin->reset;
	my $id = enqueue($node, 'asked',
		StandIn::request(prompt => 'u', standin => { id => 'u', download_faults => [ ($forever) x 4 ] }));
	is(kill_in_phase($id, 'downloading', 4), 4, 'the dispatcher is killed four times');
	ok(wait_state($node, $id, 'succeeded'), 'the job goes on');
	is(query("SELECT attempt, failures FROM gen_jobs WHERE id = $id"), '1|0', '... in its first attempt');
	is($standin->counts->{ids}{u}{submitted}, 1, '... paid once');
};
$try++;

subtest "ends $try: stops, terminations and crashes of others count against a download" => sub {
	$standin->reset;
	my $id = enqueue($node, 'asked',
		StandIn::request(prompt => 's', standin => { id => 's', download_faults => [ ($forever) x 9 ] }));
	foreach my $how (qw(immediate fast other immediate terminate fast other immediate terminate))
	{
		my $downloads = "SELECT count(*) = 1 FROM genjob.activity WHERE job_id = $id AND phase = 'downloading'";
		ok($node->poll_query_until('postgres', $downloads), "it downloads, then: $how");
		my $pid = wait_dispatcher($node);
		if ($how =~ /immediate|fast/)
		{
			$node->stop($how);
			$node->start;
		}
		elsif ($how eq 'other')
		{
			my $other = query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
			kill 'KILL', $other or die "could not kill the checkpointer: $!";
		}
		else
		{
			query("SELECT pg_terminate_backend($pid)");
		}
		wait_dispatcher($node, 'postgres', $pid);
	}
	ok(wait_state($node, $id, 'succeeded'), 'the job goes on');
	is($standin->counts->{ids}{s}{submitted}, 1, '... paid once');
};
$try++;

subtest 'genjob.retry() of a job that was given up tries it again' => sub {
	$standin->reset;
	my $id = enqueue($node, 'asked',
		StandIn::request(prompt => 'r', standin => { id => 'r', download_faults => [ ($forever) x 5 ] }));
	is(kill_in_phase($id, 'downloading', 12), 5, 'it is given up');
	ok(wait_state($node, $id, 'failed'), '... and fails');
	query("SELECT genjob.retry($id)");
	my $downloads = "SELECT count(*) = 1 FROM genjob.activity WHERE job_id = $id AND attempt = 2 AND phase = 'downloading'";
	ok($node->poll_query_until('postgres', $downloads), 'its new prediction is downloaded');
};

$standin->stop;
$node->stop;
done_testing();
