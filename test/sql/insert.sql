--
-- insert: enqueueing, and everything that is refused there, where nothing is lost yet
--
\set SHOW_CONTEXT never
\pset null '(null)'

CREATE ROLE regress_genjob_app;
CREATE ROLE regress_genjob_other;
CREATE ROLE regress_genjob_team;
GRANT regress_genjob_team TO regress_genjob_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON gen_jobs TO regress_genjob_app, regress_genjob_other;
-- so that the numbers of its jobs are known: ids are not its to choose
GRANT UPDATE ON SEQUENCE gen_jobs_id_seq TO regress_genjob_app;

-- servers that nothing is claimed for, so that what is inserted stays as it is
CREATE SERVER regress_http FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', paused 'on');
CREATE SERVER regress_openai FOREIGN DATA WRAPPER genjob OPTIONS (api 'openai-images', url 'http://127.0.0.1:9', paused 'on');
CREATE SERVER regress_a1111 FOREIGN DATA WRAPPER genjob OPTIONS (api 'automatic1111', url 'http://127.0.0.1:9', paused 'on');
CREATE FOREIGN DATA WRAPPER regress_dummy;
CREATE SERVER regress_database FOREIGN DATA WRAPPER regress_dummy;
GRANT USAGE ON FOREIGN SERVER regress_http, regress_openai, regress_a1111, regress_database
	TO regress_genjob_app, regress_genjob_team;

SET ROLE regress_genjob_app;

-- ---- a job ----

SELECT setval('gen_jobs_id_seq', 1000001, false) AS n \gset
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"prompt": "a lighthouse at dawn"}')
	RETURNING id, server, request, inputs, priority, state, attempt, failures, owner;
-- "now" is the transaction's, nothing is known yet
SELECT run_at = created_at AS due_at_once, expires_at, max_attempts, started_at, finished_at,
		idempotency_key, result, usage, error, attempt_errors
	FROM gen_jobs WHERE id = 1000001;
-- numbers come by themselves
SELECT setval('gen_jobs_id_seq', 1, false) AS n \gset
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{}') RETURNING id > 0 AS has_id;
-- and all that an application may set
SELECT setval('gen_jobs_id_seq', 1000002, false) AS n \gset
INSERT INTO gen_jobs (server, request, inputs, priority, run_at, expires_at, max_attempts)
	VALUES ('regress_http', '{"image": {"$input": 1}}', ARRAY['\x00ff'::bytea], -5, '2100-01-01 00:00Z',
		'2100-01-02 00:00Z', 1)
	RETURNING id, inputs, priority, state, run_at = '2100-01-01 00:00Z' AS run_at, expires_at = '2100-01-02 00:00Z'
		AS expires_at, max_attempts;
SELECT setval('gen_jobs_id_seq', 100, false) AS n \gset

-- ---- the request ----

INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '"a lighthouse"');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '[{"prompt": "a lighthouse"}]');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', 'null');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', NULL);
INSERT INTO gen_jobs (server) VALUES ('regress_http');

-- ---- the server ----

INSERT INTO gen_jobs (server, request) VALUES ('regress_nowhere', '{}');
INSERT INTO gen_jobs (server, request) VALUES ('Regress "Http"', '{}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_database', '{}');
INSERT INTO gen_jobs (server, request) VALUES (NULL, '{}');
INSERT INTO gen_jobs (request) VALUES ('{}');
-- openai-images asks for a key
INSERT INTO gen_jobs (server, request) VALUES ('regress_openai', '{}');
RESET ROLE;
CREATE USER MAPPING FOR regress_genjob_other SERVER regress_openai OPTIONS (api_key 'sk-other');
SET ROLE regress_genjob_app;
INSERT INTO gen_jobs (server, request) VALUES ('regress_openai', '{}');
RESET ROLE;
CREATE USER MAPPING FOR PUBLIC SERVER regress_openai OPTIONS (api_key 'sk-all');
SET ROLE regress_genjob_app;
INSERT INTO gen_jobs (server, request) VALUES ('regress_openai', '{}');
RESET ROLE;
DROP USER MAPPING FOR PUBLIC SERVER regress_openai;
-- unless it is told that this one does not
ALTER SERVER regress_openai OPTIONS (ADD auth 'none');
SET ROLE regress_genjob_app;
INSERT INTO gen_jobs (server, request) VALUES ('regress_openai', '{}');
-- without USAGE
SET ROLE regress_genjob_other;
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{}');
-- without INSERT
RESET ROLE;
CREATE ROLE regress_genjob_stranger;
SET ROLE regress_genjob_stranger;
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{}');
SET ROLE regress_genjob_app;

