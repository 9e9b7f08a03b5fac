
-- Functions.

CREATE FUNCTION genjob.preview(server name, request jsonb, inputs bytea[] DEFAULT NULL) RETURNS text
	AS 'MODULE_PATHNAME', 'genjob_preview' LANGUAGE C STABLE;
COMMENT ON FUNCTION genjob.preview(name, jsonb, bytea[]) IS
	'the HTTP request that such a job of the calling role would send, secrets masked; nothing is sent';

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

-- the caller may forge the row that it passes: use the table's row, if the caller may see it
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

-- Equal outputs can be one object if the store's option key has {sha256} and not {job}.
CREATE FUNCTION genjob.shared_object(job bigint, ordinal integer, jobs bigint[]) RETURNS boolean
	AS 'MODULE_PATHNAME', 'genjob_shared_object' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.shared_object(bigint, integer, bigint[]) IS
	'true if a job outside jobs has the same object as the output; only for a job that the calling role may see';

-- Deletes ended jobs whose objects are gone, for genjob.purge() and for the option retention.
-- Jobs of the store delete the objects, durable and limited as all jobs.
-- patient: do not retry such a job soon after it has failed.
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

-- genjob.cancel() and genjob.retry() change a job through this view.
-- The caller needs no privilege on gen_jobs, because the view's owner has it; triggers of gen_jobs run as the calling role.
CREATE VIEW genjob.own_jobs WITH (security_barrier = true) AS
	SELECT j.id, j.state FROM @extschema@.gen_jobs j WHERE pg_catalog.pg_has_role(j.owner, 'USAGE');
COMMENT ON VIEW genjob.own_jobs IS 'jobs of the roles that the calling role is a member of; genjob.cancel() and genjob.retry() change their state through it';
COMMENT ON COLUMN genjob.own_jobs.id IS 'as in gen_jobs';
COMMENT ON COLUMN genjob.own_jobs.state IS 'as in gen_jobs, and checked as there';

CREATE FUNCTION genjob.cancel(job bigint) RETURNS boolean
	AS 'MODULE_PATHNAME', 'genjob_cancel' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.cancel(bigint) IS 'stops a job wherever it is; false if it had ended';

CREATE FUNCTION genjob.retry(job bigint) RETURNS boolean
	AS 'MODULE_PATHNAME', 'genjob_retry' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.retry(bigint) IS 'runs a failed or cancelled job again; false if it is neither';

CREATE FUNCTION genjob.wait(job bigint, timeout interval DEFAULT NULL) RETURNS @extschema@.gen_jobs
	AS 'MODULE_PATHNAME', 'genjob_wait' LANGUAGE C;
COMMENT ON FUNCTION genjob.wait(bigint, interval) IS
	'waits until a job has ended and returns its row; after the timeout the row as it is then';

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

CREATE PROCEDURE genjob.run(server name, request jsonb, inputs bytea[] DEFAULT NULL, timeout interval DEFAULT NULL,
	INOUT id bigint DEFAULT NULL, INOUT state @extschema@.gen_job_state DEFAULT NULL,
	INOUT result jsonb DEFAULT NULL, INOUT usage jsonb DEFAULT NULL, INOUT error text DEFAULT NULL)
	AS 'MODULE_PATHNAME', 'genjob_run' LANGUAGE C;
COMMENT ON PROCEDURE genjob.run(name, jsonb, bytea[], interval, bigint, @extschema@.gen_job_state, jsonb, jsonb, text) IS
	'inserts a job, commits, waits until it has ended and returns the result';

-- Pausing is an option of the server: it survives a restart and a dump, and only the server's owner can set it.
CREATE FUNCTION genjob.set_paused(server name, paused boolean) RETURNS boolean
	LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS
$$
DECLARE
	was text;
BEGIN
	SELECT (SELECT o.option_value FROM pg_options_to_table(s.srvoptions) o WHERE o.option_name = 'paused')
		INTO STRICT was
		FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw AND w.fdwname = 'genjob'
		WHERE s.srvname = set_paused.server;
	IF coalesce(was::boolean, false) = paused THEN
		RETURN false;
	END IF;
	EXECUTE format('ALTER SERVER %I OPTIONS (%s paused %L)', server,
		CASE WHEN was IS NULL THEN 'ADD' ELSE 'SET' END, CASE WHEN paused THEN 'on' ELSE 'off' END);
	RETURN true;
EXCEPTION
	WHEN no_data_found THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object',
			MESSAGE = format('GenAI server "%s" does not exist', server),
			HINT = 'genjob.servers lists those that do.';
END;
$$;
COMMENT ON FUNCTION genjob.set_paused(name, boolean) IS 'sets the option paused of a server; false if it was so';

CREATE FUNCTION genjob.pause(server name) RETURNS boolean
	LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT genjob.set_paused(server, true)';
COMMENT ON FUNCTION genjob.pause(name) IS
	'stops claiming jobs for a server, until genjob.resume(); calls in flight go on; false if it was paused';

CREATE FUNCTION genjob.resume(server name) RETURNS boolean
	LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT genjob.set_paused(server, false)';
COMMENT ON FUNCTION genjob.resume(name) IS 'restarts claiming jobs for a server; false if it was not paused';
