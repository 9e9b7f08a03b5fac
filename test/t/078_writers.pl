# Large answers are judged and written by writers beside the dispatcher: no other answer waits for them, and nothing is
# lost or done twice, whatever becomes of a writer.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Shapes;

my $bytes = 8_000_000;
my $node = new_node(name => 'writers', conf => "max_wal_size = 4GB\nautovacuum = off");
my ($port, $server_pid) = Shapes::serve();
my $pid = dispatcher_pid($node);

# Seconds that the dispatcher has been on a processor.
sub dispatcher_time
{
	return (split / /, slurp_file("/proc/$pid/schedstat"))[0] / 1e9;
}

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# The job whose answer has a shape, when it has ended.
sub answered
{
	my ($shape) = @_;
	my %options = Shapes::options($port, $shape, $bytes);
	create_server($node, $shape, delete $options{api}, delete $options{url}, %options)
	  unless query('SELECT count(*) FROM pg_foreign_server WHERE srvname = ' . literal($shape));
	my $id = enqueue($node, $shape, '{"prompt": "a"}');
	$node->poll_query_until('postgres', "SELECT state IN ('succeeded', 'failed') FROM gen_jobs WHERE id = $id");
	return $id;
}

sub result_of
{
	my ($id) = @_;
	return query("SELECT state, attempt, error, md5(result::text), (SELECT string_agg(encode(sha256, 'hex'), ' ' ORDER BY ordinal)
		FROM gen_outputs WHERE job_id = id) FROM gen_jobs WHERE id = $id");
}

my %here;
my @shapes = ('words', 'one string', 'lines of new members', 'fractions');
$node->append_conf('postgresql.conf', 'genjob.max_writers = 0');
$node->reload;
$here{$_} = result_of(answered($_)) foreach @shapes;
is(query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'genjob writer'"), 0, 'without writers, the dispatcher does all');

$node->append_conf('postgresql.conf', 'genjob.max_writers = 2');
$node->reload;
$node->poll_query_until('postgres', "SELECT setting = '2' FROM pg_settings WHERE name = 'genjob.max_writers'");
foreach my $shape (@shapes)
{
	my $before = dispatcher_time();
	my $id = answered($shape);
	my $took = dispatcher_time() - $before;
	note(sprintf '%s: %.0f ms', $shape, 1000 * $took);
	takes_less($took, 0.15, "$shape: the dispatcher has little to do with 8 MB");
	is(result_of($id), $here{$shape}, '... and it comes to the same');
}
is(query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'genjob writer'"), 1, 'there is a writer');

kill 'TERM', $server_pid;
$node->stop;
done_testing();
