# From 0.1.0 to this version with ALTER EXTENSION UPDATE: the database is then as a fresh install makes it, object by
# object; what 0.1.0 left is still there, and what was queued is run.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use GenJobTest qw(!query);
use StandIn;

# PostgreSQL finds the old script where it finds the new one. The library is this one, so the line in which 0.1.0
# asks whether the library is of its version is left out.
sub install_old_script
{
	chomp(my $folder = `pg_config --sharedir`);
	my $script = slurp_file("$FindBin::Bin/../upgrade/genjob--0.1.0.sql");
	$script =~ s/^SELECT genjob\.version\(\);$//m or die '0.1.0 does not look at the version';
	open my $out, '>', "$folder/extension/genjob--0.1.0.sql" or return;
	print $out $script;
	close $out;
	return 1;
}

plan skip_all => 'no old script can be put into the folder of extensions' unless install_old_script();

# Everything that belongs to the extension, one line each, in words that do not depend on OIDs. Of a table, what its
# columns, constraints, indexes, triggers and policies are.
my $describe = q{
	WITH member AS (
		SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
			WHERE e.extname = 'genjob' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'),
	rel AS (
		SELECT c.* FROM pg_class c WHERE EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass
			AND m.objid IN (c.oid, (SELECT i.indrelid FROM pg_index i WHERE i.indexrelid = c.oid)))),
	line AS (
		SELECT 'extension ' || extversion || ' ' || extowner::regrole || ' ' || extnamespace::regnamespace || ' '
			|| (SELECT string_agg(format('%s %s', c::regclass, f), ', ' ORDER BY c::regclass::text)
				FROM unnest(extconfig, extcondition) u (c, f)) AS line FROM pg_extension WHERE extname = 'genjob'
	UNION ALL
		SELECT 'member ' || pg_describe_object(classid, objid, 0) || ': ' || coalesce(obj_description(objid, classid::regclass::name), '-')
			FROM member
	UNION ALL
		SELECT format('%s %s: owner %s, acl %s, first acl %s, options %s, kind %s %s %s, rls %s %s, identity %s, %s', relkind, oid::regclass,
			relowner::regrole, relacl, (SELECT initprivs FROM pg_init_privs WHERE classoid = 'pg_class'::regclass AND objoid = rel.oid AND objsubid = 0),
			reloptions, relpersistence, relam, relhastriggers, relrowsecurity, relforcerowsecurity, relreplident,
			CASE relkind WHEN 'v' THEN pg_get_viewdef(oid) WHEN 'i' THEN pg_get_indexdef(oid)
				WHEN 'S' THEN (SELECT (seqtypid, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle)::text FROM pg_sequence
					WHERE seqrelid = rel.oid) END) FROM rel
	UNION ALL
		SELECT format('column %s.%s (%s): %s %s, not null %s, default %s, storage %s, identity %s, generated %s, statistics %s, acl %s: %s',
			r.oid::regclass, attname, attnum, format_type(atttypid, atttypmod), attcollation::regcollation, attnotnull, pg_get_expr(adbin, adrelid),
			attstorage, attidentity, attgenerated, coalesce(nullif(attstattarget, -1), 0), attacl, col_description(r.oid, attnum))
			FROM rel r JOIN pg_attribute a ON attrelid = r.oid LEFT JOIN pg_attrdef ON adrelid = r.oid AND adnum = attnum
			WHERE attnum > 0 AND NOT attisdropped
	UNION ALL
		SELECT format('constraint %s on %s: %s, %s %s %s', conname, conrelid::regclass, pg_get_constraintdef(oid), convalidated, condeferrable,
			obj_description(oid, 'pg_constraint')) FROM pg_constraint WHERE conrelid IN (SELECT oid FROM rel)
	UNION ALL
		SELECT format('trigger %s on %s: %s, enabled %s, %s', tgname, tgrelid::regclass, pg_get_triggerdef(oid), tgenabled,
			obj_description(oid, 'pg_trigger')) FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM rel) AND NOT tgisinternal
	UNION ALL
		SELECT format('policy %s on %s: %s %s %s %s %s', polname, polrelid::regclass, polcmd, polroles::regrole[], pg_get_expr(polqual, polrelid),
			pg_get_expr(polwithcheck, polrelid), obj_description(oid, 'pg_policy')) FROM pg_policy WHERE polrelid IN (SELECT oid FROM rel)
	UNION ALL
		SELECT format('rule %s on %s: %s', rulename, ev_class::regclass, pg_get_ruledef(oid)) FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM rel)
	UNION ALL
		SELECT format('function %s: owner %s, acl %s, first acl %s, %s', p.oid::regprocedure, proowner::regrole, proacl,
			(SELECT initprivs FROM pg_init_privs WHERE classoid = 'pg_proc'::regclass AND objoid = p.oid), pg_get_functiondef(p.oid))
			FROM pg_proc p JOIN member ON classid = 'pg_proc'::regclass AND objid = p.oid
	UNION ALL
		SELECT format('enum %s: %s', enumtypid::regtype, string_agg(enumlabel, ' ' ORDER BY enumsortorder))
			FROM pg_enum JOIN member ON classid = 'pg_type'::regclass AND objid = enumtypid GROUP BY enumtypid
	UNION ALL
		SELECT format('type %s: owner %s, acl %s', t.oid::regtype, typowner::regrole, typacl)
			FROM pg_type t JOIN member ON classid = 'pg_type'::regclass AND objid = t.oid
	UNION ALL
		SELECT format('schema %s: owner %s, acl %s, first acl %s', n.oid::regnamespace, nspowner::regrole, nspacl,
			(SELECT initprivs FROM pg_init_privs WHERE classoid = 'pg_namespace'::regclass AND objoid = n.oid))
			FROM pg_namespace n WHERE nspname IN ('genjob', 'public', 'queue')
	UNION ALL
		SELECT format('wrapper %s: owner %s, acl %s, %s %s %s', fdwname, fdwowner::regrole, fdwacl, fdwvalidator::regprocedure,
			fdwhandler, fdwoptions) FROM pg_foreign_data_wrapper WHERE fdwname = 'genjob')
	SELECT line FROM line ORDER BY line COLLATE "C"};