-- ---- inputs ----

INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_a1111', '{}', ARRAY['\x01'::bytea, NULL]);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_a1111', '{}', ARRAY[['\x01'::bytea], ['\x02'::bytea]]);
-- none is none
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_http', '{}', '{}') RETURNING inputs;
-- an api that has a place for inputs takes those that the request does not name
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_a1111', '{}', ARRAY['\x01'::bytea, '\x02']);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_openai', '{}', ARRAY['\x01'::bytea, '\x02']);
-- one that has none needs to be told, of each of them
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_http', '{}', ARRAY['\x01'::bytea]);
INSERT INTO gen_jobs (server, request, inputs)
	VALUES ('regress_http', '{"a": {"$input": 1}}', ARRAY['\x01'::bytea, '\x02']);
INSERT INTO gen_jobs (server, request, inputs)
	VALUES ('regress_http', '{"a": [{"b": {"$input": 2}}, {"$input": 1}]}', ARRAY['\x01'::bytea, '\x02']);
-- what is named must be there
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"image": {"$input": 1}}');
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_a1111', '{"mask": {"$input": 2}}', ARRAY['\x01'::bytea]);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_a1111', '{"mask": {"$input": 0}}', ARRAY['\x01'::bytea]);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_a1111', '{"mask": {"$input": -1}}', ARRAY['\x01'::bytea]);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_a1111', '{"mask": {"$input": 1.5}}', ARRAY['\x01'::bytea]);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_a1111', '{"mask": {"$input": "1"}}', ARRAY['\x01'::bytea]);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_a1111', '{"mask": {"$input": null}}', ARRAY['\x01'::bytea]);
INSERT INTO gen_jobs (server, request, inputs)
	VALUES ('regress_a1111', '{"mask": {"$input": 18446744073709551617}}', ARRAY['\x01'::bytea]);
-- text is not a reference
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"prompt": "what does \"$input\": 7 mean?"}');

-- ---- what genjob sets cannot be forged ----

INSERT INTO gen_jobs (server, request, state) VALUES ('regress_http', '{}', 'queued') RETURNING state;
INSERT INTO gen_jobs (server, request, state) VALUES ('regress_http', '{}', 'running');
INSERT INTO gen_jobs (server, request, state) VALUES ('regress_http', '{}', 'succeeded');
INSERT INTO gen_jobs (server, request, state) VALUES ('regress_http', '{}', 'waiting');
INSERT INTO gen_jobs (server, request, state) VALUES ('regress_http', '{}', 'done');
INSERT INTO gen_jobs (server, request, attempt) VALUES ('regress_http', '{}', 3);
INSERT INTO gen_jobs (server, request, failures) VALUES ('regress_http', '{}', -100);
INSERT INTO gen_jobs (server, request, idempotency_key)
	VALUES ('regress_http', '{}', '00000000-0000-4000-8000-000000000000');
INSERT INTO gen_jobs (server, request, remote_id)
	VALUES ('regress_s', '{}', 'of another');
INSERT INTO gen_jobs (server, request, remote, backend)
	VALUES ('regress_s', '{}', '{"urls": {}}', 'http://127.0.0.1:9');
INSERT INTO gen_jobs (server, request, result)
	VALUES ('regress_s', '{}', '{}');
