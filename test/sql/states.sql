--
-- states: what may be made of a job by UPDATE, genjob.cancel() and genjob.retry(), and what not
--
-- The server is paused, so that nothing moves by itself. A job is made "running" as replication would,
-- without triggers, in transactions that are rolled back before anybody can see it.
--
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset null '(null)'

CREATE SERVER regress_s FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', paused 'on');

-- one job in each state, as a restore brings them
CREATE PROCEDURE pg_temp.fill() LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM gen_jobs;
	INSERT INTO gen_jobs (id, server, request, state, attempt, failures, finished_at, run_at, error, attempt_errors)
		VALUES (1, 'regress_s', '{}', 'queued', 0, 0, NULL, '2000-01-01', NULL, NULL),
			(2, 'regress_s', '{}', 'queued', 1, 1, NULL, '2000-01-01', 'busy', '[{"error": "busy"}]'),
			(3, 'regress_s', '{}', 'queued', 2, 1, NULL, '2000-01-01', NULL, NULL),
			(4, 'regress_s', '{}', 'succeeded', 1, 0, '2000-01-02', '2000-01-01', NULL, NULL),
			(5, 'regress_s', '{}', 'failed', 5, 5, '2000-01-02', '2000-01-01', 'it broke', '[{"error": "it broke"}]'),
			(6, 'regress_s', '{}', 'cancelled', 1, 0, '2000-01-02', '2000-01-01', 'cancelled by role "x"', NULL);
	SET LOCAL session_replication_role = replica;
	UPDATE gen_jobs SET state = 'waiting' WHERE id = 1;
	UPDATE gen_jobs SET state = 'running', idempotency_key = '00000000-0000-4000-8000-000000000003' WHERE id = 3;
	SET LOCAL session_replication_role = origin;
END;
$$;
CREATE VIEW pg_temp.jobs AS
	SELECT id, state, attempt, failures,
		CASE WHEN run_at = '2000-01-01' THEN 'unchanged' WHEN run_at BETWEEN now() AND clock_timestamp() THEN 'now' END
			AS run_at,
		CASE WHEN finished_at = '2000-01-02' THEN 'unchanged' WHEN finished_at BETWEEN now() AND clock_timestamp() THEN 'now' END
			AS finished_at,
		replace(error, format('"%s"', current_user), '(the current one)') AS error
	FROM gen_jobs;

BEGIN;
CALL pg_temp.fill();
TABLE pg_temp.jobs ORDER BY id;

-- ---- every transition, in words ----

CREATE FUNCTION pg_temp.try(job bigint, target gen_job_state) RETURNS TABLE (outcome text, hint text) LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		UPDATE gen_jobs SET state = target WHERE id = job;
		outcome := 'ok';
		-- and all of it is undone
		RAISE EXCEPTION USING ERRCODE = 'GJ001';
	EXCEPTION
		WHEN SQLSTATE 'GJ001' THEN NULL;
		WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS outcome = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	END;
	RETURN NEXT;
END;
$$;
SELECT state AS from, target AS to, outcome
	FROM gen_jobs, unnest(enum_range(NULL::gen_job_state)) target, pg_temp.try(id, target)
	WHERE state <> target ORDER BY id, target;
-- the refusals say what would make sense
SELECT DISTINCT state AS from, target AS to, hint
	FROM gen_jobs, unnest('{queued,running,cancelled}'::gen_job_state[]) target, pg_temp.try(id, target)
	WHERE hint <> '' ORDER BY 1, 2;
-- no change is no transition
SELECT state, outcome FROM gen_jobs, pg_temp.try(id, state) ORDER BY id;
\set VERBOSITY terse
UPDATE gen_jobs SET state = NULL WHERE id = 2;
\set VERBOSITY default

-- ---- cancel: by UPDATE ----

UPDATE gen_jobs SET state = 'cancelled' WHERE state IN ('waiting', 'queued', 'running');
TABLE pg_temp.jobs ORDER BY id;
-- the administrator may say why
CALL pg_temp.fill();
UPDATE gen_jobs SET state = 'cancelled', error = 'the customer has changed her mind' WHERE id = 2 RETURNING state, error;
-- history stays
SELECT attempt_errors, attempt FROM gen_jobs WHERE id = 2;

