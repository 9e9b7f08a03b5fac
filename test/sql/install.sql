--
-- install: what CREATE EXTENSION genjob brings, that it explains itself, and who may do what with it
--
\set SHOW_CONTEXT never

SELECT superuser, trusted, relocatable, requires FROM pg_available_extension_versions WHERE name = 'genjob';

-- the library that is loaded and the objects in this database are of one version
SELECT genjob.version() = extversion AS same_version FROM pg_extension WHERE extname = 'genjob';

-- everything there is; row and array types (members by name from PostgreSQL 17 on) follow from these
CREATE TEMP VIEW members AS
	SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS object
	FROM pg_depend d JOIN pg_extension e ON e.extname = 'genjob' AND d.refobjid = e.oid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
		AND NOT EXISTS (SELECT FROM pg_type t WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid
			AND (t.typtype = 'c' OR t.typcategory = 'A'));

SELECT object FROM members ORDER BY object COLLATE "C";

-- ---- it explains itself: each of these lists what has no comment, so all are empty ----

SELECT object FROM members WHERE obj_description(objid, classid::regclass::name) IS NULL;

SELECT attrelid::regclass, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid AND c.relkind IN ('r', 'v')
	WHERE attrelid IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass) AND attnum > 0 AND NOT attisdropped
		AND col_description(attrelid, attnum) IS NULL;

SELECT pg_describe_object(classid, objid, 0) FROM
	(SELECT 'pg_trigger'::regclass AS classid, oid AS objid FROM pg_trigger
		WHERE tgrelid IN ('gen_jobs'::regclass, 'gen_outputs'::regclass) AND NOT tgisinternal
	UNION ALL
	SELECT 'pg_policy'::regclass, oid FROM pg_policy
		WHERE polrelid IN ('gen_jobs'::regclass, 'gen_outputs'::regclass)
	UNION ALL
	SELECT 'pg_class'::regclass, indexrelid FROM pg_index
		WHERE indrelid IN ('gen_jobs'::regclass, 'gen_outputs'::regclass) AND NOT indisprimary) o
	WHERE obj_description(objid, classid::regclass::name) IS NULL;

-- ---- pg_dump keeps the queue, what it brought back, and the next number ----

SELECT c::regclass AS table, coalesce(nullif(f, ''), 'all rows') AS rows
	FROM pg_extension, unnest(extconfig, extcondition) AS u (c, f) WHERE extname = 'genjob';

-- ---- who may do what ----

CREATE ROLE regress_genjob_nobody;

-- Nothing runs with the rights of who installed it. What changes a job or a server checks by itself
-- whose that is.
SELECT p.oid::regprocedure AS function, p.prosecdef AS security_definer,
		has_function_privilege('regress_genjob_nobody', p.oid, 'EXECUTE') AS everyone
	FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
	ORDER BY p.oid::regprocedure::text COLLATE "C";

SELECT has_schema_privilege('regress_genjob_nobody', 'genjob', 'USAGE') AS usage,
	has_schema_privilege('regress_genjob_nobody', 'genjob', 'CREATE') AS create,
	has_foreign_data_wrapper_privilege('regress_genjob_nobody', 'genjob', 'USAGE') AS wrapper_usage;

SELECT object, has_table_privilege('regress_genjob_nobody', objid, 'SELECT') AS everyone_reads,
		has_table_privilege('regress_genjob_nobody', objid, 'INSERT, UPDATE, DELETE, TRUNCATE') AS everyone_writes
	FROM members JOIN pg_class c ON classid = 'pg_class'::regclass AND c.oid = objid AND c.relkind IN ('r', 'v')
	ORDER BY object COLLATE "C";

-- the triggers read columns by number, so they are for gen_jobs alone
CREATE SCHEMA regress_genjob AUTHORIZATION regress_genjob_nobody;
SET ROLE regress_genjob_nobody;
CREATE TABLE regress_genjob.mine (id text, server text, request text);
CREATE TRIGGER mine BEFORE INSERT ON regress_genjob.mine FOR EACH ROW EXECUTE FUNCTION genjob.before_insert();
RESET ROLE;
CREATE TRIGGER mine BEFORE INSERT ON regress_genjob.mine FOR EACH ROW EXECUTE FUNCTION genjob.before_insert();
INSERT INTO regress_genjob.mine VALUES ('1', 'x', 'y');
SELECT genjob.before_insert();
\set VERBOSITY terse
DROP SCHEMA regress_genjob CASCADE;
\set VERBOSITY default

-- the triggers fire also for what replication brings
SELECT tgname, tgenabled FROM pg_trigger
	WHERE tgrelid = 'gen_jobs'::regclass AND NOT tgisinternal ORDER BY tgname;

-- ---- settings ----

SELECT name, setting, unit, min_val, max_val, context FROM pg_settings WHERE name LIKE 'genjob.%' ORDER BY name;
SELECT name, short_desc FROM pg_settings WHERE name LIKE 'genjob.%' ORDER BY name;
SET genjob.enabled = off;
SET genjob.max_inflight = 5;

-- ---- into another schema ----

BEGIN;
DROP EXTENSION genjob;
SELECT to_regclass('gen_jobs'), to_regnamespace('genjob'), to_regtype('gen_job_state');
CREATE SCHEMA "The Queue";
CREATE EXTENSION genjob SCHEMA "The Queue";
SELECT to_regclass('gen_jobs'), to_regclass('"The Queue".gen_jobs');
SET LOCAL search_path = "The Queue";
SELECT 'gen_jobs'::regclass, 'gen_outputs'::regclass, 'genjob.servers'::regclass;
CREATE SERVER regress_painter FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', paused 'on');
INSERT INTO gen_jobs (id, server, request) VALUES (1, 'regress_painter', '{}');
SET LOCAL search_path = pg_catalog;
SELECT genjob.cancel(1);
SELECT state FROM genjob.wait(1);
ROLLBACK;
SELECT to_regclass('gen_jobs'), to_regclass('"The Queue".gen_jobs');

-- without its objects the functions say so rather than guess
BEGIN;
ALTER EXTENSION genjob DROP FUNCTION genjob.cancel(bigint);
CREATE FUNCTION pg_temp.cancel(bigint) RETURNS boolean AS 'genjob', 'genjob_cancel' LANGUAGE C STRICT;
DROP FUNCTION genjob.cancel(bigint);
DROP EXTENSION genjob;
SELECT pg_temp.cancel(1);
ROLLBACK;

DROP ROLE regress_genjob_nobody;
