# A function that is called when a job has ended has what its role has, and no more; and it delays nobody else's jobs and
# calls. Each try is one that does not succeed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../perl";

use GenJobTest;
use PostgreSQL::Test::Utils;
use Session;
use StandIn;
use Test::More;

my $standin = StandIn->new;
my $node = new_node(name => 'callbacks', conf => 'genjob.callback_timeout = 2s');

create_server($node, 'painter', 'openai-images', $standin, api_key => 'sk-very-secret');
my $has_dblink = $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'dblink'});
$node->safe_psql('postgres', 'CREATE EXTENSION dblink') if $has_dblink;
$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE mallory LOGIN;
	GRANT INSERT, SELECT, UPDATE, DELETE ON gen_jobs TO alice, mallory;
	GRANT USAGE ON FOREIGN SERVER painter TO alice, mallory;
	CREATE TABLE public.told (job bigint, role text, what text);
	GRANT INSERT, SELECT ON public.told TO alice, mallory;
	CREATE TABLE public.treasure (gold text);
	INSERT INTO public.treasure VALUES ('bars');
	CREATE SCHEMA alice AUTHORIZATION alice;
	CREATE SCHEMA mallory AUTHORIZATION mallory;
	SET ROLE alice;
	CREATE FUNCTION alice.done(job public.gen_jobs) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO public.told VALUES (job.id, current_user, 'done') $$;
	SET ROLE mallory;
	CREATE FUNCTION mallory.done(job public.gen_jobs) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO public.told VALUES (job.id, current_user, 'mallory') $$;
	CREATE FUNCTION mallory.fails(job public.gen_jobs) RETURNS void LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'never'; END $$;
	RESET ROLE;
	CREATE FUNCTION public.plain_done(job public.gen_jobs) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO public.told VALUES (job.id, current_user, 'plain') $$});

sub insert_as
{
	my ($role, $function) = @_;
	return query(qq{SET ROLE $role; INSERT INTO public.gen_jobs (server, request, on_done) VALUES ('painter', '{"prompt": "of $role"}', '$function') RETURNING id});
}

# What a function of mallory's, in PL/pgSQL, comes to: "done", or what it fails of.
my $n = 0;

sub outcome
{
	my ($body) = @_;
	my $name = 'mallory.f' . ++$n;
	query(qq{SET ROLE mallory; CREATE FUNCTION $name(job public.gen_jobs) RETURNS void LANGUAGE plpgsql AS \$f\$ BEGIN $body; INSERT INTO public.told VALUES (job.id, current_user, 'done'); END \$f\$});
	my $id = insert_as('mallory', $name);
	$node->poll_query_until('postgres', qq{SELECT EXISTS (SELECT FROM public.told WHERE job = $id) OR EXISTS (SELECT FROM genjob.callbacks WHERE job_id = $id AND attempts > 0)});
	my $outcome = query("SELECT coalesce((SELECT min(what) FROM public.told WHERE job = $id), (SELECT error FROM genjob.callbacks WHERE job_id = $id))");
	query("DELETE FROM genjob.callbacks WHERE job_id = $id");
	return $outcome;
}

# Alice's jobs are run, and told of, within seconds.
sub others_go_on
{
	my ($what) = @_;
	my $id = insert_as('alice', 'alice.done');
	ok(wait_state($node, $id, 'succeeded'), "$what: others' jobs go on");
	my $called = $node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM public.told WHERE job = $id)");
	return ok($called, '... and their calls are made');
}

subtest 'callbacks 1: a function takes another role, or that of the process' => sub {
	like(outcome(q{SET ROLE postgres}), qr/permission denied to set role/, 'SET ROLE');
	like(outcome(q{SET ROLE genjob_dispatcher}), qr/permission denied to set role/, '... of the dispatcher');
	like(outcome(q{SET SESSION AUTHORIZATION postgres}), qr/permission denied to set session authorization/, 'SET SESSION AUTHORIZATION');
	my $gold = q{PERFORM gold FROM public.treasure};
	like(outcome("RESET ROLE; $gold"), qr/permission denied for table treasure/, 'RESET ROLE');
	like(outcome("SET ROLE NONE; $gold"), qr/permission denied for table treasure/, 'SET ROLE NONE');
	like(outcome("RESET SESSION AUTHORIZATION; $gold"), qr/permission denied for table treasure/, 'RESET SESSION AUTHORIZATION');
	like(outcome("RESET ALL; $gold"), qr/permission denied for table treasure/, 'RESET ALL');
	is(outcome(q{IF session_user <> 'mallory' OR current_user <> 'mallory' OR current_setting('is_superuser') <> 'off' THEN RAISE EXCEPTION 'somebody'; END IF}),
		'done', 'it is who it is');
};

