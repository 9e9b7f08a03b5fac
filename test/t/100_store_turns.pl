# No turn of the dispatcher's loop takes long because of what goes to an object store: neither while a large file passes
# through it, nor when a store lists the ten thousand parts of an upload that a crash left.

use strict;
use warnings;

use HTTP::Tiny;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;
use StandIn;

my $files = PythonServer->new('files.py');
plan skip_all => 'not installed: ' . $files->missing if $files->missing;
my $fake = PythonServer->new('fakestore.py');

my $mb = 1024 * 1024;
my $node = new_node(conf => "genjob.max_memory = 256MB\nlog_min_messages = debug1\n");
my $standin = StandIn->new;
my $http = HTTP::Tiny->new(timeout => 30);

query("CREATE SERVER pictures FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url '" . $fake->url . "', bucket 'pictures', region 'us-east-1', key '{server}/{job}-{ordinal}.{ext}', retry_base '100 ms');
	CREATE USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (access_key_id 'a', secret_access_key 'b')");
create_server($node, 'replicate', 'replicate', $standin, store => 'pictures', model => 'stand-in/painter:1', poll_interval => '50 ms');
create_server($node, 'painter', 'openai-images', $standin, store => 'pictures');
create_server($node, 'bytes', 'http', $standin, path => '/echo', links_as => 'bytes');

sub start
{
	my ($name, $bytes, $options) = @_;
	return enqueue($node, 'replicate', StandIn::request(prompt => $name, standin => { id => $name, output => $files->url("/$name/$bytes.png" . ($options // '')) }));
}

# what a dispatcher does once
my $warm = start('warm', 100);
ok(wait_state($node, $warm, 'succeeded'), 'a small file');

my $offset = -s $node->logfile;
my $id = start('large', 200 * $mb);
ok(wait_state($node, $id, 'succeeded'), 'a file of 200 MB passes through the dispatcher');
is(query("SELECT bytes FROM gen_outputs WHERE job_id = $id AND url IS NOT NULL"), 200 * $mb, '... into the store');
no_turn_is_long($node, $offset, '200 MB in parts');

$offset = -s $node->logfile;
$id = enqueue($node, 'painter', StandIn::request(prompt => 'in parts', size => '2500x2500'));
ok(wait_state($node, $id, 'succeeded'), 'a picture of 19 MB goes there in parts');
no_turn_is_long($node, $offset, '19 MB from memory');

$offset = -s $node->logfile;
$http->put($fake->url('/pictures/in.png'), { content => "\x89PNG\r\n\x1a\n" . 'x' x (30 * $mb) });
$id = enqueue($node, 'bytes', StandIn::request(a => { '$url' => 's3://pictures/in.png' }, latency_ms => 100));
ok(wait_state($node, $id, 'succeeded'), 'an object of 30 MB is fetched first');
no_turn_is_long($node, $offset, '30 MB fetched and sent in base64');

$offset = -s $node->logfile;
$fake->set(refuse => [ 503, 'SlowDown' ]);
$id = enqueue($node, 'painter', StandIn::request(prompt => 'saved', size => '2500x2500', standin => { id => 'saved' }));
eventually("SELECT remote::text LIKE '%\$verdict%' FROM gen_jobs WHERE id = $id", 'a picture of 19 MB is saved while its store fails');
no_turn_is_long($node, $offset, '19 MB saved');
$node->stop('immediate');
$fake->set(refuse => undef);
$node->start;
wait_dispatcher($node);
$offset = -s $node->logfile;
ok(wait_state($node, $id, 'succeeded'), '... and goes on after a crash');
is(query("SELECT count(*) FROM gen_outputs WHERE job_id = $id AND url IS NOT NULL AND bytes > 18000000"), 1, '... into the store');
is($standin->counts->{ids}{saved}{arrived}, 1, '... and was paid for once');
no_turn_is_long($node, $offset, '19 MB taken up');

# ---- ten thousand parts ----

$id = start('forgotten', 70 * $mb, "?rate=@{[20 * $mb]}");
eventually("SELECT remote ? 'uploads' FROM gen_jobs WHERE id = $id", 'an upload has begun');
$node->stop('immediate');
$fake->set(parts => 10000);
$node->start;
wait_dispatcher($node);
# its first turn is another matter
eventually("SELECT phase = 'downloading' FROM genjob.activity WHERE job_id = $id", 'a dispatcher starts');
$offset = -s $node->logfile;
ok(wait_state($node, $id, 'succeeded'), 'after a crash it goes on');
my @lists = grep { /^GET .*part-number-marker/ } split /\n/, $http->get($fake->url('/_log'))->{content};
is(scalar(@lists), 10, '... with what the store lists: 10,000 parts on 10 pages');
no_turn_is_long($node, $offset, '10,000 parts');

$node->stop;
done_testing();
