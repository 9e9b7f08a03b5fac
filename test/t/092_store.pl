# Outputs that go to an object store (Swift): the row succeeds when the store has them, and whatever the store does, no
# answer is paid for twice.

use strict;
use warnings;

use Digest::SHA ();
use HTTP::Tiny;
use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;
use StandIn;

my $store = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $store->missing if $store->missing;

my $node = new_node(conf => "genjob.shutdown_grace = 2\n");
my $standin = StandIn->new;

query("CREATE SERVER pictures FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url '" . $store->url
	  . "', bucket 'pictures', key '{server}/{yyyy}/{job}-{ordinal}.{ext}', retry_base '100 ms', retry_max '500 ms', put_headers '{\"Cache-Control\": \"no-store\"}')");
query(q{CREATE USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (access_key_id 'test:tester', secret_access_key 'testing')});
create_server($node, 'painter',   'openai-images', $standin, store => 'pictures', api_key => 'sk-test');
create_server($node, 'replicate', 'replicate', $standin, store => 'pictures', model => 'stand-in/painter:1', poll_interval => '50 ms', api_key => 'sk-test');
create_server($node, 'plain',     'openai-images', $standin, api_key => 'sk-test');

my $n = 0;

sub start
{
	my ($server, %more) = @_;
	my $name = 'job ' . ++$n;
	my $id = enqueue($node, $server, StandIn::request(prompt => $name, %more, standin => { id => $name }));
	return ($id, $name);
}

