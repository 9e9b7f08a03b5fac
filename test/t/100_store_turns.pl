# No turn of the dispatcher's loop takes long because of what goes to an object store: neither while a large file passes
# through it, nor when a store lists the ten thousand parts of an upload that a crash left.

use strict;
use warnings;

use HTTP::Tiny;
use MIME::Base64 qw(decode_base64);

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

create_store($node, 'pictures', $fake, region => 'us-east-1', key => '{server}/{job}-{ordinal}.{ext}',
	mapping => { access_key_id => 'a', secret_access_key => 'b' });
create_server($node, 'replicate', 'replicate', $standin, store => 'pictures', model => 'stand-in/painter:1',
	poll_interval => '50 ms');
create_server($node, 'painter', 'openai-images', $standin, store => 'pictures');

# A job whose output is a file of so many bytes.
sub start
{
	my ($name, $bytes, $options) = @_;
	my $output = $files->url("/$name/$bytes.png" . ($options // ''));
	return enqueue($node, 'replicate', StandIn::request(prompt => $name,
		standin => { id => $name, output => $output }));
}

# What a dispatcher does once, in turns that nothing is held against.
sub warm_up { return ok(wait_state($node, start('warm', 100), 'succeeded'), 'a small file comes first') }

subtest 'a file of 200 MB passes through the dispatcher' => sub {
	warm_up();
	my $offset = -s $node->logfile;
	my $id = start('large', 200 * $mb);
	ok(wait_state($node, $id, 'succeeded'), 'it has passed through');
	is(query("SELECT bytes FROM gen_outputs WHERE job_id = $id AND url IS NOT NULL"), 200 * $mb, '... into the store');
	no_turn_is_long($node, $offset, '200 MB in parts');
};

subtest 'a picture of 19 MB goes to the store in parts' => sub {
	warm_up();
	my $offset = -s $node->logfile;
	my $id = enqueue($node, 'painter', StandIn::request(prompt => 'in parts', size => '2500x2500'));
	ok(wait_state($node, $id, 'succeeded'), 'it has gone there');
	no_turn_is_long($node, $offset, '19 MB from memory');
};

subtest 'an object of 30 MB is fetched first' => sub {
	warm_up();
	create_server($node, 'bytes', 'http', $standin, path => '/echo', links_as => 'bytes');
	my $offset = -s $node->logfile;
	$http->put($fake->url('/pictures/in.png'), { content => "\x89PNG\r\n\x1a\n" . 'x' x (30 * $mb) });
	my $id = enqueue($node, 'bytes', StandIn::request(a => { '$url' => 's3://pictures/in.png' }, latency_ms => 100));
	ok(wait_state($node, $id, 'succeeded'), 'it is fetched and sent');
	no_turn_is_long($node, $offset, '30 MB fetched and sent in base64');
};

subtest 'an object of 30 MB of text is fetched, and searched for secrets' => sub {
	my $key = 'a-key-of-a-store-4711';
	create_store($node, 'texts', $fake, bucket => 'texts', mapping => { access_key_id => 'texts', secret_access_key => $key });
	create_server($node, 'brief', 'http', $standin, path => '/echo', links_as => 'bytes');
	$http->put($fake->url('/texts/in.txt'), { content => 'a word ' x (30 * $mb / 7) . "and $key" });
	warm_up();
	my $offset = -s $node->logfile;
	my $id = enqueue($node, 'brief', { a => { '$url' => 's3://texts/in.txt' } });
	ok(wait_state($node, $id, 'succeeded'), 'it is fetched and sent');
	my $end = decode_base64(query("SELECT right(result->'body'->>'a', 40) FROM gen_jobs WHERE id = $id"));
	like($end, qr/and \*+$/, '... without the key of the store');
	no_turn_is_long($node, $offset, '30 MB of text');
};

subtest 'a picture of 19 MB is saved while its store fails, and stored after a crash' => sub {
	warm_up();
	my $offset = -s $node->logfile;
	$fake->set(refuse => [ 503, 'SlowDown' ]);
	my $id = enqueue($node, 'painter', StandIn::request(prompt => 'saved', size => '2500x2500',
		standin => { id => 'saved' }));
	eventually("SELECT remote::text LIKE '%\$verdict%' FROM gen_jobs WHERE id = $id",
		'a picture of 19 MB is saved while its store fails');
	no_turn_is_long($node, $offset, '19 MB saved');
	$node->stop('immediate');
	$fake->set(refuse => undef);
	$node->start;
	wait_dispatcher($node);
	$offset = -s $node->logfile;
	ok(wait_state($node, $id, 'succeeded'), '... and goes on after a crash');
	is(query("SELECT count(*) FROM gen_outputs WHERE job_id = $id AND url IS NOT NULL AND bytes > 18000000"), 1,
		'... into the store');
	is($standin->arrived('saved'), 1, '... and was paid for once');
	no_turn_is_long($node, $offset, '19 MB taken up');
};

subtest 'an upload of which the store lists ten thousand parts goes on after a crash' => sub {
	my $id = start('forgotten', 70 * $mb, "?rate=@{[8 * $mb]}");
	eventually("SELECT remote ? 'uploads' FROM gen_jobs WHERE id = $id", 'an upload has begun');
	$node->stop('immediate');
	$fake->set(parts => 10000);
	$node->start;
	wait_dispatcher($node);
	# its first turn is another matter
	eventually("SELECT phase = 'downloading' FROM genjob.activity WHERE job_id = $id", 'a dispatcher starts');
	my $offset = -s $node->logfile;
	ok(wait_state($node, $id, 'succeeded'), 'after a crash it goes on');
	my @lists = $fake->asked('^GET .*part-number-marker');
	is(scalar(@lists), 10, '... with what the store lists: 10,000 parts on 10 pages');
	no_turn_is_long($node, $offset, '10,000 parts');
	$fake->set(parts => 0);
};

$node->stop;
done_testing();
