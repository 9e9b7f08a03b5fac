# Who owns the schema of genjob's tables, or the database, or may write what genjob alone is to write, owns none of the
# jobs of others: these go on, and stay. Each try is one that does not succeed.

use strict;
use warnings;

use GenJobTest qw(!query);
use PostgreSQL::Test::Utils;
use Session;
use StandIn;
use Test::More;

my $standin = StandIn->new;
my $node = new_node(name => 'schema_owner');

create_server($node, 'painter', 'openai-images', $standin);
create_server($node, 'still', 'openai-images', $standin, paused => 'on');
create_server($node, 'short', 'openai-images', $standin, retention => '1 s', retention_failed => '1 s');
$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE mallory LOGIN;
	CREATE ROLE landlord LOGIN;
	CREATE ROLE dbowner LOGIN;
	GRANT ALL ON gen_jobs, gen_outputs TO mallory;
	GRANT INSERT, SELECT ON gen_jobs TO alice, landlord;
	GRANT SELECT ON gen_outputs TO alice;
	GRANT USAGE ON FOREIGN SERVER painter, still, short TO alice, mallory, landlord;
	CREATE INDEX admins_index ON gen_jobs (created_at);
	ALTER SCHEMA public OWNER TO landlord;
	CREATE SCHEMA app AUTHORIZATION mallory;
});

sub query { return $node->safe_psql('postgres', $_[0]) }

# What a role gets: rows, or the first error.
sub as
{
	my ($role, $sql) = @_;
	my (undef, $out, $err) = $node->psql('postgres', "SET ROLE $role; $sql");
	my ($error) = $err =~ /(ERROR: .*)/;
	return $error // $out;
}

# A job of alice's is run.
sub goes_on
{
	my ($what) = @_;
	my $id = as('alice',
		q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "beside"}') RETURNING id});
	return ok(wait_state($node, $id, 'succeeded'), $what);
}

# Jobs of alice's end at the server with retention, and are deleted.
sub are_deleted
{
	my ($what) = @_;
	my @ids = split /\n/, as('alice', q{INSERT INTO gen_jobs (server, request)
		SELECT 'short', '{"prompt": "short"}' FROM generate_series(1, 3) RETURNING id});
	my $ids = join ', ', @ids;
	return ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id IN ($ids))"), $what)
	  || diag(query(q{SELECT last_error FROM genjob.workers;
		SELECT held_reason FROM genjob.servers WHERE server = 'short'}));
}

# ---- who owns the schema ----

subtest "users 201: the schema's owner stands in the line for genjob's tables, by DROP or REINDEX" => sub {
	my $holder = Session->new($node, user => 'landlord');

	# each of these waited for as long as the landlord liked, and everybody else behind it
	$holder->query(q{BEGIN; INSERT INTO gen_jobs (server, request) VALUES ('still', '{}');
		SELECT count(*) FROM gen_outputs});
	my $refused = qr/must be (owner of (table|index|sequence) \w+ to drop it|superuser to (drop|reindex) schema)/;
	like(as('landlord', "SET lock_timeout = '3 s'; $_"), $refused, $_)
	  foreach 'DROP TABLE gen_jobs', 'DROP TABLE gen_jobs CASCADE', 'DROP TABLE IF EXISTS public.gen_outputs',
	  'DROP INDEX gen_jobs_pkey', 'DROP INDEX gen_outputs_pkey', 'DROP INDEX gen_jobs_ready', 'DROP INDEX admins_index',
	  'DROP INDEX CONCURRENTLY public.admins_index', 'DROP SEQUENCE gen_jobs_id_seq', 'DROP SCHEMA public',
	  'DROP SCHEMA public CASCADE', 'DROP SCHEMA IF EXISTS pg_temp_99, public CASCADE', 'DROP OWNED BY CURRENT_USER',
	  'DROP OWNED BY landlord CASCADE', 'REINDEX SCHEMA public', 'REINDEX (CONCURRENTLY false) SCHEMA public',
	  q{DO $$BEGIN EXECUTE 'DROP TABLE public.gen_jobs'; END$$};
	goes_on("another's job is run");
	$holder->query('ROLLBACK');
	$holder->quit;
	is(query(q{SELECT count(*) FROM pg_extension WHERE extname = 'genjob'}), '1', 'all is there');
};

