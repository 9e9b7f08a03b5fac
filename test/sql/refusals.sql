--
-- refusals: commands of the tables' owner after which the queue would stand still without a word
--
\set SHOW_CONTEXT never

CREATE SCHEMA regress_elsewhere;
\set VERBOSITY default
ALTER TABLE gen_jobs SET SCHEMA regress_elsewhere;
\set VERBOSITY terse
ALTER TABLE gen_outputs SET SCHEMA regress_elsewhere;
ALTER TABLE genjob.tenant_weights SET SCHEMA regress_elsewhere;
ALTER TYPE gen_job_state SET SCHEMA regress_elsewhere;
ALTER EXTENSION genjob SET SCHEMA regress_elsewhere;
ALTER TABLE gen_jobs RENAME TO jobs;
ALTER TABLE gen_outputs RENAME TO outputs;
ALTER TABLE gen_jobs RENAME COLUMN tenant TO customer;
ALTER TYPE gen_job_state RENAME TO job_state;
ALTER SCHEMA genjob RENAME TO regress_genjob;
ALTER TABLE gen_jobs DROP COLUMN usage;
ALTER TABLE gen_outputs DROP COLUMN store_oid;
ALTER TABLE gen_jobs ALTER COLUMN tenant TYPE varchar(10);
ALTER TABLE gen_jobs FORCE ROW LEVEL SECURITY;
DROP TRIGGER genjob_before_insert ON gen_jobs;
DROP TRIGGER IF EXISTS genjob_after_weights ON genjob.tenant_weights;
DROP INDEX gen_jobs_ready;
DROP INDEX IF EXISTS public.gen_jobs_unique;
CREATE FUNCTION regress_can_drop(index regclass) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'DROP INDEX ' || index;
	RAISE EXCEPTION 'it could be dropped';
EXCEPTION
	WHEN raise_exception THEN RETURN true;
	WHEN object_not_in_prerequisite_state THEN RETURN sqlerrm !~ '^cannot drop index';
END$$;
-- whatever index there is
WITH ours AS MATERIALIZED (SELECT indexrelid::regclass AS index
	FROM pg_index JOIN pg_depend ON classid = 'pg_class'::regclass AND objid = indrelid AND deptype = 'e'
	JOIN pg_extension e ON refclassid = 'pg_extension'::regclass AND refobjid = e.oid AND extname = 'genjob'
	WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid))
SELECT count(*) >= 15 AS found, string_agg(index::text, ' ') FILTER (WHERE regress_can_drop(index)) AS can_be_dropped FROM ours;
DROP FUNCTION regress_can_drop;
-- also within others' code
DO $$BEGIN ALTER TABLE gen_jobs RENAME TO jobs; END$$;

-- what is one's own is one's own
BEGIN;
ALTER TABLE gen_jobs ADD COLUMN regress_note text;
ALTER TABLE gen_jobs RENAME COLUMN regress_note TO regress_notes;
ALTER TABLE gen_jobs ALTER COLUMN regress_notes TYPE varchar(10);
ALTER TABLE gen_jobs DROP COLUMN regress_notes;
ALTER TABLE gen_outputs ADD COLUMN regress_note text;
ALTER TABLE gen_outputs DROP COLUMN regress_note;
CREATE INDEX gen_jobs_regress ON gen_jobs (created_at);
DROP INDEX gen_jobs_regress;
CREATE TABLE regress_elsewhere.gen_jobs (id bigint, tenant text);
ALTER TABLE regress_elsewhere.gen_jobs RENAME COLUMN tenant TO customer;
ALTER TABLE regress_elsewhere.gen_jobs RENAME TO jobs;
CREATE TRIGGER genjob_before_insert BEFORE INSERT ON regress_elsewhere.jobs FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
DROP TRIGGER genjob_before_insert ON regress_elsewhere.jobs;
ROLLBACK;
ALTER TABLE regress_nowhere RENAME TO jobs;
DROP SCHEMA regress_elsewhere;

-- who knows better
BEGIN;
SET LOCAL allow_system_table_mods = on;
ALTER TABLE gen_jobs RENAME usage TO used;
ROLLBACK;