subtest 'callbacks 2: a function reads the secrets of a server' => sub {
	like(outcome(q{PERFORM umoptions FROM pg_user_mapping}), qr/permission denied for table pg_user_mapping/, 'in the catalog');
	is(outcome(q{IF EXISTS (SELECT FROM pg_user_mappings WHERE umoptions::text LIKE '%secret%') THEN RAISE EXCEPTION 'seen'; END IF}), 'done', 'in the view');
};

subtest 'callbacks 3: a function reaches out of the database' => sub {
	like(outcome(q{COPY public.told TO PROGRAM 'cat'}), qr/must be superuser or have privileges|permission denied to COPY/, 'COPY TO PROGRAM');
	like(outcome(q{COPY public.told FROM '/etc/passwd'}), qr/must be superuser or have privileges|permission denied to COPY/, 'COPY FROM a file');
	like(outcome(q{PERFORM pg_read_file('postgresql.conf')}), qr/permission denied for function pg_read_file/, 'pg_read_file()');
	like(outcome(q{PERFORM lo_import('/etc/passwd')}), qr/permission denied for function lo_import/, 'lo_import()');
	like(outcome(q{LOAD '$libdir/plpgsql'}), qr/done|access to library .* is not allowed/, 'LOAD');
};

subtest 'callbacks 4: a function comes back by dblink, as who started the process' => sub {
  SKIP:
	{
		skip 'there is no dblink', 1 unless $has_dblink;
		my $socket = $node->host;
		my $port = $node->port;
		like(outcome(qq{PERFORM * FROM public.dblink('dbname=postgres user=postgres host=$socket port=$port', 'SELECT gold FROM public.treasure') t (gold text)}),
			qr/password is required|password or GSSAPI/, 'it has no credentials');
	}
};

subtest 'callbacks 5: operators and functions of the search_path run as somebody else' => sub {
	query(q{
		SET ROLE mallory;
		CREATE TABLE mallory.seen (role text);
		GRANT INSERT ON mallory.seen TO PUBLIC;
		CREATE FUNCTION mallory.spy(a anyelement, b anyelement) RETURNS boolean LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO mallory.seen VALUES (current_user); RETURN a OPERATOR(pg_catalog.=) b; END $$;
		CREATE OPERATOR mallory.= (FUNCTION = mallory.spy, LEFTARG = anyelement, RIGHTARG = anyelement);
		CREATE FUNCTION mallory.format(text, bigint) RETURNS text LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO mallory.seen VALUES (current_user); RETURN 'x'; END $$;
		CREATE TABLE mallory.gen_jobs (id bigint, on_done text);
		CREATE TABLE mallory.callbacks (id bigint);
		ALTER ROLE mallory SET search_path = mallory, pg_catalog, public});
	query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'genjob caller'});
	is(outcome('NULL'), 'done', 'a call is made');
	others_go_on('a search_path');
	is(query(q{SELECT count(*) FROM mallory.seen WHERE role <> 'mallory'}), '0', 'nobody else has run anything of it');
	query('ALTER ROLE mallory RESET search_path');
	query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'genjob caller'});
};

subtest 'callbacks 6: a function locks the queue against others' => sub {
	foreach my $table (qw(public.gen_jobs genjob.callbacks))
	{
		like(outcome("LOCK TABLE $table IN ACCESS EXCLUSIVE MODE; PERFORM pg_sleep(60)"), qr/must be owner of table|permission denied/, "LOCK TABLE $table");
	}
	query(qq{SET ROLE mallory; CREATE FUNCTION mallory.hold(job public.gen_jobs) RETURNS void LANGUAGE plpgsql AS \$f\$
		BEGIN PERFORM FROM public.gen_jobs FOR UPDATE; PERFORM FROM genjob.callbacks FOR UPDATE; PERFORM pg_advisory_lock(1); PERFORM pg_sleep(60); END \$f\$});
	my $id = insert_as('mallory', 'mallory.hold');
	ok($node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'genjob caller' AND wait_event = 'PgSleep')}));
	others_go_on('row locks');
	my $own = insert_as('mallory', 'mallory.done');
	ok(wait_state($node, $own, 'succeeded'), 'nor do its own jobs wait');
	query("DELETE FROM genjob.callbacks WHERE job_id IN ($id, $own)");
};

