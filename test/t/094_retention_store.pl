# Retention where outputs are in an object store (Swift): a row goes after its object, and stays where that cannot go.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest qw(!query);
use PythonServer;
use StandIn;

my $store = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $store->missing if $store->missing;

my $node = new_node();
my $standin = StandIn->new;

sub query { return $node->safe_psql('postgres', $_[0]) }
sub becomes { return $node->poll_query_until('postgres', @_) }

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
ok(becomes(q{SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE server = 'painter')}), 'they go');
is(objects(), 0, '... after their objects');
is(query(q{SELECT count(*) FROM gen_jobs WHERE request ? 'delete'}), 0, '... and the jobs that deleted these');

# ---- what cannot be deleted ----

query(q{ALTER SERVER painter OPTIONS (SET retention '1 day')});
query(q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "a boat"}'), ('painter', '{"prompt": "a boat"}')});
ok(wait_all_ended($node), 'two more');
query(q{UPDATE gen_outputs SET store = 'gone' WHERE job_id = (SELECT max(job_id) FROM gen_outputs)});
my $port = $store->port;
$store->stop;
query(q{ALTER SERVER painter OPTIONS (SET retention '1 s')});
ok(becomes(q{SELECT count(*) = 1 FROM gen_jobs WHERE request ? 'delete' AND state <> 'succeeded'}), 'the store is down: the deletion waits');
ok(becomes(q{SELECT held_reason ~ 'does not exist' FROM genjob.servers WHERE server = 'painter'}), '... and a store that does not exist is said');
is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'painter'}), 2, '... the rows stay');
$node->restart;
ok(wait_dispatcher($node), 'a restart');
$store->start($port);
ok(becomes(q{SELECT count(*) = 1 FROM gen_jobs WHERE server = 'painter'}), 'the store is back: one goes');
query(q{UPDATE gen_outputs SET store = 'pictures'});
query(q{ALTER USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (SET secret_access_key 'mistaken')});
ok(becomes(q{SELECT count(*) = 1 FROM gen_jobs WHERE request ? 'delete' AND error IS NOT NULL}), 'a wrong key: the deletion fails, or waits');
is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'painter'}), 1, '... the row stays');
query(q{ALTER USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (SET secret_access_key 'testing')});
ok(becomes(q{SELECT count(*) = 0 FROM gen_jobs WHERE server = 'painter'}), '... until it is mended');
is(objects(), 0, 'no object is left');

$node->stop;
$standin->stop;
done_testing();