my $standin = StandIn->new;
my $node = new_node(name => 'upgrade', extension => 0);

sub query
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

# What a statement is refused with.
sub refusal
{
	my ($database, $sql) = @_;
	return ($node->psql($database, $sql))[2];
}

# Passes when both databases have the same lines; shows those that differ.
sub same_objects
{
	my ($old, $new, $what) = @_;
	my @lines = map { [ split /\n/, query($describe, $_) ] } $old, $new;
	my %count;
	$count{$_}++ foreach @{ $lines[0] };
	$count{$_}-- foreach @{ $lines[1] };
	my @differ = map { ($count{$_} > 0 ? "upgraded: " : "   fresh: ") . $_ } grep { $count{$_} } sort keys %count;
	ok(!@differ && @{ $lines[1] } > 100, $what) or diag(join "\n", @differ);
	return;
}

# ---- a database of 0.1.0 with jobs in every state, and what applications and administrators hang on its tables ----

query(q{CREATE ROLE app LOGIN; CREATE ROLE reader LOGIN});
query('CREATE DATABASE old');
query(q{CREATE EXTENSION genjob VERSION '0.1.0'}, 'old');
create_server($node, 'painter', 'openai-images', $standin, database => 'old');
create_server($node, 'poller', 'replicate', $standin, database => 'old');

