# Large outputs that go to an object store (Swift) in parts: the object is whole, whatever ends meanwhile, the parts that
# are there are not sent again, and no upload stays open.
#
# GENJOB_TEST_LONG=1 stops PostgreSQL 20 times instead of twice.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use OpenUploads;
use PythonServer;
use StandIn;

my $store = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $store->missing if $store->missing;

my $node = new_node(conf => "genjob.shutdown_grace = 1\nrestart_after_crash = on\n");
my $standin = StandIn->new;
my $size = '1700x1700';    # 8.7 MB: two parts

query("CREATE SERVER pictures FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url '" . $store->url
	  . "', bucket 'pictures', key '{server}/{job}-{ordinal}.{ext}', retry_base '100 ms')");
query(q{CREATE USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (access_key_id 'test:tester', secret_access_key 'testing')});
create_server($node, 'painter', 'openai-images', $standin, store => 'pictures');
create_server($node, 'replicate', 'replicate', $standin, store => 'pictures', model => 'stand-in/painter:1', poll_interval => '50 ms');

sub start
{
	my ($server, $name, %more) = @_;
	return enqueue($node, $server, StandIn::request(prompt => $name, size => $size, %more, standin => { id => $name }));
}

# What is wrong with the one output of a job; empty if nothing.
sub fault
{
	my ($id) = @_;
	my ($url, $sha256, $bytes) = split /\|/, query("SELECT url, encode(sha256, 'hex'), bytes FROM gen_outputs WHERE job_id = $id AND data IS NULL AND store = 'pictures'");
	return "job $id has no output in the store" unless $url;
	my $get = enqueue($node, 'pictures', { get => $url =~ s{^s3://pictures/}{}r });
	query("SELECT state FROM genjob.wait($get, '60 s')");
	my $found = query("SELECT encode(sha256(data), 'hex'), bytes FROM gen_outputs WHERE job_id = $get");
	query("DELETE FROM gen_outputs WHERE job_id = $get");
	return $found eq "$sha256|$bytes" && $bytes > 8 * 1024 * 1024 ? '' : "$url is $found, and not $sha256|$bytes";
}

sub is_open { return $node->poll_query_until('postgres', "SELECT remote ? 'uploads' FROM gen_jobs WHERE id = $_[0]") }

sub none_is_open { return poll_until(sub { !OpenUploads::list($store) }) }

# ---- it goes well ----

my $id = start('painter', 'at once');
ok(wait_state($node, $id, 'succeeded'), 'a picture of more than 8 MB');
is(fault($id), '', '... is in the store, and whole');
like(query("SELECT etag FROM gen_outputs WHERE job_id = $id"), qr/^[0-9a-f]{32}-2$/, '... in two parts, with an ETag that is no MD5');
is(query("SELECT left(remote::text, 200) FROM gen_jobs WHERE id = $id"), '', '... and the row has forgotten the upload');
$id = start('replicate', 'later');
ok(wait_state($node, $id, 'succeeded'), 'one that was downloaded');
is(fault($id), '', '... is whole');
is(scalar(OpenUploads::list($store)), 0, 'no upload is open');

# ---- it is cancelled, or fails ----

query(q{ALTER SERVER pictures OPTIONS (ADD rate_limit '2/s', ADD rate_burst '1')});
$id = start('replicate', 'cancelled');
ok(is_open($id), 'an upload is in the row before its parts are sent');
is(query("SELECT genjob.cancel($id)"), 't', 'its job is cancelled');
ok($node->poll_query_until('postgres', "SELECT state = 'cancelled' AND remote IS NULL FROM gen_jobs WHERE id = $id"), '... and leaves nothing in the row');
ok(none_is_open(), '... nor in the store');

# ---- PostgreSQL ends meanwhile ----

my $stops = $ENV{GENJOB_TEST_LONG} ? 20 : 2;
for my $stop (1 .. $stops)
{
	my $how = $stop % 2 ? 'an immediate stop' : 'a SIGKILL of the dispatcher';
	my $name = "stop $stop";
	$id = start('replicate', $name);
	is_open($id);
	# between the beginning of the upload and its end
	select(undef, undef, undef, 0.5 * ($stop % 4));
	if ($stop % 2)
	{
		$node->stop('immediate');
		$node->start;
		wait_dispatcher($node);
	}
	else
	{
		my $pid = dispatcher_pid($node);
		kill 'KILL', $pid;
		ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher' AND pid <> $pid"), 'PostgreSQL restarts');
	}
	ok(wait_state($node, $id, 'succeeded'), "the job goes on after $how");
	is(fault($id), '', '... its object is whole');
	is($standin->arrived($name), 1, '... and was paid for once');
}
ok(none_is_open(), 'no upload is open');

# ---- the store was down when the answer came, so that the row has the answer, too ----

my $port = $store->port;
$store->stop;
$id = start('painter', 'saved');
ok($node->poll_query_until('postgres', "SELECT remote::text LIKE '%\$verdict%' FROM gen_jobs WHERE id = $id"), 'an answer is saved while its store is down');
$store->start($port);
ok(is_open($id), 'the store is back, and an upload begins');
is(query("SELECT remote -> 'answer' ? '\$verdict' FROM gen_jobs WHERE id = $id"), 't', '... beside the saved answer');
$node->stop('immediate');
$node->start;
wait_dispatcher($node);
ok(wait_state($node, $id, 'succeeded'), 'after an immediate stop the job goes on');
is(fault($id), '', '... its object is whole');
is($standin->arrived('saved'), 1, '... and was paid for once');

# ---- what a dead primary left ----

query(q{ALTER SERVER pictures OPTIONS (SET rate_limit '1/s')});
$id = start('replicate', 'forgotten');
is_open($id);
$node->stop('immediate');
my ($left) = OpenUploads::list($store);
like($left, qr{^replicate/$id-1\.png/}, 'an upload is open whose server has died');
# as in a copy of the database that never had it
$node->append_conf('postgresql.conf', "genjob.enabled = off\ngenjob.debug_clock_speed = 10000\n");
$node->start;
query("DELETE FROM gen_jobs WHERE id = $id; ALTER SERVER pictures OPTIONS (DROP rate_limit, DROP rate_burst)");
query('ALTER SYSTEM SET genjob.enabled = on; SELECT pg_reload_conf()');
wait_dispatcher($node);
ok(poll_until(sub { my $next = start('replicate', 'next', size => '16x16'); wait_state($node, $next, 'succeeded'); return !OpenUploads::list($store) }),
	'it is aborted within a day');

$node->stop;
done_testing();
