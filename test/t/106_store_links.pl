# The links to a large output work for a while and expire, again and again: genjob asks the provider for a new link each
# time, and the output is in the object store (Swift) in the end, whole and paid for once.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use HTTP::Tiny;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use OpenUploads;
use PythonServer;
use StandIn;

my $store = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $store->missing if $store->missing;
my $files = PythonServer->new('files.py');

my $node = new_node();
my $standin = StandIn->new;
my $http = HTTP::Tiny->new(timeout => 120);
my $bytes = 130 * 1024 * 1024;

create_store($node, 'pictures', $store, key => '{tenant}/{job}-{ordinal}.{ext}', retry_max => '500 ms');
create_server($node, 'named', 'replicate', $standin, store => 'pictures', model => 'stand-in/painter:1',
	poll_interval => '50 ms');

sub start
{
	my ($name, $options) = @_;
	my $url = $files->url("/$name/$bytes.png?$options");
	return enqueue_named($node, 'named', $name, { output => $url }, tenant => $name);
}

sub asked { return grep { /^\Q$_[0]\E / } split /\n/, $http->get($files->url('/log'))->{content} }

subtest 'a link that never works is given up' => sub {
	my $id = start('denied', 'deny=' . join ',', 1 .. 100);
	ok(wait_state($node, $id, 'failed'), 'the job fails');
	is(scalar(asked('denied')), 2, '... after one new link');
};

subtest 'links that expire' => sub {
	# each link brings 20 MB, is cut off, and has expired when the rest is asked for
	my $id = start('expiring', 'cut=20000000&cuts=6&deny=2,4,6');
	ok(wait_state($node, $id, 'succeeded'), 'the output is stored');
	is(scalar(grep { / 403$/ } asked('expiring')), 3, '... after three links that have expired');
	my ($link, $sha256) = split /\|/, query("SELECT genjob.presign(o), encode(sha256, 'hex') FROM gen_outputs o
		WHERE job_id = $id AND data IS NULL");
	is($sha256, $http->get($files->url("/expiring/$bytes.sha256"))->{content}, '... with its bytes');
	is(sha256_hex($http->get($link)->{content}), $sha256, '... which are in the store');
	is($standin->arrived('expiring'), 1, '... and was paid for once');
	ok(OpenUploads::wait_none($store), 'no upload is open');
};

$node->stop;
done_testing();