my @c_triggers = map { "genjob_$_" } qw(before_insert before_update before_delete after_truncate);
query(
	q{
	GRANT USAGE ON FOREIGN SERVER painter, poller TO app;
	GRANT INSERT, SELECT, UPDATE ON gen_jobs TO app;
	GRANT SELECT ON gen_outputs TO app;
	INSERT INTO genjob.tenant_weights VALUES ('painter', 'app', 2);
	CREATE SCHEMA app AUTHORIZATION app;
	CREATE TABLE app.orders (id int PRIMARY KEY, job bigint REFERENCES gen_jobs);
	ALTER TABLE app.orders OWNER TO app;
	CREATE TABLE public.log (job bigint, state text);
	GRANT INSERT ON public.log TO app;
	CREATE FUNCTION public.log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
		$$BEGIN INSERT INTO public.log VALUES (NEW.id, NEW.state); RETURN NULL; END$$;
	ALTER TABLE gen_jobs DISABLE TRIGGER USER;
	INSERT INTO gen_jobs (server, request, owner, tenant, state, attempt, run_at, started_at, finished_at, result, error, errors, failures,
			idempotency_key, remote_id, remote, unique_key, inputs, backend)
	SELECT server, jsonb_build_object('prompt', 'job ' || n), 'app', 'app', state::gen_job_state, attempt, now() + run_at::interval,
		CASE WHEN attempt > 0 THEN now() END, CASE WHEN state IN ('succeeded', 'failed', 'cancelled') THEN now() END,
		result::jsonb, error, errors::jsonb, failures, key::uuid, remote_id, remote::jsonb, 'key ' || n, ARRAY['\x01'::bytea], NULL
	FROM (VALUES
		(1, 'painter', 'queued', 0, '0', NULL, NULL, NULL, 0, NULL, NULL, NULL),
		(2, 'painter', 'queued', 0, '1 year', NULL, NULL, NULL, 0, NULL, NULL, NULL),
		(3, 'painter', 'queued', 1, '0', NULL, 'busy', '[{"attempt": 1, "error": "busy"}]', 1, NULL, NULL, NULL),
		(4, 'painter', 'running', 1, '0', NULL, NULL, NULL, 0, '00000000-0000-4000-8000-000000000004', NULL, NULL),
		(5, 'painter', 'succeeded', 1, '0', '{"data": [{"b64_json": {"$output": 1}}]}', NULL, NULL, 0, NULL, NULL, NULL),
		(6, 'painter', 'failed', 3, '0', NULL, 'refused', '[{"attempt": 3, "error": "refused"}]', 3, NULL, NULL, NULL),
		(7, 'painter', 'cancelled', 1, '0', NULL, 'cancelled by role "app"', NULL, 0, NULL, NULL, NULL),
		(8, 'painter', 'waiting', 0, '0', NULL, NULL, NULL, 0, NULL, NULL, NULL))
		v (n, server, state, attempt, run_at, result, error, errors, failures, key, remote_id, remote) ORDER BY n;
	INSERT INTO gen_outputs VALUES (5, 1, 'image/png', 3, sha256('\x010203'), '\x010203'), (5, 2, 'image/png', 1, sha256('\x01'), '\x01');
	INSERT INTO app.orders VALUES (1, 1), (5, 5);
	ALTER TABLE gen_jobs ENABLE TRIGGER USER;} . join('', map { "ALTER TABLE gen_jobs ENABLE ALWAYS TRIGGER $_;" } @c_triggers) . q{
	CREATE TRIGGER log AFTER UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION public.log();
	CREATE TRIGGER moved AFTER UPDATE OF server ON gen_jobs FOR EACH ROW WHEN (OLD.server <> NEW.server) EXECUTE FUNCTION public.log();
	COMMENT ON TRIGGER moved ON gen_jobs IS 'an administrator''s';
	ALTER TABLE gen_jobs ENABLE REPLICA TRIGGER moved;
	CREATE INDEX by_server ON gen_jobs (server, created_at);
	CREATE STATISTICS app.by_server ON server, tenant FROM gen_jobs;
	CREATE VIEW app.pictures WITH (security_barrier = true) AS SELECT id, server, errors, state FROM gen_jobs WHERE server = 'painter';
	COMMENT ON VIEW app.pictures IS 'of the painter';
	COMMENT ON COLUMN app.pictures.server IS 'who paints';
	CREATE VIEW app.busy AS SELECT p.server, s.in_flight, count(*) AS n FROM app.pictures p JOIN genjob.servers s USING (server) GROUP BY 1, 2;
	ALTER VIEW app.pictures OWNER TO app;
	ALTER VIEW app.pictures ALTER COLUMN server SET DEFAULT 'painter';
	CREATE FUNCTION app.pass() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
	CREATE TRIGGER pass INSTEAD OF INSERT ON app.pictures FOR EACH ROW EXECUTE FUNCTION app.pass();
	GRANT SELECT ON app.pictures TO reader WITH GRANT OPTION;
	GRANT UPDATE (state) ON app.pictures TO PUBLIC;
	GRANT SELECT (id, server), UPDATE (server) ON gen_jobs TO reader;
	GRANT SELECT ON app.busy TO reader}, 'old');

