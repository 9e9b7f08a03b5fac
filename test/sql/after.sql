-- Jobs that wait for others: after, after_rule. Nothing is run here: the server is paused.
\set VERBOSITY default
CREATE SERVER regress_after FOREIGN DATA WRAPPER genjob OPTIONS (api 'openai-images', url 'http://127.0.0.1:9', paused 'on', auth 'none');
CREATE ROLE regress_a;
CREATE ROLE regress_b;
GRANT USAGE ON FOREIGN SERVER regress_after TO regress_a, regress_b;
GRANT SELECT, INSERT, UPDATE, DELETE ON gen_jobs TO regress_a, regress_b;
DELETE FROM gen_jobs;
ALTER SEQUENCE gen_jobs_id_seq RESTART 100;
CREATE FUNCTION pg_temp.shown() RETURNS TABLE (id bigint, state gen_job_state, after bigint[], rule text, blocked_by bigint, error text, ended boolean)
	LANGUAGE sql AS 'SELECT id, state, after, after_rule, blocked_by, error, finished_at IS NOT NULL FROM gen_jobs ORDER BY id';

-- one after another; a statement may insert both
WITH first AS (INSERT INTO gen_jobs (server, request) VALUES ('regress_after', '{"prompt": "a"}') RETURNING id)
	INSERT INTO gen_jobs (server, request, after) SELECT 'regress_after', '{"prompt": "b"}', ARRAY[id] FROM first RETURNING id, state;
INSERT INTO gen_jobs (server, request, after) VALUES ('regress_after', '{"prompt": "c"}', '{101}');
INSERT INTO gen_jobs (server, request, after, after_rule) VALUES
	('regress_after', '{"prompt": "d"}', '{100, 101, 100}', 'ended'), ('regress_after', '{"prompt": "e"}', '{101}', 'failed'),
	('regress_after', '{"prompt": "f"}', '{}', NULL), ('regress_after', '{"prompt": "g"}', NULL, NULL);
SELECT * FROM pg_temp.shown();
SELECT * FROM genjob.dependencies ORDER BY 1, 2;

-- a cancel of the first: all that follows from it, in its transaction
BEGIN;
SELECT genjob.cancel(100);
SELECT * FROM pg_temp.shown() WHERE id < 105;
SELECT count(*) FROM genjob.dependencies;
ROLLBACK;
SELECT id, state FROM pg_temp.shown() WHERE id < 105;

-- cancelled and tried again
SELECT genjob.cancel(100);
SELECT genjob.retry(100);
SELECT * FROM pg_temp.shown() WHERE id < 105;
SELECT * FROM genjob.dependencies ORDER BY 1, 2;

-- who asks for a job that was not run has it wait again, and fail again
SELECT genjob.cancel(100);
SELECT genjob.retry(101);
SELECT id, state, blocked_by, error FROM pg_temp.shown() WHERE id < 105;
SELECT genjob.retry(100);

-- one that was cancelled while it waited: a retry has it wait again, as long as there is something to wait for
SELECT genjob.cancel(101);
SELECT genjob.retry(101);
SELECT id, state, blocked_by FROM pg_temp.shown() WHERE id < 105;
UPDATE gen_jobs SET state = 'cancelled' WHERE id = 102;
SELECT genjob.cancel(100);
SELECT genjob.retry(102);
SELECT id, state, blocked_by FROM pg_temp.shown() WHERE id < 105;
SELECT genjob.retry(100);
SELECT id, state, blocked_by FROM pg_temp.shown() WHERE id < 105;

-- a parent that is deleted, one that does not exist, and one that is another's, in the same words
SET ROLE regress_a;
INSERT INTO gen_jobs (server, request) VALUES ('regress_after', '{"prompt": "a"}');
SET ROLE regress_b;
INSERT INTO gen_jobs (server, request, after) VALUES ('regress_after', '{"prompt": "b"}', '{107}');
INSERT INTO gen_jobs (server, request, after) VALUES ('regress_after', '{"prompt": "b"}', '{99}');
INSERT INTO gen_jobs (server, request, after, after_rule) VALUES ('regress_after', '{"prompt": "b"}', '{107, 100}', 'ended');
INSERT INTO gen_jobs (server, request, after, after_rule) VALUES ('regress_after', '{"prompt": "b"}', '{99}', 'failed');
SELECT id, state, error FROM gen_jobs ORDER BY id;
SELECT * FROM genjob.dependencies;
RESET ROLE;
DELETE FROM gen_jobs WHERE id = 100;
SELECT id, state, error FROM pg_temp.shown() WHERE id < 105;

