# Tries to get at the power of the process that runs the jobs, by code that is hung on its tables: mallory, a role with
# every privilege on them that can be granted, tries it; or an administrator has done so without a thought. No such
# code runs with more rights than the tables' owner has, and what must not run is named in genjob.workers.

use strict;
use warnings;

use GenJobTest qw(!query);
use PostgreSQL::Test::Utils;
use StandIn;
use Test::More;

my $standin = StandIn->new;
my $node = new_node(name => 'power', conf => 'autovacuum = off'); # which evaluates expressions of indexes, as the tables' owner
my $number = 0;

create_server($node, 'painter', 'openai-images', $standin);

sub query
{
	my ($sql, $role) = @_;
	return $node->safe_psql('postgres', $sql, defined $role ? (extra_params => [ '-U', $role ]) : ());
}

# What a statement of mallory's is answered with: the error.
sub refusal
{
	my ($sql) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', $sql, extra_params => [ '-U', 'mallory' ]);
	return $stderr;
}

# What mallory plants says who runs it, and takes what it can get.
query(
	q{
	CREATE ROLE mallory LOGIN;
	CREATE ROLE victim LOGIN;
	CREATE SCHEMA mallory AUTHORIZATION mallory;
	GRANT ALL ON gen_jobs, gen_outputs, genjob.tenant_weights TO mallory;
	GRANT INSERT, SELECT ON gen_jobs TO victim;
	GRANT SELECT ON gen_outputs TO victim;
	GRANT USAGE ON FOREIGN SERVER painter TO mallory, victim});
query(
	q{
	CREATE FUNCTION mallory.climb() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		RAISE LOG 'planted code runs as [%]', current_user;
		IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
			ALTER ROLE mallory SUPERUSER;
		END IF;
		RETURN true;
	END $$;
	GRANT USAGE ON SCHEMA mallory TO PUBLIC}, 'mallory');

# mallory's function evil(), which anything may be hung on: harmless, or, once it hangs there, not.
sub arm
{
	my ($armed) = @_;
	query(
		q{CREATE OR REPLACE FUNCTION mallory.evil(text DEFAULT '') RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
			$$BEGIN } . ($armed ? 'PERFORM mallory.climb();' : '') . q{ RETURN true; END$$}, 'mallory');
	query(
		q{CREATE OR REPLACE FUNCTION mallory.evil_trigger() RETURNS trigger LANGUAGE plpgsql AS
			$$BEGIN } . ($armed ? 'PERFORM mallory.climb();' : '') . q{ RETURN coalesce(NEW, OLD); END$$}, 'mallory');
	return;
}
arm(0);

my $log_from = 0;

# As whom planted code has run since the last time.
sub ran_as
{
	my $log = slurp_file($node->logfile, $log_from);
	$log_from = -s $node->logfile;
	my %roles = map { $_ => 1 } $log =~ /planted code runs as \[([^]]*)\]/g;
	return join ' ', sort keys %roles;
}

sub is_no_superuser
{
	is( query(q{SELECT count(*) FROM pg_roles WHERE rolname IN ('mallory', 'genjob_dispatcher')
			AND (rolsuper OR rolcreaterole OR rolbypassrls OR rolreplication OR rolcreatedb)}),
		'0', 'nobody has become more than he was');
	return;
}