# Makes databases that are copies of that one, or empty ones.
sub copy_old { my (@names) = @_; query("CREATE DATABASE $_ TEMPLATE old") foreach @names; return }
sub create_empty { my (@names) = @_; query("CREATE DATABASE $_") foreach @names; return }

# Drops databases, so that no job of theirs is run during a later part.
sub drop_databases { my (@names) = @_; query("DROP DATABASE $_ WITH (FORCE)") foreach @names; return }

# What others have that hangs on the tables, in words that do not depend on OIDs.
my $others = q{
	SELECT format('%s %s %s %s %s', c.oid::regclass, relkind, relowner::regrole, relacl, reloptions) FROM pg_class c
		WHERE relnamespace = 'app'::regnamespace ORDER BY 1;
	SELECT format('%s.%s %s %s %s', attrelid::regclass, attname, regexp_replace(attacl::text, '/[a-z_]+', '', 'g'), pg_get_expr(adbin, adrelid), CASE WHEN attrelid <> 'gen_jobs'::regclass THEN col_description(attrelid, attnum) END)
		FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
		WHERE attrelid IN ('app.pictures'::regclass, 'app.busy'::regclass) OR attrelid = 'gen_jobs'::regclass AND attacl IS NOT NULL ORDER BY 1;
	SELECT regexp_replace(pg_get_viewdef(oid), '(gen_jobs[.]|)attempt_errors AS errors', '\1errors') || coalesce(obj_description(oid), '-')
		FROM pg_class WHERE relkind = 'v' AND relnamespace = 'app'::regnamespace ORDER BY 1;
	SELECT pg_get_triggerdef(oid), tgenabled, obj_description(oid, 'pg_trigger') FROM pg_trigger
		WHERE tgname IN ('log', 'moved', 'pass') ORDER BY 1;
	SELECT pg_get_indexdef('by_server'::regclass), pg_get_statisticsobjdef(oid) FROM pg_statistic_ext;
	SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.deptype = 'e'
		WHERE e.extname = 'genjob' AND pg_describe_object(d.classid, d.objid, 0) ~ 'app|saved';
	SELECT pg_describe_object(classoid, objoid, objsubid) FROM pg_init_privs WHERE pg_describe_object(classoid, objoid, objsubid) ~ 'app'};

# Row by row, whatever a column is called, and without those that are new.
my $rows = q{SELECT to_jsonb(j) - ARRAY['request_id', 'server_oid', 'losses', 'on_done', 'depth', 'follow_up', 'after', 'after_rule', 'blocked_by', 'unknown_ends', 'put_off_since', 'claimed_elsewhere', 'refers', 'retained', 'errors', 'attempt_errors']
	|| jsonb_build_object('errors', coalesce(to_jsonb(j) -> 'errors', to_jsonb(j) -> 'attempt_errors')) FROM gen_jobs j WHERE %s ORDER BY id};
my $outputs = q{SELECT o FROM gen_outputs o ORDER BY 1; SELECT w FROM genjob.tenant_weights w};

# ---- the upgrade ----