INSERT INTO gen_jobs (server, request, owner) VALUES ('regress_http', '{}', 'regress_genjob_other');
-- a role that may become another may enqueue for it
INSERT INTO gen_jobs (server, request, owner) VALUES ('regress_http', '{}', 'regress_genjob_team') RETURNING owner;
-- but that role needs USAGE of its own
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER regress_http FROM regress_genjob_team;
SET ROLE regress_genjob_app;
INSERT INTO gen_jobs (server, request, owner) VALUES ('regress_http', '{}', 'regress_genjob_team');
-- NULL means what is left out means
INSERT INTO gen_jobs (server, request, owner, state) VALUES ('regress_http', '{}', NULL, NULL) RETURNING owner, state;
-- the owner is who inserts now, not who logged in
RESET ROLE;
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{}') RETURNING owner = current_user::regrole AS mine;
BEGIN;
SET LOCAL ROLE regress_genjob_app;
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{}') RETURNING owner;
COMMIT;
CREATE FUNCTION pg_temp.enqueue() RETURNS regrole LANGUAGE sql SECURITY DEFINER AS
	$$INSERT INTO public.gen_jobs (server, request) VALUES ('regress_http', '{}') RETURNING owner$$;
ALTER FUNCTION pg_temp.enqueue() OWNER TO regress_genjob_app;
SELECT pg_temp.enqueue();

-- ---- limits ----

SET ROLE regress_genjob_app;
INSERT INTO gen_jobs (server, request, max_attempts) VALUES ('regress_http', '{}', 0);
INSERT INTO gen_jobs (server, request, run_at) VALUES ('regress_http', '{}', NULL) RETURNING run_at = now() AS is_now;
INSERT INTO gen_jobs (server, request, priority) VALUES ('regress_http', '{}', NULL) RETURNING priority;
-- also in each column that must not be null, of those that genjob sets: libraries that write objects write all of them
DO $$
DECLARE
	name text;
	given jsonb;
	other jsonb;
BEGIN
	INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{}') RETURNING to_jsonb(gen_jobs) - 'id' INTO other;
	FOR name IN SELECT attname FROM pg_attribute WHERE attrelid = 'gen_jobs'::regclass AND attnum > 0 AND NOT attisdropped
		AND attnotnull AND attname NOT IN ('server', 'request') LOOP
		EXECUTE format($q$INSERT INTO gen_jobs (server, request, %I) VALUES ('regress_http', '{}', NULL)
			RETURNING to_jsonb(gen_jobs) - 'id'$q$, name) INTO given;
		IF given <> other THEN
			RAISE EXCEPTION 'a null in % is not its default', name;
		END IF;
	END LOOP;
