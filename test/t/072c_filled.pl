# What one request has the dispatcher do: values that it takes of results, texts that it joins, and what an object store
# answers. None of it takes memory or time out of proportion.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Shapes;

plan skip_all => figures_mean_nothing() if figures_mean_nothing();

my $node = new_node(conf => "shared_buffers = 16MB\nautovacuum = off\ngenjob.max_writers = 0");
my ($port, $server_pid) = Shapes::serve();
my $pid = dispatcher_pid($node);
my $mb = 1024 * 1024;

plan skip_all => 'needs /proc/PID/clear_refs' unless -w "/proc/$pid/clear_refs" && -r "/proc/$pid/schedstat";

sub status
{
	my ($name) = @_;
	return slurp_file("/proc/$pid/status") =~ /^$name:\s+(\d+) kB/m ? $1 * 1024 : undef;
}

sub seconds { return (split / /, slurp_file("/proc/$pid/schedstat"))[0] / 1e9 }

# What a job takes of the dispatcher, in bytes and seconds, and its id.
sub cost_of
{
	my ($server, $request, $inputs) = @_;
	my $file = $node->basedir . '/request.sql';
	my ($before, $began) = (status('VmRSS'), seconds());

	unlink $file;
	append_to_file($file, "INSERT INTO gen_jobs (server, request, inputs) VALUES ('$server', '$request', $inputs) RETURNING id");
	append_to_file("/proc/$pid/clear_refs", '5');
	my $id = $node->safe_psql('postgres', "\\i $file");
	die "the job does not end\n"
	  unless $node->poll_query_until('postgres', "SELECT state IN ('succeeded', 'failed') FROM gen_jobs WHERE id = $id");
	return (status('VmHWM') - $before, seconds() - $began, $id);
}

sub told { return $node->safe_psql('postgres', "SELECT concat_ws(' ', state, left(error, 200)) FROM gen_jobs WHERE id = $_[0]") }

create_server($node, 'plain', 'http', "http://127.0.0.1:$port", path => '/digits/100', auth => 'none', max_attempts => 1);
cost_of('plain', '{}', 'NULL');

# ---- what an object store answers ----

my $bytes = 4_000_000;
my $n = 200;
foreach my $shape (sort keys %Shapes::stores)
{
	(my $path = "store-$shape") =~ s/ /%20/g;
	my $name = "store $shape";
	create_server($node, $name, 's3', "http://127.0.0.1:$port/$path", bucket => $bytes, max_attempts => 1, timeout => '60 s');
	$node->safe_psql('postgres', qq{ALTER USER MAPPING FOR PUBLIC SERVER "$name" OPTIONS (DROP api_key, ADD access_key_id 'a', ADD secret_access_key 'b')});
	subtest 'bytes ' . ++$n . ": an object store that answers with $shape takes more memory than four times its bytes" => sub {
		foreach my $request ('{"put": "x"}', '{"copy": "x", "to": "y"}', '{"list": ""}')
		{
			my ($peak, $time, $id) = cost_of($name, $request, $request =~ /put/ ? q{ARRAY['x'::bytea]} : 'NULL');
			cmp_ok($peak, '<=', 4 * $bytes + 50 * $mb, $request) || diag(told($id));
			note(sprintf '%s: %.1f MB, %.3f s, %s', $request, $peak / 1e6, $time, told($id));
		}
	};
}

# ---- what a request takes of results ----

create_server($node, 'long', 'http', "http://127.0.0.1:$port", path => '/digits/400000', auth => 'none', max_attempts => 1);
create_server($node, 'members', 'http', "http://127.0.0.1:$port", path => '/many%20keys/1000000', auth => 'none', max_attempts => 1);
my (undef, undef, $long) = cost_of('long', '{}', 'NULL');
my (undef, undef, $members) = cost_of('members', '{}', 'NULL');
my $last = $node->safe_psql('postgres', "SELECT jsonb_array_length(result->'a') - 1 FROM gen_jobs WHERE id = $long");
cmp_ok($last, '>', 100_000, 'there is a long result');

sub values_of
{
	my ($count, $job, $place) = @_;
	return '{"p": [' . join(',', (qq({"\$result": [$job, "$place"]})) x $count) . ']}';
}

subtest 'time 301: a request that takes many values out of a long result keeps the dispatcher busy' => sub {
	my ($peak, $time, $id) = cost_of('plain', values_of(20_000, $long, "/a/$last"), 'NULL');
	like(told($id), qr/^failed the request takes too many values from large results of other jobs/, 'the job says so');
	takes_less($time, 1, '... soon');
	($peak, $time, $id) = cost_of('plain', values_of(20_000, $long, '/*/*/x'), 'NULL');
	like(told($id), qr/^failed the result of job $long has nothing at/, 'a place that is nowhere');
	takes_less($time, 1, '... is looked for once');
	($peak, $time, $id) = cost_of('plain', values_of(20_000, $members, '/k99999999'), 'NULL');
	like(told($id), qr/^failed /, 'a member that is not there');
	takes_less($time, 1, '... is found out once');
	($peak, $time, $id) = cost_of('plain', values_of(50, $long, "/a/$last"), 'NULL');
	is(told($id), 'succeeded', 'some values of it are taken');
};

subtest 'bytes 221: a request that takes values of many long results has all of them in memory' => sub {
	my @jobs = map { (cost_of('long', '{}', 'NULL'))[2] } 1 .. 12;
	my ($peak, $time, $id) = cost_of('plain', '{"p": [' . join(',', map { qq({"\$result": [$_, "/a/1"]}) } @jobs) . ']}', 'NULL');
	is(told($id), 'succeeded', 'the job is run');
	# nodes alone are 13 MB of each
	cmp_ok($peak, '<', 150 * $mb, 'it is one at a time');
	($peak, $time, $id) = cost_of('plain', values_of(30, $long, '/a'), 'NULL');
	like(told($id), qr/^failed the request takes more than 16 MB from results of other jobs/, 'what is taken is bounded, a number as its node');
	cmp_ok($peak, '<', 160 * $mb, '... also in memory');
};

subtest 'bytes 222: texts that are joined within texts that are joined are copied again and again' => sub {
	my $text = 'x' x 2_000_000;
	my $request = '{"p": ' . ('{"$concat":[' x 400) . qq("$text") . (']}' x 400) . '}';
	my ($peak, $time, $id) = cost_of('plain', $request, 'NULL');
	is(told($id), 'succeeded', 'the job is run');
	cmp_ok($peak, '<=', 10 * length($request) + 50 * $mb, 'it takes some times its bytes');
	takes_less($time, 1, '... and not long');
	my $preview = $node->safe_psql('postgres', q{SELECT genjob.preview('plain', '{"p": {"$concat": ["a", {"$concat": [1, {"$concat": []}, true]}, null, "b"]}}')});
	like($preview, qr/\{"p":\s*"a1trueb"\}/, 'they are joined in their order');
};

kill 'TERM', $server_pid;
$node->stop;
done_testing();
