# Large outputs that go to an object store (Swift) in parts: the object is whole, whatever ends meanwhile, the parts
# that are there are not sent again, and no upload stays open.
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

my @store = (key => '{server}/{job}-{ordinal}.{ext}');
# at this rate an upload takes seconds, so that there is a time between its beginning and its end
my @slowly = (rate_limit => '1/s', rate_burst => 1);
create_store($node, 'pictures', $store, @store);
create_store($node, 'slow', $store, @store, @slowly);
create_server($node, 'painter', 'openai-images', $standin, store => 'pictures');
create_predictor('replicate', 'pictures');
create_predictor('slow_replicate', 'slow');

# A server whose outputs are downloaded.
sub create_predictor
{
	my ($name, $store) = @_;
	return create_server($node, $name, 'replicate', $standin, store => $store, model => 'stand-in/painter:1',
		poll_interval => '50 ms');
}

sub start
{
	my ($server, $name, %more) = @_;
	return enqueue($node, $server, StandIn::request(prompt => $name, size => $size, %more, standin => { id => $name }));
}

# What is wrong with the one output of a job, which that server of the store has; empty if nothing.
sub fault
{
	my ($id, $where) = @_;
	$where //= 'pictures';
	my ($url, $sha256, $bytes) = split /\|/, query("SELECT url, encode(sha256, 'hex'), bytes FROM gen_outputs
		WHERE job_id = $id AND data IS NULL AND store = '$where'");
	return "job $id has no output in the store" unless $url;
	my $get = enqueue($node, 'pictures', { get => $url =~ s{^s3://pictures/}{}r });
	query("SELECT state FROM genjob.wait($get, '60 s')");
	my $found = query("SELECT encode(sha256(data), 'hex'), bytes FROM gen_outputs WHERE job_id = $get");
	query("DELETE FROM gen_outputs WHERE job_id = $get");
	return $found eq "$sha256|$bytes" && $bytes > 8 * 1024 * 1024 ? '' : "$url is $found, and not $sha256|$bytes";
}

sub is_open { return $node->poll_query_until('postgres', "SELECT remote ? 'uploads' FROM gen_jobs WHERE id = $_[0]") }

subtest 'a picture of two parts is stored whole' => sub {
	my $id = start('painter', 'at once');
	ok(wait_state($node, $id, 'succeeded'), 'a picture of more than 8 MB');
	is(fault($id), '', '... is in the store, and whole');
	like(query("SELECT etag FROM gen_outputs WHERE job_id = $id"), qr/^[0-9a-f]{32}-2$/,
		'... in two parts, with an ETag that is no MD5');
	is(query("SELECT left(remote::text, 200) FROM gen_jobs WHERE id = $id"), '',
		'... and the row has forgotten the upload');
	$id = start('replicate', 'later');
	ok(wait_state($node, $id, 'succeeded'), 'one that was downloaded');
	is(fault($id), '', '... is whole');
	is(scalar(OpenUploads::list($store)), 0, 'no upload is open');
};

subtest 'a cancel aborts the upload' => sub {
	my $id = start('slow_replicate', 'cancelled');
	ok(is_open($id), 'an upload is in the row before its parts are sent');
	is(query("SELECT genjob.cancel($id)"), 't', 'its job is cancelled');
	eventually("SELECT state = 'cancelled' AND remote IS NULL FROM gen_jobs WHERE id = $id",
		'... and leaves nothing in the row');
	ok(OpenUploads::wait_none($store), '... nor in the store');
};

my $stops = $ENV{GENJOB_TEST_LONG} ? 20 : 2;
for my $stop (1 .. $stops)
{
	my $how = $stop % 2 ? 'an immediate stop' : 'a SIGKILL of the dispatcher';
	subtest "an upload goes on after $how (stop $stop)" => sub {
		my $name = "stop $stop";
		my $id = start('slow_replicate', $name);
		ok(is_open($id), 'an upload has begun');
		# between the beginning of the upload and its end
		select(undef, undef, undef, 0.5 * ($stop % 4));
		$stop % 2 ? restart_at_once($node) : ok(kill_dispatcher(), 'PostgreSQL restarts');
		ok(wait_state($node, $id, 'succeeded'), "the job goes on after $how");
		is(fault($id, 'slow'), '', '... its object is whole');
		is($standin->arrived($name), 1, '... and was paid for once');
		ok(OpenUploads::wait_none($store), 'no upload is open');
	};
}

subtest 'an answer that was saved while the store was down is stored after a crash, too' => sub {
	create_store($node, 'down', $store, @store, @slowly);
	create_server($node, 'saved', 'openai-images', $standin, store => 'down');
	my $port = $store->port;
	$store->stop;
	my $id = start('saved', 'saved');
	eventually("SELECT remote::text LIKE '%\$verdict%' FROM gen_jobs WHERE id = $id",
		'an answer is saved while its store is down');
	$store->start($port);
	ok(is_open($id), 'the store is back, and an upload begins');
	is(query("SELECT remote -> 'answer' ? '\$verdict' FROM gen_jobs WHERE id = $id"), 't',
		'... beside the saved answer');
	restart_at_once($node);
	ok(wait_state($node, $id, 'succeeded'), 'after an immediate stop the job goes on');
	is(fault($id, 'down'), '', '... its object is whole');
	is($standin->arrived('saved'), 1, '... and was paid for once');
};

# A copy of the database that never had the upload: the row is deleted while no dispatcher runs.
subtest 'what a dead primary left open is aborted within a day' => sub {
	create_store($node, 'dead', $store, @store, @slowly);
	create_predictor('forgotten', 'dead');
	my $id = start('forgotten', 'forgotten');
	ok(is_open($id), 'an upload has begun');
	$node->stop('immediate');
	my ($left) = OpenUploads::list($store);
	like($left, qr{^forgotten/$id-1\.png/}, 'it is open, and its server has died');
	$node->append_conf('postgresql.conf', "genjob.enabled = off\ngenjob.debug_clock_speed = 10000\n");
	$node->start;
	query("DELETE FROM gen_jobs WHERE id = $id; ALTER SERVER dead OPTIONS (DROP rate_limit, DROP rate_burst)");
	$node->append_conf('postgresql.conf', 'genjob.enabled = on');
	$node->reload;
	wait_dispatcher($node);
	ok(poll_until(sub {
		my $next = start('forgotten', 'next', size => '16x16');
		wait_state($node, $next, 'succeeded');
		return !OpenUploads::list($store);
	}), 'it is aborted within a day');
	$node->append_conf('postgresql.conf', 'genjob.debug_clock_speed = 1');
	$node->restart;
	wait_dispatcher($node);
};

$node->stop;
done_testing();
