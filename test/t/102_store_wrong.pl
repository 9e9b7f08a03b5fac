# What administrators and applications get wrong about an object store (Swift) and only a server can say: servers that are no
# stores, options that a store refuses, and chains of a list and what it lists.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;
use StandIn;

my $swift = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $swift->missing if $swift->missing;
my $node = new_node();
my $standin = StandIn->new;

create_store($node, 'pictures', $swift, key => '{server}/{job}-{ordinal}.{ext}');

sub start { my ($server, $name) = @_; return enqueue($node, $server, StandIn::request(prompt => $name, standin => { id => $name })) }

subtest 'a server that is no store confirms nothing' => sub {
	# it answers every call with HTTP 200 and what it was sent
	create_store($node, 'echo', $standin, url => $standin->url . '/echo', max_attempts => 1);
	my $put = run_to_end($node, 'echo', { put => 'a' }, inputs => '{abc}');
	is($put->{state}, 'failed', 'a PUT that succeeds without an ETag has put nothing');
	like($put->{error}, qr/does not have an ETag of the object\. Check that its option url is that of a store/, '... and says what to check');
	create_server($node, 'echoed', 'openai-images', $standin, store => 'echo');
	my $id = start('echoed', 'echoed');
	eventually(q{SELECT held_reason ~ 'an ETag of the object' FROM genjob.servers WHERE server = 'echo'}, 'an output waits for it, and its server says why');
	is(query("SELECT state FROM gen_jobs WHERE id = $id"), 'running', '... and the job has not succeeded');
	is(query("SELECT count(*) FROM gen_outputs WHERE job_id = $id"), 0, '... nor has an output');
	query('ALTER SERVER echo OPTIONS (SET url \'' . $swift->url . "')");
	ok(wait_state($node, $id, 'succeeded'), '... until it is one');
	is($standin->arrived('echoed'), 1, '... and was paid for once');

	create_store($node, 'routes', $standin, max_attempts => 1);
	like(run_to_end($node, 'routes', { get => 'a' })->{error}, qr/HTTP 404.* This is no answer of a store that speaks S3: check the server's option url\./, 'a page is no answer about an object');
	create_server($node, 'bytes', 'http', $standin, path => '/echo', links_as => 'bytes');
	my $fetch = enqueue($node, 'bytes', q({"a": {"$url": "s3://pages/a"}}), run_at => 'infinity');
	query(q{ALTER SERVER routes OPTIONS (SET bucket 'pages')});
	query("UPDATE gen_jobs SET run_at = now() WHERE id = $fetch");
	eventually("SELECT error ~ 'could not be fetched.*no answer of a store' FROM gen_jobs WHERE id = $fetch", '... nor does it say that one is not there: the job waits');
	is(query("SELECT state FROM gen_jobs WHERE id = $fetch"), 'queued', '... for the store');
	query("SELECT genjob.cancel($fetch)");
};

subtest 'a store that is down is told of once' => sub {
	create_store($node, 'nowhere', $swift, url => 'http://127.0.0.1:9');
	create_server($node, 'lost', 'openai-images', $standin, store => 'nowhere');
	my $id = start('lost', 'lost');
	eventually(q{SELECT held_reason ~ 'could not reach' FROM genjob.servers WHERE server = 'nowhere' AND allowed = 0}, 'its breaker opens');
	is(query(q{SELECT (length(held_reason) - length(replace(held_reason, 'could not reach', ''))) / length('could not reach') FROM genjob.servers WHERE server = 'nowhere'}), 1, '... for a reason that stands there once');
	query("SELECT genjob.cancel($id)");
};

subtest 'what a store cannot do will not pass' => sub {
	create_store($node, 'encrypted', $swift, put_headers => '{"x-amz-server-side-encryption": "AES256"}');
	my $put = run_to_end($node, 'encrypted', { put => 'a' }, inputs => '{abc}');
	like($put->{error}, qr/HTTP 501: NotImplemented: .* Check the server's option put_headers\.$/, 'encryption that the store does not have');
	is($put->{attempt}, 1, '... is not tried again');
	create_store($node, 'cold', $swift, put_headers => '{"x-amz-storage-class": "COLD"}');
	like(run_to_end($node, 'cold', { put => 'a' }, inputs => '{abc}')->{error}, qr/InvalidStorageClass: .* Check the server's option put_headers\.$/, 'a storage class that it does not have');
	like(run_to_end($node, 'pictures', { get => 'a', version_id => 'b' })->{error}, qr/HTTP 501/, 'versions that it does not have');
	like(run_to_end($node, 'pictures', { get => '/pictures/a' })->{error}, qr/NoSuchKey: .* check the key, which begins with no slash/, 'a key that was written as a path');
};

subtest 'a key may come from an earlier job' => sub {
	run_to_end($node, 'pictures', { put => "in/$_" }, inputs => "{of_$_}") foreach 'a', 'b';
	my $list = enqueue($node, 'pictures', { list => 'in/' });
	my $get = enqueue($node, 'pictures', { get => { '$result' => [ 0 + $list, '/objects/1/key' ] }, range => 'bytes=0-2' });
	my $copy = enqueue($node, 'pictures', { copy => { '$result' => [ 0 + $list, '/objects/0/key' ] }, to => { '$concat' => [ 'copy/', { '$result' => [ 0 + $list, '/objects/0/key' ] } ] } });
	ok(wait_state($node, $get, 'succeeded'), 'the second object of a list') or diag(job($node, $get)->{error});
	is(query("SELECT convert_from(data, 'UTF8') FROM gen_outputs WHERE job_id = $get"), 'of_', '... is read, in part');
	ok(wait_state($node, $copy, 'succeeded'), '... and the first one copied');
	is(run_to_end($node, 'pictures', { head => 'copy/in/a' })->{result}{bytes}, 4, '... to where the request says');
	my $none = enqueue($node, 'pictures', { get => { '$result' => [ 0 + $list, '/objects' ] } });
	ok(wait_state($node, $none, 'failed'), 'what is no key after all');
	like(job($node, $none)->{error}, qr/"get" of the request is not a text/, '... is refused then');
};

$node->stop;
done_testing();