-- other jobs to wait for, and none
TRUNCATE gen_jobs CASCADE;
ALTER SEQUENCE gen_jobs_id_seq RESTART 1;
INSERT INTO gen_jobs (server, request, run_at) SELECT 'regress_after', '{"prompt": "a"}', 'infinity' FROM generate_series(1, 3);
INSERT INTO gen_jobs (server, request, after) VALUES ('regress_after', '{"prompt": "b"}', '{1}');
UPDATE gen_jobs SET after = '{2}' WHERE id = 4;
UPDATE gen_jobs SET after = '{3}' WHERE id = 3;
SELECT genjob.cancel(1);
SELECT id, state, after FROM pg_temp.shown();
UPDATE gen_jobs SET after = NULL WHERE id = 4;
SELECT state, after FROM pg_temp.shown() WHERE id = 4;
UPDATE gen_jobs SET after = '{2,3}', after_rule = NULL WHERE id = 4;
SELECT state, after FROM pg_temp.shown() WHERE id = 4;
SELECT * FROM genjob.dependencies ORDER BY 1, 2;
UPDATE gen_jobs SET after = '{1,2}' WHERE id = 4;
UPDATE gen_jobs SET state = 'cancelled' WHERE id = 2;
SELECT state, after, error FROM pg_temp.shown() WHERE id = 4;
UPDATE gen_jobs SET state = 'queued' WHERE id = 4 AND state = 'waiting';
INSERT INTO gen_jobs (server, request, after) VALUES ('regress_after', '{"prompt": "b"}', '{3}');
UPDATE gen_jobs SET state = 'queued' WHERE id = 5;

-- a cancel that is rolled back by itself
BEGIN;
SAVEPOINT s;
SELECT genjob.cancel(3);
SELECT state FROM gen_jobs WHERE id = 5;
ROLLBACK TO s;
SELECT state FROM gen_jobs WHERE id = 5;
COMMIT;

-- one that does not exist yet, and a circle: none waits for ever
INSERT INTO gen_jobs (server, request, after) VALUES ('regress_after', '{"prompt": "b"}', '{1000000}');
INSERT INTO gen_jobs (id, server, request, after) VALUES (11, 'regress_after', '{"prompt": "b"}', '{12}'), (12, 'regress_after', '{"prompt": "b"}', '{11}');
SELECT id, state, error FROM pg_temp.shown() WHERE id > 5;
SELECT depth, job_id, blocked_by FROM genjob.tree(11);
SELECT depth, job_id, blocked_by FROM genjob.tree(12);
ALTER SEQUENCE gen_jobs_id_seq RESTART 20;

-- refused
INSERT INTO gen_jobs (server, request, after) VALUES ('regress_after', '{}', ARRAY[nextval('gen_jobs_id_seq') + 1]);
UPDATE gen_jobs SET after = '{1000000}' WHERE id = 5;
INSERT INTO gen_jobs (server, request, after) VALUES ('regress_after', '{}', '{1, NULL}');
INSERT INTO gen_jobs (server, request, after) VALUES ('regress_after', '{}', '{{1}, {2}}');
INSERT INTO gen_jobs (server, request, after) SELECT 'regress_after', '{}', array_agg(1::bigint) FROM generate_series(1, 10001);
INSERT INTO gen_jobs (server, request, after_rule) VALUES ('regress_after', '{}', 'sometimes');
SET ROLE regress_a;
INSERT INTO gen_jobs (server, request, blocked_by) VALUES ('regress_after', '{}', 1);
INSERT INTO gen_jobs (server, request, state) VALUES ('regress_after', '{}', 'waiting');
SELECT * FROM genjob.dependencies;
CREATE TRIGGER mine AFTER INSERT ON genjob.dependencies FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
RESET ROLE;
UPDATE gen_jobs SET blocked_by = 1 WHERE id = 5;

-- REPEATABLE READ
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO gen_jobs (server, request, after) VALUES ('regress_after', '{"prompt": "b"}', '{5}') RETURNING state;
SELECT genjob.cancel(5);
COMMIT;

TRUNCATE gen_jobs CASCADE;
REVOKE ALL ON gen_jobs FROM regress_a, regress_b;
DROP SERVER regress_after CASCADE;
DROP ROLE regress_a, regress_b;
