-- From genjob 0.1.0 to 0.2.0: what changed in the install script since, for a database that has jobs.
\echo Use "ALTER EXTENSION genjob UPDATE" to load this file. \quit

-- Nothing below is found in a schema where someone else may have put it.
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

-- stops here when the library that the server has loaded is another one
CREATE OR REPLACE FUNCTION genjob.version() RETURNS text
	AS 'MODULE_PATHNAME', 'genjob_version' LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION genjob.grant_unrecorded(text) RETURNS void
	AS 'MODULE_PATHNAME', 'genjob_grant_unrecorded' LANGUAGE C STRICT;

-- The update rewrites these tables as superuser, and then updates some rows. Code of other roles on the tables would run as
-- superuser, too. The lock keeps others from adding such code after the check.
LOCK TABLE @extschema@.gen_jobs, @extschema@.gen_outputs, genjob.tenant_weights IN ACCESS EXCLUSIVE MODE;
DO $$
DECLARE
	-- of 0.1.0
	checks CONSTANT text[] := ARRAY['CHECK ((max_attempts > 0))',
		'CHECK (((weight >= (0.001)::double precision) AND (weight <= (1000)::double precision)))'];
	planted text;
BEGIN
	PERFORM set_config('quote_all_identifiers', 'off', true);
	-- a table of a role that is no superuser may have nothing (all) that can run any function: PostgreSQL itself has functions
	-- that run a text; nor may any table have what names a function, a type or an operator of such a role
	SELECT string_agg(DISTINCT pg_describe_object(o.class, o.oid, o.part), ', ') INTO planted
		FROM pg_class t JOIN pg_authid r ON r.oid = t.relowner CROSS JOIN LATERAL (
			SELECT 'pg_constraint'::regclass, oid, 0, true FROM pg_constraint
				WHERE conrelid = t.oid AND (contype = 'c' AND pg_get_constraintdef(oid) <> ALL (checks)
					OR contype = 'f' AND confrelid <> '@extschema@.gen_jobs'::regclass)
			UNION ALL SELECT 'pg_trigger'::regclass, g.oid, 0, true FROM pg_trigger g JOIN pg_proc p ON p.oid = tgfoid
				WHERE tgrelid = t.oid AND NOT tgisinternal AND tgenabled IN ('A', 'R')
				AND NOT (pronamespace = 'genjob'::regnamespace AND tgqual IS NULL)
			UNION ALL SELECT 'pg_rewrite'::regclass, oid, 0, true FROM pg_rewrite WHERE ev_class = t.oid AND ev_enabled IN ('A', 'R')
			UNION ALL SELECT 'pg_class'::regclass, inhrelid, 0, true FROM pg_inherits WHERE inhparent = t.oid
			UNION ALL SELECT 'pg_class'::regclass, indexrelid, 0, false FROM pg_index WHERE indrelid = t.oid
			UNION ALL SELECT 'pg_class'::regclass, t.oid, attnum::integer, false FROM pg_attribute WHERE attrelid = t.oid AND attnum > 0
			UNION ALL SELECT 'pg_attrdef'::regclass, d.oid, 0, false FROM pg_attrdef d JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
				WHERE adrelid = t.oid AND attgenerated <> '') o (class, oid, part, "all")
		WHERE t.oid IN ('@extschema@.gen_jobs'::regclass, '@extschema@.gen_outputs'::regclass, 'genjob.tenant_weights'::regclass)
		AND (o."all" AND NOT r.rolsuper OR EXISTS (
			SELECT FROM pg_depend d JOIN (SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
				UNION ALL SELECT 'pg_type'::regclass, oid, typowner FROM pg_type
				UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner FROM pg_operator) n (class, oid, owner)
				ON n.class = d.refclassid AND n.oid = d.refobjid JOIN pg_authid a ON a.oid = n.owner
				WHERE d.classid = o.class AND d.objid = o.oid AND d.objsubid = o.part AND NOT a.rolsuper
				AND n.oid <> '@extschema@.gen_job_state'::regtype));
	IF planted <> '' THEN
		RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
			MESSAGE = format('genjob cannot be updated while its tables have what may run code of a role that is no superuser: %s', planted),
			DETAIL = 'The update changes the tables as superuser, and PostgreSQL would run that code.',
			HINT = 'DROP them, ALTER EXTENSION genjob UPDATE, and create them again.';
	END IF;
END;
$$;

-- columns that users have added under names that genjob needs now
DO $$
DECLARE
	taken text;
	rename text;
BEGIN
	SELECT string_agg(format('%s.%I', a.attrelid::regclass, a.attname), ', ' ORDER BY a.attrelid, a.attnum),
			min(format('ALTER TABLE %s RENAME COLUMN %I TO ...', a.attrelid::regclass, a.attname))
		INTO taken, rename FROM pg_attribute a WHERE a.attnum > 0 AND NOT a.attisdropped AND (a.attrelid, a.attname) IN (
			SELECT '@extschema@.gen_jobs'::regclass, unnest('{attempt_errors, request_id, server_oid, losses, on_done, depth, follow_up, after,
				after_rule, blocked_by, unknown_ends, put_off_since, claimed_elsewhere, refers, retained}'::name[])
			UNION ALL SELECT '@extschema@.gen_outputs'::regclass, unnest('{url, etag, store, store_oid}'::name[]));
	IF taken <> '' THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_column',
			MESSAGE = format('genjob cannot be updated while columns of yours have names that it needs: %s', taken),
			DETAIL = 'genjob adds columns of its own to gen_jobs and gen_outputs.',
			HINT = format('%s, or drop them, and ALTER EXTENSION genjob UPDATE.', rename);
	END IF;
END;
$$;

-- views of others keep the name that it has in them
ALTER TABLE @extschema@.gen_jobs RENAME COLUMN errors TO attempt_errors;

-- Columns change their types, and views of genjob their columns. PostgreSQL does neither while views and triggers of others
-- use them: these are dropped here, and made again at the end of this script, each with owner, privileges and comments. What
-- cannot be made again is named, and nothing is changed.
CREATE TABLE genjob.upgrade_saved (ordinal integer GENERATED ALWAYS AS IDENTITY, statement text NOT NULL);
CREATE TABLE genjob.upgrade_views (ordinal integer GENERATED ALWAYS AS IDENTITY, name text NOT NULL);
-- Whoever owns a view chose the constants in it. To read a constant of a composite type, or of an array, PostgreSQL runs the
-- checks of the domains in it, and this script runs as superuser. So it makes nothing again that names types of a role that is
-- no superuser, or types in the schema of such a role, which may put another type there. objects: rules, triggers and defaults.
CREATE FUNCTION genjob.upgrade_types(objects oid[]) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	WITH RECURSIVE used (oid) AS (
			SELECT refobjid FROM pg_depend WHERE objid = ANY (objects) AND refclassid = 'pg_type'::regclass
				AND classid = ANY (ARRAY['pg_rewrite'::regclass, 'pg_trigger'::regclass, 'pg_attrdef'::regclass]::oid[])
		UNION
			SELECT n.oid FROM used u JOIN pg_type t ON t.oid = u.oid CROSS JOIN LATERAL (
				SELECT t.typelem UNION ALL SELECT t.typbasetype
				UNION ALL SELECT atttypid FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped
				UNION ALL SELECT rngsubtype FROM pg_range WHERE t.oid IN (rngtypid, rngmultitypid)) n (oid) WHERE n.oid <> 0)
	SELECT string_agg(DISTINCT format_type(t.oid, NULL), ', ') FROM used u JOIN pg_type t ON t.oid = u.oid
		JOIN pg_namespace n ON n.oid = t.typnamespace JOIN pg_database b ON b.datname = current_database()
		WHERE n.nspname <> 'pg_catalog' AND t.oid <> ALL (ARRAY['@extschema@.gen_job_state'::regtype,
			'@extschema@.gen_job_state[]'::regtype, '@extschema@.gen_jobs'::regtype, '@extschema@.gen_outputs'::regtype]::oid[])
		AND EXISTS (SELECT FROM pg_authid r WHERE NOT r.rolsuper AND r.oid IN (t.typowner,
			CASE WHEN n.nspowner = 'pg_database_owner'::regrole THEN b.datdba ELSE n.nspowner END))
$$;
DO $$
DECLARE
	jobs CONSTANT oid := '@extschema@.gen_jobs'::regclass;
	dropped CONSTANT oid[] := ARRAY['genjob.servers'::regclass, 'genjob.tenants'::regclass, 'genjob.activity'::regclass,
		'genjob.backends'::regclass, 'genjob.workers'::regclass];
	changed smallint[];
	kept text;
	deepest CONSTANT integer := 200; -- views that use each other would have no end
	item record;
	part record;
