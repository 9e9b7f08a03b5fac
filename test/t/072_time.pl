# How long the dispatcher takes over an answer, and a session over a request, of 0.5, 1, 2 and 4 MB of any shape (in CI of
# half, with `make tries` of twice as much): twice as much takes about twice as long. Nothing that a stranger sends makes
# the queue stand still, or a stop wait.
#
# Time is the process's own on a processor (/proc/PID/schedstat), which others on the machine do not change; of
# several measurements the least counts, and what a larger one has taken a smaller one can take, too.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use GenJobTest;
use Shapes;

plan skip_all => figures_mean_nothing() if figures_mean_nothing();

# as large as the time of a run allows
my @sizes = map { $_ * ($ENV{TRIES} ? 1_000_000 : $ENV{CI} ? 250_000 : 500_000) } 1, 2, 4, 8;
my $most = 2.6;       # times as long for twice as much,
my $drift = 4;        # unless a byte takes at most so many times as long as in the smallest: a virtual machine may be a third
                      # as fast for some seconds, and the kernel gives large pieces of memory anew each time
my $noise = 0.015;    # seconds that do not count
my $tries = 8;
# to fill a segment of WAL with zeros takes longer than most of what is measured
my $node = new_node(conf => "wal_init_zero = off\nshared_buffers = 64MB\nmax_wal_size = 4GB\nautovacuum = off\nsynchronous_commit = off\ngenjob.shutdown_grace = '3 s'");
my ($port, $server_pid) = Shapes::serve();
my $pid = dispatcher_pid($node);

plan skip_all => 'needs /proc/PID/schedstat' unless -r "/proc/$pid/schedstat";

sub dispatcher_time
{
	return (split / /, slurp_file("/proc/$pid/schedstat"))[0] / 1e9;
}

# Seconds that the dispatcher takes over an answer.
sub time_of_answer
{
	my ($shape, $bytes) = @_;
	my %options = Shapes::options($port, $shape, $bytes);
	my $name = "$shape $bytes";
	my $exists = $node->safe_psql('postgres', 'SELECT count(*) FROM pg_foreign_server WHERE srvname = ' . literal($name));

	create_server($node, $name, delete $options{api}, delete $options{url}, %options) unless $exists;
	my $before = dispatcher_time();
	my $id = enqueue($node, $name, '{"prompt": "a"}');
	die "the job does not end\n"
	  unless $node->poll_query_until('postgres', "SELECT state IN ('succeeded', 'failed') FROM gen_jobs WHERE id = $id");
	return dispatcher_time() - $before;
}

# Seconds that a session takes over a request: what it would send, and its INSERT.
sub time_of_request
{
	my ($shape, $bytes) = @_;
	my ($make, %options) = @{ $Shapes::requests{$shape} };
	my $file = $node->basedir . '/request';
	my $request = literal($make->($bytes) =~ s/^\{/{"in":{"\$input":1},/r);

	unlink $file;
	append_to_file($file, <<"SQL");
CREATE TEMP TABLE r AS SELECT $request\::jsonb AS request;
SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1) AS before \\gset
SELECT count(genjob.preview('requests $shape', request, ARRAY['\\x01'::bytea])) FROM r \\gset
INSERT INTO gen_jobs (server, request, inputs) SELECT 'requests $shape', request, ARRAY['\\x01'::bytea] FROM r;
SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::numeric - :before;
SQL
	return $node->safe_psql('postgres', "\\i $file") / 1e9;
}

# Whether each doubling of the size takes at most so many times as long; what it took, in ms, goes to the log. Only what is
# too much, and half of it, is measured again.
sub grows_evenly
{
	my ($title, $measure) = @_;
	my (%least, @wrong);
	my @again = @sizes;

	foreach my $try (1 .. $tries)
	{
		foreach my $size (@again)
		{
			my $time = $measure->($size);
			foreach (grep { $_ <= $size } @sizes)
			{
				$least{$_} = $time if !defined $least{$_} || $time < $least{$_};
			}
		}
		@wrong = grep {
			$least{ $sizes[$_] } > $most * $least{ $sizes[ $_ - 1 ] } + $noise
			  && $least{ $sizes[$_] } > $drift * $least{ $sizes[0] } * $sizes[$_] / $sizes[0] + $noise
		} 1 .. $#sizes;
		last unless @wrong;
		@again = map { @sizes[ $_ - 1, $_ ] } @wrong;
	}
	my $figures = join ', ', map { sprintf '%.0f', $least{$_} * 1000 } @sizes;
	($ENV{SHAPE_TIMES} ? \&diag : \&note)->(sprintf '%-40s %s ms', $title, $figures);
	return ok(!@wrong, "twice as much takes at most $most times as long") || diag("$title: $figures ms");
}

# what is measured is the dispatcher's
sub set_writers
{
	my ($writers) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET genjob.max_writers = $writers; SELECT pg_reload_conf()");
	return;
}

my $n = 0;
set_writers(0);
time_of_answer('words', 100_000);
foreach my $shape (sort grep { !$Shapes::unfetched{$_} } keys %Shapes::answers)
{
	next if $ENV{SHAPE} && $shape !~ /$ENV{SHAPE}/;
	subtest 'time ' . ++$n . ": an answer made of $shape takes more and more time for each byte" => sub {
		grows_evenly("answer: $shape", sub { time_of_answer($shape, $_[0]) });
	};
}
$n = 100;
foreach my $shape (sort keys %Shapes::requests)
{
	next if $ENV{SHAPE} && $shape !~ /$ENV{SHAPE}/;
	my (undef, %options) = @{ $Shapes::requests{$shape} };
	create_server($node, "requests $shape", 'http', "http://127.0.0.1:$port", path => '/words/100', %options);
	$node->safe_psql('postgres', "SELECT genjob.pause('requests $shape')");
	subtest 'time ' . ++$n . ": a request made of $shape takes more and more time for each byte" => sub {
		grows_evenly("request: $shape", sub { time_of_request($shape, $_[0]) });
	};
}

# ---- a stop ----

subtest 'time 200: large answers that come while it is told to stop keep the dispatcher from obeying' => sub {
	set_writers(2);
	my @ids = map {
		my %options = Shapes::options($port, $_, 8_000_000);
		create_server($node, "stop $_", delete $options{api}, delete $options{url}, %options);
		map { my $name = $_; enqueue($node, "stop $name", '{"prompt": "a"}') } ($_) x 3;
	} 'words', 'one string', 'lines of new members', 'fractions';
	$node->poll_query_until('postgres', "SELECT count(*) > 2 FROM gen_jobs WHERE state <> 'queued' AND id IN (" . join(',', @ids) . ')');
	my $start = time;
	kill 'TERM', $pid;
	wait_dispatcher($node, 'postgres', $pid);
	my $took = time - $start;
	note(sprintf 'another one is there after %.1f s', $took);
	# what is under way may end first, within genjob.shutdown_grace; the rest is for a busy machine
	cmp_ok($took, '<', 30, 'another one is there soon');
	ok( $node->poll_query_until('postgres',
			"SELECT bool_and(state IN ('succeeded', 'failed')) FROM gen_jobs WHERE id IN (" . join(',', @ids) . ')'),
		'... and all is done');
} unless $ENV{SHAPE};

kill 'TERM', $server_pid;
$node->stop;
done_testing();