subtest 'an upgrade that is rolled back, or finds something in its way, changes nothing' => sub {
	copy_old('refused');
	my $before = query($others, 'refused');
	like(refusal('refused', q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{}')}), qr/ERROR:/,
		'before the upgrade an INSERT is refused');
	query(q{BEGIN; ALTER EXTENSION genjob UPDATE; ROLLBACK}, 'refused');
	is(query($others, 'refused'), $before, '... and views and triggers of others as they were');
	foreach my $kept (
		[ 'materialized view app.copy', 'CREATE MATERIALIZED VIEW app.copy AS SELECT server FROM gen_jobs',
			'DROP MATERIALIZED VIEW app.copy' ],
		[ 'policy mine on table public.gen_jobs', q{CREATE POLICY mine ON gen_jobs USING (server = 'x')},
			'DROP POLICY mine ON gen_jobs' ],
		[ 'function app.first()', 'CREATE FUNCTION app.first() RETURNS text LANGUAGE sql
			BEGIN ATOMIC SELECT server::text FROM gen_jobs LIMIT 1; END', 'DROP FUNCTION app.first' ],
		[ 'function app.of_view()', 'CREATE FUNCTION app.of_view() RETURNS SETOF app.busy LANGUAGE sql
			AS $$SELECT * FROM app.busy$$', 'DROP FUNCTION app.of_view' ])
	{
		my ($what, $create, $drop) = @$kept;
		query($create, 'refused');
		like(refusal('refused', 'ALTER EXTENSION genjob UPDATE'), qr/genjob\ cannot\ be\ updated\ while\ .*\Q$what\E
			.*HINT:\ \ DROP\ .*,\ ALTER\ EXTENSION\ genjob\ UPDATE,\ and\ create\ (?:it|them)\ again/sx,
			"$what is in the way, and is named");
		query($drop, 'refused');
	}
	is(query(q{SELECT extversion FROM pg_extension WHERE extname = 'genjob'}, 'refused'), '0.1.0',
		'an upgrade that is rolled back leaves 0.1.0');
	drop_databases('refused');
};

subtest 'in a schema of its own, every object is as in a fresh install' => sub {
	create_empty(qw(old_queue new_queue));
	query(q{CREATE SCHEMA queue; CREATE EXTENSION genjob SCHEMA queue VERSION '0.1.0';
		ALTER EXTENSION genjob UPDATE}, 'old_queue');
	query(q{CREATE SCHEMA queue; CREATE EXTENSION genjob SCHEMA queue}, 'new_queue');
	same_objects('old_queue', 'new_queue', 'every object');
	drop_databases(qw(old_queue new_queue));
};

subtest 'an upgrade keeps rows, outputs and what others have, and what was queued is run' => sub {
	copy_old('upgraded');
	my $others_before = query($others, 'upgraded');
	my $before = query(sprintf($rows, 'true') . ";$outputs", 'upgraded');
	$standin->reset;
	query(q{BEGIN; ALTER EXTENSION genjob UPDATE; COMMIT}, 'upgraded');
	is(query(q{SELECT genjob.version() = extversion FROM pg_extension WHERE extname = 'genjob'}, 'upgraded'), 't',
		'ALTER EXTENSION genjob UPDATE');

	is(query($others, 'upgraded'), $others_before,
		'views, triggers, indexes and privileges of others are as they were');
	is(query(q{SELECT id, server, errors FROM app.pictures WHERE id = 3}, 'upgraded'),
		'3|painter|[{"error": "busy", "attempt": 1}]', '... and give what they gave');

	ok(wait_state($node, $_, 'succeeded', 'upgraded'), "job $_, which was waiting or running, is run") foreach 1, 3, 4;
	is($standin->counts->{total}, 3, 'and no other');
	is(query(sprintf($rows, 'id IN (2, 5, 6, 7, 8)'), 'upgraded'),
		join("\n", grep { /"id": [25678],/ } split /\n/, $before), 'all other rows are as they were');
	is(query(q{SELECT job_id, ordinal, data FROM gen_outputs WHERE job_id = 5 ORDER BY 2}, 'upgraded'),
		"5|1|\\x010203\n5|2|\\x01", 'so are outputs');
	is(query(q{SELECT server, tenant, weight FROM genjob.tenant_weights}, 'upgraded'), 'painter|app|2',
		'... and weights');
	is(query(q{SELECT string_agg(job || ' ' || state, ', ' ORDER BY job, state) FROM log WHERE job = 1}, 'upgraded'),
		'1 running, 1 succeeded', "an administrator's trigger fires");
	is(query(q{SELECT count(*) FROM app.orders JOIN gen_jobs j ON j.id = job}, 'upgraded'), '2',
		"an application's foreign key holds");
	my $new = $node->safe_psql('upgraded', q{INSERT INTO gen_jobs (server, request)
		VALUES ('painter', '{"prompt": "new"}') RETURNING id}, extra_params => [ '-U', 'app' ]);
	cmp_ok($new, '>', 8, 'the application inserts as before');
	ok(wait_state($node, $new, 'succeeded', 'upgraded'), '... and its job is run');
	drop_databases('upgraded');
};

subtest 'after an upgrade, and without what others have, every object is as in a fresh install' => sub {
	copy_old('cleaned');
	create_empty('new');
	query('ALTER EXTENSION genjob UPDATE', 'cleaned');
	query('CREATE EXTENSION genjob', 'new');
	query(q{DROP TRIGGER log ON gen_jobs; DROP TRIGGER moved ON gen_jobs; DROP INDEX by_server;
		DROP STATISTICS app.by_server; DROP VIEW app.busy, app.pictures; REVOKE ALL ON gen_jobs FROM reader;
		DROP TABLE app.orders; REVOKE ALL ON gen_jobs, gen_outputs FROM app}, 'cleaned');
	query(q{GRANT SELECT ON gen_jobs, gen_outputs TO app; REVOKE ALL ON gen_jobs, gen_outputs FROM app;
		GRANT SELECT (id, server), UPDATE (server) ON gen_jobs TO reader; REVOKE ALL ON gen_jobs FROM reader}, 'new');
	same_objects('cleaned', 'new', 'every object');
	drop_databases(qw(cleaned new));
};

# ---- a table to which someone had added columns of his own ----

# What app gets: rows, or the error.
sub as_app
{
	my ($sql) = @_;
	my (undef, $out, $error) = $node->psql('own_columns', $sql, extra_params => [ '-U', 'app' ]);
	return $error ne '' ? $error : $out;
}

sub numbers
{
	return query(q{SELECT string_agg(attname || ' ' || attnum, ', ' ORDER BY attnum) FROM pg_attribute
		WHERE attrelid = 'gen_jobs'::regclass AND attnum > 26 AND NOT attisdropped}, 'own_columns');
}

sub works_with_own_columns
{
	my ($when) = @_;
	my $text = "of $when";

	my $new = as_app(qq{INSERT INTO gen_jobs (server, request, request_id) VALUES ('painter', '{"prompt": "new"}',
		'$text') RETURNING id});
	like($new, qr/^\d+$/, "$when: a job is inserted");
	ok(wait_state($node, $new, 'succeeded', 'own_columns'), '... and run');
	is(query(qq{SELECT request_id, server_oid = (SELECT oid FROM pg_foreign_server WHERE srvname = 'painter'), losses
		FROM gen_jobs WHERE id = $new}, 'own_columns'),
		"$text|t|0", '... with what genjob fills in in its own columns');
	is(as_app(qq{INSERT INTO gen_jobs (server, request, request_id)
		VALUES ('painter', '{}', '$text') ON CONFLICT (owner, request_id) DO NOTHING RETURNING 1}),
		'', '... and the order is one');
	like(as_app(qq{UPDATE gen_jobs SET request_id = 'x' WHERE id = $new}),
		qr/column "request_id" of gen_jobs cannot be changed/, 'request_id stays');
	like(as_app(qq{UPDATE gen_jobs SET server_oid = 1 WHERE id = $new}), qr/column "server_oid" of gen_jobs is set/,
		'... server_oid, too');
	like(as_app(qq{INSERT INTO gen_jobs (server, request, losses) VALUES ('painter', '{}', 1)}),
		qr/column "losses" of gen_jobs is set/, '... and losses');
	like(as_app(qq{INSERT INTO gen_jobs (server, request, request_id) VALUES ('painter', '{}', repeat('x', 1025))}),
		qr/request_id of a job is longer than 1024 bytes/,
		'a request_id is not too long');
	foreach my $column (qw(request_id server_oid losses on_done depth follow_up after retained))
	{
		my (undef, undef, $error) = $node->psql('own_columns', "ALTER TABLE gen_jobs DROP COLUMN $column");
		like($error, qr/cannot drop column "$column"/, "$column cannot be dropped");
	}
	return;
}

subtest 'columns whose names genjob needs now are named' => sub {
	create_empty('taken');
	query(q{CREATE EXTENSION genjob VERSION '0.1.0'}, 'taken');
	my $names = join ', ', map { "public.$_" }
	  qw(gen_jobs.request_id gen_jobs.after gen_jobs.attempt_errors gen_outputs.url);
	my $taken = 'BEGIN; ALTER TABLE gen_jobs ADD request_id uuid, ADD after date, ADD attempt_errors int;
			ALTER TABLE gen_outputs ADD url text;';
	like(refusal('taken', "$taken ALTER EXTENSION genjob UPDATE"),
		qr/columns\ of\ yours\ have\ names\ that\ it\ needs:\ \Q$names\E\n
			.*HINT:\ \ ALTER\ TABLE\ public\.gen_jobs\ RENAME\ COLUMN\ after\ TO/sx,
		'columns whose names genjob needs now are named');
	query(qq{$taken ALTER TABLE gen_jobs RENAME request_id TO app_request_id;
		ALTER TABLE gen_jobs DROP after, DROP attempt_errors; ALTER TABLE gen_outputs DROP url;
		ALTER EXTENSION genjob UPDATE; ROLLBACK}, 'taken');
	drop_databases('taken');
};

subtest q{columns of an administrator's stay, and genjob works beside them} => sub {
	create_empty('own_columns');
	query(q{CREATE EXTENSION genjob VERSION '0.1.0'}, 'own_columns');
	create_server($node, 'painter', 'openai-images', $standin, database => 'own_columns');
	query(
		q{GRANT USAGE ON FOREIGN SERVER painter TO app;
		GRANT INSERT, SELECT, UPDATE, DELETE ON gen_jobs TO app;
		ALTER TABLE gen_jobs ADD label text, ADD forgotten text, ADD grade integer NOT NULL DEFAULT 7;
		ALTER TABLE gen_jobs DROP forgotten;
		ALTER TABLE gen_jobs DISABLE TRIGGER USER;
		INSERT INTO gen_jobs (server, request, owner, tenant, label, state) VALUES
			('painter', '{"prompt": "old"}', 'app', 'app', 'queued before', 'queued'),
			('painter', '{"prompt": "failed"}', 'app', 'app', 'failed before', 'failed');
		ALTER TABLE gen_jobs ENABLE TRIGGER USER;
		ALTER EXTENSION genjob UPDATE}, 'own_columns');

	is(numbers(), 'label 27, grade 29, request_id 30, server_oid 31, losses 32, on_done 33, depth 34, follow_up 35, '
		. 'after 36, after_rule 37, blocked_by 38, unknown_ends 39, put_off_since 40, '
		. 'claimed_elsewhere 41, refers 42, retained 43',
		"columns of an administrator's stand before those of this version");
	ok(wait_state($node, 1, 'succeeded', 'own_columns'), 'with them a job that waited is run');
	works_with_own_columns('columns before');
	is(as_app(q{UPDATE gen_jobs SET label = 'another', grade = 8 WHERE id = 1 RETURNING label, grade}), 'another|8',
		'the own columns are set');
	query(q{UPDATE gen_jobs SET losses = 0 WHERE id = 2}, 'own_columns');
	is(as_app(q{SELECT genjob.retry(2)}), 't', 'a failed job');
	ok(wait_state($node, 2, 'succeeded', 'own_columns'), '... runs again');
	query(q{ALTER TABLE gen_jobs DROP label}, 'own_columns');
	works_with_own_columns('one of them dropped');
	query(q{ALTER TABLE gen_jobs ADD later text}, 'own_columns');
	works_with_own_columns('one added');
	drop_databases('own_columns');
};

$node->stop;
$standin->stop;
done_testing();