-- ---- run again: by UPDATE ----

CALL pg_temp.fill();
UPDATE gen_jobs SET state = 'queued' WHERE state IN ('failed', 'cancelled');
-- from the beginning (failures 0), due at once; "attempt" goes on counting, for it also tells a late answer from this one's
TABLE pg_temp.jobs ORDER BY id;
SELECT attempt_errors FROM gen_jobs WHERE id = 5;
-- or when the administrator says
CALL pg_temp.fill();
UPDATE gen_jobs SET state = 'queued', run_at = '2100-01-01 00:00Z' WHERE id = 5 RETURNING run_at = '2100-01-01 00:00Z' AS as_said;
-- an expires_at that has passed would fail it at once, so it goes; one to come stays
CALL pg_temp.fill();
UPDATE gen_jobs SET expires_at = CASE id WHEN 5 THEN timestamptz '2000-01-01' ELSE 'infinity' END WHERE id IN (5, 6);
UPDATE gen_jobs SET state = 'queued' WHERE id IN (5, 6) RETURNING id, expires_at;
-- the key of a call whose end is not known stays, so that the server can tell it has had it
CALL pg_temp.fill();
UPDATE gen_jobs SET state = 'cancelled' WHERE id = 3;
UPDATE gen_jobs SET state = 'queued' WHERE id = 3 RETURNING idempotency_key;

-- ---- cancel() and retry(): true if they did something, false if there was nothing to do ----

CALL pg_temp.fill();
SELECT id, state, genjob.cancel(id) FROM gen_jobs ORDER BY id;
TABLE pg_temp.jobs ORDER BY id;
CALL pg_temp.fill();
SELECT id, state, genjob.retry(id) FROM gen_jobs ORDER BY id;
TABLE pg_temp.jobs ORDER BY id;
SELECT genjob.cancel(5), genjob.cancel(5);
SELECT genjob.retry(5), genjob.retry(5);
SELECT genjob.cancel(999);
SELECT genjob.retry(999);
SELECT genjob.cancel(NULL), genjob.retry(NULL);

-- ---- wait() ----

SELECT id, state FROM genjob.wait(4);
SELECT id, state, error FROM genjob.wait(6, '0');
SELECT genjob.wait(999);
SELECT genjob.wait(NULL::bigint) IS NULL AS is_null;
-- what only this transaction knows of can never end while it waits
SELECT genjob.wait(2);
SAVEPOINT s;
INSERT INTO gen_jobs (id, server, request) VALUES (7, 'regress_s', '{}');
SELECT genjob.wait(7, '1 h');
-- cancelled it has ended, for this transaction too
UPDATE gen_jobs SET state = 'cancelled' WHERE id = 7;
SELECT id, state FROM genjob.wait(7);
ROLLBACK TO s;
CALL genjob.run('regress_s', '{}');

-- ---- what cannot be changed ----

CALL pg_temp.fill();
UPDATE gen_jobs SET id = 99 WHERE id = 2;
UPDATE gen_jobs SET attempt = 0 WHERE id = 2;
UPDATE gen_jobs SET failures = 0 WHERE id = 2;
UPDATE gen_jobs SET idempotency_key = NULL WHERE id = 3;
\set VERBOSITY terse
UPDATE gen_jobs SET owner = NULL WHERE id = 2;
\set VERBOSITY default
-- with the server now
UPDATE gen_jobs SET request = '{"other": true}' WHERE id = 3;
UPDATE gen_jobs SET inputs = '{}' WHERE id = 3;
UPDATE gen_jobs SET server = 'regress_other' WHERE id = 3;
-- what does not concern the call in flight can
UPDATE gen_jobs SET priority = 5, max_attempts = 9 WHERE id = 3 RETURNING state, priority, max_attempts;

-- ---- a queued job may be changed, and is checked as a new one ----

