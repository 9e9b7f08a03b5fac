# Servers that take memory and do not move: others' answers find room all the same, and nothing that has come is lost.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Hostile;
use StandIn;

my $bound = 64;    # MB: the least that can be set
my $node = new_node(conf => "genjob.max_memory = '$bound MB'\nsynchronous_commit = off\nautovacuum = off\nmax_wal_size = '4GB'");
my $standin = StandIn->new;
my $hostile = Hostile->new;
my $pid = dispatcher_pid($node);
plan skip_all => 'needs /proc/PID/status' unless -r "/proc/$pid/status";

# MB that this process alone has.
sub memory
{
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	return int($kb / 1024);
}

# An answer of 1 MB; after how many seconds it is there.
sub paint
{
	my ($begun) = (time);
	my $id = enqueue($node, 'painter', StandIn::request(prompt => "at $begun", size => '500x500'));
	return wait_state($node, $id, 'succeeded') ? time - $begun : 1e9;
}

create_server($node, 'painter', 'openai-images', $standin);
create_server($node, 'silent', 'http', $hostile->url('silent_after_much'), path => '/x', max_in_flight => 10, timeout => '10 min', max_response => '200 MB');
create_server($node, 'late', 'http', $hostile->url('late_rest'), path => '/x', max_in_flight => 10, timeout => '10 min', max_response => '200 MB', max_attempts => 1);
paint();

subtest 'wires 41: ten calls that bring 130 MB each and fall silent leave room for the answers of others' => sub {
	query("INSERT INTO gen_jobs (server, request) SELECT 'silent', '{}' FROM generate_series(1, 10)");
	ok($node->poll_query_until('postgres', "SELECT sum(bytes_received) > 40000000 FROM genjob.activity WHERE server = 'silent'"), 'they have brought much');
	my $most = 0;
	for my $i (1 .. 10)
	{
		cmp_ok(paint(), '<', 15, "answer $i of another server comes soon");
		my $now = memory();
		$most = $now if $now > $most;
		sleep 0.3;
	}
	takes_less($most, 2 * $bound + 64, '... in bounded memory');
	query("SELECT genjob.cancel(id) FROM gen_jobs WHERE server = 'silent' AND state IN ('queued', 'running')");
	ok(wait_all_ended($node), 'they can be cancelled');
};

subtest 'wires 42: what has come of answers that stand still is kept, in files, and nothing is left of these' => sub {
	query("INSERT INTO gen_jobs (server, request) SELECT 'late', '{}' FROM generate_series(1, 6)");
	my ($files, $folder) = (0, "/proc/$pid/fd");
	my $until = time + 120;
	while (time < $until && query("SELECT count(*) FROM gen_jobs WHERE server = 'late' AND state IN ('queued', 'running')"))
	{
		my $n = grep { (readlink($_) // '') =~ /pgsql_tmp.*genjob.*deleted/ } glob("$folder/*");
		$files = $n if $n > $files;
		sleep 0.2;
	}
	is(query("SELECT state, count(*), max(attempt) FROM gen_jobs WHERE server = 'late' GROUP BY 1"), 'succeeded|6|1', 'all end with success, at the first attempt');
	is(query("SELECT DISTINCT bytes, sha256 = sha256(decode(repeat('00', 24576000), 'hex')) FROM gen_outputs JOIN gen_jobs ON id = job_id WHERE server = 'late'"), '24576000|t', '... unbroken');
	cmp_ok($files, '>', 0, 'some were in files');
	is(scalar(grep { (readlink($_) // '') =~ /pgsql_tmp.*genjob/ } glob("$folder/*")), 0, '... of which none is open any more');
	is(scalar(glob($node->data_dir . '/base/pgsql_tmp/*')), undef, '... or left');
};

$hostile->stop;
$standin->stop;
$node->stop;
done_testing();