# What is wrong with a job's outputs in the store; empty if nothing.
sub faults
{
	my ($id) = @_;
	my @faults;
	foreach my $row (split /\n/, query("SELECT ordinal, url, encode(sha256, 'hex'), bytes, data IS NULL, store, etag FROM gen_outputs WHERE job_id = $id"))
	{
		my ($ordinal, $url, $sha256, $bytes, $gone, $server, $etag) = split /\|/, $row;
		my $key = $url =~ s{^s3://pictures/}{}r;
		my $get = enqueue($node, 'pictures', { get => $key });
		query("SELECT state FROM genjob.wait($get, '30 s')");
		my $found = query("SELECT encode(sha256, 'hex') FROM gen_outputs WHERE job_id = $get");
		push @faults, "$url is not as it should be: $sha256, $found" unless $found eq $sha256 && $gone eq 't' && $server eq 'pictures' && $etag ne '';
	}
	return join ', ', @faults;
}

sub key_of { return query("SELECT url FROM gen_outputs WHERE job_id = $_[0] AND ordinal = $_[1]") =~ s{^s3://pictures/}{}r }

sub count { return query("SELECT count(*) FROM gen_outputs WHERE job_id = $_[0]") }

# A job of that server that has succeeded; gives its id.
sub finished
{
	my ($server, %more) = @_;
	my ($id) = start($server, %more);
	wait_state($node, $id, 'succeeded');
	return $id;
}

subtest 'it goes well' => sub {
	my ($two) = start('painter', n => 2);
	ok(wait_state($node, $two, 'succeeded'), 'a job with two pictures');
	is(count($two), 2, '... has two outputs');
	is(faults($two), '', '... in the store');
	like(query("SELECT url FROM gen_outputs WHERE job_id = $two AND ordinal = 2"), qr{^s3://pictures/painter/\d{4}/$two-2\.png$}, '... by the template');
	is(query("SELECT remote FROM gen_jobs WHERE id = $two"), '', '... and nothing was saved on the way');
	my ($fetched) = start('replicate');
	ok(wait_state($node, $fetched, 'succeeded'), 'a picture that is downloaded');
	is(faults($fetched), '', '... is in the store');
	my ($plain) = start('plain');
	ok(wait_state($node, $plain, 'succeeded'), 'without a store');
	is(query("SELECT data IS NOT NULL AND url IS NULL FROM gen_outputs WHERE job_id = $plain"), 't', '... it is in the table');
};

subtest 'who may' => sub {
	query(q{CREATE ROLE app; GRANT INSERT, SELECT ON gen_jobs TO app; GRANT USAGE ON FOREIGN SERVER painter TO app});
	my (undef, undef, $error) = $node->psql('postgres', q{SET ROLE app; INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "x"}')});
	like($error, qr/permission denied for foreign server pictures/, 'who may not use the store is told before anything is paid');
	query(q{GRANT USAGE ON FOREIGN SERVER pictures TO app});
	is($node->psql('postgres', q{SET ROLE app; INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "x"}')}), 0, '... and may then');
	ok(wait_all_ended($node), 'it ends');
};

subtest 'links in requests' => sub {
	my $two = finished('painter', n => 2);
	my $plain = finished('plain');
	my $http = HTTP::Tiny->new(timeout => 30);
	my ($sha256) = query("SELECT encode(sha256, 'hex') FROM gen_outputs WHERE job_id = $two AND ordinal = 1");
	my ($linked) = start('replicate', image => { '$output_url' => [ $two + 0, 1 ] }, more => [ { '$url' => "s3://pictures/@{[key_of($two, 2)]}" } ],
		web => { '$url' => 'https://example.com/a.png' }, bytes => { '$output_url' => [ $plain + 0, 1 ] });
	ok(wait_state($node, $linked, 'succeeded'), 'a request with links');
	my ($request) = grep { ($_->{body} // '') =~ /Signature/ } $standin->requests;
	my $input = JSON::PP->new->decode($request->{body})->{input};
	is(Digest::SHA::sha256_hex($http->get($input->{image})->{content}), $sha256, 'the provider can read the output');
	is($http->get($input->{more}[0])->{status}, 200, '... and another object');
	is($input->{web}, 'https://example.com/a.png', '... and what is on the web anyway');
	like($input->{bytes}, qr{^data:image/png;base64,}, 'what is in the table goes as its bytes');
	is(query(q{SELECT count(*) FROM gen_jobs AS j WHERE j::text ~ 'Signature=[0-9a-f]{64}'}), 0, 'no row has a link');
	unlike(query(qq{SELECT genjob.preview('replicate', '{"image": {"\$output_url": [$two, 1]}}')}), qr/Signature/, 'nor a preview');
	my $missing = enqueue($node, 'replicate', { prompt => 'x', image => { '$url' => 's3://nowhere/a' } });
	ok(wait_state($node, $missing, 'failed'), 'a bucket that no server has');
	like(job($node, $missing)->{error}, qr/no link to s3:\/\/nowhere\/a can be made: no server that you may use has the bucket/, '... is said');
	my $dotted = enqueue($node, 'replicate', { prompt => 'x', image => { '$url' => 's3://pictures/in/../cat.png' } });
	ok(wait_state($node, $dotted, 'failed'), 'a key to which no link leads');
	like(job($node, $dotted)->{error}, qr{no link leads to s3://pictures/in/\.\./cat\.png, because clients take}, '... is not sent to a server that would ask for another one');
	query("CREATE ROLE mallory; CREATE SERVER again FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url '" . $store->url . "', bucket 'pictures');
		CREATE USER MAPPING FOR PUBLIC SERVER again OPTIONS (access_key_id 'test:tester', secret_access_key 'testing');
		GRANT USAGE ON FOREIGN DATA WRAPPER genjob TO mallory; ALTER SERVER again OWNER TO mallory;
		CREATE ROLE painter LOGIN; GRANT USAGE ON FOREIGN SERVER replicate, pictures, again TO painter; GRANT INSERT, SELECT ON gen_jobs TO painter; GRANT SELECT ON gen_outputs TO painter");
	my $theirs = query(q{SET ROLE painter; INSERT INTO gen_jobs (server, request) VALUES ('replicate', '{"prompt": "x"}') RETURNING id});
	wait_state($node, $theirs, 'succeeded');
	is(query("SELECT store_oid = (SELECT oid FROM pg_foreign_server WHERE srvname = 'pictures') FROM gen_outputs WHERE job_id = $theirs"), 't', 'a row knows the server that it was sent to');
	query("UPDATE gen_outputs SET store = 'again' WHERE job_id = $theirs");
	my $astray = query(qq{SET ROLE painter; INSERT INTO gen_jobs (server, request) VALUES ('replicate', '{"prompt": "x", "image": {"\$output_url": [$theirs, 1]}}') RETURNING id});
	ok(wait_state($node, $astray, 'failed'), 'a server of another role that has the name now');
	like(job($node, $astray)->{error}, qr/no link to .* can be made: server "again" of role "mallory" is not the one that the output was sent to/, '... gets no link to it');
	query("UPDATE gen_outputs SET store = 'pictures' WHERE job_id = $theirs");
	my $stored = enqueue($node, 'replicate', { prompt => 'x', image => { '$output' => [ $two + 0, 1 ] } });
	ok(wait_state($node, $stored, 'succeeded'), 'bytes that are not in the table are fetched');
	my (undef, undef, $error) = $node->psql('postgres', q{INSERT INTO gen_jobs (server, request) VALUES ('replicate', '{"a": {"$output_url": 7}}')});
	like($error, qr/is not a job and an ordinal/, 'a reference that is none');
	(undef, undef, $error) = $node->psql('postgres', q{INSERT INTO gen_jobs (server, request) VALUES ('replicate', '{"a": {"$url": 7}}')});
	like($error, qr/"\$url" that is not a text/, '... and one more');
};

subtest 'the store is down, and PostgreSQL is restarted meanwhile' => sub {
	my $port = $store->port;
	$store->stop;
	my @down = map { [ start('painter') ] } 1 .. 5;
	push @down, [ start('replicate') ];
	my $ids = join ', ', map { $_->[0] } @down;
	ok($node->poll_query_until('postgres', "SELECT count(*) = 6 FROM gen_jobs WHERE id IN ($ids) AND state = 'running' AND remote::text LIKE '%\$verdict%'"),
		'what was paid for is saved');
	is(query("SELECT count(*) FROM gen_jobs WHERE state = 'succeeded' AND id IN ($ids)"), 0, '... and nothing has succeeded yet');
	like(query(q{SELECT held_reason FROM genjob.servers WHERE server = 'pictures'}), qr/could not reach|cannot be reached|does not answer/i, 'genjob.servers says why');
	my ($other) = start('plain');
	ok(wait_state($node, $other, 'succeeded'), 'other servers go on');
	$node->restart;
	ok(wait_dispatcher($node), 'a restart');
	$node->stop('immediate');
	$node->start;
	ok(wait_dispatcher($node), '... and an immediate one');
	$store->start($port);
	foreach my $job (@down)
	{
		ok(wait_state($node, $job->[0], 'succeeded'), "job $job->[0] goes on when the store is back");
		is(faults($job->[0]), '', '... its output is there');
		is($standin->arrived($job->[1]), 1, '... it was paid for once');
	}
};

subtest 'keys that are wrong, and mended' => sub {
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (SET secret_access_key 'mistaken-secret')});
	my ($refused, $name) = start('painter');
	ok($node->poll_query_until('postgres', "SELECT remote::text LIKE '%\$verdict%' FROM gen_jobs WHERE id = $refused"), 'a wrong key: the answer is saved');
	ok($node->poll_query_until('postgres', q{SELECT held_reason ~ 'SignatureDoesNotMatch' FROM genjob.servers WHERE server = 'pictures'}), 'genjob.servers says so');
	my ($cancelled) = start('painter');
	ok($node->poll_query_until('postgres', "SELECT remote::text LIKE '%\$verdict%' FROM gen_jobs WHERE id = $cancelled"), 'one more');
	is(query("SELECT genjob.cancel($cancelled)"), 't', '... that is cancelled');
	ok($node->poll_query_until('postgres', "SELECT state = 'cancelled' AND remote IS NULL FROM gen_jobs WHERE id = $cancelled"), '... leaves nothing behind');
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (SET secret_access_key 'testing')});
	ok(wait_state($node, $refused, 'succeeded'), 'mended, it goes on');
	is($standin->arrived($name), 1, '... and was paid for once');
	is(query(q{SELECT count(*) FROM gen_jobs AS j WHERE j::text ~ 'mistaken-secret|testing'}), 0, 'no secret in the table');
};

subtest 'a right that is taken away, and given back' => sub {
	query(q{CREATE ROLE waiting; GRANT INSERT, SELECT ON gen_jobs TO waiting;
		GRANT USAGE ON FOREIGN SERVER painter, pictures TO waiting});
	my $port = $store->port;
	$store->stop;
	my @waits = map {
		query(qq{SET ROLE waiting; INSERT INTO gen_jobs (server, request)
			VALUES ('painter', '{"prompt": "waiting", "size": "$_"}') RETURNING id})
	} '16x16', '1700x1700';
	ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM gen_jobs WHERE id IN ($waits[0], $waits[1]) AND remote::text LIKE '%\$verdict%'"), 'outputs wait for the store, a small and a large one');
	query('REVOKE USAGE ON FOREIGN SERVER pictures FROM waiting');
	start('plain');
	$store->start($port);
	ok($node->poll_query_until('postgres', q{SELECT held_reason ~ 'permission denied for foreign server pictures' FROM genjob.servers WHERE server = 'pictures'}), 'genjob.servers says that their owner may not use it');
	query('GRANT USAGE ON FOREIGN SERVER pictures TO waiting');
	ok(wait_state($node, $_, 'succeeded'), 'given back, they go on, though nothing else happens') for @waits;
};

subtest 'many, and stops in between' => sub {
	my @many = map { [ start('painter') ] } 1 .. 40;
	for my $round (1 .. 2)
	{
		$node->poll_query_until('postgres', 'SELECT count(*) >= ' . 12 * $round . " FROM gen_jobs WHERE state = 'succeeded' AND id >= $many[0][0]");
		$node->stop($round == 1 ? 'fast' : 'immediate');
		$node->start;
		wait_dispatcher($node);
	}
	ok(wait_all_ended($node), 'many jobs, with stops in between');
	is(query("SELECT count(*) FROM gen_jobs j WHERE id >= $many[0][0] AND id <= $many[-1][0] AND (state <> 'succeeded' OR (SELECT count(*) FROM gen_outputs o WHERE o.job_id = j.id AND url IS NOT NULL) <> 1)"),
		0, '... all of them succeed, each with its object');
	is(join('', map { faults($_->[0]) } @many[ 0, 13, 26, 39 ]), '', '... which is whole');
	my $listed = enqueue($node, 'pictures', { list => 'painter/' });
	query("SELECT state FROM genjob.wait($listed, '30 s')");
	is(query("SELECT count(*) FROM gen_outputs WHERE store = 'pictures' AND url LIKE 's3://pictures/painter/%'"),
		query("SELECT jsonb_array_length(result -> 'objects') FROM gen_jobs WHERE id = $listed"), 'as many objects as rows');
};

subtest 'a store that is slower than the server' => sub {
	query(q{ALTER SERVER pictures OPTIONS (ADD rate_limit '1/s', ADD rate_burst '1')});
	my $first = query(q{WITH slow AS (INSERT INTO gen_jobs (server, request) SELECT 'painter', '{"prompt": "x"}' FROM generate_series(1, 50) RETURNING id) SELECT min(id) FROM slow});
	ok($node->poll_query_until('postgres', q{SELECT held_reason ~ 'its outputs wait for places at its store' FROM genjob.servers WHERE server = 'painter'}), 'a server is given no more jobs while many outputs wait for the store');
	cmp_ok(query("SELECT count(*) FROM gen_jobs WHERE state = 'queued' AND id >= $first"), '>', 5, '... so that not all are generated');
	query(q{ALTER SERVER pictures OPTIONS (SET rate_limit '20/s')});
	ok(wait_all_ended($node), '... and is given more as they go');
	is(query("SELECT count(*) FROM gen_jobs WHERE state = 'succeeded' AND server = 'painter' AND id >= $first"), 50, '... until all are stored');
	query(q{ALTER SERVER pictures OPTIONS (DROP rate_limit, DROP rate_burst)});
};

subtest 'what is not wanted any more' => sub {
	# of a server of its own: one job of a role that purges, one with two outputs, one without any
	create_server($node, 'gallery', 'openai-images', $standin, store => 'pictures', api_key => 'sk-test');
	query(q{CREATE ROLE clerk; GRANT INSERT, SELECT, DELETE ON gen_jobs TO clerk; GRANT SELECT ON gen_outputs TO clerk; GRANT USAGE ON FOREIGN SERVER gallery, pictures TO clerk});
	my $two = finished('gallery', n => 2);
	my $bare = enqueue($node, 'gallery', '{"prompt": "x"}', run_at => '2100-01-01');
	query("SELECT genjob.cancel($bare)");
	my $own = query(q{SET ROLE clerk; INSERT INTO gen_jobs (server, request) VALUES ('gallery', '{"prompt": "x"}') RETURNING id});
	wait_state($node, $own, 'succeeded');
	is(query(q{SET ROLE clerk; SELECT genjob.purge('gallery', '0 s')}), 0, 'a role purges what it sees: its objects go first');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'pictures' AND request ? 'delete'}), 1, '... by a job');
	is(query("SELECT count(*) FROM gen_outputs WHERE job_id = $two"), 2, '... and of others nothing');
	wait_all_ended($node);
	is(query(q{SET ROLE clerk; SELECT genjob.purge('gallery', '0 s')}), 1, 'then the row');
	is(query(q{SELECT genjob.purge('gallery', '1 day')}), 0, 'what is not that old stays');
	is(query(q{SELECT genjob.purge('gallery', '0 s')}), 1, 'what has no output goes at once');
	ok(wait_all_ended($node), 'the objects of all others');
	is(query(q{SELECT genjob.purge('gallery', '0 s')}), 1, '... and their rows');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE request ? 'delete'}), 0, '... and the jobs that deleted');
	my $left = enqueue($node, 'pictures', { list => 'gallery/' });
	query("SELECT state FROM genjob.wait($left, '30 s')");
	is(query("SELECT jsonb_array_length(result -> 'objects') FROM gen_jobs WHERE id = $left"), 0, 'nothing is left in the store');
	my $plain = finished('plain');
	is(query(q{SELECT genjob.purge('plain', '0 s')}) > 0, 1, 'without a store rows go at once');
};

$node->stop;
done_testing();
