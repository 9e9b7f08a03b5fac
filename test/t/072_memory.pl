# What an answer takes of the dispatcher's memory, whatever it is made of: at most four times its bytes and 50 MB; and
# what it takes too much of memory for is kept as it came.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Shapes;

plan skip_all => figures_mean_nothing() if figures_mean_nothing();

my $bytes = $ENV{SHAPE_BYTES} // ($ENV{CI} ? 3_000_000 : 6_000_000);
my $node = new_node(conf => "shared_buffers = 16MB\nmax_wal_size = 4GB\nautovacuum = off\ngenjob.max_writers = 0");
my ($port, $server_pid) = Shapes::serve();
my $pid = dispatcher_pid($node);

plan skip_all => 'needs /proc/PID/clear_refs' unless -w "/proc/$pid/clear_refs";

sub status
{
	my ($name) = @_;
	return slurp_file("/proc/$pid/status") =~ /^$name:\s+(\d+) kB/m ? $1 * 1024 : undef;
}

# How much more than before the dispatcher had at most while a job was run.
sub peak_of
{
	my ($shape, $size, %more) = @_;
	my %options = (Shapes::options($port, $shape, $size), %more);
	my $api = delete $options{api};
	my $url = delete $options{url};
	my $name = join ' ', $shape, $size, values %more;

	create_server($node, $name, $api, $url, %options);
	my $before = status('VmRSS');
	append_to_file("/proc/$pid/clear_refs", '5');
	my $id = enqueue($node, $name, '{"prompt": "a"}');
	$node->poll_query_until('postgres', "SELECT state IN ('succeeded', 'failed') OR remote ? 'answer' FROM gen_jobs WHERE id = $id") or return;
	return (status('VmHWM') - $before, $id);
}

# What is left of an answer: the bytes of its result as text, of its outputs, and the job's own words.
sub kept
{
	my ($id) = @_;
	return $node->safe_psql('postgres',
		"SELECT state, coalesce(length(result::text), 0), (SELECT coalesce(sum(bytes), 0) FROM gen_outputs WHERE job_id = $id),"
		  . " left(error, 150) FROM gen_jobs WHERE id = $id");
}

peak_of('words', 100_000);
my $n = 0;
foreach my $shape (sort keys %Shapes::answers)
{
	next if $ENV{SHAPE} && $shape !~ /$ENV{SHAPE}/;
	subtest 'bytes ' . ++$n . ": an answer made of $shape takes more memory than four times its bytes" => sub {
		my $length = length $Shapes::answers{$shape}[0]->($bytes);
		my ($peak, $id) = peak_of($shape, $bytes);
		ok($peak, 'the job ends');
		my $kept = kept($id);
		my $most = 4 * $length + 50 * 1024 * 1024;
		cmp_ok($peak, '<=', $most, 'the dispatcher takes no more');
		($ENV{SHAPE_BYTES} ? \&diag : \&note)->(sprintf '%-28s %6.1f MB, %4.1f times its bytes, of %4.1f; %s', $shape, $peak / 1e6, $peak / $length, $most / $length, $kept);
		# a row that cannot be printed ends this
		is($node->safe_psql('postgres', "SELECT count(*) FROM gen_jobs WHERE id = $id AND length(to_jsonb(gen_jobs)::text) > 0"),
			1, 'the row can be printed');
	};
}

# Nothing listens there: the answer is saved in the row.
$node->safe_psql('postgres', q{
	CREATE SERVER away FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://127.0.0.1:1', bucket 'outputs');
	CREATE USER MAPPING FOR PUBLIC SERVER away OPTIONS (access_key_id 'a', secret_access_key 'b')});
foreach my $shape ('a picture and fractions', 'data URLs', 'digits')
{
	next if $ENV{SHAPE} && $shape !~ /$ENV{SHAPE}/;
	subtest 'bytes ' . ++$n . ": an answer made of $shape waits for its store, and takes more memory than four times its bytes" => sub {
		my $length = length $Shapes::answers{$shape}[0]->($bytes);
		my ($peak, $id) = peak_of($shape, $bytes, store => 'away');
		ok($peak, 'its answer is saved, or it ends');
		my $most = 4 * $length + 50 * 1024 * 1024;
		cmp_ok($peak, '<=', $most, 'the dispatcher takes no more');
		($ENV{SHAPE_BYTES} ? \&diag : \&note)->(sprintf '%-28s %6.1f MB, %4.1f times its bytes, of %4.1f', "$shape, for a store", $peak / 1e6, $peak / $length, $most / $length);
		$node->safe_psql('postgres', "SELECT genjob.cancel($id)");
	};
}
is(dispatcher_pid($node), $pid, 'all of that was one dispatcher');

kill 'TERM', $server_pid;
$node->stop;
done_testing();