subtest 'callbacks 7: functions that sleep for ever keep the calls of others waiting' => sub {
	query(q{SET ROLE mallory; CREATE FUNCTION mallory.sleep(job public.gen_jobs) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$});
	insert_as('mallory', 'mallory.sleep') foreach 1 .. 10;
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'genjob caller' AND usename = 'mallory'}), 'they take all places');
	others_go_on('sleepers');
	cmp_ok(query(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'genjob caller'}), '<=', 2, 'with no more processes than are allowed');
	query(q{DELETE FROM genjob.callbacks WHERE owner = 'mallory'::regrole});
};

subtest 'callbacks 8: a role reads, forges or removes the calls of others' => sub {
	query('ALTER SYSTEM SET genjob.callback_workers = 0');
	query('SELECT pg_reload_conf()');
	query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'genjob caller'});
	my $id = insert_as('alice', 'alice.done');
	ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM genjob.callbacks WHERE job_id = $id)"));
	my $try = sub {
		my ($sql) = @_;
		my ($status, $out, $error) = $node->psql('postgres', "SET ROLE mallory; $sql");
		return $status == 0 ? $out : $error;
	};
	is($try->('SELECT count(*) FROM genjob.callbacks'), '0', 'it sees none');
	$try->('DELETE FROM genjob.callbacks');
	$try->(q{UPDATE genjob.callbacks SET run_at = 'infinity', error = 'x'});
	is(query("SELECT count(*) FROM genjob.callbacks WHERE job_id = $id AND error IS NULL AND run_at < now()"), '1', 'and changes none');
	like($try->("INSERT INTO genjob.callbacks (job_id, attempt, owner) VALUES ($id, 1, 'alice')"), qr/permission denied for table callbacks/, 'nor makes one');
	like($try->("UPDATE genjob.callbacks SET owner = 'alice'"), qr/permission denied for table callbacks/, 'nor gives one to another');
	like($try->(q{INSERT INTO public.gen_jobs (server, request, owner, on_done)
			VALUES ('painter', '{"prompt": "x"}', 'alice', 'mallory.done')}),
		qr/permission denied to insert a job of role "alice"/, 'nor has a function of its own called as another');
	query('ALTER SYSTEM RESET genjob.callback_workers');
	query('SELECT pg_reload_conf()');
	query('UPDATE genjob.callbacks SET run_at = run_at');
	ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM public.told WHERE job = $id AND role = 'alice')"), 'it is made as its owner says');
};

subtest 'callbacks 9: a function ends its process, or the server, again and again' => sub {
	like(outcome('PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10)'), qr/process that made the call ended before the call did/, 'its process: it is counted');
	others_go_on('an end');
	query('ALTER SYSTEM SET restart_after_crash = on');
	query('SELECT pg_reload_conf()');
	query(q{SET ROLE mallory; CREATE FUNCTION mallory.wait(job public.gen_jobs) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(60)'});
	my $id = insert_as('mallory', 'mallory.wait');
	for my $try (1 .. 2)
	{
		ok($node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'genjob caller' AND wait_event = 'PgSleep')}), "call $try");
		my $pid = query(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'genjob caller' AND wait_event = 'PgSleep'});
		kill 'KILL', $pid;
		$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = } . $pid);
		wait_dispatcher($node);
	}
	ok($node->poll_query_until('postgres', "SELECT attempts >= 1 FROM genjob.callbacks WHERE job_id = $id"), 'the server: after the first time it is counted before it is made');
	like(query("SELECT error FROM genjob.callbacks WHERE job_id = $id"), qr/^the call began, and the server stopped during it$|took longer/, '... and says so');
	query("DELETE FROM genjob.callbacks WHERE job_id = $id");
	others_go_on('a crash');
};

