# Users of one database are strangers to each other: what one may do and read says nothing of another's jobs, and
# stands in nobody's way. Each try is one that does not succeed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../perl";

use GenJobTest qw(!query);
use PostgreSQL::Test::Utils;
use Session;
use StandIn;
use Test::More;

my $standin = StandIn->new;
my $node = new_node(name => 'users');

create_server($node, 'painter', 'openai-images', $standin);
create_server($node, 'slow', 'openai-images', $standin, max_in_flight => 1);
create_server($node, 'still', 'openai-images', $standin, paused => 'on');
$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE mallory LOGIN;
	CREATE ROLE operator LOGIN;
	CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats;
	GRANT INSERT, SELECT, UPDATE, DELETE ON gen_jobs TO alice, mallory;
	GRANT SELECT ON gen_outputs TO alice, mallory;
	GRANT USAGE ON FOREIGN SERVER painter, slow, still TO alice, mallory;
	GRANT USAGE ON FOREIGN DATA WRAPPER genjob TO mallory, operator;
});

# What a role gets: rows, or the first error.
sub as
{
	my ($role, $sql) = @_;
	my ($code, $out, $err) = $node->psql('postgres', "SET ROLE $role; $sql");
	$err =~ s/\n.*//s;
	$err =~ s/^psql:<stdin>:\d+: //;
	return $err ne '' ? $err : $out;
}

sub query { return $node->safe_psql('postgres', $_[0]); }

my $try = 0;

sub try_that
{
	my ($what, $code) = @_;
	$try++;
	subtest "users $try: $what" => $code;
	return;
}

my $denied = qr/permission denied/;
my $insert = q{INSERT INTO gen_jobs (server, request) VALUES ('still', '{}') RETURNING id};
my $no_id = qr/^ERROR:  permission denied to choose the id of a job: \d+$/;

# ---- ids ----

try_that 'a role chooses the id of a job' => sub {
	like(as('mallory', q{INSERT INTO gen_jobs (id, server, request) VALUES (4711, 'still', '{}')}), $no_id);
	like(as('mallory', q{INSERT INTO gen_jobs SELECT 4712, 'still', '{}'}), $no_id, 'without naming columns');
	like(as('mallory', q{INSERT INTO gen_jobs AS j (server, request, id) VALUES ('still', '{}', 4713) ON CONFLICT DO NOTHING}),
		$no_id, 'with ON CONFLICT');
	like(as('mallory', q{INSERT INTO gen_jobs (id, server, request) OVERRIDING SYSTEM VALUE VALUES (4714, 'still', '{}')}), $no_id, 'overriding');
	like(as('mallory', q{PREPARE p AS INSERT INTO gen_jobs (id, server, request) VALUES ($1, 'still', '{}'); EXECUTE p (4715)}),
		$no_id, 'prepared');
	like(as('mallory', q{INSERT INTO gen_jobs (id, server, request) VALUES (DEFAULT, 'still', '{}'), (4716, 'still', '{}')}), $no_id, 'in the second row');
	like(as('mallory', q{WITH i AS (INSERT INTO gen_jobs (id, server, request) VALUES (4717, 'still', '{}') RETURNING id) SELECT * FROM i}), $no_id, 'in WITH');
	like(as('mallory', q{MERGE INTO gen_jobs j USING (SELECT 4718 AS id) s ON j.id = s.id WHEN NOT MATCHED THEN INSERT (id, server, request) VALUES (s.id, 'still', '{}')}),
		$no_id, 'with MERGE');
	like(as('mallory', q{CREATE TEMP VIEW v AS SELECT * FROM gen_jobs; INSERT INTO v (id, server, request) VALUES (4719, 'still', '{}')}), $no_id, 'through a view');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE id BETWEEN 4700 AND 4799}), '0');
};

try_that 'a role takes the id that comes next' => sub {
	my $id = as('alice', $insert);
	my $next = $id + 1;

	like(as('mallory', "INSERT INTO gen_jobs (id, server, request) VALUES ($next, 'still', '{}')"), $no_id);
	like(as('mallory', "$insert; INSERT INTO gen_jobs (id, server, request) VALUES ($next + 1, 'still', '{}')"), qr/$no_id/m, 'after a job of its own');
	$id = as('alice', $insert);
	cmp_ok($id, '>=', $next, 'it is given to who comes next');
};

try_that 'a role moves an existing job to another id' => sub {
	my $id = as('mallory', $insert);

	like(as('mallory', "UPDATE gen_jobs SET id = 4720 WHERE id = $id"), qr/column "id" of gen_jobs is set by genjob/);
	like(as('mallory', "INSERT INTO gen_jobs (id, server, request) VALUES (DEFAULT, 'still', '{}') ON CONFLICT (id) DO UPDATE SET id = 4721; INSERT INTO gen_jobs (id, server, request) VALUES ($id, 'still', '{}') ON CONFLICT (id) DO UPDATE SET id = 4721"),
		$no_id);
};

try_that 'a role reads or moves the sequence of ids' => sub {
	like(as('mallory', q{SELECT nextval('gen_jobs_id_seq')}), $denied);
	like(as('mallory', q{SELECT setval('gen_jobs_id_seq', 1)}), $denied);
	like(as('mallory', q{SELECT currval('gen_jobs_id_seq')}), $denied);
	like(as('mallory', q{SELECT last_value FROM gen_jobs_id_seq}), $denied);
};

