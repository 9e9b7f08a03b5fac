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

-- tenants of one owner share that owner's turns
DROP INDEX @extschema@.gen_jobs_ready;
CREATE INDEX gen_jobs_ready ON @extschema@.gen_jobs (server, owner, tenant, priority, run_at, id) WHERE state = 'queued';
COMMENT ON INDEX @extschema@.gen_jobs_ready IS 'the queue of each server, owner, tenant and priority, in the order in which it is run';
COMMENT ON COLUMN @extschema@.gen_jobs.tenant IS 'whose turn it is: the owners of a server''s jobs share it evenly, or by genjob.owner_weights, and the tenants of an owner share its part, evenly or by genjob.tenant_weights';
COMMENT ON COLUMN genjob.tenant_weights.weight IS 'turns in the time in which a tenant of the same owner that has the weight 1 has one';
CREATE TABLE genjob.owner_weights
(
	server name NOT NULL,
	owner regrole NOT NULL,
	weight double precision NOT NULL CHECK (weight BETWEEN 0.001 AND 1000),
	PRIMARY KEY (server, owner)
);
COMMENT ON TABLE genjob.owner_weights IS 'owners of jobs that get more or fewer turns than others; all that are not here have the weight 1';
COMMENT ON COLUMN genjob.owner_weights.server IS 'foreign server, as in gen_jobs';
COMMENT ON COLUMN genjob.owner_weights.owner IS 'as in gen_jobs';
COMMENT ON COLUMN genjob.owner_weights.weight IS 'turns in the time in which an owner of weight 1 has one; the tenants of the owner share them';
SELECT pg_catalog.pg_extension_config_dump('genjob.owner_weights', '');
CREATE TRIGGER genjob_after_weights AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON genjob.owner_weights
	FOR EACH STATEMENT EXECUTE FUNCTION genjob.after_weights();
COMMENT ON TRIGGER genjob_after_weights ON genjob.owner_weights IS 'has the new weights take effect';
ALTER TABLE genjob.owner_weights ENABLE ALWAYS TRIGGER genjob_after_weights;
COMMENT ON FUNCTION genjob.after_weights() IS 'has the dispatcher told at commit that weights of tenants or owners changed';
CREATE FUNCTION genjob.owner_weight(server name, owner regrole) RETURNS double precision
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce((SELECT w.weight FROM genjob.owner_weights w
		WHERE w.server = owner_weight.server AND w.owner = owner_weight.owner), 1)
$$;
COMMENT ON FUNCTION genjob.owner_weight(name, regrole) IS 'weight of an owner at a server: that of genjob.owner_weights, or 1';

CREATE OR REPLACE VIEW genjob.tenants WITH (security_invoker = true) AS
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
COMMENT ON COLUMN genjob.tenants.weight IS 'of genjob.tenant_weights: turns in the time in which another tenant of the owner, of weight 1, has one';
COMMENT ON COLUMN genjob.tenants.queued IS 'jobs that are due';
COMMENT ON COLUMN genjob.tenants.later IS 'jobs whose run_at is still to come';
COMMENT ON COLUMN genjob.tenants.waiting_since IS 'run_at of the job that has been due for longest';
COMMENT ON COLUMN genjob.tenants.owner IS 'owner of the jobs: of one name, tenants of two owners are two';
COMMENT ON COLUMN genjob.tenants.owner_weight IS 'of genjob.owner_weights: turns in the time in which an owner of weight 1 has one';

-- cancels are told to the provider also after a restart
CREATE INDEX gen_jobs_cancelling ON @extschema@.gen_jobs (server, id)
	WHERE remote IS NOT NULL AND state IN ('failed', 'cancelled');
COMMENT ON INDEX @extschema@.gen_jobs_cancelling IS 'predictions that the provider is still to be told to cancel';