# What came of the call for a job that was brought in: whoever ran something of mallory's, and its error.
sub brought
{
	my ($id) = @_;
	ok(wait_state($node, $id, 'succeeded'), 'the job is run');
	ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM genjob.callbacks WHERE job_id = $id AND attempts = 0 AND error IS NULL)"), '... and all that follows it');
	my $outcome = query("SELECT coalesce((SELECT string_agg(what || ' as ' || role, ', ') FROM public.told WHERE job = $id), '')"
		  . " || coalesce((SELECT error FROM genjob.callbacks WHERE job_id = $id), '')");
	query("DELETE FROM genjob.callbacks WHERE job_id = $id");
	return $outcome;
}

my $values = q{('painter', '{"prompt": "x"}', '%s', '%s')};
my $columns = 'INSERT INTO public.gen_jobs (server, request, owner, on_done)';

subtest 'callbacks 10: a publisher of rows has SQL of its own run by writing it into on_done' => sub {
	foreach my $text ('pg_catalog.pg_sleep(0); INSERT INTO public.told SELECT max(id), session_user, $$sql$$ FROM public.gen_jobs; SELECT public.plain_done', 'nothing', '"', 'a.b.c.d', '')
	{
		my $id = query('SET session_replication_role = replica; ' . sprintf("$columns VALUES $values RETURNING id", 'postgres', $text));
		is(brought($id), '', "\"$text\" is left out");
	}
	my $text = literal('pg_catalog.pg_sleep(0); INSERT INTO public.told SELECT max(id), session_user, $$sql$$ FROM public.gen_jobs; SELECT public.plain_done');
	my $id = insert_as('alice', 'alice.done');
	ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM public.told WHERE job = $id)"));
	run_unreported($node, "UPDATE public.gen_jobs SET on_done = $text WHERE id = $id;");
	query("DELETE FROM public.told; INSERT INTO genjob.callbacks (job_id, attempt, owner) VALUES ($id, 1, 'alice')");
	like(brought($id), qr/^on_done names no function f\(gen_jobs\) that exists/, 'nor does who calls run it');
};

subtest 'callbacks 11: a publisher of rows has a function of a lesser role called as a superuser, or as another' => sub {
	foreach my $owner (qw(postgres alice))
	{
		my $id = query('SET session_replication_role = replica; ' . sprintf("$columns VALUES $values RETURNING id", $owner, 'mallory.done'));
		is(brought($id), '', "as $owner: it is left out");
		query("SET session_replication_role = replica; UPDATE public.gen_jobs SET on_done = 'mallory.done' WHERE id = $id");
		is(query("SELECT on_done IS NULL FROM public.gen_jobs WHERE id = $id"), 't', '... also of a change');
		$id = query('SET session_replication_role = replica; ' . sprintf("$columns VALUES $values RETURNING id", $owner, 'public.plain_done'));
		is(brought($id), "plain as $owner", '... one of a superuser is called');
	}
};

subtest "callbacks 12: a member of the tables' owner has a function of its own called as a superuser" => sub {
	query('GRANT USAGE ON SCHEMA mallory TO alice; GRANT genjob_dispatcher TO mallory; GRANT USAGE ON FOREIGN SERVER painter TO genjob_dispatcher');
	foreach my $owner (qw(postgres alice))
	{
		my $id = query('SET ROLE mallory; ' . sprintf("$columns VALUES $values RETURNING id", $owner, 'mallory.done'));
		query("UPDATE public.gen_jobs SET run_at = now() WHERE id = $id");
		is(brought($id), '', "in a job of $owner: it is left out");
		$id = insert_as('mallory', 'mallory.done');
		is(brought($id), 'mallory as mallory', '... its own calls it');
		my (undef, undef, $error) = $node->psql('postgres', "SET ROLE mallory; UPDATE public.gen_jobs SET owner = '$owner' WHERE id = $id");
		like($error, qr/jobs of role "$owner" do not call function mallory.done of role "mallory"/, 'it cannot be given away');
		query('DELETE FROM public.told');
		query("SET ROLE mallory; INSERT INTO genjob.callbacks (job_id, attempt, owner) VALUES ($id, 1, '$owner')");
		is(brought($id), $owner eq 'postgres' ? '' : "job $id does not exist", '... nor the call for it');
		$id = query(sprintf("$columns VALUES $values RETURNING id", 'postgres', 'public.plain_done'));
		is(brought($id), 'plain as postgres');
		query('DELETE FROM public.told');
		run_unreported($node, "UPDATE public.gen_jobs SET on_done = 'mallory.done' WHERE id = $id;");
		query("SET ROLE mallory; INSERT INTO genjob.callbacks (job_id, attempt, owner) VALUES ($id, 1, 'postgres')");
		like(brought($id), qr/^jobs of a superuser do not call function mallory.done of role "mallory"/, '... nor where no trigger looks');
	}
	query('REVOKE genjob_dispatcher FROM mallory');
	my (undef, undef, $error) = $node->psql('postgres', sprintf("$columns VALUES $values", 'postgres', 'mallory.done'));
	like($error, qr/jobs of role "postgres" do not call function mallory.done of role "mallory"/, 'a superuser is told at INSERT');
};