subtest 'what names no id, or names it and leaves it to the sequence, works' => sub {
	like(as('alice', q{INSERT INTO gen_jobs (id, server, request) VALUES (DEFAULT, 'still', '{}') RETURNING id}), qr/^\d+$/, 'DEFAULT');
	like(as('alice', q{INSERT INTO gen_jobs (id, server, request) VALUES (NULL, 'still', '{}') RETURNING id}), qr/^\d+$/, 'NULL');
	like(as('alice', q{INSERT INTO gen_jobs (id, server, request) VALUES (DEFAULT, 'still', '{}'), (NULL, 'still', '{}') RETURNING id}), qr/^\d+\n\d+$/, 'both');
	is( as( 'alice', q{INSERT INTO gen_jobs (server, request) SELECT 'still', jsonb_build_object('n', n) FROM generate_series(1, 100) n ORDER BY -n;
			SELECT count(DISTINCT id) FROM gen_jobs WHERE request ? 'n'}), '100', 'INSERT ... SELECT');
	$node->safe_psql('postgres', q{CREATE FUNCTION first_of_two() RETURNS jsonb LANGUAGE sql AS
		$$INSERT INTO gen_jobs (server, request) VALUES ('still', '{}') RETURNING jsonb_build_object('first', id)$$});
	like(as('alice', q{INSERT INTO gen_jobs (server, request) VALUES ('still', first_of_two()) RETURNING id}), qr/^\d+$/, 'one whose request inserts another');
	is(query(q{INSERT INTO gen_jobs (id, server, request) VALUES (4799, 'still', '{}') RETURNING id; DELETE FROM gen_jobs WHERE id = 4799}), '4799',
		'the owner of the table chooses');
};

# ---- keys ----

try_that 'a role finds out which unique_key another has, or takes it away' => sub {
	my $mine = q{INSERT INTO gen_jobs (server, request, unique_key) VALUES ('still', '{}', 'order 17') ON CONFLICT DO NOTHING RETURNING true};

	is(as('alice', $mine), 't');
	is(as('mallory', $mine), 't', 'the same key of another owner');
	is(as('alice', $mine), '', 'and one of each');
	is(as('mallory', $mine), '');
};

try_that 'a role finds out which request_id another has, or takes it away' => sub {
	my $mine = q{INSERT INTO gen_jobs (server, request, request_id) VALUES ('still', '{}', 'order 18') ON CONFLICT (owner, request_id) DO NOTHING RETURNING true};

	is(as('alice', $mine), 't');
	is(as('mallory', $mine), 't', 'the same id of another owner');
	is(as('alice', $mine), '', 'and one of each');
	is(as('alice', q{UPDATE gen_jobs SET state = 'cancelled' WHERE request_id = 'order 18' RETURNING state}), 'cancelled');
	is(as('alice', $mine), '', 'also when it has ended');
	like(as('alice', q{UPDATE gen_jobs SET request_id = 'order 19' WHERE request_id = 'order 18'}), qr/column "request_id" of gen_jobs cannot be changed/, 'it stays');
	like(as('alice', q{INSERT INTO gen_jobs (server, request, request_id) VALUES ('still', '{}', repeat('x', 1025))}), qr/request_id of a job is longer than 1024 bytes/);
};


try_that 'a role waits for, or learns of, the open transaction of another that has the same keys' => sub {
	query(q{BEGIN; SET LOCAL ROLE alice; INSERT INTO gen_jobs (server, request, unique_key, request_id) VALUES ('still', '{}', 'open', 'open');
		PREPARE TRANSACTION 'open'});
	is( as( 'mallory', q{SET lock_timeout = '2s'; INSERT INTO gen_jobs (server, request, unique_key, request_id) VALUES ('still', '{}', 'open', 'open')
			ON CONFLICT DO NOTHING RETURNING true}), 't');
	query(q{ROLLBACK PREPARED 'open'});
};

# ---- rows and what counts them ----

my $secret = as('alice', q{INSERT INTO gen_jobs (server, request, tenant) VALUES ('still', '{"prompt": "secret"}', 'secret tenant') RETURNING id});

try_that 'a role reads, changes, deletes or locks a job of another' => sub {
	is(as('mallory', "SELECT count(*) FROM gen_jobs WHERE id = $secret"), '0');
	is(as('mallory', "UPDATE gen_jobs SET priority = 9 WHERE id = $secret RETURNING id"), '');
	is(as('mallory', "DELETE FROM gen_jobs WHERE id = $secret RETURNING id"), '');
	is(as('mallory', "SELECT id FROM gen_jobs WHERE id = $secret FOR UPDATE"), '');
	is(job($node, $secret)->{priority}, 0);
};

try_that 'a role inserts a job as another, or gives it its own' => sub {
	like(as('mallory', q{INSERT INTO gen_jobs (server, request, owner) VALUES ('still', '{}', 'alice')}), qr/permission denied to insert a job of role "alice"|row-level security/);
	my $id = as('mallory', $insert);
	like(as('mallory', "UPDATE gen_jobs SET owner = 'alice' WHERE id = $id"), qr/column "owner" of gen_jobs is set by genjob/);
};

