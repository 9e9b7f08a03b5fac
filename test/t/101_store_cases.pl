# Object stores, odd cases: keys as long as they may be, tenants that are no names of files, session tokens and keys of the
# customer's with every call, ETags of the store's own making, and servers and objects that are gone when they are needed.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use HTTP::Tiny;
use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;
use StandIn;

my $swift = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $swift->missing if $swift->missing;
my $fake = PythonServer->new('fakestore.py');
my $node = new_node();
my $standin = StandIn->new;
my $http = HTTP::Tiny->new(timeout => 30);
my $json = JSON::PP->new->utf8->canonical;

sub store
{
	my ($name, $store, $bucket, $options, $mapping) = @_;
	query("CREATE SERVER $name FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url '" . $store->url . "', bucket '$bucket', region 'us-east-1', retry_base '100 ms'" . ($options // '') . ");
		CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (access_key_id 'test:tester', secret_access_key 'testing'" . ($mapping // '') . ')');
	return;
}

sub headers { return $json->decode($http->get($fake->url('/_headers'))->{content}) }
sub start { my ($server, $name, %columns) = @_; return enqueue($node, $server, StandIn::request(prompt => $name, standin => { id => $name }), %columns) }

store('pictures', $swift, 'pictures', q{, key '{tenant}/{job}-{ordinal}.{ext}'});
store('fake', $fake, 'fake', q{, key '{server}/{job}-{ordinal}.{ext}', put_headers '{"x-amz-server-side-encryption-customer-algorithm": "AES256", "x-amz-server-side-encryption-customer-key": "a2V5", "x-amz-storage-class": "STANDARD_IA"}'}, q{, session_token 'the-token'});
create_server($node, 'painter', 'openai-images', $standin, store => 'pictures');
create_server($node, 'secret', 'openai-images', $standin, store => 'fake');
create_server($node, 'bytes', 'http', $standin, path => '/echo', links_as => 'bytes');

subtest 'keys' => sub {
	my $long = "\x{fc}" x 512;
	is(run_to_end($node, 'pictures', { put => $long }, inputs => '{abc}')->{state}, 'succeeded', 'a key of 1,024 bytes');
	is(run_to_end($node, 'pictures', { head => $long })->{result}{bytes}, 3, '... names its object');
	is(run_to_end($node, 'bytes', { a => { '$url' => "s3://pictures/$long" } })->{result}{body}{a}, 'YWJj', '... which is fetched');
	my $longer = run_to_end($node, 'bytes', { a => { '$url' => "s3://pictures/${long}a" } });
	like($longer->{error}, qr/^the request refers to "s3:.{50,250}", which is not the URL of an object\. .* with a key of at most 1024 bytes/s, 'one of 1,025 bytes is refused, and not repeated as a whole');
	is(run_to_end($node, 'pictures', { delete => $long })->{state}, 'succeeded', 'it is deleted');
	is(run_to_end($node, 'pictures', { delete => $long })->{state}, 'succeeded', '... and so is what is not there');
	foreach my $tenant ('../../etc', "a/b\tc", '{job}', "\x{e9}\x{1f600} %2f?#", '.', 'x' x 250)
	{
		my $octets = $tenant;
		utf8::encode($octets);
		my $id = start('painter', 'of ' . unpack('H*', $octets), tenant => $octets);
		ok(wait_state($node, $id, 'succeeded'), 'a tenant that is no name of a file');
		my ($url, $sha256) = split /\|/, query("SELECT url, encode(sha256, 'hex') FROM gen_outputs WHERE job_id = $id");
		unlike($url =~ s{^s3://pictures/}{}r =~ s{/$id-1\.png$}{}r, qr{/|[\x00-\x1f]|^\.\.?$}, '... is one folder');
		is(sha256_hex($http->get(query("SELECT genjob.presign(o) FROM gen_outputs o WHERE job_id = $id"))->{content}), $sha256, '... whose object a link opens') unless $tenant eq '.';
	}
};

subtest 'what goes with each call' => sub {
	$fake->set(tag => 'of my own making');
	my $secret = start('secret', 'secret');
	ok(wait_state($node, $secret, 'succeeded'), 'a store with a session token and a key of the customer\'s');
	is(query("SELECT etag FROM gen_outputs WHERE job_id = $secret"), 'of my own making', 'an ETag is taken as it comes');
	my %all = ('x-amz-security-token' => 'the-token', 'x-amz-server-side-encryption-customer-algorithm' => 'AES256', 'x-amz-server-side-encryption-customer-key' => 'a2V5');
	my $sent = headers();
	is_deeply({ map { $_ => $sent->{$_} } keys %all, 'x-amz-storage-class' }, { %all, 'x-amz-storage-class' => 'STANDARD_IA' }, 'a PUT has them');
	my $parts = enqueue($node, 'secret', StandIn::request(prompt => 'in parts', size => '1700x1700', standin => { id => 'in parts' }));
	ok(wait_state($node, $parts, 'succeeded'), 'so has an upload in parts');
	my $key = query("SELECT url FROM gen_outputs WHERE job_id = $secret") =~ s{^s3://fake/}{}r;
	my @reads = ([ 'fake', { get => $key } ], [ 'fake', { head => $key } ], [ 'bytes', { a => { '$output_url' => [ 0 + $secret, 1 ] } } ]);
	foreach my $read (@reads)
	{
		is(run_to_end($node, @$read)->{state}, 'succeeded', 'what reads: ' . $json->encode($read->[1]));
		my $had = $json->decode($http->get($fake->url('/_read'))->{content});
		is_deeply({ map { $_ => $had->{$_} } keys %all }, \%all, '... has the token and the key');
		is($had->{'x-amz-storage-class'}, undef, '... and nothing else of put_headers');
	}
	is(query(q{SELECT count(*) FROM gen_jobs j WHERE j::text ~ 'the-token|a2V5'}), 0, 'no row has them');
	like(query(q{SELECT genjob.presign('s3://fake/a')}), qr/X-Amz-Security-Token=the-token/, 'a link has the token');
};

subtest 'answers that are hard to keep until the store takes them, over a stop' => sub {
	create_server($node, 'large', 'http', $standin, path => '/binary', store => 'fake', max_response => '300 MB');
	create_server($node, 'deep', 'http', $standin, path => '/text', output => '/data/*', store => 'fake');
	$fake->set(refuse => [ 503, 'SlowDown' ]);
	my $large = enqueue($node, 'large', StandIn::request(prompt => 'large', standin => { id => 'large', faults => [ { huge => 140_000_000 } ] }));
	# as deep as an answer may be
	my $body = '{"data": ["iVBORw0KGgo="], "x": ' . '[' x 999 . ']' x 999 . '}';
	my $deep = enqueue($node, 'deep', StandIn::request(prompt => 'deep', standin => { id => 'deep', faults => [ { status => 200, content_type => 'application/json', body => $body } ] }));
	eventually("SELECT remote::text LIKE '%\$verdict%' FROM gen_jobs WHERE id = $deep", 'a store is down, an answer is saved');
	ok(poll_until(sub { $fake->asked('large/.*uploads.* 503') > 0 }), 'the store refuses the other one');
	$node->restart;
	ok(wait_state($node, $large, 'failed'), 'after a stop the job fails');
	like(job($node, $large)->{error}, qr/could not be put into the store "fake".* gen_outputs\.data/, '... and says where its outputs are');
	is(query("SELECT length(data) FROM gen_outputs WHERE job_id = $large"), 140_000_000, '... where they are');
	$fake->set(refuse => undef);
	ok(wait_state($node, $deep, 'succeeded'), 'an answer that was nested as deep as it may be is read again');
	is(join(' ', map { $standin->arrived($_) } qw(large deep)), '1 1', '... and both were paid for once');
};

subtest 'an answer too large for its row, on its way into a healthy store when PostgreSQL stops' => sub {
	create_server($node, 'larger', 'http', $standin, path => '/binary', store => 'fake', max_response => '300 MB');
	$fake->set(part_delay => 0.5);
	# a busy machine needs more than the usual ten seconds
	query(q{ALTER SYSTEM SET genjob.shutdown_grace = '40 s'; SELECT pg_reload_conf()});
	eventually(q{SELECT current_setting('genjob.shutdown_grace')::interval = '40 s'}, 'a stop may take its time');
	my $id = enqueue($node, 'larger', StandIn::request(prompt => 'larger', standin => { id => 'larger', faults => [ { huge => 140_000_000 } ] }));
	ok(poll_until(sub { $fake->asked("larger/$id-.*partNumber=.* 200") > 0 }), 'a first part is there');
	$node->restart;
	query(q{ALTER SYSTEM RESET genjob.shutdown_grace; SELECT pg_reload_conf()});
	$fake->set(part_delay => 0);
	is(query("SELECT state FROM gen_jobs WHERE id = $id"), 'succeeded', 'the stop waits for the others');
	is(query("SELECT bytes FROM gen_outputs WHERE job_id = $id AND data IS NULL AND store = 'fake'"), 140_000_000, '... and the output is in the store');
	is($standin->arrived('larger'), 1, '... and was paid for once');
};

subtest 'a store that answers a PUT with more than anybody wants to read' => sub {
	my $log_begin = -s $node->logfile;

	$fake->set(values => 80_000);
	my $dense = start('secret', 'dense');
	ok(wait_state($node, $dense, 'succeeded'), 'a quarter of a megabyte, all values');
	$fake->set(values => 3_000_000);
	my $long = start('secret', 'long');
	ok(wait_state($node, $long, 'succeeded'), 'more than that is not read: the status says that the store has the object');
	is($fake->asked("secret/$long-1"), 1, '... and the PUT is not repeated');
	$fake->set(values => 0);
	is(join(' ', map { $standin->arrived($_) } qw(dense long)), '1 1', '... and both were paid for once');
	unlike(slurp_file($node->logfile, $log_begin), qr/terminated by signal/, '... and no process has crashed');
};

subtest 'what is gone when it is needed' => sub {
	my $port = $swift->port;
	$swift->stop;
	my $waits = start('painter', 'waits');
	eventually("SELECT remote::text LIKE '%\$verdict%' FROM gen_jobs WHERE id = $waits", 'an output whose store is down');
	query('DROP SERVER pictures CASCADE');
	$swift->start($port);
	eventually(q{SELECT held_reason ~ 'pictures' OR true FROM genjob.servers WHERE server = 'painter'}, '... and whose server is dropped then');
	is(query("SELECT state FROM gen_jobs WHERE id = $waits"), 'running', '... waits for it');
	store('pictures', $swift, 'pictures', q{, key '{tenant}/{job}-{ordinal}.{ext}'});
	ok(wait_state($node, $waits, 'succeeded'), '... and goes into the new one');
	is($standin->arrived('waits'), 1, '... and was paid for once');
	is(query("SELECT store_oid = (SELECT oid FROM pg_foreign_server WHERE srvname = 'pictures') FROM gen_outputs WHERE job_id = $waits"), 't', '... of which the row knows');
	my $key = query("SELECT url FROM gen_outputs WHERE job_id = $waits") =~ s{^s3://pictures/}{}r;
	is(run_to_end($node, 'pictures', { delete => $key })->{state}, 'succeeded', 'an object that somebody has deleted');
	like(run_to_end($node, 'bytes', { a => { '$output' => [ 0 + $waits, 1 ] } })->{error}, qr/is not there, so the job was not sent: .*NoSuchKey/, '... cannot be sent');
	query("DELETE FROM gen_jobs WHERE server = 'bytes'");
	query("SELECT genjob.purge('painter', '0 s')");
	ok(wait_all_ended($node), '... and is no obstacle');
	query("SELECT genjob.purge('painter', '0 s')");
	is(query("SELECT count(*) FROM gen_jobs WHERE id = $waits"), 0, '... to purge its row');
};

$node->stop;
done_testing();