subtest 'callbacks 14: calls of many roles that were given up keep those of others from being found' => sub {
	query(q{DO $$ BEGIN FOR i IN 1 .. 1005 LOOP EXECUTE format('CREATE ROLE given_up_%s', i); END LOOP; END $$;
		CREATE ROLE late LOGIN;
		INSERT INTO genjob.callbacks (job_id, attempt, owner, run_at) SELECT 0, 1, r.oid, 'infinity' FROM pg_roles r WHERE r.rolname LIKE 'given\_up\_%';
		GRANT INSERT, SELECT ON public.gen_jobs TO late;
		GRANT USAGE ON FOREIGN SERVER painter TO late;
		GRANT INSERT, SELECT ON public.told TO late});
	my $id = insert_as('late', 'public.plain_done');
	ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM public.told WHERE job = $id AND role = 'late')"), 'a call is made');
	query(q{DELETE FROM genjob.callbacks WHERE run_at = 'infinity'});
};

subtest 'callbacks 15: a setting of the database keeps all calls from being made' => sub {
	query(q{ALTER DATABASE postgres SET row_security = off;
		SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'genjob caller'});
	my $id = query(q{SET row_security = on; SET ROLE alice; INSERT INTO public.gen_jobs (server, request, on_done) VALUES ('painter', '{"prompt": "a"}', 'alice.done') RETURNING id});
	ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM public.told WHERE job = $id) OR EXISTS (SELECT FROM genjob.callbacks WHERE job_id = $id AND attempts > 0)"), 'a call is made');
	is(query("SELECT what FROM public.told WHERE job = $id"), 'done', '... and succeeds');
	query('ALTER DATABASE postgres RESET row_security');
};

subtest 'callbacks 16: the owner of a schema puts another function in the place of a superuser\'s while calls are made' => sub {
	query(q{GRANT CREATE ON DATABASE postgres TO mallory;
		SET ROLE mallory; CREATE SCHEMA app; CREATE SCHEMA evil; GRANT ALL ON SCHEMA app, evil TO PUBLIC; RESET ROLE;
		CREATE FUNCTION app.done(job public.gen_jobs) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.told VALUES (job.id, current_user, 'done') $$;
		SET ROLE mallory;
		CREATE FUNCTION evil.done(job public.gen_jobs) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.told VALUES (job.id, current_user, 'evil'); END $$;
		RESET ROLE; DELETE FROM public.told});
	query(q{INSERT INTO public.gen_jobs (server, request, on_done) SELECT 'painter', jsonb_build_object('prompt', 'swapped ' || i), 'app.done' FROM generate_series(1, 300) i});
	# each round of swaps lets some calls through; what finds mallory's function is refused, and is made again
	query(q{SET ROLE mallory; DO $$
		BEGIN
			FOR i IN 1 .. 1500 LOOP
				ALTER SCHEMA app RENAME TO away; ALTER SCHEMA evil RENAME TO app; ALTER SCHEMA away RENAME TO evil;
				COMMIT;
			END LOOP;
		END $$});
	query(q{UPDATE genjob.callbacks SET run_at = now()});
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 300 FROM public.told}), 'all are told of');
	is(query(q{SELECT string_agg(DISTINCT what || ' as ' || role, ', ') FROM public.told}), 'done as postgres', '... by the function that was checked');
	query(q{DROP SCHEMA app, evil CASCADE; REVOKE CREATE ON DATABASE postgres FROM mallory});
};

query('CREATE ROLE team; GRANT team TO mallory; GRANT INSERT, SELECT ON public.gen_jobs TO team; GRANT USAGE ON FOREIGN SERVER painter TO team');