try_that 'a role cancels, retries or waits for a job of another, to learn whether it is there' => sub {
	for my $call ("cancel($secret)", "retry($secret)", "wait($secret, '1 ms')")
	{
		my $absent = $call =~ s/$secret/2000000000/r;
		my $answer = as('mallory', "SELECT genjob.$call") =~ s/\b$secret\b/N/r;

		like($answer, qr/^ERROR:  job N does not exist$/, $call);
		is($answer, as('mallory', "SELECT genjob.$absent") =~ s/\b2000000000\b/N/r, 'as one that is not there');
	}
	is(job($node, $secret)->{state}, 'queued');
};

try_that 'a role sets what genjob sets' => sub {
	my %values = (
		state => q{'succeeded'}, attempt => 3, failures => -5, losses => 1, server_oid => 1, result => q{'{}'}, error => q{'e'}, remote_id => q{'r'},
		started_at => 'now()', finished_at => 'now()', backend => q{'b'}, ran_on => q{'painter'}, idempotency_key => 'gen_random_uuid()');

	for my $column (sort keys %values)
	{
		like(as('mallory', "INSERT INTO gen_jobs (server, request, $column) VALUES ('still', '{}', $values{$column})"),
			qr/column "$column" of gen_jobs is set by genjob/, $column);
	}
	my $id = as('mallory', $insert);
	@values{qw(created_at attempt_errors usage)} = ('now()', q{'[{"error": "e"}]'}, q{'{"cost": 1}'});
	for my $column (qw(attempt failures losses server_oid remote_id backend ran_on idempotency_key created_at started_at finished_at attempt_errors result usage))
	{
		like(as('mallory', "UPDATE gen_jobs SET $column = $values{$column} WHERE id = $id"),
			qr/column "$column" of gen_jobs is set by genjob/, "$column of a job that is there");
	}
	my $had = query(q{INSERT INTO gen_jobs (server, request, owner, state, result, usage) VALUES ('still', '{}', 'mallory', 'succeeded', '{}', '{}') RETURNING id});
	is(as('mallory', "UPDATE gen_jobs SET result = NULL, usage = NULL WHERE id = $had RETURNING result IS NULL"), 't', 'what it has got a role may take away');
};

try_that 'a role reads how much an unknown tenant has waiting from the estimate' => sub {
	query(q{INSERT INTO gen_jobs (server, request, tenant, owner) SELECT 'still', '{}', 'busy', 'alice' FROM generate_series(1, 40)});
	my $estimates = sub {
		my ($role) = @_;
		return as($role, q{SELECT genjob.read_ahead('still', 'busy') = genjob.read_ahead('still', 'nobody has that name')});
	};

	is($estimates->('mallory'), 't', 'it is told the same of a tenant with jobs and of one without');
	is($estimates->('alice'), 'f', 'who owns the jobs is told of them');
	is($estimates->('watcher'), 'f', 'and members of pg_read_all_stats');
	query(q{DELETE FROM gen_jobs WHERE tenant = 'busy'});
};

try_that 'a role reads the weight of a tenant that is not its own' => sub {
	query(q{INSERT INTO genjob.tenant_weights VALUES ('still', 'secret tenant', 7), ('still', 'mallory', 2)});
	is(as('mallory', q{SELECT genjob.tenant_weight('still', 'secret tenant') IS NULL, genjob.tenant_weight('still', 'no such tenant') IS NULL}), 't|t');
	is(as('mallory', q{SELECT genjob.tenant_weight('still', 'mallory')}), '2', 'its own it may');
	is(as('alice', q{SELECT genjob.tenant_weight('still', 'secret tenant')}), '7', 'and who has a job of the tenant');
	is(as('watcher', q{SELECT genjob.tenant_weight('still', 'secret tenant')}), '7', 'and members of pg_read_all_stats');
	like(as('mallory', q{SELECT * FROM genjob.tenant_weights}), $denied);
	is(as('mallory', q{SELECT count(*) FROM genjob.tenants WHERE tenant = 'secret tenant'}), '0');
	is(as('alice', q{SELECT weight, queued FROM genjob.tenants WHERE tenant = 'secret tenant'}), '7|1');
};

try_that 'a role reads what another has in flight, or what went wrong, from the views' => sub {
	query(q{INSERT INTO gen_jobs (server, request, owner) VALUES ('slow', '{"prompt": "in flight", "standin": {"latency_ms": 600000}}', 'alice')});
	ok($node->poll_query_until('postgres', q{SELECT state = 'running' FROM gen_jobs WHERE server = 'slow'}));
	is(as('mallory', q{SELECT count(*) FROM genjob.activity}), '0');
	is(as('alice', q{SELECT count(*) FROM genjob.activity WHERE server = 'slow'}), '1', 'who owns it sees it');
	is(as('watcher', q{SELECT count(*) FROM genjob.activity WHERE server = 'slow'}), '1');
	unlike(as('mallory', q{SELECT string_agg(coalesce(query, ''), ' ') FROM pg_stat_activity WHERE backend_type ~ 'genjob'}), qr/in flight$|prompt/);
	query(q{DELETE FROM gen_jobs WHERE server = 'slow'});
	like(as('mallory', q{SELECT count(*) FROM genjob.activity WHERE owner <> 'mallory'::regrole}), qr/^0$/);
	is(as('mallory', q{SELECT count(*) FROM genjob.workers WHERE last_error IS NOT NULL}), '0');
};