subtest "users 202: the schema's owner takes from the dispatcher the right to use it" => sub {
	like(as('landlord', $_), qr/must be superuser to revoke USAGE/, $_)
	  foreach 'REVOKE ALL ON SCHEMA public FROM genjob_dispatcher',
	  'REVOKE USAGE ON SCHEMA app, public FROM PUBLIC, genjob_dispatcher CASCADE',
	  'REVOKE CREATE, USAGE ON SCHEMA public FROM genjob_dispatcher';
	is( as( 'landlord', q{REVOKE CREATE ON SCHEMA public FROM genjob_dispatcher;
		REVOKE ALL ON SCHEMA public FROM PUBLIC;
		SELECT 'done'}), 'done', 'other rights are his to give and take');
	query('GRANT USAGE ON SCHEMA public TO PUBLIC');
	goes_on('jobs are run');
};

subtest "what is the schema owner's own stays so" => sub {
	is( as( 'landlord', q{CREATE TABLE public.own (id int PRIMARY KEY); CREATE INDEX own_index ON public.own (id);
		DROP INDEX own_index; DROP TABLE own; SELECT 'done'}), 'done', 'tables and indexes');
	query('CREATE SCHEMA landlord AUTHORIZATION landlord');
	is( as( 'landlord', q{CREATE TABLE landlord.gen_jobs (id int); DROP TABLE landlord.gen_jobs; DROP SCHEMA landlord;
		SELECT 'done'}), 'done', 'other schemas, and what is in them');
	is( as( 'landlord', q{CREATE VIEW public.own_view AS SELECT 1 AS a; DROP VIEW public.own_view;
		REVOKE USAGE ON SCHEMA public FROM alice; SELECT 'done'}), 'done', 'views, and the rights of others');
	is(query(q{BEGIN; DROP INDEX admins_index; DROP SCHEMA public CASCADE; ROLLBACK; SELECT 'done'}),
		'done', 'a superuser drops all');
	query('REINDEX SCHEMA public');
};

# ---- what keeps the jobs of others ----

subtest "users 203: a deferrable foreign key in a schema of its own keeps others' jobs from being deleted" => sub {
	is( as( 'mallory', q{CREATE TABLE app.orders
		(job bigint REFERENCES public.gen_jobs ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
		SELECT 'done'}), 'done');
	are_deleted('they are deleted');
	my $own = as('mallory', q{INSERT INTO gen_jobs (server, request, run_at)
		VALUES ('short', '{"prompt": "ordered"}', now() + '1 s') RETURNING id});
	as('mallory', "INSERT INTO app.orders VALUES ($own)");
	ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $own)"),
		'and so is one that is referred to');
	is(query('SELECT count(*) FROM app.orders'), '0', '... with what refers to it');
	query('DROP TABLE app.orders');
};

subtest "users 204: outputs of a size that cannot be added up keep the jobs of others from being deleted" => sub {
	my $own = as('mallory', q{INSERT INTO gen_jobs (server, request, run_at)
		VALUES ('short', '{}', '2100-01-01') RETURNING id});
	query("INSERT INTO gen_outputs SELECT $own, n, 'text/plain', 1, '', '' FROM generate_series(1, 3) n");
	as('mallory', "UPDATE gen_outputs
		SET bytes = CASE ordinal WHEN 3 THEN -9223372036854775808 ELSE 9223372036854775807 END;
		SELECT genjob.cancel($own)");
	are_deleted('they are deleted');
	ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $own)"),
		'and so is its job');
};