subtest 'callbacks 17: a role locks calls that are to be delayed' => sub {
	my $id = insert_as('team', 'public.plain_done');
	eventually("SELECT EXISTS (SELECT FROM genjob.callbacks WHERE job_id = $id AND attempts = 1)", 'a role that cannot log in: its calls are delayed');
	my $session = Session->new($node, user => 'mallory');
	is($session->query("BEGIN; SELECT count(*) FROM (SELECT FROM genjob.callbacks WHERE job_id = $id FOR UPDATE) c"), '1', 'their rows are locked');
	eventually("SELECT run_at < now() FROM genjob.callbacks WHERE job_id = $id", '... when they are due');
	others_go_on('locked rows');
	is(query("SELECT attempts FROM genjob.callbacks WHERE job_id = $id"), '1', '... which nobody has changed');
	$session->query('ROLLBACK');
	eventually("SELECT attempts > 1 FROM genjob.callbacks WHERE job_id = $id", 'they are delayed once they are free');
	$session->quit;
	query("DELETE FROM genjob.callbacks WHERE job_id = $id");
};

subtest 'callbacks 18: a role sets attempts that cannot be counted on' => sub {
	query(q{SET ROLE mallory;
		CREATE FUNCTION mallory.dies(job public.gen_jobs) RETURNS void LANGUAGE plpgsql AS
			$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); END $$});
	foreach my $attempts (2147483647, -2147483648)
	{
		my $end = $attempts > 0 ? q{run_at = 'infinity'} : 'attempts BETWEEN 1 AND 9';
		my $blocked = insert_as('team', 'public.plain_done');
		my $fails = insert_as('mallory', 'mallory.fails');
		my $dies = insert_as('mallory', 'mallory.dies');
		foreach my $id ($blocked, $fails, $dies)
		{
			eventually("SELECT EXISTS (SELECT FROM genjob.callbacks WHERE job_id = $id AND attempts > 0)", 'a call fails');
			query("UPDATE genjob.callbacks SET attempts = $attempts, error = NULL, run_at = now() WHERE job_id = $id", undef, 'mallory');
			eventually("SELECT error IS NOT NULL AND $end FROM genjob.callbacks WHERE job_id = $id", "... also after $attempts");
		}
		others_go_on("attempts $attempts");
		query("DELETE FROM genjob.callbacks WHERE job_id IN ($blocked, $fails, $dies)");
	}
};

subtest 'callbacks 19: a role locks a call whose process has ended' => sub {
	query(q{SET ROLE mallory; CREATE FUNCTION mallory.dies_late(job public.gen_jobs) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM pg_advisory_lock(19);
			PERFORM pg_terminate_backend(pg_backend_pid());
			PERFORM pg_sleep(10);
		END $$});
	my ($id, $session);
	# now and then the dispatcher counts the call before the session has the row
	for (1 .. 20)
	{
		my $gate = Session->new($node);
		$gate->query('SELECT pg_advisory_lock(19)');
		$id = insert_as('mallory', 'mallory.dies_late');
		eventually(q{SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)}, 'the call is made');
		$session = Session->new($node, user => 'mallory');
		$session->send("BEGIN; SELECT count(*) FROM (SELECT FROM genjob.callbacks WHERE job_id = $id FOR UPDATE) c");
		eventually(q{SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted)}, 'somebody waits for its row');
		$gate->quit;
		is($session->answer, '1', '... and has it once the process has ended');
		last if query("SELECT attempts FROM genjob.callbacks WHERE job_id = $id") eq '0';
		$session->quit;
		query("DELETE FROM genjob.callbacks WHERE job_id = $id");
	}
	others_go_on('a locked row');
	is(query("SELECT attempts FROM genjob.callbacks WHERE job_id = $id"), '0', 'it is not counted yet');
	$session->query('ROLLBACK');
	eventually("SELECT attempts >= 1 AND error LIKE 'the process that made the call ended before the call did%' FROM genjob.callbacks WHERE job_id = $id", 'it is counted once the row is free');
	$session->quit;
	query("DELETE FROM genjob.callbacks WHERE job_id = $id");
};

# How often the process of a role that makes its calls has gone to sleep.
sub naps_of_caller
{
	my ($pid) = @_;
	return slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)$/m ? $1 : die 'no figure';
}