UPDATE gen_jobs SET priority = 100, run_at = '2100-01-01 00:00Z', expires_at = 'infinity' WHERE id = 2
	RETURNING state, priority, expires_at;
UPDATE gen_jobs SET request = '{"prompt": "other"}' WHERE id = 2 RETURNING request;
UPDATE gen_jobs SET request = '[]' WHERE id = 2;
UPDATE gen_jobs SET request = '{"image": {"$input": 1}}' WHERE id = 2;
UPDATE gen_jobs SET inputs = ARRAY['\x01'::bytea] WHERE id = 2;
UPDATE gen_jobs SET request = '{"image": {"$input": 1}}', inputs = ARRAY['\x01'::bytea] WHERE id = 2 RETURNING request, inputs;
UPDATE gen_jobs SET server = 'regress_other' WHERE id = 2;
\set VERBOSITY terse
UPDATE gen_jobs SET server = NULL WHERE id = 2;
UPDATE gen_jobs SET max_attempts = 0 WHERE id = 2;
\set VERBOSITY default
-- also one that is about to run again
UPDATE gen_jobs SET state = 'queued', server = 'regress_other' WHERE id = 5;
UPDATE gen_jobs SET state = 'queued', request = '3' WHERE id = 5;
-- one that has ended is a record: it is nobody's business until it runs again
UPDATE gen_jobs SET server = 'regress_other' WHERE id = 5 RETURNING server, state;
SELECT genjob.retry(5);
ROLLBACK;

-- ---- a member of the owning role, without any privilege on the table ----

CREATE ROLE regress_genjob_app;
GRANT USAGE ON FOREIGN SERVER regress_s TO regress_genjob_app;
INSERT INTO gen_jobs (id, server, request, owner) VALUES (1, 'regress_s', '{}', 'regress_genjob_app');
SET ROLE regress_genjob_app;
UPDATE gen_jobs SET state = 'cancelled';
SELECT genjob.cancel(1);
SELECT genjob.retry(1);
SELECT genjob.cancel(1);
RESET ROLE;
SELECT id, state, error FROM gen_jobs;
-- the functions run nothing of the caller's: its operators stand before PostgreSQL's in its search_path
CREATE SCHEMA regress_trap AUTHORIZATION regress_genjob_app;
SET ROLE regress_genjob_app;
DO $$
DECLARE
	type regtype;
BEGIN
	FOREACH type IN ARRAY '{gen_job_state, bigint, oid, name, text}'::regtype[] LOOP
		EXECUTE format('CREATE FUNCTION regress_trap.spring(%1$s, %1$s) RETURNS boolean LANGUAGE plpgsql AS'
			' ''BEGIN RAISE NOTICE ''''the trap sprang''''; RETURN true; END''', type);
		EXECUTE format('CREATE OPERATOR regress_trap.= (LEFTARG = %1$s, RIGHTARG = %1$s, FUNCTION = regress_trap.spring)', type);
	END LOOP;
END;
$$;
SET search_path = regress_trap, pg_catalog;
SELECT 'it is set'::text = 'for all else' AS trap;
SELECT genjob.retry(1), genjob.cancel(1);
RESET ROLE;
SET search_path = regress_trap, pg_catalog;
SELECT state FROM genjob.wait(1);
RESET search_path;
\set VERBOSITY terse
DROP SCHEMA regress_trap CASCADE;
\set VERBOSITY default

-- ---- DELETE and TRUNCATE take the outputs along ----

INSERT INTO gen_outputs VALUES (1, 1, 'text/plain', 2, sha256('hi'), 'hi');
DELETE FROM gen_jobs;
SELECT count(*) FROM gen_outputs;
INSERT INTO gen_jobs (id, server, request) VALUES (1, 'regress_s', '{}');
INSERT INTO gen_outputs VALUES (1, 1, 'text/plain', 2, sha256('hi'), 'hi');
TRUNCATE gen_jobs;
TRUNCATE gen_jobs, gen_outputs;
SELECT count(*) FROM gen_outputs;

DROP SERVER regress_s CASCADE;
DROP ROLE regress_genjob_app;
