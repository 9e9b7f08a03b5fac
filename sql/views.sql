
-- What is going on now, from shared memory.

CREATE FUNCTION genjob.read_activity(OUT job_id bigint, OUT server name, OUT owner oid, OUT attempt integer,
	OUT phase text, OUT progress double precision, OUT bytes_sent bigint, OUT bytes_received bigint, OUT started_at timestamptz, OUT pid integer)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'genjob_activity' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.read_activity() IS 'calls in flight in this database that the calling role may see';

CREATE FUNCTION genjob.read_workers(OUT database oid, OUT pid integer, OUT state text, OUT since timestamptz,
	OUT last_error text, OUT last_error_at timestamptz)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'genjob_workers' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.read_workers() IS 'dispatchers of all databases';

CREATE FUNCTION genjob.read_servers(OUT server oid, OUT in_flight integer, OUT succeeded bigint, OUT failed bigint,
	OUT retried bigint, OUT ended_last_minute bigint, OUT p50 double precision, OUT p95 double precision,
	OUT p99 double precision, OUT held_until timestamptz, OUT held_reason text)
	RETURNS SETOF record AS 'MODULE_PATHNAME', 'genjob_server_stats' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.read_servers() IS 'counts of this database''s servers since the server process started';

CREATE VIEW genjob.activity AS
	SELECT a.job_id, a.server, a.owner::regrole AS owner, a.attempt, a.phase, a.progress, a.bytes_sent, a.bytes_received,
		a.started_at, clock_timestamp() - a.started_at AS elapsed, a.pid
	FROM genjob.read_activity() a;
COMMENT ON VIEW genjob.activity IS 'calls now in flight: one''s own, and for members of pg_read_all_stats everyone''s';
COMMENT ON COLUMN genjob.activity.phase IS 'calling, receiving (its answer comes), waiting (the provider works), polling, downloading (outputs) or saving';
COMMENT ON COLUMN genjob.activity.progress IS 'from 0 to 1, where the provider tells it or it is known how much of the answer has come';

CREATE VIEW genjob.servers AS
	SELECT s.srvname AS server,
		(SELECT o.option_value FROM pg_options_to_table(s.srvoptions) o WHERE o.option_name = 'api') AS api,
		(SELECT o.option_value FROM pg_options_to_table(s.srvoptions) o WHERE o.option_name = 'url') AS url,
		coalesce(q.queued, 0) AS queued, coalesce(q.later, 0) AS later, coalesce(r.in_flight, 0) AS in_flight,
		coalesce(r.succeeded, 0) AS succeeded, coalesce(r.failed, 0) AS failed, coalesce(r.retried, 0) AS retried,
		coalesce(r.ended_last_minute, 0) AS ended_last_minute,
		r.p50 * interval '1 s' AS p50, r.p95 * interval '1 s' AS p95, r.p99 * interval '1 s' AS p99,
		CASE WHEN q.queued > 0 THEN r.held_reason END AS held_reason,
		CASE WHEN q.queued > 0 THEN r.held_until END AS held_until
	FROM pg_foreign_server s
	JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw AND w.fdwname = 'genjob'
	LEFT JOIN genjob.read_servers() r ON r.server = s.oid
	LEFT JOIN (SELECT j.server, count(*) FILTER (WHERE j.run_at <= now()) AS queued,
			count(*) FILTER (WHERE j.run_at > now()) AS later
		FROM @extschema@.gen_jobs j WHERE j.state = 'queued' GROUP BY j.server) q ON q.server = s.srvname;
COMMENT ON VIEW genjob.servers IS 'what each GenAI server has to do and does, and why it is held back';
COMMENT ON COLUMN genjob.servers.queued IS 'jobs that are due';
COMMENT ON COLUMN genjob.servers.later IS 'jobs whose run_at is still to come';
COMMENT ON COLUMN genjob.servers.retried IS 'attempts that failed and were, or will be, tried again';
COMMENT ON COLUMN genjob.servers.p50 IS 'median duration of the attempts that ended a job, within a fifth';

CREATE VIEW genjob.workers AS
	SELECT d.datname AS database, w.pid, w.state, w.since, w.last_error, w.last_error_at
	FROM genjob.read_workers() w LEFT JOIN pg_database d ON d.oid = w.database;
COMMENT ON VIEW genjob.workers IS 'the dispatchers: one for each database that has the extension';