END $$;
-- a null is the default, as far as an application may set the column
INSERT INTO gen_jobs (id, server, request, priority, run_at, tenant, created_at, state, owner, attempt, failures, losses,
		inputs, expires_at, unique_key, request_id, max_attempts)
	VALUES (NULL, 'regress_http', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
	RETURNING id > 0 AS has_id, priority, run_at = now() AS due_at_once, tenant, created_at = now() AS is_new, state, owner,
		attempt, failures, losses, expires_at, unique_key;
INSERT INTO gen_jobs (server, request, run_at) VALUES ('regress_http', '{}', 'infinity') RETURNING run_at, state;

-- ---- ON CONFLICT ----

-- ids are not for a plain role to choose
INSERT INTO gen_jobs (id, server, request) VALUES (1000001, 'regress_http', '{"again": true}');
RESET ROLE;
INSERT INTO gen_jobs (id, server, request) VALUES (1000001, 'regress_http', '{"again": true}');
INSERT INTO gen_jobs (id, server, request) VALUES (1000001, 'regress_http', '{"again": true}')
	ON CONFLICT (id) DO NOTHING RETURNING id;
INSERT INTO gen_jobs (id, server, request) VALUES (1000001, 'regress_http', '{"again": true}')
	ON CONFLICT (id) DO UPDATE SET request = excluded.request RETURNING request, state;
-- it is checked as any INSERT is
INSERT INTO gen_jobs (id, server, request) VALUES (1000001, 'regress_nowhere', '{}') ON CONFLICT (id) DO NOTHING;
SET ROLE regress_genjob_app;

-- ---- many at once: all or none ----

INSERT INTO gen_jobs (server, request) SELECT 'regress_http', jsonb_build_object('n', n) FROM generate_series(1, 1000) n;
SELECT count(*), count(DISTINCT id), min((request->>'n')::int), max((request->>'n')::int) FROM gen_jobs WHERE request ? 'n';
DELETE FROM gen_jobs WHERE request ? 'n';
INSERT INTO gen_jobs (server, request)
	SELECT 'regress_http', CASE n WHEN 7 THEN '7' ELSE jsonb_build_object('n', n) END FROM generate_series(1, 10) n;
SELECT count(*) FROM gen_jobs WHERE request ? 'n';

-- ---- COPY ----

-- PostgreSQL refuses it to whom row-level security applies
RESET ROLE;
GRANT pg_read_server_files TO regress_genjob_app;
SET ROLE regress_genjob_app;
COPY gen_jobs (server, request) FROM '/dev/null';
RESET ROLE;
-- and enqueues it for others, checked as well
COPY gen_jobs (server, request, priority, inputs) FROM stdin;
regress_http	{"copied": 1}	3	\N
regress_a1111	{"copied": 2}	4	{"\\\\x0102"}
\.
SELECT server, request, priority, inputs, state, attempt, owner = current_user::regrole AS mine
	FROM gen_jobs WHERE request ? 'copied' ORDER BY priority;
COPY gen_jobs (server, request) FROM stdin;
regress_http	{"copied": 3}
regress_nowhere	{"copied": 4}
\.
SELECT count(*) FROM gen_jobs WHERE request ? 'copied';

-- ---- a restore brings jobs in every state, as the owner of the table ----

INSERT INTO gen_jobs (id, server, request, state, attempt, failures, owner, finished_at, error)
	VALUES (1000003, 'regress_http', '{}', 'failed', 4, 3, 'regress_genjob_app', now(), 'it broke'),
		(1000004, 'regress_http', '{}', 'running', 2, 1, 'regress_genjob_app', NULL, NULL),
		-- its server may be restored later, or never; the job has ended
		(1000005, 'regress_nowhere', '{}', 'succeeded', 1, 0, 'regress_genjob_app', now(), NULL)
	RETURNING id, state, attempt, failures, owner, error;
-- (what was running elsewhere is not running here); a dump grants privileges after it has brought the rows, so a
-- job that cannot be run yet is not refused, and not tried at once
INSERT INTO gen_jobs (id, server, request, owner)
	VALUES (1000006, 'regress_a1111', '{}', 'regress_genjob_app'), (1000007, 'regress_a1111', '{}', 'regress_genjob_other')
	RETURNING id, state, run_at > now() AS later;
-- of the administrator's own all is checked, as of everyone's
INSERT INTO gen_jobs (server, request) VALUES ('regress_nowhere', '{}');

-- ---- replication is never stopped by a job: it fails by itself, when it is due ----

BEGIN;
SET LOCAL session_replication_role = replica;
INSERT INTO gen_jobs (id, server, request) VALUES (1000008, 'regress_nowhere', '[]') RETURNING id, state;
ROLLBACK;

DELETE FROM gen_jobs;
DROP SERVER regress_http, regress_openai, regress_a1111, regress_database CASCADE;
DROP FOREIGN DATA WRAPPER regress_dummy;
DROP OWNED BY regress_genjob_app, regress_genjob_other, regress_genjob_team, regress_genjob_stranger;
DROP ROLE regress_genjob_app, regress_genjob_other, regress_genjob_team, regress_genjob_stranger;
