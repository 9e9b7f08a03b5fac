-- From genjob 0.1.0 to 0.2.0: what changed in the install script since, for a database that has jobs.
\echo Use "ALTER EXTENSION genjob UPDATE" to load this file. \quit

SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

-- stops here when the library that the server has loaded is another one
CREATE OR REPLACE FUNCTION genjob.version() RETURNS text
	AS 'MODULE_PATHNAME', 'genjob_version' LANGUAGE C STABLE STRICT PARALLEL SAFE;

ALTER TABLE @extschema@.gen_jobs
	ADD COLUMN request_id text COLLATE "C",
	ADD COLUMN server_oid oid,
	ADD COLUMN losses integer NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX gen_jobs_request ON @extschema@.gen_jobs (owner, request_id);
COMMENT ON INDEX @extschema@.gen_jobs_request IS 'one job for an owner and request_id, for as long as its row exists';
COMMENT ON COLUMN @extschema@.gen_jobs.request_id IS 'the application''s own id of an order: INSERT ... ON CONFLICT (owner, request_id) DO NOTHING makes one job of an order that is sent twice';
COMMENT ON COLUMN @extschema@.gen_jobs.server_oid IS 'the foreign server that had the name when the job was inserted';
COMMENT ON COLUMN @extschema@.gen_jobs.losses IS 'attempts in a row that the end of PostgreSQL or of genjob cut short';
