# Retention where outputs are in an object store (Swift): a row goes after its object, and stays where that cannot go.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;
use StandIn;

my $store = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $store->missing if $store->missing;

my $node = new_node();
my $standin = StandIn->new;

# How many objects the store has.
sub objects
{
	my $id = enqueue($node, 'pictures', { list => 'painter/' });
	query("SELECT state FROM genjob.wait($id, '60 s')");
	return query("SELECT jsonb_array_length(result -> 'objects') FROM gen_jobs WHERE id = $id");
}

query("CREATE SERVER pictures FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url '" . $store->url
	  . "', bucket 'pictures', key '{server}/{job}-{ordinal}.{ext}', retry_base '100 ms', retry_max '500 ms', max_attempts '2')");
query(q{CREATE USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (access_key_id 'test:tester', secret_access_key 'testing')});
create_server($node, 'painter', 'openai-images', $standin, store => 'pictures', retention => '1 day');
query(q{CREATE ROLE app; GRANT INSERT, SELECT ON gen_jobs TO app; GRANT USAGE ON FOREIGN SERVER painter, pictures TO app});

query(q{SET ROLE app; INSERT INTO gen_jobs (server, request) SELECT 'painter', jsonb_build_object('prompt', 'boat ' || i, 'n', 2) FROM generate_series(1, 3) i});
ok(wait_all_ended($node), 'three jobs of a plain role, with two pictures each');
is(objects(), 6, 'their objects are there');
query(q{ALTER SERVER painter OPTIONS (SET retention '1 s')});
eventually(q{SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE server = 'painter')}, 'they go');
is(objects(), 0, '... after their objects');
is(query(q{SELECT count(*) FROM gen_jobs WHERE request ? 'delete'}), 0, '... and the jobs that deleted these');

subtest 'objects to which others link' => sub {
	query(q{ALTER SERVER painter OPTIONS (SET retention '1 day')});
	create_server($node, 'plain', 'http', $standin, path => '/echo');
	query(q{SELECT genjob.pause('plain')});
	my @linked = map { enqueue($node, 'painter', { prompt => "linked $_" }) } 1 .. 3;
	ok(wait_all_ended($node), 'three pictures');
	my $link = { '$url' => query("SELECT url FROM gen_outputs WHERE job_id = $linked[0]") };
	my @link = (enqueue($node, 'plain', { picture => $link }), enqueue($node, 'plain', { bytes => { '$output' => query("SELECT url FROM gen_outputs WHERE job_id = $linked[1]") } }));
	is(query("SELECT string_agg(refers::text, ' ' ORDER BY id) FROM gen_jobs WHERE id IN ($link[0], $link[1])"), "{$linked[0]} {$linked[1]}", 'jobs that link to objects refer to the jobs that brought them');
	query(q{GRANT USAGE ON FOREIGN SERVER plain TO app});
	is(query("SET ROLE app; INSERT INTO gen_jobs (server, request) VALUES ('plain', '{\"a\": {\"\$url\": \"$link->{'$url'}\"}}') RETURNING refers IS NULL"), 't', '... but not a job of a role that does not see them');
	query(q{ALTER SERVER painter OPTIONS (SET retention '1 s')});
	eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $linked[2])", 'a picture goes');
	is(query("SELECT count(*) FROM gen_jobs WHERE id IN ($linked[0], $linked[1])"), 2, '... but none to which an unfinished job links');
	is(objects(), 2, '... nor its object');
	query(q{SELECT genjob.resume('plain')});
	eventually("SELECT count(*) = 2 FROM gen_jobs WHERE id IN ($link[0], $link[1]) AND state = 'succeeded'", '... which finds it');
	eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id IN ($linked[0], $linked[1]))", '... until that has ended');
	is(objects(), 0, '... then the objects go, too');
};

subtest 'one object of several jobs' => sub {
	query("CREATE SERVER digests FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url '" . $store->url . "', bucket 'pictures', key 'painter/{sha256}.{ext}');
		CREATE USER MAPPING FOR PUBLIC SERVER digests OPTIONS (access_key_id 'test:tester', secret_access_key 'testing');
		GRANT USAGE ON FOREIGN SERVER digests TO app");
	create_server($node, 'twins', 'openai-images', $standin, store => 'digests');
	query(q{GRANT USAGE ON FOREIGN SERVER twins TO app});
	my $one = enqueue($node, 'twins', { prompt => 'the same' });
	my $two = query(q{SET ROLE app; INSERT INTO gen_jobs (server, request) VALUES ('twins', '{"prompt": "the same"}') RETURNING id});
	ok(wait_all_ended($node), 'two jobs with the same picture');
	is(objects(), 1, '... have one object');
	is(query("SELECT deleted || ' ' || waiting || ' ' || ordered FROM genjob.purge_jobs(ARRAY[$one], false)"), '1 0 0', 'one of them goes');
	is(query("SET ROLE app; SELECT genjob.shared_object($two, 1, '{}')"), 'f', '... then the object is of one job alone');
	is(objects(), 1, '... and stays');
	is(query("SELECT deleted || ' ' || waiting || ' ' || ordered FROM genjob.purge_jobs(ARRAY[$two], false)"), '0 1 1', 'the other one goes');
	ok(wait_all_ended($node), '...');
	is(query("SELECT deleted FROM genjob.purge_jobs(ARRAY[$two], false)"), 1, '... after the object');
	is(objects(), 0, '... which is gone');
};

subtest 'what cannot be deleted' => sub {
	query(q{ALTER SERVER painter OPTIONS (SET retention '1 day')});
	query(q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "a boat"}'), ('painter', '{"prompt": "a boat"}')});
	ok(wait_all_ended($node), 'two more');
	query(q{UPDATE gen_outputs SET store = 'gone' WHERE job_id = (SELECT max(job_id) FROM gen_outputs)});
	my $port = $store->port;
	$store->stop;
	query(q{ALTER SERVER painter OPTIONS (SET retention '1 s')});
	eventually(q{SELECT count(*) = 1 FROM gen_jobs WHERE request ? 'delete' AND state <> 'succeeded'}, 'the store is down: the deletion waits');
	eventually(q{SELECT held_reason ~ 'does not exist' FROM genjob.servers WHERE server = 'painter'}, '... and a store that does not exist is said');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'painter'}), 2, '... the rows stay');
	$node->restart;
	ok(wait_dispatcher($node), 'a restart');
	$store->start($port);
	eventually(q{SELECT count(*) = 1 FROM gen_jobs WHERE server = 'painter'}, 'the store is back: one goes');
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (SET secret_access_key 'mistaken')});
	query(q{UPDATE gen_outputs SET store = 'pictures'});
	eventually(q{SELECT count(*) = 1 FROM gen_jobs WHERE request ? 'delete' AND error IS NOT NULL}, 'a wrong key: the deletion fails, or waits');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'painter'}), 1, '... the row stays');
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (SET secret_access_key 'testing')});
	eventually(q{SELECT count(*) = 0 FROM gen_jobs WHERE server = 'painter'}, '... until it is mended');
	is(objects(), 0, 'no object is left');
};

$node->stop;
$standin->stop;
done_testing();