BEGIN
	SELECT array_agg(attnum) INTO changed FROM pg_attribute WHERE attrelid = jobs AND attname IN ('server', 'ran_on');

	-- what others built on the columns, except views, triggers and what ALTER TABLE carries itself
	SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid), ', ') INTO kept
		FROM pg_depend d LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
		LEFT JOIN pg_class v ON v.oid = r.ev_class LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
		WHERE d.refclassid = 'pg_class'::regclass AND (d.refobjid = jobs AND d.refobjsubid = ANY (changed) OR d.refobjid = ANY (dropped))
			AND d.deptype IN ('n', 'a') AND NOT coalesce(v.relkind = 'v' AND r.rulename = '_RETURN', false)
			AND NOT coalesce(c.relkind IN ('i', 'I'), false)
			AND d.classid <> ALL (ARRAY['pg_trigger'::regclass, 'pg_constraint'::regclass, 'pg_statistic_ext'::regclass]::oid[]);
	IF kept <> '' THEN
		RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
			MESSAGE = format('genjob cannot be updated while other objects use columns that change: %s', kept),
			DETAIL = 'The columns server and ran_on of gen_jobs become text; the views of genjob get columns of type text.',
			HINT = 'DROP them, ALTER EXTENSION genjob UPDATE, and create them again. Views and triggers are carried over.';
	END IF;

	-- views, each after those that it reads
	FOR item IN
		WITH RECURSIVE used (oid, depth) AS (
			SELECT r.ev_class, 1 FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
				WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND r.ev_class <> ALL (dropped)
					AND (d.refobjid = jobs AND d.refobjsubid = ANY (changed) OR d.refobjid = ANY (dropped))
		UNION
			SELECT r.ev_class, u.depth + 1 FROM used u JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = u.oid
				JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid WHERE r.ev_class <> u.oid AND u.depth < deepest)
		SELECT c.oid, c.oid::regclass::text AS name, c.relkind, c.reloptions, c.relowner::regrole::text AS owner, c.relacl,
				max(u.depth) AS depth
			FROM used u JOIN pg_class c ON c.oid = u.oid GROUP BY c.oid ORDER BY max(u.depth), c.oid
	LOOP
		IF item.depth = deepest THEN
			RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
				MESSAGE = format('genjob cannot be updated while %s uses views in a circle, or too many one on another',
					pg_describe_object('pg_class'::regclass, item.oid, 0)),
				HINT = 'DROP it, ALTER EXTENSION genjob UPDATE, and create it again.';
		END IF;
		IF item.relkind <> 'v' OR EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = item.oid AND deptype = 'e') THEN
			RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
				MESSAGE = format('genjob cannot be updated while %s uses columns that change',
					pg_describe_object('pg_class'::regclass, item.oid, 0)),
				DETAIL = 'The columns server and ran_on of gen_jobs become text; the views of genjob get columns of type text.',
				HINT = 'DROP it, ALTER EXTENSION genjob UPDATE, and create it again. Plain views and triggers are carried over.';
		END IF;
		kept := genjob.upgrade_types(ARRAY(SELECT oid FROM pg_rewrite WHERE ev_class = item.oid
			UNION ALL SELECT oid FROM pg_trigger WHERE tgrelid = item.oid UNION ALL SELECT oid FROM pg_attrdef WHERE adrelid = item.oid));
		IF kept <> '' THEN
			RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
				MESSAGE = format('genjob cannot be updated while view %s uses types that a superuser does not control: %s', item.name, kept),
				DETAIL = 'The update creates the view again, as superuser, and might run code of other roles.',
				HINT = 'DROP the view, ALTER EXTENSION genjob UPDATE, and create it again.';
		END IF;
		INSERT INTO genjob.upgrade_views (name) VALUES (item.name);
		INSERT INTO genjob.upgrade_saved (statement) SELECT format('CREATE VIEW %s%s AS %s', item.name,
			' WITH (' || array_to_string(item.reloptions, ', ') || ')', pg_get_viewdef(item.oid));
		INSERT INTO genjob.upgrade_saved (statement) SELECT format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', item.name, attname,
			pg_get_expr(adbin, adrelid)) FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum WHERE adrelid = item.oid;
		INSERT INTO genjob.upgrade_saved (statement) SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE ev_class = item.oid AND rulename <> '_RETURN';
		INSERT INTO genjob.upgrade_saved (statement) SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = item.oid AND NOT tgisinternal;
		INSERT INTO genjob.upgrade_saved (statement) SELECT format('COMMENT ON %s IS %L',
			CASE WHEN objsubid = 0 THEN 'VIEW ' || item.name ELSE format('COLUMN %s.%I', item.name, attname) END, description)
			FROM pg_description LEFT JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid AND objsubid > 0
			WHERE classoid = 'pg_class'::regclass AND objoid = item.oid;
		INSERT INTO genjob.upgrade_saved (statement) VALUES (format('ALTER VIEW %s OWNER TO %s', item.name, item.owner));
		IF item.relacl IS NOT NULL THEN
			INSERT INTO genjob.upgrade_saved (statement) VALUES (format('REVOKE ALL ON %s FROM %s', item.name, item.owner));
		END IF;
		INSERT INTO genjob.upgrade_saved (statement) SELECT format('GRANT %s ON %s TO %s%s', a.privilege_type, item.name,
			CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
			FROM aclexplode(item.relacl) a;
		INSERT INTO genjob.upgrade_saved (statement) SELECT format('GRANT %s (%I) ON %s TO %s%s', a.privilege_type, attname, item.name,
			CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
			FROM pg_attribute CROSS JOIN aclexplode(attacl) a WHERE attrelid = item.oid AND NOT attisdropped;
	END LOOP;
	FOR part IN SELECT name FROM genjob.upgrade_views ORDER BY ordinal DESC
	LOOP
		BEGIN
			EXECUTE 'DROP VIEW ' || part.name;
		EXCEPTION WHEN dependent_objects_still_exist THEN
			GET STACKED DIAGNOSTICS kept = PG_EXCEPTION_DETAIL;
			RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
				MESSAGE = format('genjob cannot be updated while other objects use the view %s', part.name), DETAIL = kept,
				HINT = 'DROP them, ALTER EXTENSION genjob UPDATE, and create them again.';
		END;
	END LOOP;

	-- triggers that name such a column
	FOR item IN SELECT DISTINCT t.oid, t.tgname, t.tgenabled, pg_get_triggerdef(t.oid) AS definition, obj_description(t.oid, 'pg_trigger') AS words
		FROM pg_depend d JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
		WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = jobs AND d.refobjsubid = ANY (changed) AND t.tgrelid = jobs AND NOT t.tgisinternal
	LOOP
		kept := genjob.upgrade_types(ARRAY[item.oid]);
		IF kept <> '' THEN
			RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
				MESSAGE = format('genjob cannot be updated while trigger %I uses types that a superuser does not control: %s', item.tgname, kept),
				DETAIL = 'The update creates the trigger again, as superuser, and might run code of other roles.',
				HINT = format('DROP TRIGGER %I ON %s, ALTER EXTENSION genjob UPDATE, and create it again.', item.tgname, jobs::regclass);
		END IF;
		EXECUTE format('DROP TRIGGER %I ON %s', item.tgname, jobs::regclass);
		INSERT INTO genjob.upgrade_saved (statement) VALUES (item.definition);
		INSERT INTO genjob.upgrade_saved (statement) SELECT format('ALTER TABLE %s %s TRIGGER %I', jobs::regclass,
			CASE item.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' END, item.tgname)
			WHERE item.tgenabled <> 'O';
		INSERT INTO genjob.upgrade_saved (statement) SELECT format('COMMENT ON TRIGGER %I ON %s IS %L', item.tgname, jobs::regclass, item.words)
			WHERE item.words IS NOT NULL;
	END LOOP;
END;
$$;

DROP VIEW genjob.servers, genjob.tenants, genjob.activity, genjob.backends, genjob.workers;
ALTER TABLE @extschema@.gen_jobs
	ALTER COLUMN server TYPE text COLLATE "C",
	ALTER COLUMN ran_on TYPE text COLLATE "C",
	ADD CHECK (octet_length(server) <= 63),
	ADD COLUMN request_id text COLLATE "C",
	ADD COLUMN server_oid oid,
	ADD COLUMN losses integer NOT NULL DEFAULT 0,
	ADD COLUMN on_done text,
	ADD COLUMN depth integer NOT NULL DEFAULT 0,
	ADD COLUMN follow_up text[],
	ADD COLUMN after bigint[],
	ADD COLUMN after_rule text COLLATE "C" NOT NULL DEFAULT 'succeeded' CHECK (after_rule IN ('succeeded', 'ended', 'failed')),
	ADD COLUMN blocked_by bigint,
	ADD COLUMN unknown_ends integer NOT NULL DEFAULT 0,
	ADD COLUMN put_off_since timestamptz,
	ADD COLUMN claimed_elsewhere boolean NOT NULL DEFAULT false,
	ADD COLUMN refers bigint[],
	ADD COLUMN retained boolean NOT NULL DEFAULT true;
ALTER TABLE genjob.tenant_weights ALTER COLUMN server TYPE text COLLATE "C", ADD CHECK (octet_length(server) <= 63);
CREATE INDEX gen_jobs_follow_up ON @extschema@.gen_jobs (id) WHERE follow_up IS NOT NULL;
CREATE UNIQUE INDEX gen_jobs_request ON @extschema@.gen_jobs (owner, request_id) WITH (deduplicate_items = off);
COMMENT ON INDEX @extschema@.gen_jobs_follow_up IS 'ended jobs with follow-ups left';
COMMENT ON INDEX @extschema@.gen_jobs_request IS 'one job for an owner and request_id, for as long as its row exists';
COMMENT ON COLUMN @extschema@.gen_jobs.request_id IS 'the application''s own id of an order: INSERT ... ON CONFLICT (owner, request_id) DO NOTHING makes one job of an order that is sent twice';
COMMENT ON COLUMN @extschema@.gen_jobs.server_oid IS 'the foreign server that had the name when the job was inserted, or its column server was last named in an UPDATE';
COMMENT ON COLUMN @extschema@.gen_jobs.losses IS 'attempts in a row that were cut short because PostgreSQL or genjob stopped';
COMMENT ON COLUMN @extschema@.gen_jobs.on_done IS 'function that is called with the row once the job has ended, by a worker that is connected as the owner';
COMMENT ON COLUMN @extschema@.gen_jobs.depth IS 'how many hand-overs by on_success and on_failure led to this job';
COMMENT ON COLUMN @extschema@.gen_jobs.follow_up IS 'which of notify, hand_over and on_done the dispatcher still has to do after the end of the job';
COMMENT ON COLUMN @extschema@.gen_jobs.unknown_ends IS 'calls with unknown outcome that were, or will be, repeated: you may have paid for each in addition to the last';
COMMENT ON COLUMN @extschema@.gen_jobs.put_off_since IS 'since when refusals that waiting alone does not fix (quota, billing), or an earlier call that is still at work, have delayed the job';
COMMENT ON COLUMN @extschema@.gen_jobs.claimed_elsewhere IS 'another cluster or database claimed the job (replication or a dump brought it): no call is sent until a dispatcher here has claimed it; if it has ended, retention deletes none of its objects';
COMMENT ON COLUMN @extschema@.gen_jobs.refers IS 'jobs whose outputs or results the request refers to, by id or by the URL of an object';
COMMENT ON COLUMN @extschema@.gen_jobs.retained IS 'false: the job succeeded while its server had no option retention, and is not in the index gen_jobs_ended; genjob sets it to true when the server gets the option';
CREATE INDEX gen_jobs_ended ON @extschema@.gen_jobs (server, state, finished_at, id)
	WHERE finished_at IS NOT NULL AND retained AND state IN ('succeeded', 'failed', 'cancelled');
COMMENT ON INDEX @extschema@.gen_jobs_ended IS 'what has ended and is retained, in the order in which retention deletes it';
CREATE INDEX gen_jobs_needed ON @extschema@.gen_jobs USING gin (after, refers)
	WHERE (after IS NOT NULL OR refers IS NOT NULL) AND (state IN ('waiting', 'queued', 'running') OR blocked_by IS NOT NULL);
COMMENT ON INDEX @extschema@.gen_jobs_needed IS 'jobs that unfinished jobs, and jobs that were not run because of others, wait for or refer to: retention keeps them';

-- jobs that wait for others
DROP INDEX @extschema@.gen_jobs_expiring;
CREATE INDEX gen_jobs_expiring ON @extschema@.gen_jobs (expires_at)
	WHERE expires_at IS NOT NULL AND state IN ('waiting', 'queued');
COMMENT ON INDEX @extschema@.gen_jobs_expiring IS 'when the next job expires';
CREATE INDEX gen_jobs_waiting ON @extschema@.gen_jobs (id) WHERE state = 'waiting';
CREATE INDEX gen_jobs_blocked ON @extschema@.gen_jobs (blocked_by) WHERE blocked_by IS NOT NULL;
COMMENT ON INDEX @extschema@.gen_jobs_waiting IS 'what waits for other jobs';
COMMENT ON INDEX @extschema@.gen_jobs_blocked IS 'what waits again when a job is retried';
COMMENT ON COLUMN @extschema@.gen_jobs.after IS 'jobs that must end before this one is queued; includes unfinished jobs that the request refers to';
COMMENT ON COLUMN @extschema@.gen_jobs.after_rule IS 'succeeded: all must succeed, else the job fails; ended: all must end; failed: the job runs if one failed, else it is cancelled';
COMMENT ON COLUMN @extschema@.gen_jobs.blocked_by IS 'the job in after that kept this one from running; when that job is retried, this one waits again; 0: it does not exist, or the owner may not see it';
COMMENT ON COLUMN @extschema@.gen_jobs.state IS 'waiting (for jobs in after), queued, running, succeeded, failed or cancelled; set it to cancelled to stop a job, to queued to run a failed or cancelled one again';
-- Who waits for whom: one row for each job of after that has not ended, or has not succeeded, of each job that waits. It
-- follows from gen_jobs, so it is not dumped.
CREATE TABLE genjob.dependencies
(
	job_id    bigint NOT NULL,
	parent_id bigint NOT NULL,
	outcome   text COLLATE "C",
	PRIMARY KEY (job_id, parent_id)
);
CREATE INDEX dependencies_parent ON genjob.dependencies (parent_id) WHERE outcome IS NULL;
ALTER TABLE genjob.dependencies SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE genjob.dependencies IS 'jobs that jobs with the state waiting still wait for; kept by genjob';
COMMENT ON INDEX genjob.dependencies_parent IS 'what to look at when a job ends';
COMMENT ON COLUMN genjob.dependencies.job_id IS 'job that waits';
COMMENT ON COLUMN genjob.dependencies.parent_id IS 'job that it waits for';
COMMENT ON COLUMN genjob.dependencies.outcome IS 'failed, cancelled or missing: how that ended; null: it has not';
CREATE FUNCTION genjob.after_change() RETURNS trigger
	AS 'MODULE_PATHNAME', 'genjob_after_change' LANGUAGE C;
COMMENT ON FUNCTION genjob.after_change() IS 'lets jobs that waited for the changed ones continue or fail';
CREATE TRIGGER genjob_after_change AFTER INSERT OR UPDATE OR DELETE ON @extschema@.gen_jobs
	FOR EACH STATEMENT EXECUTE FUNCTION genjob.after_change();
COMMENT ON TRIGGER genjob_after_change ON @extschema@.gen_jobs IS 'lets jobs that waited for the changed ones continue or fail';
ALTER TABLE @extschema@.gen_jobs ENABLE ALWAYS TRIGGER genjob_after_change;

-- unique keys are each owner's own
DROP INDEX @extschema@.gen_jobs_unique;
CREATE UNIQUE INDEX gen_jobs_unique ON @extschema@.gen_jobs (owner, server, unique_key)
	WHERE unique_key IS NOT NULL AND state IN ('waiting', 'queued', 'running');
COMMENT ON INDEX @extschema@.gen_jobs_unique IS 'at most one unfinished job for an owner, server and unique_key';
COMMENT ON COLUMN @extschema@.gen_jobs.unique_key IS 'an owner has at most one unfinished job with it at a server: INSERT ... ON CONFLICT DO NOTHING leaves a second one out';

-- the servers of jobs that wait, as they are now; without triggers: genjob's would take it for a change of each job, and
-- others' would run with the privileges of this script
SELECT pg_catalog.set_config('session_replication_role', 'replica', true);
ALTER TABLE @extschema@.gen_jobs DISABLE TRIGGER genjob_before_update;
UPDATE @extschema@.gen_jobs j SET server_oid = s.oid FROM pg_catalog.pg_foreign_server s
	WHERE s.srvname OPERATOR(pg_catalog.=) j.server AND j.state::pg_catalog.text IN ('queued', 'running');
ALTER TABLE @extschema@.gen_jobs ENABLE ALWAYS TRIGGER genjob_before_update;
SELECT pg_catalog.set_config('session_replication_role', 'origin', true);

-- what a role may know of others
CREATE OR REPLACE FUNCTION genjob.tenant_weight(server name, tenant text) RETURNS double precision
	AS 'MODULE_PATHNAME', 'genjob_tenant_weight' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION genjob.tenant_weight(name, text) IS 'weight of a tenant at a server: that of genjob.tenant_weights, or 1; null if the role may not see it';

CREATE FUNCTION genjob.read_ahead(server name, tenant text) RETURNS double precision
	AS 'MODULE_PATHNAME', 'genjob_ahead' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION genjob.read_ahead(name, text) IS 'how many jobs would get their turns before a new one of that tenant';

CREATE OR REPLACE FUNCTION genjob.estimate(server name, tenant text DEFAULT current_user) RETURNS timestamptz
	LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS $$
	WITH ahead AS (SELECT genjob.read_ahead(estimate.server, estimate.tenant) AS n),
	-- seconds until there is a place, and until there is a token
	wait AS (
		SELECT o.paused, s.held_until,
			CASE WHEN a.n < coalesce(s.allowed - s.in_flight, 1) THEN 0
				ELSE (a.n - (s.allowed - s.in_flight) + 1) * s.p50 / nullif(s.allowed, 0) END AS place,
			CASE WHEN o.rate > 0 THEN greatest(a.n + 1 - coalesce(s.tokens, 1), 0) / o.rate ELSE 0 END AS token
			FROM ahead a, genjob.read_rate(estimate.server) o
			LEFT JOIN genjob.read_servers() s ON s.server = o.server)
	SELECT CASE WHEN w.paused THEN 'infinity'
			WHEN w.place IS NOT NULL THEN
				greatest(greatest(clock_timestamp(), w.held_until) + least(w.place, 1e10) * interval '1 s',
					clock_timestamp() + least(w.token, 1e10) * interval '1 s') END
		FROM wait w
$$;

-- why jobs wait
DROP FUNCTION genjob.read_servers();
CREATE FUNCTION genjob.read_servers(OUT server oid, OUT in_flight integer, OUT succeeded bigint, OUT failed bigint,
	OUT retried bigint, OUT ended_last_minute bigint, OUT p50 double precision, OUT p95 double precision,
	OUT p99 double precision, OUT held_until timestamptz, OUT held_reason text, OUT allowed integer, OUT tokens double precision,
	OUT troubled boolean, OUT unknown_ends bigint)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'genjob_server_stats' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.read_servers() IS 'counts of this database''s servers since the server process started';

CREATE FUNCTION genjob.standstill() RETURNS text
	AS 'MODULE_PATHNAME', 'genjob_standstill' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION genjob.standstill() IS 'why no job of this database is started now, whatever its server; null: nothing stops them all';

CREATE VIEW genjob.servers AS
	SELECT s.srvname::text AS server,
		(SELECT o.option_value FROM pg_options_to_table(s.srvoptions) o WHERE o.option_name = 'api') AS api,
		(SELECT o.option_value FROM pg_options_to_table(s.srvoptions) o WHERE o.option_name = 'url') AS url,
		coalesce(q.queued, 0) AS queued, coalesce(q.later, 0) AS later, coalesce(r.in_flight, 0) AS in_flight,
		coalesce(r.succeeded, 0) AS succeeded, coalesce(r.failed, 0) AS failed, coalesce(r.retried, 0) AS retried,
		coalesce(r.ended_last_minute, 0) AS ended_last_minute,
		r.p50 * interval '1 s' AS p50, r.p95 * interval '1 s' AS p95, r.p99 * interval '1 s' AS p99,
		coalesce(CASE WHEN q.queued > 0 OR r.troubled THEN coalesce(d.standstill, r.held_reason) END,
			(SELECT 'paused: genjob.resume() ends it' FROM pg_options_to_table(s.srvoptions) o
				WHERE o.option_name = 'paused' AND o.option_value::boolean)) AS held_reason,
		CASE WHEN q.queued > 0 AND d.standstill IS NULL THEN r.held_until END AS held_until,
		r.allowed, r.tokens, coalesce(r.unknown_ends, 0) AS unknown_ends
	FROM pg_foreign_server s
	JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw AND w.fdwname = 'genjob'
	CROSS JOIN (SELECT genjob.standstill() AS standstill) d
	LEFT JOIN genjob.read_servers() r ON r.server = s.oid
	LEFT JOIN (SELECT j.server, count(*) FILTER (WHERE j.run_at <= now()) AS queued,
			count(*) FILTER (WHERE j.run_at > now()) AS later
		FROM @extschema@.gen_jobs j WHERE j.state = 'queued' GROUP BY j.server) q ON q.server = s.srvname;
COMMENT ON VIEW genjob.servers IS 'jobs and calls of each GenAI server, and what delays them';
COMMENT ON COLUMN genjob.servers.server IS 'name of the foreign server';
COMMENT ON COLUMN genjob.servers.api IS 'its option api';
COMMENT ON COLUMN genjob.servers.url IS 'its option url';
COMMENT ON COLUMN genjob.servers.in_flight IS 'jobs that have a place there now';
COMMENT ON COLUMN genjob.servers.succeeded IS 'jobs that succeeded there since PostgreSQL started';
COMMENT ON COLUMN genjob.servers.failed IS 'jobs that failed there since PostgreSQL started';
COMMENT ON COLUMN genjob.servers.ended_last_minute IS 'jobs that ended in the last 60 seconds';
COMMENT ON COLUMN genjob.servers.p95 IS 'as p50: 95 of 100 attempts took no longer';
COMMENT ON COLUMN genjob.servers.p99 IS 'as p50: 99 of 100 attempts took no longer';
COMMENT ON COLUMN genjob.servers.queued IS 'jobs that are due';
COMMENT ON COLUMN genjob.servers.later IS 'jobs whose run_at is still to come';
COMMENT ON COLUMN genjob.servers.retried IS 'attempts that failed and were, or will be, tried again';
COMMENT ON COLUMN genjob.servers.allowed IS 'calls at a time, of all its addresses that can be reached; where max_in_flight is auto, as found so far';
COMMENT ON COLUMN genjob.servers.tokens IS 'calls that rate_limit allows at once now';
COMMENT ON COLUMN genjob.servers.held_reason IS 'why jobs that are due are not started, or would not be; the words of answers and errors only for members of pg_read_all_stats and the owner of the server';
COMMENT ON COLUMN genjob.servers.unknown_ends IS 'calls with unknown outcome that were, or will be, repeated: you may have paid for each in addition to the last';
COMMENT ON COLUMN genjob.servers.held_until IS 'until when, where that is known';
COMMENT ON COLUMN genjob.servers.p50 IS 'median duration of the attempts that ended a job, within a fifth';

DROP FUNCTION genjob.read_activity();
CREATE FUNCTION genjob.read_activity(OUT job_id bigint, OUT server name, OUT owner oid, OUT attempt integer,
	OUT phase text, OUT progress double precision, OUT bytes_sent bigint, OUT bytes_received bigint, OUT started_at timestamptz, OUT pid integer,
	OUT tokens bigint, OUT tail text, OUT remote_state text)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'genjob_activity' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.read_activity() IS 'calls in flight in this database that the calling role may see';
CREATE VIEW genjob.activity AS
	SELECT a.job_id, a.server::text AS server, a.owner::regrole AS owner, a.attempt, a.phase, a.progress, a.bytes_sent, a.bytes_received,
		a.started_at, clock_timestamp() - a.started_at AS elapsed, a.pid, a.tokens, a.tail, a.remote_state
	FROM genjob.read_activity() a;
COMMENT ON VIEW genjob.activity IS 'calls now in flight: one''s own, and for members of pg_read_all_stats everyone''s';
COMMENT ON COLUMN genjob.activity.job_id IS 'id of the job';
COMMENT ON COLUMN genjob.activity.server IS 'server where the call is, perhaps a fallback of the job''s own';
COMMENT ON COLUMN genjob.activity.owner IS 'role that owns the job';
COMMENT ON COLUMN genjob.activity.attempt IS 'of the job';
COMMENT ON COLUMN genjob.activity.bytes_sent IS 'bytes of the request that have left';
COMMENT ON COLUMN genjob.activity.bytes_received IS 'bytes of the answer that have come';
COMMENT ON COLUMN genjob.activity.started_at IS 'when the dispatcher began to work on the attempt';
COMMENT ON COLUMN genjob.activity.elapsed IS 'since started_at';
COMMENT ON COLUMN genjob.activity.pid IS 'process of the dispatcher';
COMMENT ON COLUMN genjob.activity.phase IS 'calling, receiving (its answer comes), waiting (the provider works), polling, downloading (outputs), storing (them), fetching (what the request wants of an object store) or saving';
COMMENT ON COLUMN genjob.activity.remote_state IS 'what the provider last called the state of the prediction';
COMMENT ON COLUMN genjob.activity.progress IS 'from 0 to 1, if the provider reports it or the length of the answer is known';
COMMENT ON COLUMN genjob.activity.tokens IS 'pieces of text that have come of a stream; most servers send one for each token';
COMMENT ON COLUMN genjob.activity.tail IS 'the last 200 characters of the text that has come of a stream, of one''s own jobs';

CREATE VIEW genjob.backends AS
	SELECT s.srvname::text AS server, rtrim(btrim(u.url, E' \t\n'), '/') AS url, coalesce(b.state, 'ok') AS state,
		coalesce(b.in_flight, 0) AS in_flight, b.max_in_flight, coalesce(b.failures, 0) AS failures, b.until, b.error
	FROM pg_foreign_server s
	JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw AND w.fdwname = 'genjob'
	CROSS JOIN LATERAL (SELECT o.option_value FROM pg_options_to_table(s.srvoptions) o WHERE o.option_name = 'url') o
	CROSS JOIN LATERAL string_to_table(o.option_value, ',') WITH ORDINALITY u (url, ordinal)
	LEFT JOIN genjob.read_backends() b ON b.server = s.oid AND b.ordinal = u.ordinal;
COMMENT ON VIEW genjob.backends IS 'the addresses of each GenAI server, and which of them can be reached';
COMMENT ON COLUMN genjob.backends.server IS 'name of the foreign server';
COMMENT ON COLUMN genjob.backends.in_flight IS 'jobs that have a place there now';
COMMENT ON COLUMN genjob.backends.until IS 'when a held or broken address is called again';
COMMENT ON COLUMN genjob.backends.url IS 'as in gen_jobs.backend';
COMMENT ON COLUMN genjob.backends.state IS 'ok, held (it asked to wait, or is busy), broken (it cannot be reached, or fails: one call tries it at until) or probing (that call is under way)';
COMMENT ON COLUMN genjob.backends.max_in_flight IS 'calls at a time; where the server''s max_in_flight is auto, as found so far';
COMMENT ON COLUMN genjob.backends.failures IS 'calls in a row that did not reach it';
COMMENT ON COLUMN genjob.backends.error IS 'what the last of them met, for members of pg_read_all_stats and the owner of the server';

CREATE VIEW genjob.workers AS
	SELECT d.datname::text AS database, w.pid, w.state, w.since, w.last_error, w.last_error_at
	FROM genjob.read_workers() w LEFT JOIN pg_database d ON d.oid = w.database;
COMMENT ON VIEW genjob.workers IS 'the dispatchers: one for each database that has the extension';
COMMENT ON COLUMN genjob.workers.database IS 'name of the database';
COMMENT ON COLUMN genjob.workers.pid IS 'process of the dispatcher; null: none runs now';
COMMENT ON COLUMN genjob.workers.state IS 'starting, idle, busy, troubled (the last look at the queue failed), blocked (results cannot be written or, without a pid, no background worker is free), stopping, stopped, failed (it ended with an error) or absent (the database has no extension)';
COMMENT ON COLUMN genjob.workers.since IS 'when that state began';
COMMENT ON COLUMN genjob.workers.last_error IS 'last error of the dispatcher, for members of pg_read_all_stats, and triggers of gen_jobs that do not always fire';
COMMENT ON COLUMN genjob.workers.last_error_at IS 'when that error came';

-- tenants of one owner share that owner's turns
DROP INDEX @extschema@.gen_jobs_ready;
CREATE INDEX gen_jobs_ready ON @extschema@.gen_jobs (server, owner, tenant, priority, run_at, id) WHERE state = 'queued';
COMMENT ON INDEX @extschema@.gen_jobs_ready IS 'the queue of each server, owner, tenant and priority, in the order in which it is run';
COMMENT ON COLUMN @extschema@.gen_jobs.tenant IS 'whose turn it is: the owners of a server''s jobs share it evenly, or by genjob.owner_weights, and the tenants of an owner share its part, evenly or by genjob.tenant_weights';
COMMENT ON COLUMN genjob.tenant_weights.weight IS 'share of turns, relative to the other tenants of the same owner; 1 is normal';
CREATE TABLE genjob.owner_weights
(
	server text COLLATE "C" NOT NULL CHECK (octet_length(server) <= 63),
	owner regrole NOT NULL,
	weight double precision NOT NULL CHECK (weight BETWEEN 0.001 AND 1000),
	PRIMARY KEY (server, owner)
);
COMMENT ON TABLE genjob.owner_weights IS 'owners of jobs that get more or fewer turns than others; all that are not here have the weight 1';
COMMENT ON COLUMN genjob.owner_weights.server IS 'foreign server, as in gen_jobs';
COMMENT ON COLUMN genjob.owner_weights.owner IS 'as in gen_jobs';
COMMENT ON COLUMN genjob.owner_weights.weight IS 'share of turns, relative to the other owners; 1 is normal; the tenants of the owner share these turns';
SELECT pg_catalog.pg_extension_config_dump('genjob.owner_weights', '');
CREATE TRIGGER genjob_after_weights AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON genjob.owner_weights
	FOR EACH STATEMENT EXECUTE FUNCTION genjob.after_weights();
COMMENT ON TRIGGER genjob_after_weights ON genjob.owner_weights IS 'applies the new weights';
ALTER TABLE genjob.owner_weights ENABLE ALWAYS TRIGGER genjob_after_weights;
COMMENT ON FUNCTION genjob.after_weights() IS 'reports at commit that weights of tenants or owners changed';
CREATE FUNCTION genjob.owner_weight(server name, owner regrole) RETURNS double precision
	AS 'MODULE_PATHNAME', 'genjob_owner_weight' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION genjob.owner_weight(name, regrole) IS 'weight of an owner at a server: that of genjob.owner_weights, or 1; null if the role may not see it';

CREATE VIEW genjob.tenants WITH (security_invoker = true) AS
	SELECT j.server, j.tenant, genjob.tenant_weight(j.server, j.tenant) AS weight,
		count(*) FILTER (WHERE j.state = 'queued' AND j.run_at <= now()) AS queued,
		count(*) FILTER (WHERE j.state = 'queued' AND j.run_at > now()) AS later,
		count(*) FILTER (WHERE j.state = 'running') AS in_flight,
		min(j.run_at) FILTER (WHERE j.state = 'queued' AND j.run_at <= now()) AS waiting_since,
		j.owner, genjob.owner_weight(j.server, j.owner) AS owner_weight
	FROM @extschema@.gen_jobs j
	WHERE j.state IN ('queued', 'running')
	GROUP BY j.server, j.tenant, j.owner;
COMMENT ON VIEW genjob.tenants IS 'what each tenant of each owner and server has waiting and in flight, of the jobs that the role may see';
COMMENT ON COLUMN genjob.tenants.server IS 'name of the foreign server';
COMMENT ON COLUMN genjob.tenants.tenant IS 'as in gen_jobs.tenant';
COMMENT ON COLUMN genjob.tenants.in_flight IS 'jobs that are running';
COMMENT ON COLUMN genjob.tenants.weight IS 'as in genjob.tenant_weights: share of turns, relative to the other tenants of the owner; 1 is normal';
COMMENT ON COLUMN genjob.tenants.queued IS 'jobs that are due';
COMMENT ON COLUMN genjob.tenants.later IS 'jobs whose run_at is still to come';
COMMENT ON COLUMN genjob.tenants.waiting_since IS 'run_at of the job that has been due for longest';
COMMENT ON COLUMN genjob.tenants.owner IS 'owner of the jobs; a tenant name counts separately for each owner';
COMMENT ON COLUMN genjob.tenants.owner_weight IS 'as in genjob.owner_weights: share of turns, relative to the other owners; 1 is normal';

-- what follows the end of a job
CREATE TABLE genjob.sent
(
	key     uuid PRIMARY KEY,
	job_id  bigint NOT NULL,
	made_of text NOT NULL
);
COMMENT ON TABLE genjob.sent IS 'what went into calls with unknown outcome, so that a repeat sends the same; kept by genjob';
COMMENT ON COLUMN genjob.sent.key IS 'Idempotency-Key of the call';
COMMENT ON COLUMN genjob.sent.job_id IS 'job that it is for';
COMMENT ON COLUMN genjob.sent.made_of IS 'the options of its server that went into its body, and the digest of that, as JSON';
CREATE TABLE genjob.callbacks
(
	id         bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	job_id     bigint NOT NULL,
	attempt    integer NOT NULL,
	owner      regrole NOT NULL,
	run_at     timestamptz NOT NULL DEFAULT now(),
	attempts   integer NOT NULL DEFAULT 0,
	error      text,
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX callbacks_due ON genjob.callbacks (owner, run_at, id) WHERE run_at < 'infinity';
COMMENT ON TABLE genjob.callbacks IS 'ends of jobs whose on_done is still to be called; a row goes with the call that succeeds';
COMMENT ON COLUMN genjob.callbacks.id IS 'order in which the calls were noted';
COMMENT ON COLUMN genjob.callbacks.created_at IS 'when the job ended';
COMMENT ON SEQUENCE genjob.callbacks_id_seq IS 'ids of the rows of genjob.callbacks';
COMMENT ON INDEX genjob.callbacks_due IS 'the calls of each role, in the order in which they are made';
COMMENT ON COLUMN genjob.callbacks.job_id IS 'job that has ended; the call is for its row';
COMMENT ON COLUMN genjob.callbacks.attempt IS 'of the job when it ended: one that has run again since has another end';
COMMENT ON COLUMN genjob.callbacks.owner IS 'role that owns the job, as which the function is called';
COMMENT ON COLUMN genjob.callbacks.run_at IS 'not before this time; infinity: never again, unless someone sets it';
COMMENT ON COLUMN genjob.callbacks.attempts IS 'how often it was called and raised an error, or took too long';
COMMENT ON COLUMN genjob.callbacks.error IS 'error of the last call';
SELECT pg_catalog.pg_extension_config_dump('genjob.callbacks', '');
SELECT pg_catalog.pg_extension_config_dump('genjob.callbacks_id_seq', '');
-- a worker takes a row out as the role that owns it
ALTER TABLE genjob.callbacks ENABLE ROW LEVEL SECURITY;
CREATE POLICY callbacks_owner ON genjob.callbacks
	USING (pg_catalog.pg_has_role(owner, 'USAGE')) WITH CHECK (pg_catalog.pg_has_role(owner, 'USAGE'));
COMMENT ON POLICY callbacks_owner ON genjob.callbacks IS 'only members of the owning role';
CREATE FUNCTION genjob.after_callbacks() RETURNS trigger
	AS 'MODULE_PATHNAME', 'genjob_after_callbacks' LANGUAGE C;
COMMENT ON FUNCTION genjob.after_callbacks() IS 'reports at commit that calls are due';
CREATE TRIGGER genjob_after_callbacks AFTER INSERT OR UPDATE ON genjob.callbacks
	FOR EACH STATEMENT EXECUTE FUNCTION genjob.after_callbacks();
COMMENT ON TRIGGER genjob_after_callbacks ON genjob.callbacks IS 'wakes the dispatcher';
ALTER TABLE genjob.callbacks ENABLE ALWAYS TRIGGER genjob_after_callbacks;

-- most answers that are kept for a while are pictures, in base64
ALTER TABLE @extschema@.gen_jobs ALTER COLUMN remote SET STORAGE EXTERNAL;
-- cancels are told to the provider also after a restart
CREATE INDEX gen_jobs_cancelling ON @extschema@.gen_jobs (server, id)
	WHERE remote IS NOT NULL AND state IN ('failed', 'cancelled');
COMMENT ON INDEX @extschema@.gen_jobs_cancelling IS 'predictions that the provider must still be told to cancel';

-- Through this view genjob.cancel() and genjob.retry() change a job: it takes no privilege on gen_jobs, as the view's
-- owner has it, and triggers of gen_jobs run as the role that calls.
ALTER TABLE @extschema@.gen_outputs ALTER COLUMN data DROP NOT NULL, ADD COLUMN url text, ADD COLUMN etag text,
	ADD COLUMN store text COLLATE "C", ADD COLUMN store_oid oid;
ALTER TABLE @extschema@.gen_outputs ADD CONSTRAINT gen_outputs_place CHECK (data IS NOT NULL OR url IS NOT NULL);
COMMENT ON COLUMN @extschema@.gen_outputs.bytes IS 'its length';
COMMENT ON COLUMN @extschema@.gen_outputs.sha256 IS 'its digest';
COMMENT ON COLUMN @extschema@.gen_outputs.data IS 'the binary itself, decoded; null where it is in an object store';
COMMENT ON COLUMN @extschema@.gen_outputs.url IS 'where it is in an object store, as s3://bucket/key; genjob.presign() makes a link of it';
COMMENT ON COLUMN @extschema@.gen_outputs.etag IS 'the entity tag that the object store gave';
COMMENT ON COLUMN @extschema@.gen_outputs.store IS 'foreign server with api s3 that it was sent to';
COMMENT ON COLUMN @extschema@.gen_outputs.store_oid IS 'the foreign server that had the name then: another one is not asked for the output unless the owner of the job trusts its owner';
COMMENT ON CONSTRAINT gen_outputs_place ON @extschema@.gen_outputs IS 'an output is in the table or in an object store';
-- whose outputs a link in a request leads to; a hash, for the keys are long and only looked for as they are
CREATE INDEX gen_outputs_url ON @extschema@.gen_outputs USING hash (url) WHERE url IS NOT NULL;
COMMENT ON INDEX @extschema@.gen_outputs_url IS 'jobs that brought the objects to which a new request links: these are kept for it';
CREATE FUNCTION genjob.presign(url text, expires interval DEFAULT '1 hour', server text DEFAULT NULL) RETURNS text
	AS 'MODULE_PATHNAME', 'genjob_presign' LANGUAGE C STABLE;
COMMENT ON FUNCTION genjob.presign(text, interval, text) IS
	'a link; anyone who has it can read s3://bucket/key for that long; made without a call to the store';

CREATE FUNCTION genjob.presign_output(url text, expires interval, store text, store_oid oid, owner oid) RETURNS text
	AS 'MODULE_PATHNAME', 'genjob_presign_output' LANGUAGE C STABLE;
COMMENT ON FUNCTION genjob.presign_output(text, interval, text, oid, oid) IS
	'as genjob.presign(), with what a row of gen_outputs says of its store and the owner of its job';
CREATE FUNCTION genjob.store_trouble(url text, store text, store_oid oid, owner oid) RETURNS text
	AS 'MODULE_PATHNAME', 'genjob_store_trouble' LANGUAGE C STABLE;
COMMENT ON FUNCTION genjob.store_trouble(text, text, oid, oid) IS
	'why an owner''s output cannot be deleted from its store; null if it can';

-- what the row that is given says may be forged: the table's own counts, as far as the caller sees it
CREATE FUNCTION genjob.presign(output @extschema@.gen_outputs, expires interval DEFAULT '1 hour') RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS
	'SELECT genjob.presign_output(o.url, $2, o.store, o.store_oid, j.owner)
	 FROM @extschema@.gen_outputs o JOIN @extschema@.gen_jobs j ON j.id = o.job_id
	 WHERE o.job_id = ($1).job_id AND o.ordinal = ($1).ordinal AND o.url IS NOT NULL';
COMMENT ON FUNCTION genjob.presign(@extschema@.gen_outputs, interval) IS
	'a link; anyone who has it can read the output for that long; null if the output is in the table';

CREATE FUNCTION genjob.presign_put(server text, key text, content_type text DEFAULT NULL, expires interval DEFAULT '15 min')
	RETURNS text AS 'MODULE_PATHNAME', 'genjob_presign_put' LANGUAGE C STABLE;
COMMENT ON FUNCTION genjob.presign_put(text, text, text, interval) IS
	'a link; anyone who has it can put one object for that long, with the content type if one is given';

CREATE FUNCTION genjob.complete(job bigint, token text, result jsonb DEFAULT NULL, error text DEFAULT NULL) RETURNS boolean
	AS 'MODULE_PATHNAME', 'genjob_complete' LANGUAGE C;
COMMENT ON FUNCTION genjob.complete(bigint, text, jsonb, text) IS
	'reports the answer or the error of a handed-over job, with the token from its payload; false if already reported';

-- Equal outputs may be one object, where the keys of a store have a digest in them and not the job.
CREATE FUNCTION genjob.shared_object(job bigint, ordinal integer, jobs bigint[]) RETURNS boolean
	AS 'MODULE_PATHNAME', 'genjob_shared_object' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.shared_object(bigint, integer, bigint[]) IS
	'true if a job outside jobs has the same object as the output; only for a job that the calling role may see';

-- Deletes jobs that have ended, for genjob.purge() and for the option retention, as far as their objects are gone. Objects
-- go by jobs of their store, which are durable and limited as any other; patient: not those that have failed a moment ago.
CREATE FUNCTION genjob.purge_jobs(jobs bigint[], patient boolean, OUT deleted bigint, OUT waiting bigint, OUT ordered bigint,
	OUT problem text) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
$$
DECLARE
	ended CONSTANT @extschema@.gen_job_state[] := '{succeeded,failed,cancelled}';
	item record;
BEGIN
	waiting := 0;
	ordered := 0;
	FOR item IN
		SELECT o.url, o.store, j.owner, d.id, d.state, d.error, format('genjob.purge %s %s', o.job_id, o.ordinal) AS request_id,
				d.finished_at + least(d.finished_at - d.created_at + interval '5 s', interval '6 h') AS again_at,
				CASE WHEN j.claimed_elsewhere THEN format('job %s ended in another database, which may still need the object.'
					' If it is gone, UPDATE gen_jobs SET claimed_elsewhere = false WHERE state = %L AND claimed_elsewhere.', j.id, j.state)
					ELSE genjob.store_trouble(o.url, o.store, o.store_oid, j.owner) END AS trouble
			FROM unnest(jobs) AS g (id) JOIN @extschema@.gen_jobs j ON j.id = g.id AND j.state = ANY (ended)
			JOIN @extschema@.gen_outputs o ON o.job_id = j.id AND o.url IS NOT NULL
			LEFT JOIN @extschema@.gen_jobs d ON d.owner = j.owner AND d.request_id = format('genjob.purge %s %s', o.job_id, o.ordinal)
			WHERE (d.state IS DISTINCT FROM 'succeeded' OR d.finished_at < j.finished_at)
				AND NOT genjob.shared_object(o.job_id, o.ordinal, jobs)
			ORDER BY o.job_id, o.ordinal
	LOOP
		waiting := waiting + 1;
		IF item.trouble IS NOT NULL THEN
			problem := coalesce(problem, format('%s cannot be deleted: %s', item.url, item.trouble));
		ELSIF item.state IN ('failed', 'cancelled') THEN
			problem := coalesce(problem, format('%s cannot be deleted (job %s): %s', item.url, item.id, item.error));
			CONTINUE WHEN patient AND item.again_at > clock_timestamp();
			UPDATE @extschema@.gen_jobs SET server = item.store, state = 'queued' WHERE id = item.id;
			ordered := ordered + 1;
		ELSIF item.id IS NULL OR item.state = 'succeeded' THEN
			-- one that succeeded before the job ended has deleted what an earlier attempt had put there
			DELETE FROM @extschema@.gen_jobs WHERE id = item.id;
			INSERT INTO @extschema@.gen_jobs (server, request, owner, tenant, request_id) VALUES (item.store,
				jsonb_build_object('delete', regexp_replace(item.url, '^s3://[^/]*/', ''), 'bucket', split_part(item.url, '/', 3)), item.owner,
				'genjob.purge', item.request_id);
			ordered := ordered + 1;
		END IF;
	END LOOP;
	WITH gone AS MATERIALIZED (
		SELECT j.id, j.owner FROM unnest(jobs) AS g (id) JOIN @extschema@.gen_jobs j ON j.id = g.id AND j.state = ANY (ended)
			WHERE NOT EXISTS (SELECT FROM @extschema@.gen_outputs o WHERE o.job_id = j.id AND o.url IS NOT NULL
				AND NOT EXISTS (SELECT FROM @extschema@.gen_jobs d WHERE d.owner = j.owner AND d.state = 'succeeded'
					AND d.finished_at >= j.finished_at AND d.request_id = format('genjob.purge %s %s', o.job_id, o.ordinal))
				AND NOT genjob.shared_object(o.job_id, o.ordinal, jobs))),
	purged AS (
		DELETE FROM @extschema@.gen_jobs d USING gone g JOIN @extschema@.gen_outputs o ON o.job_id = g.id
			WHERE d.owner = g.owner AND d.state = ANY (ended) AND d.request_id = format('genjob.purge %s %s', o.job_id, o.ordinal)),
	rows AS (DELETE FROM @extschema@.gen_jobs j USING gone g WHERE j.id = g.id AND j.state = ANY (ended) RETURNING j.id)
	SELECT count(*) INTO deleted FROM rows;
END;
$$;
COMMENT ON FUNCTION genjob.purge_jobs(bigint[], boolean) IS
	'deletes ended jobs, with their outputs in the table and in object stores; returns how many jobs, how many objects are left, and for how many of these it inserted jobs of their store';

CREATE FUNCTION genjob.needed_jobs(jobs bigint[]) RETURNS bigint[]
	AS 'MODULE_PATHNAME', 'genjob_needed_jobs' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.needed_jobs(bigint[]) IS
	'which of these jobs retention and genjob.purge() must keep, because unfinished jobs or follow-ups need them; only jobs that the calling role may see';

CREATE FUNCTION genjob.purge(server text, older_than interval) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
$$
DECLARE
	deleted bigint := 0;
	waiting bigint := 0;
	kept bigint := 0;
	problem text;
	done record;
	batch bigint[];
	needed bigint[];
	job bigint;
BEGIN
	IF server IS NULL OR older_than IS NULL THEN
		RETURN NULL;
	END IF;
	IF older_than < '0' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'older_than is negative',
			HINT = 'Say how long ago jobs must have ended; 0 means all ended jobs.';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_foreign_server s WHERE s.srvname = purge.server COLLATE "C")
		AND NOT EXISTS (SELECT FROM @extschema@.gen_jobs j WHERE j.server = purge.server) THEN
		RAISE WARNING USING MESSAGE = format('server "%s" does not exist, and you see no job of it', server),
			HINT = 'Look in genjob.servers for its name.';
		RETURN 0;
	END IF;
	-- no timestamp is as old as some intervals are long
	older_than := least(older_than, '6000 years');
	FOR batch IN
		SELECT array_agg(o.id) FROM (SELECT j.id, row_number() OVER (ORDER BY j.id) AS n FROM @extschema@.gen_jobs j
			WHERE j.server = purge.server AND j.state IN ('succeeded', 'failed', 'cancelled') AND j.finished_at < now() - older_than) o
			GROUP BY o.n / 1000
	LOOP
		needed := genjob.needed_jobs(batch);
		kept := kept + cardinality(needed);
		batch := ARRAY(SELECT id FROM unnest(batch) AS b (id) WHERE id <> ALL (needed));
		BEGIN
			SELECT * INTO done FROM genjob.purge_jobs(batch, false);
			deleted := deleted + done.deleted;
			waiting := waiting + done.waiting;
			problem := coalesce(problem, done.problem);
		EXCEPTION WHEN foreign_key_violation OR restrict_violation THEN
			FOREACH job IN ARRAY batch LOOP
				BEGIN
					SELECT * INTO done FROM genjob.purge_jobs(ARRAY[job], false);
					deleted := deleted + done.deleted;
					waiting := waiting + done.waiting;
					problem := coalesce(problem, done.problem);
				EXCEPTION WHEN foreign_key_violation OR restrict_violation THEN
					kept := kept + 1;
				END;
			END LOOP;
		END;
	END LOOP;
	IF kept > 0 THEN
		RAISE NOTICE USING MESSAGE = format('%s jobs are kept, since something needs them', kept),
			HINT = 'Unfinished jobs wait for them or refer to them, their follow-ups are still to be done, or a foreign key refers to them.';
	END IF;
	IF waiting > 0 THEN
		RAISE NOTICE USING MESSAGE = format('%s objects are still to be deleted, by jobs of their stores', waiting),
			DETAIL = coalesce(problem || ' genjob will retry.', 'The row of a job is deleted after its objects.'),
			HINT = 'Their jobs go with the next call of genjob.purge().';
	END IF;
	RETURN deleted;
END;
$$;
COMMENT ON FUNCTION genjob.purge(text, interval) IS
	'deletes jobs of a server that ended that long ago, with their outputs in the table and in object stores; returns how many';

CREATE VIEW genjob.own_jobs WITH (security_barrier = true) AS
	SELECT j.id, j.state FROM @extschema@.gen_jobs j WHERE pg_catalog.pg_has_role(j.owner, 'USAGE');
COMMENT ON VIEW genjob.own_jobs IS 'jobs of the roles that the calling role is a member of; genjob.cancel() and genjob.retry() change their state through it';
COMMENT ON COLUMN genjob.own_jobs.id IS 'as in gen_jobs';
COMMENT ON COLUMN genjob.own_jobs.state IS 'as in gen_jobs, and checked as there';

CREATE FUNCTION genjob.wait(jobs bigint[], timeout interval DEFAULT NULL) RETURNS SETOF @extschema@.gen_jobs
	AS 'MODULE_PATHNAME', 'genjob_wait_all' LANGUAGE C ROWS 10;
COMMENT ON FUNCTION genjob.wait(bigint[], interval) IS
	'waits until all of these jobs have ended and returns their rows; after the timeout the rows as they are then';

CREATE FUNCTION genjob.wait(jobs text, timeout interval DEFAULT NULL) RETURNS SETOF @extschema@.gen_jobs
	AS 'MODULE_PATHNAME', 'genjob_wait_text' LANGUAGE C ROWS 10;
COMMENT ON FUNCTION genjob.wait(text, interval) IS
	'the same for an id, or an array of ids, as text: for drivers that send parameters without a type';

CREATE FUNCTION genjob.wait_any(jobs bigint[], timeout interval DEFAULT NULL) RETURNS @extschema@.gen_jobs
	AS 'MODULE_PATHNAME', 'genjob_wait_any' LANGUAGE C;
COMMENT ON FUNCTION genjob.wait_any(bigint[], interval) IS
	'waits until one of these jobs has ended and returns the row of the job that ended first; null after the timeout';

CREATE FUNCTION genjob.poke(server text, remote_id text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'genjob_poke' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.poke(text, text) IS
	'polls a prediction at commit instead of later; false if no job of the calling role is running it';

CREATE FUNCTION genjob.submit(server text, request jsonb, input bytea DEFAULT NULL, inputs bytea[] DEFAULT NULL,
	priority integer DEFAULT NULL, run_at timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL, tenant text DEFAULT NULL,
	unique_key text DEFAULT NULL, request_id text DEFAULT NULL, after bigint[] DEFAULT NULL, after_rule text DEFAULT NULL,
	on_done text DEFAULT NULL, max_attempts integer DEFAULT NULL) RETURNS bigint
	AS 'MODULE_PATHNAME', 'genjob_submit' LANGUAGE C;
COMMENT ON FUNCTION genjob.submit(text, jsonb, bytea, bytea[], integer, timestamptz, timestamptz, text, text, text, bigint[], text, text, integer) IS
	'inserts a job and returns its id; if a job has the request_id already, returns the id of that job';

-- Through this view genjob.tree() sees who waits for whom.
CREATE VIEW genjob.waiting WITH (security_barrier = true) AS
	SELECT d.job_id, d.parent_id AS waits_for FROM genjob.dependencies d JOIN @extschema@.gen_jobs j ON j.id = d.job_id
	WHERE d.outcome IS NULL AND pg_catalog.pg_has_role(j.owner, 'USAGE');
COMMENT ON VIEW genjob.waiting IS 'jobs that wait for others, one row for each job that they wait for; only jobs of roles that the calling role is a member of';
COMMENT ON COLUMN genjob.waiting.job_id IS 'job that waits';
COMMENT ON COLUMN genjob.waiting.waits_for IS 'job that it waits for';

CREATE FUNCTION genjob.tree(job bigint, OUT depth integer, OUT job_id bigint, OUT state @extschema@.gen_job_state,
	OUT after bigint[], OUT blocked_by bigint, OUT server text, OUT error text) RETURNS SETOF record
	LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
	ids bigint[];     -- jobs, the nearest first in both directions
	steps integer[];  -- of each: -1 before the job, 1 behind it
	froms integer[];  -- edges, as places in ids, in the order of their beginnings
	tos integer[];
	depths integer[];
BEGIN
	-- each job and each edge is looked at once, however many ways lead to it
	WITH RECURSIVE found (step, id) AS (
			SELECT s.step, j.id FROM @extschema@.gen_jobs j, (VALUES (-1), (1)) s (step) WHERE j.id = tree.job
		UNION
			SELECT f.step, n.id FROM found f CROSS JOIN LATERAL (
				SELECT a.id FROM @extschema@.gen_jobs c CROSS JOIN LATERAL unnest(c.after) a (id)
					WHERE f.step < 0 AND c.id = f.id AND a.id < f.id
			UNION ALL
				SELECT w.job_id FROM genjob.waiting w WHERE f.step > 0 AND w.waits_for = f.id AND w.job_id > f.id
			UNION ALL
				SELECT b.id FROM @extschema@.gen_jobs b WHERE f.step > 0 AND b.blocked_by = f.id AND b.id > f.id) n),
	placed AS MATERIALIZED (SELECT f.step, f.id, row_number() OVER (ORDER BY f.step, f.step * f.id)::integer AS place
		FROM found f WHERE EXISTS (SELECT FROM @extschema@.gen_jobs j WHERE j.id = f.id)),
	edge (near, far) AS (
			SELECT f.place, t.place FROM placed f JOIN @extschema@.gen_jobs c ON c.id = f.id
				CROSS JOIN LATERAL unnest(c.after) a (id) JOIN placed t ON t.step < 0 AND t.id = a.id
				WHERE f.step < 0 AND a.id < f.id
		UNION ALL
			SELECT f.place, t.place FROM placed f JOIN genjob.waiting w ON w.waits_for = f.id
				JOIN placed t ON t.step > 0 AND t.id = w.job_id WHERE f.step > 0 AND w.job_id > f.id
		UNION ALL
			SELECT f.place, t.place FROM placed f JOIN @extschema@.gen_jobs b ON b.blocked_by = f.id
				JOIN placed t ON t.step > 0 AND t.id = b.id WHERE f.step > 0 AND b.id > f.id)
	SELECT p.ids, p.steps, e.froms, e.tos INTO ids, steps, froms, tos
		FROM (SELECT array_agg(id ORDER BY place) AS ids, array_agg(step ORDER BY place) AS steps FROM placed) p,
			(SELECT array_agg(near ORDER BY near) AS froms, array_agg(far ORDER BY near) AS tos FROM edge) e;
	-- the longest way counts; it is known of a job when the edges from it are reached
	depths := array_fill(0, ARRAY[coalesce(cardinality(ids), 0)]);
	FOR i IN 1 .. coalesce(cardinality(froms), 0) LOOP
		IF depths[tos[i]] <= depths[froms[i]] THEN
			depths[tos[i]] := depths[froms[i]] + 1;
		END IF;
	END LOOP;
	RETURN QUERY SELECT DISTINCT ON (d.depth, j.id) d.depth, j.id, j.state, j.after, j.blocked_by, j.server, j.error
		FROM (SELECT t.id, t.step * t.steps_away AS depth FROM unnest(ids, steps, depths) t (id, step, steps_away)) d
		JOIN @extschema@.gen_jobs j ON j.id = d.id ORDER BY d.depth, j.id;
END;
$$;
COMMENT ON FUNCTION genjob.tree(bigint) IS
	'a job (depth 0), jobs that it waits for, directly or not (negative), and jobs that wait for it, or were not run because of it (positive)';

ALTER FUNCTION genjob.pause(name) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION genjob.resume(name) SET search_path = pg_catalog, pg_temp;

-- A role that owned a table and is no superuser keeps what it did with it, except with other roles' jobs.
DO $$
DECLARE
	item record;
BEGIN
	FOR item IN SELECT c.oid::regclass AS name, c.relowner::regrole AS owner FROM pg_class c JOIN pg_authid a ON a.oid = c.relowner
		WHERE c.oid IN ('@extschema@.gen_jobs'::regclass, '@extschema@.gen_outputs'::regclass, 'genjob.tenant_weights'::regclass)
			AND NOT a.rolsuper AND a.rolname <> 'genjob_dispatcher'
	LOOP
		EXECUTE format('ALTER TABLE %s OWNER TO %I', item.name, current_user);
		PERFORM genjob.grant_unrecorded(format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s', item.name, item.owner));
		RAISE NOTICE 'table % belonged to role %, and now belongs to genjob_dispatcher', item.name, item.owner
			USING HINT = format('Role %s may still read and write it, of jobs those that it owns.', item.owner);
	END LOOP;
END;
$$;

-- The role that owns what the extension keeps, and as which its dispatchers work: no superuser, so that code which
-- someone manages to hang on the tables has nothing to gain.
DO $$
DECLARE
	wrong text;
	item record;
BEGIN
	IF to_regrole('genjob_dispatcher') IS NULL THEN
		BEGIN
			CREATE ROLE genjob_dispatcher NOLOGIN NOINHERIT;
			COMMENT ON ROLE genjob_dispatcher IS 'owns the tables of the extension genjob, whose dispatchers work as this role';
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL; -- another database creates the extension at this moment
		END;
	END IF;
	-- Also a membership without INHERIT and SET, as PostgreSQL 16 and later lets the creator of a role keep: its ADMIN
	-- OPTION gives what it lacks.
	SELECT concat_ws(', ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolcanlogin THEN 'LOGIN' END,
			CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
			CASE WHEN r.rolreplication THEN 'REPLICATION' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
			(SELECT 'a member of ' || string_agg(m.roleid::regrole::text, ', ') FROM pg_auth_members m WHERE m.member = r.oid),
			(SELECT 'with the members ' || string_agg(m.member::regrole::text, ', ')
				FROM pg_auth_members m JOIN pg_authid a ON a.oid = m.member
				WHERE m.roleid = r.oid AND NOT a.rolsuper),
			-- who was a member once may have left them
			(SELECT 'with the functions ' || string_agg(p.oid::regprocedure::text, ', ')
				FROM pg_proc p WHERE p.proowner = r.oid AND p.prosecdef))
		INTO STRICT wrong FROM pg_authid r WHERE r.rolname = 'genjob_dispatcher';
	IF wrong <> '' THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('role "genjob_dispatcher" has too many rights: %s', wrong),
			DETAIL = 'It owns the tables of genjob, so whoever has its rights reads and changes the jobs of all.',
			HINT = 'ALTER ROLE genjob_dispatcher, REVOKE its memberships, or give its functions to another role, so that it is a plain role without LOGIN; or drop it.';
	END IF;
	FOR item IN
		SELECT format('TABLE %s', d.objid::regclass) AS name FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
			JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'v')
			WHERE e.extname = 'genjob' AND d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_class'::regclass
		UNION ALL
		SELECT format('FUNCTION %s', d.objid::regprocedure) FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
			JOIN pg_proc p ON p.oid = d.objid AND p.prosecdef
			WHERE e.extname = 'genjob' AND d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_proc'::regclass
	LOOP
		EXECUTE format('ALTER %s OWNER TO genjob_dispatcher', item.name);
	END LOOP;
END;
$$;

-- A foreign key is checked as the owner of the tables, who needs USAGE on their schema.
SELECT genjob.grant_unrecorded('GRANT USAGE ON SCHEMA @extschema@ TO genjob_dispatcher');

-- Everyone may look at what is going on (the functions behind the views show only what a role may see); a job
-- can be changed only by members of the role that owns it, a server only by its owner.
GRANT SELECT ON genjob.activity, genjob.servers, genjob.backends, genjob.tenants, genjob.workers TO PUBLIC;
GRANT SELECT, UPDATE (state) ON genjob.own_jobs TO PUBLIC;
GRANT SELECT ON genjob.waiting TO PUBLIC;

-- Calls of on_done are made as the owners of the jobs, who may see them, set their run_at and delete them.
GRANT SELECT, DELETE, UPDATE (run_at, attempts, error) ON genjob.callbacks TO PUBLIC;

-- A trigger of gen_jobs on another table would take that table's columns for its own.
REVOKE EXECUTE ON FUNCTION genjob.before_insert(), genjob.before_update(), genjob.before_delete(),
	genjob.after_truncate(), genjob.after_change(), genjob.after_weights(), genjob.after_callbacks() FROM PUBLIC;

-- what others had, as it was
DO $$
DECLARE
	item record;
BEGIN
	FOR item IN SELECT statement FROM genjob.upgrade_saved ORDER BY ordinal
	LOOP
		PERFORM genjob.grant_unrecorded(item.statement);
	END LOOP;
END;
$$;
DROP TABLE genjob.upgrade_saved, genjob.upgrade_views;
DROP FUNCTION genjob.upgrade_types(oid[]);
DROP FUNCTION genjob.grant_unrecorded(text);

-- the same in other words
COMMENT ON COLUMN @extschema@.gen_jobs.failures IS 'how many attempts count against max_attempts: failures, but not attempts that the server deferred or a restart cut short';
COMMENT ON FUNCTION genjob.before_update() IS 'checks a change of a job and reports it at commit';
COMMENT ON FUNCTION genjob.before_delete() IS 'reports at commit that a job was deleted';
COMMENT ON FUNCTION genjob.after_truncate() IS 'reports at commit that all jobs were deleted';
COMMENT ON SEQUENCE @extschema@.gen_jobs_id_seq IS 'ids of the jobs in gen_jobs';
COMMENT ON COLUMN @extschema@.gen_jobs.id IS 'id of the job, for genjob.wait(), genjob.cancel() and similar functions, and for gen_outputs.job_id';
COMMENT ON COLUMN @extschema@.gen_jobs.idempotency_key IS 'Idempotency-Key of the call that is in flight, or whose outcome is unknown';
COMMENT ON COLUMN @extschema@.gen_jobs.ran_on IS 'server that took the last attempt as a fallback; null if the job''s own server took it';
COMMENT ON COLUMN @extschema@.gen_jobs.backend IS 'address that got the last attempt; null if the server has one url and genjob needs no later call to it';
COMMENT ON POLICY gen_jobs_owner ON @extschema@.gen_jobs IS 'only members of the owning role';
-- genjob alone writes outputs: it deletes all of a job at once, so that nobody may add thousands of rows
CREATE POLICY gen_outputs_insert ON @extschema@.gen_outputs AS RESTRICTIVE FOR INSERT WITH CHECK (false);
COMMENT ON POLICY gen_outputs_insert ON @extschema@.gen_outputs IS 'only the owner of the table inserts outputs';
COMMENT ON FUNCTION genjob.before_insert() IS 'checks a new job and wakes the dispatcher at commit';
COMMENT ON TRIGGER genjob_before_update ON @extschema@.gen_jobs IS 'checks a change of a job and applies it';
COMMENT ON TRIGGER genjob_before_delete ON @extschema@.gen_jobs IS 'stops deleted jobs';
COMMENT ON TRIGGER genjob_after_weights ON genjob.tenant_weights IS 'applies the new weights';
COMMENT ON FUNCTION genjob.retry(bigint) IS 'runs a failed or cancelled job again; false if it is neither';
COMMENT ON FUNCTION genjob.wait(bigint, interval) IS
	'waits until a job has ended and returns its row; after the timeout the row as it is then';
COMMENT ON PROCEDURE genjob.run(name, jsonb, bytea[], interval, bigint, @extschema@.gen_job_state, jsonb, jsonb, text) IS
	'inserts a job, commits, waits until it has ended and returns the result';
COMMENT ON FUNCTION genjob.read_backends() IS 'addresses of this database''s servers, with their present state';
COMMENT ON FUNCTION genjob.read_rate(name) IS 'OID, pause state and rate_limit (in calls a second) of a server';