subtest "users 205: times from which nothing can be counted keep the jobs of others from being deleted" => sub {
	create_server($node, 'shop', 's3', 'http://127.0.0.1:9', bucket => 'shop', auth => 'none', paused => 'on');
	query('GRANT USAGE ON FOREIGN SERVER shop TO mallory');
	my $own = as('mallory', q{INSERT INTO gen_jobs (server, request, run_at)
		VALUES ('short', '{}', '2100-01-01') RETURNING id});
	query("INSERT INTO gen_outputs (job_id, ordinal, content_type, bytes, sha256, url, store)
		VALUES ($own, 1, 'text/plain', 1, '', 's3://shop/k', 'shop')");
	as('mallory', "INSERT INTO gen_jobs (server, request, request_id, created_at)
		VALUES ('still', '{}', 'genjob.purge $own 1', '-infinity')");
	as('mallory', q{SELECT count(genjob.cancel(id)) FROM gen_jobs WHERE state = 'queued'});
	are_deleted('they are deleted');
	query('DELETE FROM gen_jobs WHERE owner = \'mallory\'::regrole');
};

subtest "users 206: thousands of outputs that a role gives its job hold up the dispatcher when it deletes them" => sub {
	my $own = as('mallory', q{INSERT INTO gen_jobs (server, request) VALUES ('still', '{}') RETURNING id});
	like(
		as('mallory', "INSERT INTO gen_outputs SELECT $own, n, 'a', 1, '', '' FROM generate_series(1, 400000) n"),
		qr/new row violates row-level security policy "gen_outputs_insert"/, 'only genjob writes outputs');
	query("INSERT INTO gen_outputs VALUES ($own, 1, 'text/plain', 1, '', '')");
	is( as( 'mallory', q{UPDATE gen_outputs SET content_type = 'text/css' RETURNING ordinal;
		DELETE FROM gen_outputs RETURNING ordinal}), "1\n1", 'what it has it may change and delete');
};

# ---- what others own ----

subtest 'users 207: a role has a link signed with the keys of another, by naming that one as the owner' => sub {
	query(q{CREATE SERVER vault FOREIGN DATA WRAPPER genjob
			OPTIONS (api 's3', url 'http://store.example', bucket 'vault');
		CREATE USER MAPPING FOR alice SERVER vault OPTIONS (access_key_id 'ALICE', secret_access_key 'x');
		GRANT USAGE ON FOREIGN SERVER vault TO alice});
	my $oid = query(q{SELECT oid FROM pg_foreign_server WHERE srvname = 'vault'});
	my $output = "'s3://vault/k', '1 h', 'vault', $oid, 'alice'::regrole";
	like(as('mallory', "SELECT genjob.presign_output($output)"),
		qr/permission denied for foreign server vault/, 'the keys are those of who calls');
	is( as( 'mallory', q{SELECT genjob.presign(
		ROW(1, 1, 'a', 1, '', NULL, 's3://vault/k', NULL, 'vault', 0)::gen_outputs) IS NULL}),
		't', 'a row that is forged leads nowhere');
	like(as('alice', "SELECT genjob.presign_output($output)"), qr/Credential=ALICE/, 'alice has hers');
};

subtest 'users 208: a role calls the functions of genjob with what no option, array or text should be' => sub {
	my @calls = (
		q{genjob.validator(ARRAY[NULL]::text[], 'pg_foreign_server'::regclass)},
		q{genjob.validator('{{a,b},{c,d}}', 'pg_foreign_server'::regclass)},
		q{genjob.validator('{=,x}', 0)},
		q{genjob.needed_jobs('{{1,2},{3,NULL}}')},
		q{genjob.shared_object(1, -1, ARRAY[NULL]::bigint[])},
		q{genjob.preview('still', (repeat('[', 5000) || repeat(']', 5000))::jsonb)},
		q{genjob.preview('still', '{"$input": -5}', ARRAY[NULL]::bytea[])},
		q{genjob.wait('{1,{2}}', '0')},
		q{genjob.wait('[-3:-2]={1,2}'::bigint[], '0')},
		q{genjob.submit('still', NULL)},
		q{genjob.tree(-9223372036854775808)},
		q{genjob.complete(1, repeat('x', 1000000), 'null', repeat('x', 1000000))},
		q{genjob.owner_weight('%s%n', 0::oid::regrole)});
	push @calls, map { "genjob.validator('{api=http,url=http://x,$_}', 'pg_foreign_server'::regclass)" }
	  qw(method auth path wrap defaults headers ca_file max_in_flight rate_limit timeout retry_status paused retention
	  notify on_success store key);
	as('mallory', "SELECT $_") foreach @calls;
	unlike(slurp_file($node->logfile), qr/was terminated by signal|PANIC/, 'nothing has crashed');
	goes_on('jobs are run');
};

# ---- maintenance ----

subtest "users 210: with GRANT ALL, which has MAINTAIN since PostgreSQL 17, a role stands in the line to rewrite genjob's tables" => sub {
	my $session = Session->new($node);
	$session->query('BEGIN; SELECT count(*) FROM gen_jobs, gen_outputs');
	{
		local $ENV{PGOPTIONS} = '-c lock_timeout=20s';
		unlike(refusal_of($_, 'postgres', 'mallory'), qr/lock timeout/, "$_ does not wait")
		  foreach 'VACUUM FULL gen_jobs', 'VACUUM (ANALYZE, FULL true) public.gen_outputs', 'VACUUM FULL',
		  'CLUSTER gen_jobs USING gen_jobs_pkey', 'REINDEX TABLE gen_jobs', 'REINDEX INDEX gen_jobs_pkey';
	}
	$session->query('COMMIT');
	$session->quit;
	goes_on('... and jobs are run');
};

subtest 'users 211: a member of pg_maintain stands in the line to reindex a schema, or the database' => sub {
	# before PostgreSQL 17 there is no such role, and only owners may do that
	my $has_role = query(q{SELECT to_regrole('pg_maintain') IS NOT NULL}) eq 't';
	my $why = $has_role ? qr/must be superuser to reindex schema/
	  : qr/must be superuser to reindex schema|must be owner of|syntax error at end of input/;
	my $session = Session->new($node);
	query('CREATE ROLE keeper LOGIN');
	query('GRANT pg_maintain TO keeper') if $has_role;
	$session->query('BEGIN; LOCK TABLE gen_jobs, genjob.dependencies IN ROW EXCLUSIVE MODE');
	{
		local $ENV{PGOPTIONS} = '-c statement_timeout=20s';
		like(refusal_of($_, 'postgres', 'keeper'), $why, "$_ does not wait")
		  foreach 'REINDEX DATABASE', 'REINDEX DATABASE postgres', 'REINDEX SCHEMA public', 'REINDEX SCHEMA genjob';
		goes_on('... and jobs are run');
	}
	$session->query('COMMIT');
	$session->quit;
};

# ---- settings ----

subtest 'users 209: the owner of a database sets each setting to its least, or its greatest, value' => sub {
	my $settings = q{FROM pg_settings WHERE context = 'user' AND vartype <> 'string'
		AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable', 'seed')};
	# what the sessions of this test need
	my $own = q{name ~ '(timeout|read_only|isolation|exit_on_error|temp_file_limit|row_security|client_min_messages)$'};

	foreach my $case ([ 'least', 'min_val', 'enumvals[1]' ],
		[ 'greatest', 'max_val', 'enumvals[cardinality(enumvals)]' ])
	{
		my ($which, $number, $word) = @$case;
		query("CREATE DATABASE $which OWNER dbowner");
		$node->safe_psql($which, 'CREATE EXTENSION genjob');
		create_server($node, 'painter', 'openai-images', $standin, database => $which);
		my $sql = query(qq{SELECT string_agg(format('ALTER DATABASE $which SET %I = %L;', name,
			CASE vartype WHEN 'bool' THEN CASE boot_val WHEN 'on' THEN 'off' ELSE 'on' END
			WHEN 'enum' THEN $word ELSE $number END), ' ') $settings});
		my $plain = query(qq{SELECT string_agg(format('-c %s=%s', name, replace(boot_val, ' ', '\\ ')), ' ')
			$settings AND $own});
		my $pid = wait_dispatcher($node, $which);
		$node->psql('postgres', $sql, extra_params => [ '-U', 'dbowner' ], on_error_stop => 0);
		my $set = query("SELECT cardinality(setconfig) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
			WHERE datname = '$which'");
		cmp_ok($set, '>', 100, "$set settings have their $which value");
		query("SELECT pg_terminate_backend($pid)");
		wait_dispatcher($node, $which, $pid);
		local $ENV{PGOPTIONS} = $plain;
		$node->safe_psql($which,
			q{INSERT INTO gen_jobs (server, request) SELECT 'painter', '{"prompt": "a"}' FROM generate_series(1, 5)});
		ok($node->poll_query_until($which, q{SELECT count(*) = 5 FROM gen_jobs WHERE state = 'succeeded'}),
			'... and jobs are run')
		  or diag(query("SELECT last_error FROM genjob.workers WHERE database = '$which'"));
	}
};

$node->stop;
$standin->stop;
done_testing();
