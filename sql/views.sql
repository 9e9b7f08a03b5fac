
-- What is going on now, from shared memory.

CREATE FUNCTION genjob.read_activity(OUT job_id bigint, OUT server name, OUT owner oid, OUT attempt integer,
	OUT phase text, OUT progress double precision, OUT bytes_sent bigint, OUT bytes_received bigint, OUT started_at timestamptz, OUT pid integer,
	OUT tokens bigint, OUT tail text, OUT remote_state text)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'genjob_activity' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.read_activity() IS 'calls in flight in this database that the calling role may see';

CREATE FUNCTION genjob.read_workers(OUT database oid, OUT pid integer, OUT state text, OUT since timestamptz,
	OUT last_error text, OUT last_error_at timestamptz)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'genjob_workers' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.read_workers() IS 'dispatchers of all databases';

CREATE FUNCTION genjob.read_servers(OUT server oid, OUT in_flight integer, OUT succeeded bigint, OUT failed bigint,
	OUT retried bigint, OUT ended_last_minute bigint, OUT p50 double precision, OUT p95 double precision,
	OUT p99 double precision, OUT held_until timestamptz, OUT held_reason text, OUT allowed integer, OUT tokens double precision,
	OUT troubled boolean, OUT unknown_ends bigint)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'genjob_server_stats' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.read_servers() IS 'counts of this database''s servers since the server process started';

CREATE FUNCTION genjob.read_backends(OUT server oid, OUT ordinal integer, OUT state text, OUT in_flight integer,
	OUT max_in_flight integer, OUT failures integer, OUT until timestamptz, OUT error text)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'genjob_backends' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.read_backends() IS 'addresses of this database''s servers, with their present state';

CREATE FUNCTION genjob.standstill() RETURNS text
	AS 'MODULE_PATHNAME', 'genjob_standstill' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION genjob.standstill() IS 'why no job of this database is started now, whatever its server; null: nothing stops them all';

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

CREATE FUNCTION genjob.tenant_weight(server name, tenant text) RETURNS double precision
	AS 'MODULE_PATHNAME', 'genjob_tenant_weight' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION genjob.tenant_weight(name, text) IS 'weight of a tenant at a server: that of genjob.tenant_weights, or 1; null if the role may not see it';

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

CREATE FUNCTION genjob.read_rate(name, OUT server oid, OUT paused boolean, OUT rate double precision)
	AS 'MODULE_PATHNAME', 'genjob_server_rate' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.read_rate(name) IS 'OID, pause state and rate_limit (in calls a second) of a server';

CREATE FUNCTION genjob.read_ahead(server name, tenant text) RETURNS double precision
	AS 'MODULE_PATHNAME', 'genjob_ahead' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION genjob.read_ahead(name, text) IS 'how many jobs would get their turns before a new one of that tenant';

CREATE FUNCTION genjob.estimate(server name, tenant text DEFAULT current_user) RETURNS timestamptz
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
COMMENT ON FUNCTION genjob.estimate(name, text) IS
	'when a job of that tenant, inserted now, would start; infinity while the server is paused, null while too little is known of it';

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