subtest 'callbacks 20: a role keeps calls locked that are due' => sub {
	my $id = insert_as('mallory', 'mallory.fails');
	eventually("SELECT EXISTS (SELECT FROM genjob.callbacks WHERE job_id = $id AND attempts > 0)", 'a call fails');
	my $session = Session->new($node, user => 'mallory');
	is($session->query("BEGIN; SELECT count(*) FROM (SELECT FROM genjob.callbacks WHERE job_id = $id FOR UPDATE) c"), '1', 'its row is locked');
	eventually("SELECT run_at < now() FROM genjob.callbacks WHERE job_id = $id", '... when it is due');
	my $done = insert_as('mallory', 'mallory.done');
	eventually("SELECT EXISTS (SELECT FROM public.told WHERE job = $done)", 'another call of the role is made');
	my $pid = query(q{SELECT pid FROM pg_stat_activity WHERE usename = 'mallory' AND backend_type <> 'client backend'});
	my $before = naps_of_caller($pid);
	my $since = query('SELECT clock_timestamp()');
	others_go_on('a locked row that is due');
	eventually("SELECT clock_timestamp() > '$since'::timestamptz + interval '2 s'", 'two seconds pass');
	my $seconds = query("SELECT extract(epoch FROM clock_timestamp() - '$since')");
	my $naps = (naps_of_caller($pid) - $before) / $seconds;
	cmp_ok($naps, '<', 60, sprintf 'its process is woken seldom (it slept %.0f times a second)', $naps);
	$session->query('ROLLBACK');
	eventually("SELECT attempts > 1 FROM genjob.callbacks WHERE job_id = $id", 'the call is made once the row is free');
	$session->quit;
	query("DELETE FROM genjob.callbacks WHERE job_id = $id");
};

subtest 'callbacks 21: a setting of a role has its processes start again and again' => sub {
	query(q{ALTER ROLE alice SET exit_on_error = on; ALTER ROLE alice SET default_transaction_read_only = on;
		SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'genjob caller'});
	my $offset = -s $node->logfile;
	my $id = insert_as('alice', 'alice.done');
	eventually("SELECT EXISTS (SELECT FROM genjob.callbacks WHERE job_id = $id AND attempts = 2 AND error ~ 'read-only')", 'the failure counts, and the next try waits');
	my @ends = slurp_file($node->logfile, $offset) =~ /FATAL: .* read-only transaction/g;
	cmp_ok(scalar @ends, '<', 4, 'no process is started meanwhile');
	query(q{ALTER ROLE alice RESET exit_on_error; ALTER ROLE alice RESET default_transaction_read_only;
		UPDATE genjob.callbacks SET run_at = now()});
	eventually("SELECT EXISTS (SELECT FROM public.told WHERE job = $id)", 'the call is made once the role may write');
};

subtest 'callbacks 13: the owner of the schema puts another table in the place of gen_jobs while calls are made' => sub {
	my $id = insert_as('alice', 'alice.done');
	ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM public.told WHERE job = $id)"), 'there is a process for them');
	query(q{
		CREATE SCHEMA treasury;
		ALTER TABLE public.told SET SCHEMA treasury;
		ALTER SCHEMA public RENAME TO real;
		CREATE SCHEMA public;
		GRANT USAGE ON SCHEMA public, treasury TO PUBLIC;
		ALTER TABLE treasury.told SET SCHEMA public;
		CREATE FUNCTION public.spy(id bigint, attempt integer, out on_done text) LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO public.told VALUES (id, current_user, 'spied'); on_done := 'mallory.done'; END $$;
		CREATE VIEW public.gen_jobs AS SELECT j.id, j.attempt, j.state, j.owner, public.spy(j.id, j.attempt) AS on_done FROM real.gen_jobs j;
		GRANT SELECT ON public.gen_jobs TO PUBLIC});
	$id = query(q{SET ROLE alice; INSERT INTO real.gen_jobs (server, request, on_done) VALUES ('painter', '{"prompt": "of alice"}', 'alice.done') RETURNING id});
	ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM public.told WHERE job = $id)"), 'a call is made');
	is(query("SELECT string_agg(what || ' as ' || role, ', ') FROM public.told WHERE job = $id"), 'done as alice', '... as the row says, and nothing else');
	query(q{
		DROP VIEW public.gen_jobs;
		DROP FUNCTION public.spy;
		ALTER TABLE public.told SET SCHEMA treasury;
		DROP SCHEMA public;
		ALTER SCHEMA real RENAME TO public;
		ALTER TABLE treasury.told SET SCHEMA public;
		DROP SCHEMA treasury});
};

$node->stop;
done_testing();