try_that 'a role reads the outputs of another, by the table or by a reference in a request' => sub {
	my $id = as('alice', q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "private"}') RETURNING id});

	ok(wait_state($node, $id, 'succeeded'));
	is(as('alice', "SELECT count(*) FROM gen_outputs WHERE job_id = $id"), '1');
	is(as('mallory', "SELECT count(*) FROM gen_outputs WHERE job_id = $id"), '0');
	my $thief = as('mallory', qq[INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "a", "image": {"\$output": [$id, 1]}}') RETURNING id]);
	ok(wait_state($node, $thief, 'failed'), 'its job fails');
	my $absent = as('mallory', q[INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "a", "image": {"$output": [2000000000, 1]}}') RETURNING id]);
	ok(wait_state($node, $absent, 'failed'));
	is(job($node, $thief)->{error} =~ s/\b$id\b/N/gr, job($node, $absent)->{error} =~ s/\b2000000000\b/N/gr, 'in the same words as for a job that is not there');
};

try_that 'a role reads rows of others by a function of its own that is called for each, or by statistics' => sub {
	query(q{GRANT CREATE ON SCHEMA public TO mallory; ANALYZE gen_jobs});
	my ($code, $out, $err) = $node->psql('postgres', q{SET ROLE mallory;
		CREATE FUNCTION leak(jsonb) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$BEGIN RAISE NOTICE 'leaked %', $1; RETURN true; END$$;
		SELECT count(*) FROM gen_jobs WHERE leak(request); SET row_security = off; SELECT count(*) FROM gen_jobs});
	unlike($err, qr/leaked [^\n]*secret/);
	like($err, qr/query would be affected by row-level security/, 'nor with row_security off');
	is(as('mallory', q{SELECT count(*) FROM pg_stats WHERE tablename IN ('gen_jobs', 'gen_outputs')}), '0');
	query(q{REVOKE CREATE ON SCHEMA public FROM mallory; DROP FUNCTION leak(jsonb)});
};

try_that 'a role takes part in what the owner of the tables does' => sub {
	like(as('mallory', q{TRUNCATE gen_jobs CASCADE}), $denied);
	like(as('mallory', qq{COPY gen_jobs (server, request) FROM STDIN;\n\\.\n}), qr/COPY FROM not supported with row-level security/);
	like(as('mallory', q{SET session_replication_role = replica}), $denied);
	like(as('mallory', q{ALTER TABLE gen_jobs DISABLE ROW LEVEL SECURITY}), qr/must be owner/);
	like(as('mallory', q{CREATE POLICY mine ON gen_jobs USING (true)}), qr/must be owner/);
	like(as('mallory', q{CREATE TEMP TABLE gen_jobs (LIKE public.gen_jobs INCLUDING ALL); CREATE TRIGGER t BEFORE INSERT ON pg_temp.gen_jobs FOR EACH ROW EXECUTE FUNCTION genjob.before_insert()}), $denied);
};

try_that 'a role sends its job to a server that it may not use, by changing it' => sub {
	create_server($node, 'closed', 'openai-images', $standin);
	my $id = as('mallory', $insert);

	like(as('mallory', "UPDATE gen_jobs SET server = 'closed' WHERE id = $id"), qr/permission denied for foreign server closed/);
	like(as('mallory', q{INSERT INTO gen_jobs (server, request) VALUES ('closed', '{}')}), qr/permission denied for foreign server closed/);
	like(as('mallory', q{SELECT genjob.preview('closed', '{}')}), qr/permission denied for foreign server closed/);
	query('DROP SERVER closed CASCADE');
};

# ---- words ----

try_that 'a role reads the words of answers to others in genjob.backends and genjob.servers' => sub {
	$node->safe_psql('postgres', qq{
		CREATE SERVER down FOREIGN DATA WRAPPER genjob OPTIONS (api 'openai-images', url 'http://127.0.0.1:9/', auth 'none', retry_base '1 min');
		GRANT USAGE ON FOREIGN SERVER down TO alice, mallory;
		GRANT USAGE ON FOREIGN DATA WRAPPER genjob TO operator;
		ALTER SERVER down OWNER TO operator});
	as('alice', q{INSERT INTO gen_jobs (server, request) SELECT 'down', '{}' FROM generate_series(1, 8)});
	ok($node->poll_query_until('postgres', q{SELECT error ~ 'could not reach' FROM genjob.backends WHERE server = 'down'}), 'it is down');
	ok($node->poll_query_until('postgres', q{SELECT held_reason ~ 'could not reach' FROM genjob.servers WHERE server = 'down'}), 'and held');
	unlike(as('mallory', q{SELECT error FROM genjob.backends WHERE server = 'down'}), qr/could not reach server|127/);
	like(as('mallory', q{SELECT error FROM genjob.backends WHERE server = 'down'}), qr/it could not be reached/, 'but that it is');
	is(as('mallory', q{SELECT held_reason FROM genjob.servers WHERE server = 'down'}), 'the server cannot be reached');
	like(as('watcher', q{SELECT held_reason FROM genjob.servers WHERE server = 'down'}), qr/could not reach/, 'members of pg_read_all_stats see them');
	like(as('operator', q{SELECT error FROM genjob.backends WHERE server = 'down'}), qr/could not reach/, 'and the owner of the server');
	query(q{DELETE FROM gen_jobs WHERE server = 'down'; DROP SERVER down});
};

# ---- servers ----

try_that 'a role gets the jobs of a dropped server by creating one of its name' => sub {
	my $spy = StandIn->new;

	create_server($node, 'gone', 'openai-images', $standin, paused => 'on');
	query('GRANT USAGE ON FOREIGN SERVER gone TO alice');
	my $id = as('alice', q{INSERT INTO gen_jobs (server, request, run_at) VALUES ('gone', '{"prompt": "mine"}', now() + '1 s') RETURNING id});
	my $url = $spy->url;
	$node->safe_psql('postgres', qq{
		BEGIN; DROP SERVER gone CASCADE;
		SET ROLE mallory;
		CREATE SERVER gone FOREIGN DATA WRAPPER genjob OPTIONS (api 'openai-images', url '$url', auth 'none');
		GRANT USAGE ON FOREIGN SERVER gone TO PUBLIC; COMMIT});
	ok(wait_state($node, $id, 'failed'), 'the job fails');
	like(job($node, $id)->{error}, qr/server "gone" was dropped after this job was inserted, and role "mallory" created another one with that name/, 'and says why');
	is(scalar $spy->requests, 0, 'nothing was sent');
	is(as('alice', "UPDATE gen_jobs SET server = server, state = 'queued' WHERE id = $id RETURNING state"), 'queued', 'its owner may want the new one');
	ok(wait_state($node, $id, 'succeeded'), 'which runs it then');
	query(q{DELETE FROM gen_jobs WHERE server = 'gone'; DROP SERVER gone});
	$spy->stop;
};

subtest 'a server that an administrator drops and creates again gets its jobs' => sub {
	create_server($node, 'again', 'openai-images', $standin, paused => 'on');
	query('GRANT USAGE ON FOREIGN SERVER again TO alice');
	my $id = as('alice', q{INSERT INTO gen_jobs (server, request) VALUES ('again', '{"prompt": "a"}') RETURNING id});
	my $url = $standin->url;
	query(qq{BEGIN; DROP SERVER again CASCADE; CREATE SERVER again FOREIGN DATA WRAPPER genjob OPTIONS (api 'openai-images', url '$url', auth 'none');
		GRANT USAGE ON FOREIGN SERVER again TO alice; COMMIT});
	ok(wait_state($node, $id, 'succeeded'));
};

try_that 'a role gets the jobs of a server by creating the fallback that it names' => sub {
	my $spy = StandIn->new;
	my $url = $spy->url;

	create_server($node, 'broken', 'openai-images', 'http://127.0.0.1:9', fallback => 'spare', retry_base => '100 ms');
	query('GRANT USAGE ON FOREIGN SERVER broken TO alice');
	$node->safe_psql('postgres', qq{
		SET ROLE mallory;
		CREATE SERVER spare FOREIGN DATA WRAPPER genjob OPTIONS (api 'openai-images', url '$url', auth 'none');
		GRANT USAGE ON FOREIGN SERVER spare TO PUBLIC});
	my $id = as('alice', q{INSERT INTO gen_jobs (server, request) VALUES ('broken', '{"prompt": "a"}') RETURNING id});
	ok( $node->poll_query_until('postgres', q{SELECT held_reason ~ 'Its fallback "spare" cannot be used: it belongs to another role' FROM genjob.servers WHERE server = 'broken'}),
		'genjob.servers says why it is not used');
	is(job($node, $id)->{ran_on}, undef, 'it was given nothing');
	query('ALTER SERVER spare OWNER TO CURRENT_USER');
	ok(wait_state($node, $id, 'succeeded'), 'it is used once it has the same owner');
	is(job($node, $id)->{ran_on}, 'spare');
	query(q{DROP SERVER broken CASCADE; DROP SERVER spare});
	$spy->stop;
};

# ---- settings ----

try_that 'settings of the database or of a role change what the dispatcher is' => sub {
	my %settings = (
		role => 'alice', default_transaction_read_only => 'on', row_security => 'off', session_replication_role => 'replica',
		DateStyle => 'German', client_encoding => 'LATIN1', search_path => 'nowhere', default_transaction_isolation => 'serializable',
		default_transaction_deferrable => 'on', statement_timeout => '1ms', lock_timeout => '1ms', idle_session_timeout => '10ms',
		idle_in_transaction_session_timeout => '10ms', work_mem => '64kB', temp_file_limit => '0', exit_on_error => 'on',
		TimeZone => 'Asia/Kathmandu', IntervalStyle => 'sql_standard', extra_float_digits => '-15', bytea_output => 'escape', xmlbinary => 'hex',
		standard_conforming_strings => 'off', backslash_quote => 'off', array_nulls => 'off', transform_null_equals => 'on',
		quote_all_identifiers => 'on', default_tablespace => 'pg_global', temp_tablespaces => '', check_function_bodies => 'off',
		enable_indexscan => 'off', enable_nestloop => 'off', enable_seqscan => 'on', random_page_cost => '1000', jit_above_cost => '0', jit => 'on',
		plan_cache_mode => 'force_custom_plan', synchronous_commit => 'off', session_authorization => 'alice', log_statement => 'all',
		constraint_exclusion => 'off', lc_numeric => 'C', max_parallel_workers_per_gather => '4', force_parallel_mode => 'regress',
		parallel_setup_cost => '0', from_collapse_limit => '1', join_collapse_limit => '1', default_toast_compression => 'pglz', track_activities => 'off');

	$node->safe_psql('postgres', 'CREATE DATABASE odd');
	$node->safe_psql('odd', 'CREATE EXTENSION genjob');
	my $pid = wait_dispatcher($node, 'odd');
	create_server($node, 'painter', 'openai-images', $standin, database => 'odd');
	$node->safe_psql('odd', q{GRANT INSERT, SELECT ON gen_jobs TO alice; GRANT USAGE ON FOREIGN SERVER painter TO alice;
		ALTER SERVER painter OPTIONS (ADD max_in_flight '5')});
	my @failed;
	for my $name (sort keys %settings)
	{
		my ($code) = $node->psql('postgres', "ALTER DATABASE odd SET $name = '$settings{$name}'");
		push @failed, $name if $code != 0;
	}
	note("cannot be set for a database: @failed");
	query(q{ALTER ROLE ALL SET default_transaction_read_only = on; ALTER ROLE ALL IN DATABASE odd SET lock_timeout = '1ms'});
	query("SELECT pg_terminate_backend($pid)");
	$node->psql('postgres', q{SET default_transaction_read_only = off; ALTER ROLE ALL RESET default_transaction_read_only});
	$pid = wait_for_another($pid);
	my $plain = q{SET session_authorization = DEFAULT; SET role = none; SET search_path = public; SET default_transaction_read_only = off;
		SET statement_timeout = 0; SET lock_timeout = 0; SET row_security = on; SET default_transaction_isolation = 'read committed';
		SET default_transaction_deferrable = off; SET client_encoding = 'UTF8'; SET exit_on_error = off; SET temp_file_limit = -1;
		SET session_replication_role = origin; SET idle_session_timeout = 0; SET idle_in_transaction_session_timeout = 0;};
	my @ids = split /\n/, (odd($plain . q{INSERT INTO gen_jobs (server, request) SELECT 'painter', '{"prompt": "a"}' FROM generate_series(1, 20) RETURNING id}))[0];
	is(scalar @ids, 20, 'jobs are inserted');
	my $left;
	for (1 .. 600)
	{
		($left) = odd($plain . q{SELECT count(*) FROM gen_jobs WHERE state <> 'succeeded'});
		last if $left eq '0';
		select(undef, undef, undef, 0.1);
	}
	is($left, '0', 'and run, whatever is set');
	is((odd($plain . q{SELECT count(*) FROM gen_outputs}))[0], '20', 'with their outputs');
	is((odd($plain . q{SELECT count(*) FROM genjob.workers WHERE last_error IS NOT NULL}))[0], '0', 'nothing went wrong');
};

sub odd
{
	my ($sql) = @_;
	# what would end this session before its first statement
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_=0" } qw(idle_session_timeout idle_in_transaction_session_timeout statement_timeout lock_timeout);
	my ($code, $out, $err) = $node->psql('odd', $sql);
	diag($err) if $err =~ /ERROR|FATAL/;
	return ($out, $err);
}

sub wait_for_another
{
	my ($pid) = @_;
	for (1 .. 600)
	{
		my $new = dispatcher_pid($node, 'odd');
		return $new if $new ne '' && $new ne $pid;
		select(undef, undef, undef, 0.1);
	}
	die 'no other dispatcher came up';
}

# ---- locks ----

try_that 'a role with UPDATE locks a whole table, by its name or through a view, so that no job runs' => sub {
	my $refused = qr/^ERROR:  must be owner of table (gen_jobs|tenant_weights) to lock it against others/;

	query(q{GRANT UPDATE ON genjob.tenant_weights TO mallory; GRANT CREATE ON SCHEMA public TO mallory});
	query(q{SET ROLE mallory; CREATE VIEW mine AS SELECT id FROM gen_jobs; CREATE VIEW yours AS SELECT (SELECT max(id) FROM mine) AS id});
	for my $mode ('SHARE', 'SHARE ROW EXCLUSIVE', 'EXCLUSIVE', 'ACCESS EXCLUSIVE')
	{
		like(as('mallory', "BEGIN; LOCK TABLE $_ IN $mode MODE"), $refused, "$_ in $mode mode") foreach 'gen_jobs', 'genjob.tenant_weights', 'mine', 'yours', 'ONLY gen_jobs';
	}
	like(as('mallory', q{BEGIN; LOCK gen_jobs}), $refused, 'the mode that is the default');
	like(as('mallory', q{DO $$BEGIN LOCK TABLE public.gen_jobs; END$$}), $refused, 'in a function');
	like(as('alice', "BEGIN; LOCK TABLE genjob.$_ IN ACCESS EXCLUSIVE MODE"), qr{permission denied|must be owner of table gen_jobs}, "the view genjob.$_") foreach qw(own_jobs servers tenants activity);
	is(as('mallory', q{BEGIN; LOCK TABLE gen_jobs IN ACCESS SHARE MODE; LOCK TABLE gen_jobs IN ROW EXCLUSIVE MODE; COMMIT; SELECT 1}), '1', 'modes that keep nobody from writing are had');
	is(query(q{BEGIN; LOCK TABLE gen_jobs, mine IN ACCESS EXCLUSIVE MODE; COMMIT; SELECT 1}), '1', 'an administrator has all');
	query(q{DROP VIEW mine CASCADE; REVOKE ALL ON genjob.tenant_weights FROM mallory; REVOKE CREATE ON SCHEMA public FROM mallory});
};

try_that 'a role keeps rows of gen_outputs of its jobs in an open transaction, so that the dispatcher waits for them' => sub {
	my @held = split /\n/, as('mallory', q{INSERT INTO gen_jobs (server, request)
		SELECT 'painter', '{"prompt": "held", "standin": {"latency_ms": 1500}}' FROM generate_series(1, 6) RETURNING id});

	ok($node->poll_query_until('postgres', q{SELECT count(*) = 6 FROM gen_jobs WHERE state = 'running'}));
	# a role cannot insert them; it can lock those of an earlier attempt
	query('BEGIN; ' . join('', map { "INSERT INTO gen_outputs VALUES ($_, 1, 'text/plain', 0, '', '');" } @held) . q{PREPARE TRANSACTION 'outputs'});
	ok($node->poll_query_until('postgres', q{SELECT last_error ~ 'another transaction locks rows of gen_outputs of job' FROM genjob.workers WHERE database = 'postgres'}),
		'genjob.workers says so');
	my $id = as('alice', q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "beside"}') RETURNING id});
	ok(wait_state($node, $id, 'succeeded'));
	# alone it takes milliseconds; to wait for each row as for a lock on the table took 5 s for one
	is(query("SELECT finished_at - created_at < '4 s' FROM gen_jobs WHERE id = $id"), 't', "another's job is run meanwhile");
	query(q{ROLLBACK PREPARED 'outputs'});
	ok(wait_state($node, $_, 'succeeded'), "job $_ keeps its answer") foreach @held;
	is(query('SELECT max(attempt) FROM gen_jobs WHERE id IN (' . join(', ', @held) . ')'), '1', '... which is paid for once');
};

try_that 'a role that may not lock a table stands in the line for such a lock, so that nobody gets past it' => sub {
	my $holder = Session->new($node);

	query(q{GRANT CREATE ON SCHEMA public TO mallory; REVOKE REFERENCES, TRIGGER ON gen_jobs FROM mallory});
	# each of these waited for as long as mallory liked, and everybody else behind it
	$holder->query(q{SET ROLE mallory; BEGIN; INSERT INTO gen_jobs (server, request) VALUES ('still', '{}'); SELECT count(*) FROM gen_outputs});
	for my $table (qw(gen_jobs gen_outputs))
	{
		for my $sql (
			"CREATE RULE r AS ON INSERT TO $table DO ALSO NOTHING",
			qq{CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO $table DO INSTEAD SELECT 1},
			"CREATE TRIGGER t BEFORE INSERT ON $table FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
			"CREATE CONSTRAINT TRIGGER t AFTER INSERT ON pg_temp.mine FROM $table FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
			"CREATE TABLE child (job bigint REFERENCES $table)",
			"CREATE TABLE child (job bigint, FOREIGN KEY (job) REFERENCES public.$table)",
			"ALTER TABLE pg_temp.mine ADD FOREIGN KEY (job) REFERENCES $table",
			"ALTER TABLE pg_temp.mine ADD COLUMN other bigint REFERENCES $table",
			"CREATE SCHEMA AUTHORIZATION mallory CREATE TABLE child (job bigint REFERENCES public.$table)",
			"CREATE TABLE child PARTITION OF $table DEFAULT",
			"CREATE TABLE child () INHERITS ($table)",
			"DO \$\$BEGIN CREATE TABLE child (job bigint REFERENCES $table); END\$\$")
		{
			like(as('mallory', "CREATE TEMP TABLE mine (job bigint); SET lock_timeout = '3 s'; $sql"),
				qr/must be owner of table $table|permission denied for (table $table|database)/, $sql);
		}
	}
	my $id = as('alice', q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "past them"}') RETURNING id});
	ok(wait_state($node, $id, 'succeeded'), "another's job is run");
	$holder->query('ROLLBACK');
	query(q{GRANT REFERENCES (id) ON gen_jobs TO mallory});
	is(as('mallory', 'CREATE TABLE child (job bigint REFERENCES gen_jobs); DROP TABLE child; SELECT 1'), '1', 'a foreign key is had with the privilege');
	query(q{REVOKE REFERENCES (id) ON gen_jobs FROM mallory; REVOKE CREATE ON SCHEMA public FROM mallory});
};

try_that 'a role that owns no table stands in the line for one, or for an index, that its statement names beside its own' => sub {
	my $holder = Session->new($node);
	my $other = Session->new($node);

	query(q{CREATE SCHEMA m AUTHORIZATION mallory; REVOKE REFERENCES, TRIGGER ON gen_jobs FROM mallory; GRANT CREATE ON SCHEMA public TO mallory;
		GRANT CREATE ON DATABASE postgres TO mallory;
		SET ROLE mallory; CREATE TABLE public.mallorys (a bigint NOT NULL)});
	$holder->query(q{SET ROLE mallory; BEGIN; PREPARE p AS SELECT * FROM gen_jobs; PREPARE q AS SELECT * FROM gen_outputs});
	for my $sql (
		'ALTER TABLE p DETACH PARTITION gen_jobs',
		'ALTER TABLE p DETACH PARTITION gen_outputs CONCURRENTLY',
		'ALTER TABLE p DETACH PARTITION public.gen_outputs FINALIZE',
		'ALTER TABLE p ATTACH PARTITION gen_jobs DEFAULT',
		'ALTER TABLE mine INHERIT gen_jobs',
		'ALTER TABLE mine NO INHERIT gen_jobs',
		'ALTER TABLE mine ADD FOREIGN KEY (a) REFERENCES gen_jobs_ready',
		'ALTER TABLE public.mallorys REPLICA IDENTITY USING INDEX gen_jobs_pkey',
		'ALTER TABLE public.mallorys CLUSTER ON gen_jobs_ready',
		'ALTER TABLE public.mallorys ADD UNIQUE USING INDEX gen_jobs_request',
		'CLUSTER public.mallorys USING gen_jobs_ready',
		'ALTER INDEX pi ATTACH PARTITION gen_jobs_ready',
		'ALTER INDEX gen_jobs_ready DEPENDS ON EXTENSION genjob',
		'ALTER INDEX public.gen_jobs_pkey DEPENDS ON EXTENSION genjob',
		'ALTER MATERIALIZED VIEW gen_jobs DEPENDS ON EXTENSION genjob',
		'ALTER TRIGGER genjob_before_insert ON gen_jobs DEPENDS ON EXTENSION genjob',
		'CREATE STATISTICS m.s ON id, state FROM gen_jobs',
		'CREATE PUBLICATION mine FOR TABLE gen_outputs',
		q{COMMENT ON TABLE gen_jobs IS 'mine'},
		q{COMMENT ON COLUMN gen_jobs.id IS 'mine'},
		q{COMMENT ON INDEX gen_jobs_ready IS 'mine'},
		'CREATE TABLE m.child PARTITION OF gen_jobs DEFAULT')
	{
		like(as('mallory', "CREATE TEMP TABLE mine (a bigint); CREATE TEMP TABLE p (a bigint) PARTITION BY LIST (a); CREATE INDEX pi ON p (a); SET lock_timeout = '3 s'; $sql"),
			qr/must be owner of (table|index) gen_\w+ |permission denied for table gen_jobs_ready/, $sql);
	}
	# the name means a table of hers when it is looked at, and another one when she has waited for p
	query('SET ROLE mallory; CREATE TABLE m.p (a bigint) PARTITION BY LIST (a); CREATE TABLE m.gen_jobs (a bigint)');
	like(as('mallory', q{SET search_path = m, public; SET lock_timeout = '3 s'; ALTER TABLE p DETACH PARTITION gen_jobs}), qr/must be owner of table gen_jobs /, 'a name that may come to mean a table of genjob');
	like(as('mallory', q{ALTER TABLE m.p ATTACH PARTITION m.gen_jobs DEFAULT; SELECT 'done'}), qr/done/, 'her own table is hers to attach');
	$holder->query('ROLLBACK');
	query(q{DROP SCHEMA m CASCADE; DROP TABLE public.mallorys; REVOKE CREATE ON SCHEMA public FROM mallory; REVOKE CREATE ON DATABASE postgres FROM mallory});
};

try_that 'a role has a view that it locks read gen_jobs between the look at it and the lock' => sub {
	my ($changing, $locking, $third, $holder) = map { Session->new($node) } 1 .. 4;

	query(q{CREATE SCHEMA m AUTHORIZATION mallory; SET ROLE mallory; CREATE VIEW m.v1 AS SELECT 1::bigint AS id; CREATE VIEW m.v2 AS SELECT 1::bigint AS id; CREATE TABLE m.t (a int); CREATE TABLE m.c () INHERITS (m.t); CREATE VIEW m.v3 AS SELECT a FROM m.t});
	$_->query('SET ROLE mallory') foreach $changing, $locking, $third, $holder;
	$holder->query('BEGIN; PREPARE p AS SELECT * FROM gen_jobs');
	$changing->query('BEGIN; CREATE OR REPLACE VIEW m.v2 AS SELECT 2::bigint AS id');
	$locking->query('BEGIN');
	$locking->send('LOCK TABLE m.v1, m.v2');
	ok($node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND pid = ' . $locking->pid), 'it waits for the second view');
	$third->send('CREATE OR REPLACE VIEW m.v1 AS SELECT id FROM gen_jobs');
	ok($node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND pid = ' . $third->pid), 'the first one cannot be changed meanwhile');
	$changing->query('COMMIT');
	$locking->answer;
	is(query("SELECT count(*) FROM pg_locks WHERE relation IN ('gen_jobs'::regclass, 'gen_jobs_ready'::regclass) AND pid IN (" . $locking->pid . ', ' . $third->pid . ") AND mode = 'AccessExclusiveLock'"), '0', 'nobody has the lock');
	my $id = as('alice', q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "past views"}') RETURNING id});
	ok(wait_state($node, $id, 'succeeded'), "another's job is run");
	$locking->query('ROLLBACK');
	$third->answer;
	$_->query('ROLLBACK') foreach $changing, $third;
	is(as('mallory', q{BEGIN; LOCK TABLE m.v3, m.t IN SHARE ROW EXCLUSIVE MODE; SELECT string_agg(DISTINCT relation::regclass::text, ' ' ORDER BY relation::regclass::text) FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'ShareRowExclusiveLock'}), 'm.c m.t m.v3', 'what is hers is locked as ever');
	like(as('alice', 'LOCK TABLE m.t'), qr/permission denied for (schema|table)/, 'what is not hers is not');
	query('DROP SCHEMA m CASCADE');
};

$node->stop;
$standin->stop;
done_testing();