sub jobs_run
{
	my ($what) = @_;
	my $job = enqueue($node, 'painter', { prompt => 'another' });
	ok(wait_state($node, $job, 'succeeded'), $what // 'jobs are run');
	return;
}

# A try is a subtest with its number and one sentence of what is tried.
sub try_it
{
	my ($sentence, $code) = @_;
	$number++;
	subtest "power $number: $sentence" => sub {
		$code->();
		is_no_superuser();
	};
	return;
}

# A job that is due soon after what follows.
# A job that is run once let_run() says so.
sub enqueue_soon
{
	query("SELECT genjob.pause('painter')");
	return enqueue($node, 'painter', { prompt => "soon $number" });
}

sub let_run
{
	query("SELECT genjob.resume('painter')");
	return;
}

sub last_error_like
{
	my ($regex, $what) = @_;
	ok($node->poll_query_until('postgres', "SELECT last_error ~ " . literal($regex) . q{ FROM genjob.workers WHERE database = 'postgres'}), $what)
	  or diag(query(q{SELECT last_error FROM genjob.workers}));
	return;
}

# ---- what a role may not hang on the tables, whatever it was granted ----

foreach (
	[ 'a trigger of a role with TRIGGER', 'CREATE TRIGGER t BEFORE UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()' ],
	[ 'a condition WHEN of a trigger that calls a function', 'CREATE TRIGGER t BEFORE UPDATE ON gen_jobs FOR EACH ROW WHEN (mallory.evil(NEW.server::text)) EXECUTE FUNCTION suppress_redundant_updates_trigger()' ],
	[ "a condition WHEN that reads other roles' jobs by a function of PostgreSQL", q{CREATE TRIGGER t BEFORE UPDATE ON gen_jobs FOR EACH ROW WHEN (query_to_xml('SELECT pg_notify(''x'', request::text) FROM gen_jobs', true, true, '') IS NOT NULL) EXECUTE FUNCTION suppress_redundant_updates_trigger()} ],
	[ 'a trigger that is deferred until the commit', 'CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON gen_jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()' ],
	[ 'a trigger on gen_outputs', 'CREATE TRIGGER t BEFORE INSERT ON gen_outputs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()' ],
	[ 'a trigger on genjob.tenant_weights', 'CREATE TRIGGER t AFTER INSERT ON genjob.tenant_weights FOR EACH STATEMENT EXECUTE FUNCTION mallory.evil_trigger()' ],
	[ "a trigger in place of one of genjob's", 'CREATE OR REPLACE TRIGGER genjob_before_update BEFORE UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()' ],
	[ 'a rule', 'CREATE RULE r AS ON UPDATE TO gen_jobs DO ALSO SELECT mallory.evil()' ],
	[ 'a check constraint', 'ALTER TABLE gen_jobs ADD CHECK (mallory.evil(server::text))' ],
	[ 'a default', 'ALTER TABLE gen_outputs ALTER content_type SET DEFAULT mallory.evil()::text' ],
	[ 'an index over an expression', 'CREATE INDEX i ON gen_jobs ((mallory.evil(server::text)))' ],
	[ 'a generated column', 'ALTER TABLE gen_jobs ADD e boolean GENERATED ALWAYS AS (mallory.evil(server::text)) STORED' ],
	[ 'a policy', 'CREATE POLICY p ON gen_jobs USING (mallory.evil())' ],
	[ 'statistics over an expression', 'CREATE STATISTICS mallory.s ON (mallory.evil(server::text)), id FROM gen_jobs' ],
	[ 'a child table', 'CREATE TABLE mallory.child () INHERITS (gen_jobs)' ],
	[ 'row-level security that is forced', 'ALTER TABLE gen_jobs FORCE ROW LEVEL SECURITY' ],
	[ 'a column of a type with a check', 'CREATE DOMAIN mallory.d AS text CHECK (mallory.evil(VALUE)); ALTER TABLE gen_jobs ALTER tenant TYPE mallory.d' ],
	[ 'the ownership of gen_jobs', 'ALTER TABLE gen_jobs OWNER TO mallory' ],
	[ 'the role genjob_dispatcher', 'SET ROLE genjob_dispatcher' ],
	[ 'a view of genjob that does something else', 'CREATE OR REPLACE VIEW genjob.own_jobs AS SELECT 1::bigint AS id, NULL::gen_job_state AS state' ],
	[ 'an event trigger', 'CREATE FUNCTION mallory.e() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN PERFORM mallory.climb(); END$$; CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION mallory.e()' ])
{
	my ($what, $sql) = @$_;
	try_it(
		"$what is refused where it is tried",
		sub {
			like(refusal($sql), qr/ERROR:  (must be |permission denied |cannot )/, 'an error of the session');
			jobs_run('... and jobs go on');
			is(ran_as(), '', '... and nothing planted has run');
		});
}

foreach (
	[ 'ON DELETE CASCADE', 'CREATE TABLE mallory.r (job bigint, ordinal int, FOREIGN KEY (job, ordinal) REFERENCES gen_outputs ON DELETE CASCADE)' ],
	[ 'ON UPDATE SET NULL', 'CREATE TABLE mallory.r (job bigint, ordinal int); ALTER TABLE mallory.r ADD FOREIGN KEY (job, ordinal) REFERENCES gen_outputs ON UPDATE SET NULL' ],
	[ 'NO ACTION', 'CREATE TABLE mallory.r (job bigint, ordinal int, FOREIGN KEY (job, ordinal) REFERENCES gen_outputs)' ])
{
	my ($action, $sql) = @$_;
	try_it(
		"a foreign key to gen_outputs with $action is refused",
		sub {
			like(refusal($sql), qr/must be owner of table gen_outputs to refer to it by a foreign key.*HINT:  Refer to gen_jobs/s, 'with the way out');
			query('DROP TABLE IF EXISTS mallory.r');
		});
}

# ---- what an administrator has hung there, or what was there before ----

foreach (
	[ 'a trigger', 'trigger "x" of table "gen_jobs" runs a function of role "mallory"',
		'CREATE TRIGGER x BEFORE UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()', 'DROP TRIGGER x ON gen_jobs' ],
	[ 'a condition of a trigger', 'trigger "x" of table "gen_jobs" runs a function of role "mallory"',
		'CREATE TRIGGER x BEFORE UPDATE ON gen_jobs FOR EACH ROW WHEN (mallory.evil(NEW.server::text)) EXECUTE FUNCTION suppress_redundant_updates_trigger()', 'DROP TRIGGER x ON gen_jobs' ],
	[ 'a trigger of gen_outputs', 'trigger "x" of table "gen_outputs" runs a function of role "mallory"',
		'CREATE TRIGGER x AFTER INSERT ON gen_outputs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()', 'DROP TRIGGER x ON gen_outputs' ],
	[ 'a deferred trigger', 'trigger "x" of table "gen_jobs" runs a function of role "mallory"',
		'CREATE CONSTRAINT TRIGGER x AFTER UPDATE ON gen_jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()', 'DROP TRIGGER x ON gen_jobs' ],
	[ 'a check', 'constraint "x" of table "gen_jobs" runs a function of role "mallory"',
		'ALTER TABLE gen_jobs ADD CONSTRAINT x CHECK (mallory.evil(server::text)) NOT VALID', 'ALTER TABLE gen_jobs DROP CONSTRAINT x' ],
	[ 'a default', 'default value for column "x" of table "gen_outputs" runs a function of role "mallory"',
		'ALTER TABLE gen_outputs ADD x boolean; ALTER TABLE gen_outputs ALTER x SET DEFAULT mallory.evil()', 'ALTER TABLE gen_outputs DROP x' ],
	[ 'an expression of an index', 'index "x" of table "gen_jobs" runs a function of role "mallory"',
		'CREATE INDEX x ON gen_jobs ((mallory.evil(server::text)))', 'DROP INDEX x' ],
	[ 'the condition of a partial index', 'index "x" of table "gen_outputs" runs a function of role "mallory"',
		'CREATE INDEX x ON gen_outputs (bytes) WHERE mallory.evil(content_type)', 'DROP INDEX x' ],
	[ 'a generated column', 'default value for column "x" of table "gen_jobs" runs a function of role "mallory"',
		'ALTER TABLE gen_jobs ADD x boolean GENERATED ALWAYS AS (mallory.evil(server::text)) STORED', 'ALTER TABLE gen_jobs DROP x' ],
	[ 'a rule', 'rule "x" of table "gen_jobs" runs a function of role "mallory"',
		'CREATE RULE x AS ON UPDATE TO gen_jobs DO ALSO SELECT mallory.evil()', 'DROP RULE x ON gen_jobs' ],
	[ 'a rule that writes a table', 'rule "x" of table "gen_jobs" uses a table of role "mallory"',
		'CREATE TABLE mallory.log (id bigint); ALTER TABLE mallory.log OWNER TO mallory; CREATE RULE x AS ON UPDATE TO gen_jobs DO ALSO INSERT INTO mallory.log VALUES (NEW.id)', 'DROP RULE x ON gen_jobs; DROP TABLE mallory.log' ],
	[ 'statistics over an expression', 'statistics object "public.x" of table "gen_jobs" runs a function of role "mallory"',
		'CREATE STATISTICS x ON (mallory.evil(server::text)), id FROM gen_jobs', 'DROP STATISTICS x' ],
	[ 'a domain as a column', 'a column of table "gen_outputs" has a type of role "mallory"',
		'CREATE DOMAIN mallory.w AS text CHECK (mallory.evil(VALUE)); ALTER DOMAIN mallory.w OWNER TO mallory; ALTER TABLE gen_outputs ADD x mallory.w', 'ALTER TABLE gen_outputs DROP x; DROP DOMAIN mallory.w' ],
	[ "a domain of an administrator's with a check", 'a column of table "gen_outputs" runs a function of role "mallory"',
		'CREATE DOMAIN d AS text CHECK (mallory.evil(VALUE)); ALTER TABLE gen_outputs ADD x d', 'ALTER TABLE gen_outputs DROP x; DROP DOMAIN d' ],
	[ 'an operator', 'constraint "x" of table "gen_jobs" runs an operator of role "mallory"',
		'CREATE FUNCTION mallory.eq(text, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$SELECT mallory.evil($1)$$; CREATE OPERATOR mallory.=== (FUNCTION = mallory.eq, LEFTARG = text, RIGHTARG = int); ALTER OPERATOR mallory.=== (text, int) OWNER TO mallory; ALTER TABLE gen_jobs ADD CONSTRAINT x CHECK (server::text OPERATOR(mallory.===) 1) NOT VALID',
		'ALTER TABLE gen_jobs DROP CONSTRAINT x; DROP OPERATOR mallory.=== (text, int); DROP FUNCTION mallory.eq' ],
	[ "an administrator's function whose body calls one", 'constraint "x" of table "gen_jobs" runs a function of role "mallory"',
		'CREATE FUNCTION harmless(text) RETURNS boolean IMMUTABLE RETURN mallory.evil($1); ALTER TABLE gen_jobs ADD CONSTRAINT x CHECK (harmless(server::text)) NOT VALID',
		'ALTER TABLE gen_jobs DROP CONSTRAINT x; DROP FUNCTION harmless' ],
	[ 'a child table', 'a column of table "child" uses a table of role "mallory"',
		'CREATE TABLE child () INHERITS (gen_jobs); ALTER TABLE child OWNER TO mallory', 'DROP TABLE child' ])
{
	my ($what, $message, $plant, $drop) = @$_;
	try_it(
		"$what that an administrator hung on the tables runs nothing of mallory's",
		sub {
			my $job = enqueue_soon();
			query($plant);
			arm(1);
			let_run();
			last_error_like($message, 'genjob.workers names it, and the role');
			last_error_like('(OWNER TO|drop)', '... and the way out');
			is(ran_as(), '', '... and nothing planted has run');
			arm(0);
			query($drop);
			ok(wait_state($node, $job, 'succeeded'), 'without it the job is run');
			is(job($node, $job)->{attempt}, 1, '... once');
		});
}

foreach (
	[ 'a policy', 'CREATE POLICY x ON gen_jobs USING (mallory.evil())', 'DROP POLICY x ON gen_jobs' ],
	[ 'a default of gen_jobs', 'ALTER TABLE gen_jobs ALTER tenant SET DEFAULT mallory.evil()::text', 'ALTER TABLE gen_jobs ALTER tenant SET DEFAULT CURRENT_USER' ],
	[ 'a trigger of an INSERT', 'CREATE TRIGGER x BEFORE INSERT ON gen_jobs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()', 'DROP TRIGGER x ON gen_jobs' ],
	[ 'a trigger that is disabled', 'CREATE TRIGGER x BEFORE UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger(); ALTER TABLE gen_jobs DISABLE TRIGGER x', 'DROP TRIGGER x ON gen_jobs' ],
	[ 'a trigger of genjob.tenant_weights', 'CREATE TRIGGER x BEFORE UPDATE ON genjob.tenant_weights FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()', 'DROP TRIGGER x ON genjob.tenant_weights' ])
{
	my ($what, $plant, $drop) = @$_;
	try_it(
		"$what, which does not concern the dispatcher, neither runs there nor stops it",
		sub {
			my $job = enqueue_soon();
			query($plant);
			arm(1);
			let_run();
			ok(wait_state($node, $job, 'succeeded'), 'a job is run');
			is(ran_as(), '', '... and nothing planted has run');
			arm(0);
			query($drop);
		});
}

try_it(
	'a function that is given to mallory while a trigger has it is noticed',
	sub {
		query(
			q{CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
			CREATE TRIGGER audit BEFORE UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION audit()});
		jobs_run("with an administrator's trigger jobs are run");
		my $job = enqueue_soon();
		query('ALTER FUNCTION audit() OWNER TO mallory');
		let_run();
		last_error_like('trigger "audit" of table "gen_jobs" runs a function of role "mallory"', 'it is named');
		my $su = query('SELECT current_user');
		query(qq{ALTER FUNCTION audit() OWNER TO "$su"});
		ok(wait_state($node, $job, 'succeeded'), 'given back, jobs are run');
		query('CREATE ROLE boss SUPERUSER; ALTER FUNCTION audit() OWNER TO boss');
		jobs_run('a function of another superuser is as good');
		$job = enqueue_soon();
		query('ALTER ROLE boss NOSUPERUSER');
		let_run();
		last_error_like('runs a function of role "boss"', '... until he is none any more');
		query('DROP TRIGGER audit ON gen_jobs; DROP FUNCTION audit(); DROP ROLE boss');
		ok(wait_state($node, $job, 'succeeded'), 'without it jobs are run');
	});

# ---- foreign keys ----

try_it(
	"a foreign key of an application's to gen_jobs works",
	sub {
		query('CREATE TABLE victim_orders (id int PRIMARY KEY, job bigint REFERENCES gen_jobs ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED); ALTER TABLE victim_orders OWNER TO mallory');
		query('CREATE TRIGGER t AFTER DELETE OR UPDATE ON victim_orders FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()', 'mallory');
		arm(1);
		my $job = enqueue($node, 'painter', StandIn::request(prompt => 'ordered', latency_ms => 300));
		query("INSERT INTO victim_orders VALUES (1, $job)", 'mallory');
		ok(wait_state($node, $job, 'succeeded'), 'a job that is referred to is run');
		$job = enqueue($node, 'painter', StandIn::request(prompt => 'failed', id => 'failed', faults => [ { status => 400 } ]));
		query("INSERT INTO victim_orders VALUES (2, $job)", 'mallory');
		ok(wait_state($node, $job, 'failed'), 'and fails');
		query("SELECT genjob.retry($job)");
		ok(wait_state($node, $job, 'succeeded'), '... and runs again');
		is(ran_as(), '', 'nothing planted has run');
		arm(0);
		query('DROP TABLE victim_orders');
	});

# A job that has failed, with three outputs of which the next attempt brings one.
sub failed_with_outputs
{
	my ($prompt) = @_;
	my $job = enqueue($node, 'painter', StandIn::request(prompt => $prompt, id => $prompt, faults => [ { status => 400 } ]));
	wait_state($node, $job, 'failed');
	query("INSERT INTO gen_outputs SELECT $job, n, 'text/plain', 1, sha256('x'), 'x' FROM generate_series(1, 3) n");
	return $job;
}

sub outputs_of
{
	my ($job) = @_;
	return query("SELECT string_agg(ordinal || ' ' || content_type, ', ' ORDER BY ordinal) FROM gen_outputs WHERE job_id = $job");
}

foreach my $action ('CASCADE', 'SET NULL', 'SET DEFAULT', 'NO ACTION', 'RESTRICT', 'NO ACTION DEFERRABLE INITIALLY DEFERRED')
{
	my $name = lc $action;
	try_it(
		"a foreign key of mallory's to gen_outputs, ON DELETE $action, runs nothing and keeps no job running",
		sub {
			my $job = failed_with_outputs("referred to $name");
			# as an upgrade or a restore leaves it
			query("CREATE TABLE refs (job bigint, ordinal int, FOREIGN KEY (job, ordinal) REFERENCES gen_outputs ON DELETE $action);
				INSERT INTO refs VALUES ($job, 2); ALTER TABLE refs OWNER TO mallory");
			query('CREATE CONSTRAINT TRIGGER t AFTER DELETE OR UPDATE ON refs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger();
				CREATE TRIGGER u BEFORE DELETE OR UPDATE ON refs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()', 'mallory');
			arm(1);
			query("SELECT genjob.retry($job)");
			ok(wait_state($node, $job, 'succeeded'), 'the job is run again');
			is(outputs_of($job), '1 image/png, 2 text/plain, 3 text/plain', '... its output is there, and what is referred to stays');
			is(job($node, $job)->{result}{data}[0]{b64_json}{'$output'}, 1, '... which its result does not name');
			last_error_like('outputs of earlier attempts stay in gen_outputs: foreign key refs_job_ordinal_fkey of table public.refs', '... as genjob.workers says');
			is(ran_as(), '', 'nothing planted has run');
			arm(0);
			query('DROP TABLE refs');
		});
}

foreach my $action ('NO ACTION', 'RESTRICT', 'NO ACTION DEFERRABLE INITIALLY DEFERRED')
{
	try_it(
		"an administrator's foreign key to gen_outputs, ON DELETE $action, keeps no job running",
		sub {
			my ($job, $other) = map { failed_with_outputs("$_ " . lc $action) } qw(kept other);
			query("CREATE TABLE refs (job bigint, ordinal int, FOREIGN KEY (job, ordinal) REFERENCES gen_outputs ON DELETE $action); INSERT INTO refs VALUES ($job, 2)");
			query("SELECT genjob.retry($job), genjob.retry($other)");
			ok(wait_state($node, $_, 'succeeded'), "job $_ is run again") foreach $job, $other;
			is(outputs_of($job), '1 image/png, 2 text/plain, 3 text/plain', 'outputs of the job that is referred to stay');
			is(outputs_of($other), '1 image/png', "... and the other's are gone");
			query('DROP TABLE refs');
		});
}

try_it(
	"an administrator's foreign key to gen_outputs, ON DELETE CASCADE, does what it says, and no more",
	sub {
		my $job = failed_with_outputs('cascade');
		query("CREATE TABLE refs (job bigint, ordinal int, FOREIGN KEY (job, ordinal) REFERENCES gen_outputs ON DELETE CASCADE); INSERT INTO refs VALUES ($job, 1), ($job, 2);
			CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \$\$BEGIN RAISE LOG 'planted code runs as [%]', current_user; RETURN NULL; END\$\$;
			CREATE CONSTRAINT TRIGGER t AFTER DELETE ON refs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()");
		ran_as();
		query("SELECT genjob.retry($job)");
		ok(wait_state($node, $job, 'succeeded'), 'the job is run again');
		is(outputs_of($job), '1 image/png', '... what is surplus is gone');
		is(query('SELECT ordinal FROM refs'), '1', '... with what referred to it');
		# from PostgreSQL 18 on as the role that had the row deleted: for a foreign key the table's owner
		is(ran_as(), $node->pg_version < 18 ? 'genjob_dispatcher' : 'postgres', '... and the trigger of that ran as PostgreSQL has it');
		query('DROP TABLE refs; DROP FUNCTION note()');
	});

# ---- code of an administrator's that lacks a right, or comes late ----

try_it(
	"an administrator's trigger that lacks a right names the role and the way out",
	sub {
		query(
			q{CREATE TABLE audit_log (id bigint, state text, who text, outputs bigint);
			CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
				$$BEGIN INSERT INTO public.audit_log VALUES (NEW.id, NEW.state, current_user, (SELECT count(*) FROM public.gen_outputs WHERE job_id = NEW.id)); RETURN NULL; END$$;
			CREATE TRIGGER audit AFTER UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION audit()});
		my $job = enqueue($node, 'painter', { prompt => 'audited' });
		last_error_like('permission denied for table audit_log.*role "genjob_dispatcher".*GRANT.*SECURITY DEFINER', 'in genjob.workers');
		query('GRANT INSERT ON audit_log TO genjob_dispatcher');
		ok(wait_state($node, $job, 'succeeded'), 'with a GRANT it works');
		is(query("SELECT string_agg(state || ' ' || who, ', ' ORDER BY state) FROM audit_log WHERE id = $job"),
			'running genjob_dispatcher, succeeded genjob_dispatcher', '... as that role');
		query('REVOKE ALL ON audit_log FROM genjob_dispatcher; ALTER FUNCTION audit() SECURITY DEFINER SET search_path = pg_catalog, pg_temp');
		jobs_run('and so does SECURITY DEFINER');
		query('DROP TRIGGER audit ON gen_jobs');
		query('REVOKE USAGE ON SCHEMA public FROM genjob_dispatcher, PUBLIC');
		$job = enqueue($node, 'painter', { prompt => 'in a schema that is shut' });
		last_error_like('permission denied for schema public.*GRANT USAGE ON SCHEMA public TO genjob_dispatcher', 'of the schema of the tables it says so');
		query('GRANT USAGE ON SCHEMA public TO genjob_dispatcher, PUBLIC');
		ok(wait_state($node, $job, 'succeeded'), 'with that GRANT it works');
	});

try_it(
	"an administrator's deferred trigger fires with all of a job there, and leaves no setting behind",
	sub {
		query(
			q{ALTER FUNCTION audit() SECURITY INVOKER; GRANT INSERT ON audit_log TO genjob_dispatcher; TRUNCATE audit_log;
			CREATE CONSTRAINT TRIGGER audit AFTER UPDATE ON gen_jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit();
			CREATE FUNCTION unsettle() RETURNS trigger LANGUAGE plpgsql AS
				$$BEGIN PERFORM set_config('search_path', 'mallory', false), set_config('statement_timeout', '1ms', false), set_config('enable_indexscan', 'off', false); RETURN NULL; END$$;
			CREATE CONSTRAINT TRIGGER unsettle AFTER UPDATE ON gen_jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION unsettle()});
		query(
			q{CREATE FUNCTION mallory.same(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT mallory.climb()';
			CREATE OPERATOR mallory.= (FUNCTION = mallory.same, LEFTARG = name, RIGHTARG = text)}, 'mallory');
		my $job = enqueue($node, 'painter', { prompt => 'late', n => 2 });
		ok(wait_state($node, $job, 'succeeded'), 'a job is run');
		is(query("SELECT string_agg(state || ' ' || who || ' ' || outputs, ', ' ORDER BY state) FROM audit_log WHERE id = $job"),
			'running genjob_dispatcher 0, succeeded genjob_dispatcher 2', '... and its outputs are there when it fires');
		create_server($node, "more $number", 'openai-images', $standin); # has the dispatcher look at the catalogs
		jobs_run();
		is(ran_as(), '', 'no operator of mallory is found');
		query('DROP TRIGGER audit ON gen_jobs; DROP TRIGGER unsettle ON gen_jobs; DROP FUNCTION unsettle()');
	});

# ---- tables that are given away ----

my $tries = q{
	CREATE OR REPLACE FUNCTION mallory.evil_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		try text;
	BEGIN
		PERFORM mallory.climb();
		FOREACH try IN ARRAY ARRAY['SET ROLE boss', 'RESET ROLE', 'SET SESSION AUTHORIZATION boss', 'RESET SESSION AUTHORIZATION',
			'SET SESSION AUTHORIZATION DEFAULT', 'ALTER SYSTEM SET work_mem = 64', $q$COPY mallory.t FROM PROGRAM 'id'$q$, $q$COPY mallory.t TO '/tmp/genjob-power'$q$,
			$q$SELECT pg_read_file('PG_VERSION')$q$, $q$SELECT lo_export(1, '/tmp/genjob-power')$q$, $q$SELECT pg_ls_dir('.')$q$, 'LISTEN x',
			'CREATE ROLE more SUPERUSER', 'GRANT pg_execute_server_program TO mallory', 'SELECT * FROM pg_authid', 'LOAD ''genjob''',
			'SELECT pg_terminate_backend(pg_backend_pid())',
			'SELECT umoptions FROM pg_user_mapping', $q$CREATE FUNCTION mallory.c() RETURNS void AS 'genjob', 'genjob_version' LANGUAGE C$q$,
			'UPDATE pg_catalog.pg_roles SET rolsuper = true', 'SET session_replication_role = replica']
		LOOP
			BEGIN
				EXECUTE try;
				RAISE LOG 'planted code was let: [%] as [%]', try, current_user;
			EXCEPTION WHEN OTHERS THEN
				NULL;
			END;
			PERFORM mallory.climb();
		END LOOP;
		RETURN coalesce(NEW, OLD);
	END $$;
	CREATE TABLE mallory.t (t text);
	CREATE TRIGGER x AFTER UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()};

try_it(
	'one table that is given to another role is named, with the statement that mends it',
	sub {
		my $job = enqueue_soon();
		query('ALTER TABLE gen_jobs OWNER TO mallory');
		let_run();
		last_error_like('table "gen_outputs" belongs to role "genjob_dispatcher", but gen_jobs to role "mallory".*ALTER TABLE public.gen_outputs OWNER TO mallory', 'in genjob.workers');
		query('ALTER TABLE gen_jobs OWNER TO genjob_dispatcher');
		ok(wait_state($node, $job, 'succeeded'), 'given back, jobs are run');
	});

try_it(
	'tables that are given to mallory have the dispatcher work as mallory, whose triggers gain nothing',
	sub {
		query('CREATE ROLE boss SUPERUSER; ALTER TABLE gen_jobs OWNER TO mallory; ALTER TABLE gen_outputs OWNER TO mallory; ALTER TABLE genjob.tenant_weights OWNER TO mallory');
		query($tries, 'mallory');
		my $job = enqueue($node, 'painter', { prompt => 'of mallory' });
		ok(wait_state($node, $job, 'succeeded'), 'jobs are run');
		is(ran_as(), 'mallory', "mallory's trigger runs as mallory");
		my @let = slurp_file($node->logfile) =~ /planted code was let: \[(.*?)\] as/g;
		is("@let", '', '... and is let do nothing else');
		my (undef, undef, $refused) = $node->psql('postgres', "SELECT genjob.retry($job)");
		like($refused, qr/ALTER VIEW genjob.own_jobs OWNER TO/, 'genjob.retry() says what it lacks');
		query('ALTER VIEW genjob.own_jobs OWNER TO mallory');
		is(query("SELECT genjob.retry($job)"), 'f', '... and has it');
		query('DROP TRIGGER x ON gen_jobs', 'mallory');
		query('ALTER VIEW genjob.own_jobs OWNER TO genjob_dispatcher;
			ALTER TABLE gen_jobs OWNER TO genjob_dispatcher; ALTER TABLE gen_outputs OWNER TO genjob_dispatcher; ALTER TABLE genjob.tenant_weights OWNER TO genjob_dispatcher; DROP ROLE boss');
		jobs_run('given back, too');
	});

try_it(
	"tables that a superuser owns run no function of mallory's",
	sub {
		my $su = query('SELECT current_user');
		query(qq{ALTER TABLE gen_jobs OWNER TO "$su"; ALTER TABLE gen_outputs OWNER TO "$su"; ALTER TABLE genjob.tenant_weights OWNER TO "$su"});
		jobs_run();
		my $job = enqueue_soon();
		query('CREATE TRIGGER x BEFORE UPDATE ON gen_jobs FOR EACH ROW WHEN (mallory.evil(NEW.server::text)) EXECUTE FUNCTION suppress_redundant_updates_trigger()');
		arm(1);
		let_run();
		last_error_like('trigger "x" of table "gen_jobs" runs a function of role "mallory"', 'genjob.workers names it');
		is(ran_as(), '', 'nothing planted has run');
		arm(0);
		query('DROP TRIGGER x ON gen_jobs;
			ALTER TABLE gen_jobs OWNER TO genjob_dispatcher; ALTER TABLE gen_outputs OWNER TO genjob_dispatcher; ALTER TABLE genjob.tenant_weights OWNER TO genjob_dispatcher');
		ok(wait_state($node, $job, 'succeeded'), 'without it jobs are run');
	});

# ---- genjob.cancel() and genjob.retry() ----

query(
	q{
	GRANT INSERT ON audit_log TO PUBLIC;
	CREATE FUNCTION unqualified() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN INSERT INTO audit_log (id, state, who) VALUES (NEW.id, NEW.state, current_user); RETURN NULL; END$$;
	CREATE SERVER closed FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', auth 'none', paused 'on');
	GRANT USAGE ON FOREIGN SERVER closed TO mallory, victim;
	REVOKE ALL ON gen_jobs FROM mallory;
	GRANT INSERT, SELECT ON gen_jobs TO mallory;
	CREATE TRIGGER unqualified AFTER UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION unqualified()});

try_it(
	"a temporary table that takes the place of an administrator's in a trigger runs its default as the caller",
	sub {
		query(
			q{
			CREATE FUNCTION pg_temp.evil() RETURNS text LANGUAGE plpgsql AS $$BEGIN PERFORM mallory.climb(); RETURN ''; END$$;
			CREATE TEMP TABLE audit_log (id bigint, state text, who text, x text DEFAULT pg_temp.evil());
			INSERT INTO gen_jobs (server, request) VALUES ('closed', '{}');
			SELECT genjob.cancel(max(id)) FROM gen_jobs;
			SELECT genjob.retry(max(id)) FROM gen_jobs;
			SELECT genjob.cancel(max(id)) FROM gen_jobs;
			UPDATE genjob.own_jobs SET state = 'queued' WHERE id = (SELECT max(id) FROM gen_jobs)}, 'mallory');
		is(ran_as(), 'mallory', 'cancel(), retry() and an UPDATE of the view run it as mallory');
	});

try_it(
	"operators and functions in the caller's search_path are run as the caller, if at all",
	sub {
		query(
			q{
			CREATE FUNCTION mallory.any_state(anyenum, text) RETURNS boolean LANGUAGE sql AS 'SELECT mallory.climb()';
			CREATE OPERATOR mallory.= (FUNCTION = mallory.any_state, LEFTARG = anyenum, RIGHTARG = text);
			CREATE FUNCTION mallory.same_id(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT mallory.climb()';
			CREATE OPERATOR mallory.= (FUNCTION = mallory.same_id, LEFTARG = bigint, RIGHTARG = bigint);
			CREATE FUNCTION mallory.pg_has_role(oid, text) RETURNS boolean LANGUAGE sql AS 'SELECT mallory.climb()';
			CREATE FUNCTION mallory.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.now() WHERE mallory.climb()';
			CREATE TABLE mallory.audit_log (id bigint, state text, who text);
			SET search_path = mallory, public, pg_catalog;
			INSERT INTO public.gen_jobs (server, request) VALUES ('closed', '{}');
			SELECT genjob.cancel(max(id)) FROM public.gen_jobs;
			SELECT genjob.retry(max(id)) FROM public.gen_jobs;
			SELECT genjob.pause('closed') IS NULL WHERE false;
			SELECT (SELECT count(*) FROM genjob.servers) + (SELECT count(*) FROM genjob.tenants) + (SELECT count(*) FROM genjob.backends), genjob.estimate('closed')}, 'mallory');
		like(ran_as(), qr/^(mallory)?$/, 'nothing planted has run as another role');
	});

try_it(
	"a trigger runs as who calls, with the caller's search_path, as in an UPDATE of the table",
	sub {
		my $job = query(q{INSERT INTO gen_jobs (server, request) VALUES ('closed', '{}') RETURNING id}, 'victim');
		query("SELECT genjob.cancel($job)", 'victim');
		is(query("SELECT who FROM audit_log WHERE id = $job"), 'victim', "an administrator's trigger sees the caller");
		is(query("SELECT error FROM gen_jobs WHERE id = $job"), 'cancelled by role "victim"', '... whom the job names');
		query('REVOKE INSERT ON audit_log FROM PUBLIC');
		my (undef, undef, $error) = $node->psql('postgres', "SELECT genjob.retry($job)", extra_params => [ '-U', 'victim' ]);
		like($error, qr/permission denied for table audit_log/, "and has the caller's rights alone");
		query('DROP TRIGGER unqualified ON gen_jobs');
	});

try_it(
	"the view behind them shows and changes nobody else's jobs, and nothing but their state",
	sub {
		my $job = query(q{INSERT INTO gen_jobs (server, request) VALUES ('closed', '{"prompt": "secret"}') RETURNING id}, 'victim');
		my $own = query(q{INSERT INTO gen_jobs (server, request) VALUES ('closed', '{}') RETURNING id}, 'mallory');
		is(query("SELECT count(*) FROM genjob.own_jobs WHERE id = $job", 'mallory'), '0', 'a job of another role is not shown');
		query("UPDATE genjob.own_jobs SET state = 'cancelled' WHERE id = $job", 'mallory');
		is(query("SELECT state FROM gen_jobs WHERE id = $job"), 'queued', '... nor changed');
		query(q{CREATE FUNCTION mallory.leak(bigint) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
			$$BEGIN RAISE WARNING 'leaked %', $1; RETURN true; END$$}, 'mallory');
		my (undef, undef, $warnings) = $node->psql('postgres', 'SELECT id FROM genjob.own_jobs WHERE mallory.leak(id)', extra_params => [ '-U', 'mallory' ]);
		unlike($warnings, qr/leaked $job\b/, '... nor leaked to a function');
		like(refusal("UPDATE genjob.own_jobs SET state = 'succeeded' WHERE id = $own"), qr/cannot change state/, 'no result is forged');
		like(refusal("UPDATE genjob.own_jobs SET id = 1 WHERE id = $own"), qr/permission denied/, '... nor an id');
		like(refusal($_), qr/permission denied/, $_) foreach "DELETE FROM genjob.own_jobs WHERE id = $own", "INSERT INTO genjob.own_jobs (id) VALUES (1)";
		like(refusal("SELECT genjob.cancel($job)"), qr/job $job does not exist/, "genjob.cancel() knows nothing of another's job");
		is(query("SELECT genjob.cancel($job), genjob.cancel($own)"), 't|t', 'a superuser stops both');
	});

# ---- names that are moved ----

try_it(
	'a table of the same name in the place of a dropped one is none of ours',
	sub {
		query('GRANT CREATE ON SCHEMA public TO mallory');
		query('DROP EXTENSION genjob CASCADE');
		query(
			q{CREATE TABLE public.gen_jobs (id bigint, server text, state text);
			INSERT INTO public.gen_jobs VALUES (1, 'painter', 'queued');
			CREATE TRIGGER x BEFORE UPDATE ON public.gen_jobs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()}, 'mallory');
		arm(1);
		$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher' AND datname = 'postgres')});
		query('DROP TABLE public.gen_jobs', 'mallory');
		query('CREATE EXTENSION genjob');
		create_server($node, 'painter', 'openai-images', $standin);
		jobs_run('a new extension in the same database');
		is(ran_as(), '', 'nothing planted has run');
	});

try_it(
	'a schema that is renamed, and created again by mallory, does not mislead the dispatcher',
	sub {
		arm(0);
		query('DROP EXTENSION genjob CASCADE; CREATE SCHEMA q AUTHORIZATION mallory; GRANT CREATE ON DATABASE postgres TO mallory; CREATE EXTENSION genjob SCHEMA q; GRANT SELECT ON q.gen_jobs, q.gen_outputs TO mallory');
		create_server($node, 'painter', 'openai-images', $standin);
		my @jobs = map { query("INSERT INTO q.gen_jobs (server, request) VALUES ('painter', " . literal(StandIn::request(prompt => "moved $_", latency_ms => 200 * $_)) . ') RETURNING id') } 1 .. 6;
		arm(1);
		query('ALTER SCHEMA q RENAME TO hidden');
		query(
			q{CREATE SCHEMA q;
			CREATE TABLE q.gen_jobs (LIKE hidden.gen_jobs INCLUDING ALL);
			CREATE TABLE q.gen_outputs (LIKE hidden.gen_outputs INCLUDING ALL);
			CREATE TRIGGER x BEFORE UPDATE ON q.gen_jobs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger();
			CREATE TRIGGER x BEFORE INSERT ON q.gen_outputs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger()}, 'mallory');
		ok($node->poll_query_until('postgres', q{SELECT count(*) = 6 FROM hidden.gen_jobs WHERE state = 'succeeded'}), 'all jobs end in the tables that were renamed')
		  or diag(query('SELECT state, error FROM hidden.gen_jobs; SELECT last_error FROM genjob.workers'));
		is(ran_as(), '', 'nothing planted has run');
	});

# ---- casts of foreign keys, and weights of owners ----

try_it(
	"a foreign key from a type of mallory's with a cast of mallory's, which the tables' owner would run",
	sub {
		query('GRANT REFERENCES ON hidden.gen_jobs TO mallory');
		query(
			q{CREATE TYPE mallory.key AS ENUM ('x');
			CREATE DOMAIN mallory.key_domain AS mallory.key;
			CREATE FUNCTION mallory.id_of(mallory.key) RETURNS bigint LANGUAGE plpgsql AS $$BEGIN PERFORM mallory.climb(); RETURN 1; END$$;
			CREATE CAST (mallory.key AS bigint) WITH FUNCTION mallory.id_of AS IMPLICIT;
			CREATE TABLE mallory.plain (job bigint REFERENCES hidden.gen_jobs)}, 'mallory');
		foreach my $sql (
			'CREATE TABLE mallory.keys (job mallory.key REFERENCES hidden.gen_jobs)',
			'CREATE TABLE mallory.keys (job mallory.key_domain REFERENCES hidden.gen_jobs)',
			'CREATE TABLE mallory.keys (job mallory.key REFERENCES hidden.gen_jobs) PARTITION BY LIST (job)',
			'CREATE TABLE mallory.keys (job mallory.key); ALTER TABLE mallory.keys ADD FOREIGN KEY (job) REFERENCES hidden.gen_jobs NOT VALID',
			q{ALTER TABLE mallory.plain ALTER job TYPE mallory.key USING 'x'::mallory.key})
		{
			like(refusal($sql), qr/a column of type (mallory\.)?key cannot refer to table gen_jobs.*HINT:  Give the column the type of the referenced column, bigint/s, $sql);
			query('DROP TABLE IF EXISTS mallory.keys');
		}
		my (undef, undef, $stderr) = $node->psql('postgres', 'CREATE TABLE mallory.keys (job mallory.key REFERENCES hidden.gen_jobs)');
		like($stderr, qr/a column of type (mallory\.)?key cannot refer to table gen_jobs/, 'an administrator is told so, too');
		query('CREATE DOMAIN mallory.id AS bigint CHECK (VALUE > 0); CREATE TABLE mallory.keys (a mallory.id REFERENCES hidden.gen_jobs, b integer REFERENCES hidden.gen_jobs)', 'mallory');
		query('INSERT INTO mallory.keys SELECT min(id), min(id) FROM hidden.gen_jobs');
		is(ran_as(), '', 'nothing planted has run');
	});

try_it(
	'weights of owners that are given to mallory, whose policy the dispatcher would run',
	sub {
		query('ALTER TABLE genjob.owner_weights OWNER TO mallory');
		query(q{ALTER TABLE genjob.owner_weights ENABLE ROW LEVEL SECURITY;
			CREATE POLICY p ON genjob.owner_weights USING (mallory.climb());
			GRANT SELECT ON genjob.owner_weights TO PUBLIC;
			INSERT INTO genjob.owner_weights VALUES ('painter', 'mallory', 2)}, 'mallory');
		last_error_like('table "owner_weights" belongs to role "mallory", but gen_jobs to role "genjob_dispatcher"', 'genjob.workers names it');
		is(ran_as(), '', 'nothing planted has run');
		query('DROP POLICY p ON genjob.owner_weights; ALTER TABLE genjob.owner_weights DISABLE ROW LEVEL SECURITY; ALTER TABLE genjob.owner_weights OWNER TO genjob_dispatcher');
		my $job = query(q{INSERT INTO hidden.gen_jobs (server, request) VALUES ('painter', '{"prompt": "given back"}') RETURNING id});
		ok($node->poll_query_until('postgres', "SELECT state = 'succeeded' FROM hidden.gen_jobs WHERE id = $job"), 'given back, jobs are run');
	});

# ---- names that are moved while the dispatcher works ----

try_it(
	'a schema that is renamed between the look at the tables and a statement, with another in its place',
	sub {
		query(
			q{CREATE TABLE public.swapped ();
			CREATE TABLE public.is_swapped ();
			CREATE FUNCTION public.wait_for_swap() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
			BEGIN
				FOR i IN 1 .. 3000 LOOP
					EXIT WHEN EXISTS (SELECT FROM public.swapped);
					PERFORM pg_sleep(0.02);
				END LOOP;
				-- where a table is locked, caches are brought up to date
				PERFORM FROM public.is_swapped;
				RETURN NEW;
			END $$;
			CREATE TRIGGER wait_for_swap BEFORE UPDATE ON hidden.gen_jobs FOR EACH ROW WHEN (NEW.state = 'succeeded')
				EXECUTE FUNCTION public.wait_for_swap()});
		my $job = query(q{INSERT INTO hidden.gen_jobs (server, request) VALUES ('painter', '{"prompt": "swapped"}') RETURNING id});
		ok($node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE 'genjob %' AND wait_event = 'PgSleep')}), 'a result is being written');
		query('ALTER SCHEMA hidden RENAME TO away');
		query(
			q{CREATE SCHEMA hidden;
			CREATE TABLE hidden.gen_jobs (LIKE away.gen_jobs INCLUDING ALL);
			CREATE TABLE hidden.gen_outputs (LIKE away.gen_outputs INCLUDING ALL);
			CREATE DOMAIN hidden.gen_job_state AS text CHECK (mallory.evil(VALUE));
			CREATE TRIGGER x BEFORE UPDATE ON hidden.gen_jobs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger();
			CREATE TRIGGER x BEFORE INSERT ON hidden.gen_outputs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger();
			GRANT ALL ON SCHEMA hidden TO PUBLIC;
			GRANT ALL ON ALL TABLES IN SCHEMA hidden TO PUBLIC}, 'mallory');
		query('INSERT INTO public.swapped DEFAULT VALUES');
		ok($node->poll_query_until('postgres', "SELECT state = 'succeeded' FROM away.gen_jobs WHERE id = $job"), 'the job ends in its own table');
		is(query("SELECT count(*) FROM away.gen_outputs WHERE job_id = $job"), '1', '... with its output');
		is(ran_as(), '', 'nothing planted has run');
	});

is(query('SELECT count(*) FROM pg_roles WHERE rolsuper AND rolname <> current_user'), '0', 'there is no superuser more than before');
$node->stop;
$standin->stop;
done_testing();
