# A server with api 's3' against a real object store (Swift): each verb, keys of any characters, and what is said when
# something is wrong.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use HTTP::Tiny;
use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;

my $store = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $store->missing if $store->missing;

my $node = new_node();
my $json = JSON::PP->new->utf8->canonical;
my %quick = (retry_base => '50 ms');

sub bytea { return '\\x' . unpack('H*', $_[0]) }

# The column inputs with one of these bytes.
sub input_of { return '{"\\' . bytea($_[0]) . '"}' }

create_store($node, 'pictures', $store, %quick, put_headers => '{"Cache-Control": "no-store"}');
my $png = "\x89PNG\r\n\x1a\n" . join('', map { chr(int(rand(256))) } 1 .. 20_000);

# Puts an object; gives the job.
sub put
{
	my ($key, $bytes, %more) = @_;
	return run_to_end($node, 'pictures', { put => $key, %more }, inputs => input_of($bytes));
}

# ---- each verb ----

subtest 'an object is put, read, looked at and copied' => sub {
	my $put = put('in/cat.png', $png, metadata => { who => 'me' });
	is_deeply($put->{result},
		{ url => 's3://pictures/in/cat.png', etag => md5_hex($png), bytes => length $png }, 'put');
	my $get = run_to_end($node, 'pictures', { get => 'in/cat.png' });
	is($get->{state}, 'succeeded', 'get');
	is(query("SELECT encode(sha256(data), 'hex') = encode(sha256('" . bytea($png) . "'), 'hex')
		AND content_type = 'image/png' FROM gen_outputs WHERE job_id = $get->{id}"), 't', '... gives the same bytes');
	is_deeply($get->{result}{output}, { '$output' => 1 }, '... as its output');
	is_deeply($get->{result}{metadata}, { who => 'me' }, '... with what was said of it');
	my $head = run_to_end($node, 'pictures', { head => 'in/cat.png' });
	is($head->{result}{bytes}, length $png, 'head tells the length');
	is($head->{result}{etag}, md5_hex($png), '... and the ETag');
	my $range = run_to_end($node, 'pictures', { get => 'in/cat.png', range => 'bytes=0-3' });
	is(query("SELECT convert_from(substr(data, 2), 'UTF8') FROM gen_outputs WHERE job_id = $range->{id}"), 'PNG',
		'a part');
	my $copy = run_to_end($node, 'pictures', { copy => 'in/cat.png', to => 'out/dog.png' });
	is($copy->{result}{etag}, md5_hex($png), 'copy');
	my $chained = run_to_end($node, 'pictures', { put => 'again.png', body => { '$output' => [ $get->{id}, 1 ] } });
	is($chained->{result}{etag}, md5_hex($png), 'an output of another job is put');
};

subtest 'an object may be large, or empty, and its metadata, too' => sub {
	my $large = put('large.bin', join '', map { pack 'N', $_ * 2654435761 % 4294967296 } 1 .. 1_500_000);
	is($large->{result}{bytes}, 6_000_000, 'a large object is put');
	my $read = run_to_end($node, 'pictures', { get => 'large.bin' });
	is($read->{result}{etag}, $large->{result}{etag}, '... and read by a process beside the dispatcher');
	is(query("SELECT bytes FROM gen_outputs WHERE job_id = $read->{id}"), 6_000_000, '... whole');
	is(run_to_end($node, 'pictures', { delete => 'large.bin' })->{state}, 'succeeded', '... and deleted');
	my $empty = run_to_end($node, 'pictures', { put => 'empty', content_type => 'text/plain' }, inputs => '{"\\\\x"}');
	is($empty->{result}{bytes}, 0, 'nothing is put');
	is(run_to_end($node, 'pictures', { get => 'empty' })->{result}{bytes}, 0, '... and read');
	my $nameless = put('in/nameless', 'x', metadata => { who => 'me', title => '', note => "\t" });
	is($nameless->{state}, 'succeeded', 'metadata may be empty') or diag($nameless->{error});
};

subtest 'a list comes in pages, and by folders' => sub {
	put("list/$_", 'x') foreach 'again.png', 'empty', 'in/cat.png', 'out/dog.png';
	my $list = run_to_end($node, 'pictures', { list => 'list/', max => 2 });
	is_deeply([ map { $_->{key} } @{ $list->{result}{objects} } ], [ 'list/again.png', 'list/empty' ], 'a list');
	my $rest = run_to_end($node, 'pictures', { list => 'list/', after => $list->{result}{after} });
	is_deeply([ map { $_->{key} } @{ $rest->{result}{objects} } ], [ 'list/in/cat.png', 'list/out/dog.png' ],
		'... and its rest');
	my $folders = run_to_end($node, 'pictures', { list => 'list/', delimiter => '/' });
	is_deeply($folders->{result}{prefixes}, [ 'list/in/', 'list/out/' ], '... by folders');
};

subtest 'what is deleted is not there, and the job says so at once' => sub {
	put('deleted.png', 'x');
	is(run_to_end($node, 'pictures', { delete => 'deleted.png' })->{state}, 'succeeded', 'delete');
	my $gone = run_to_end($node, 'pictures', { get => 'deleted.png' });
	is($gone->{state}, 'failed', 'what is deleted is not there');
	like($gone->{error}, qr/HTTP 404: NoSuchKey: /, '... and the job says so');
	is($gone->{attempt}, 1, '... at once');
	like(run_to_end($node, 'pictures', { head => 'deleted.png' })->{error}, qr/HTTP 404.* There is no such object\./,
		'... also where there is no body');
};

subtest 'metadata that is not ASCII comes back as text' => sub {
	my %words = (plain => 'a cat', other => "\x{fc}\x{20ac} \x{1f408}", base64 => '=?utf-8?b?w7w=?= =?UTF-8?B?IGI=?=',
		quoted => '=?UTF-8?Q?a_=C3=BC=3D?=', broken => '=?UTF-8?B?w7w=', foreign => '=?KOI8-R?B?w7w=?=');
	is(put('in/words', 'x', metadata => \%words)->{state}, 'succeeded', 'it is put');
	is_deeply(run_to_end($node, 'pictures', { head => 'in/words' })->{result}{metadata},
		{ %words, base64 => "\x{fc} b", quoted => "a \x{fc}=" }, '... and read');
};

# ---- keys of any characters ----

my @keys = ('a b', 'a+b', 'a%20b', 'a//b', 'x/../y', './z', '..', '?q=1&r', '#h', "\"quoted\" 'single'",
	'~!@$^*()_=[]{}|;:,.<>', "\xc3\xbc\xe2\x82\xac/\xe6\x97\xa5", "\xf0\x9f\x98\x80", 'k' x 900);

my $are_put;

# Passes if there is an object at each key; puts them the first time.
sub all_are_put
{
	return pass('all are put') if $are_put;
	my @ids = map { enqueue($node, 'pictures', $json->encode({ put => decoded($_) }),
		inputs => input_of("of $_")) } @keys;
	ok(wait_all_ended($node), 'all are put');
	is(query(q{SELECT coalesce(string_agg(format('%s: %s', request, error), E'\n'), '') FROM gen_jobs
		WHERE state <> 'succeeded' AND id IN (} . join(', ', @ids) . ')'), '', '... with success');
	$are_put = 1;
	return;
}

sub decoded { my ($key) = @_; utf8::decode($key); return $key }

subtest 'a key has any characters, and names its own object' => sub {
	all_are_put();
	my %ids = map { $_ => enqueue($node, 'pictures', $json->encode({ get => decoded($_) })) } @keys;
	ok(wait_all_ended($node), 'all are read');
	my $bytes = sub { return query("SELECT encode(data, 'hex') FROM gen_outputs WHERE job_id = $ids{$_[0]}") };
	is(scalar(grep { $bytes->($_) eq unpack('H*', "of $_") } @keys), scalar @keys, 'each key names its own object');
	my $all = run_to_end($node, 'pictures', { list => '' });
	my %listed = map { my $k = $_->{key}; utf8::encode($k); $k => 1 } @{ $all->{result}{objects} };
	is_deeply([ grep { !$listed{$_} } @keys ], [], '... and stands in the list');
};

subtest 'a link reads, or writes, one object for a while' => sub {
	my $http = HTTP::Tiny->new(timeout => 30);
	put('in/cat.png', $png);
	put('in/dog.png', 'x');
	my $link = query(q{SELECT genjob.presign('s3://pictures/in/cat.png')});
	is($http->get($link)->{content}, $png, 'a link that a browser opens');
	like($http->get($link =~ s/cat/dog/r)->{status}, qr/^403/, '... opens nothing else');
	is($http->put($link, { content => 'x' })->{status}, 403, '... and writes nothing');
	$link = query(q{SELECT genjob.presign('s3://pictures/in/cat.png', '1 s')});
	ok(poll_until(sub { $http->get($link)->{status} == 403 }), 'a link expires');
	$link = query(q{SELECT genjob.presign_put('pictures', 'from/browser.png', 'image/png')});
	is($http->put($link, { content => 'up', headers => { 'Content-Type' => 'text/html' } })->{status}, 403,
		'what is put has the type');
	is($http->put($link, { content => 'up', headers => { 'Content-Type' => 'image/png' } })->{status}, 200,
		'a link that puts');
	is(run_to_end($node, 'pictures', { head => 'from/browser.png' })->{result}{bytes}, 2, '... an object');
};

subtest 'a link leads to a key of any characters' => sub {
	my $http = HTTP::Tiny->new(timeout => 30);
	all_are_put();
	my $read = sub { return $http->get(query('SELECT genjob.presign(' . literal("s3://pictures/$_[0]")
		. ')'))->{content} };
	my @wrong = grep { $read->($_) ne "of $_" } grep { !m{//|^\.|/\.} } @keys;
	is_deeply(\@wrong, [], 'links to keys of any characters');
};

# ---- what is wrong ----

subtest 'an error says what to change, once, and no secret' => sub {
	put('there', 'x');
	my $get = { get => 'there' };
	create_store($node, 'wrong_secret', $store, %quick, mapping => { secret_access_key => 'mistaken-secret' });
	like(run_to_end($node, 'wrong_secret', $get)->{error},
		qr/SignatureDoesNotMatch.* Check secret_access_key in the user mapping\./, 'a wrong secret');
	create_store($node, 'wrong_key', $store, %quick, mapping => { access_key_id => 'nobody:here' });
	like(run_to_end($node, 'wrong_key', $get)->{error},
		qr/(InvalidAccessKeyId|SignatureDoesNotMatch).* in the user mapping\./, 'a wrong key');
	create_store($node, 'wrong_region', $store, %quick, region => 'eu-central-1');
	like(run_to_end($node, 'wrong_region', $get)->{error},
		qr/AuthorizationHeaderMalformed.* Set the server's option region to us-east-1\./, 'a wrong region');
	create_store($node, 'no_bucket', $store, %quick, bucket => 'nowhere');
	like(run_to_end($node, 'no_bucket', $get)->{error},
		qr/NoSuchBucket.* Create it, or check the server's option bucket, and that its option url has no path\./, 'no such bucket');
	create_store($node, 'no_permission', $store, %quick,
		mapping => { access_key_id => 'test:other', secret_access_key => 'other' });
	my $denied = run_to_end($node, 'no_permission', $get);
	like($denied->{error}, qr/AccessDenied.* Give the access key the permission/, 'no permission');
	is($denied->{attempt}, 1, '... is not tried again');
	is(query(q{SELECT count(*) FROM gen_jobs AS j WHERE j::text ~ 'mistaken-secret|testing'}), 0,
		'no row has a secret');
	# a link to an object of the bucket could be signed with their keys
	query('DROP SERVER wrong_secret, wrong_key, wrong_region, no_bucket, no_permission CASCADE');
};

subtest 'a store that is down for a while holds its server back, and then the job goes on' => sub {
	put('there', 'x');
	my $port = $store->port;
	$store->stop;
	my $id = enqueue($node, 'pictures', { get => 'there' });
	eventually(q{SELECT held_reason IS NOT NULL FROM genjob.servers WHERE server = 'pictures'},
		'a store that is down holds its server back');
	$store->start($port);
	ok(wait_state($node, $id, 'succeeded'), 'and when it is back, the job goes on')
	  or diag(query("SELECT attempt_errors FROM gen_jobs WHERE id = $id"));
};

$node->stop;
done_testing();
