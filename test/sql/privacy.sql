--
-- privacy: a job and what it brought back are seen by members of the owning role, and by no one else
--
\set SHOW_CONTEXT never

CREATE ROLE regress_genjob_alice;
CREATE ROLE regress_genjob_bob;
CREATE ROLE regress_genjob_carol;
CREATE ROLE regress_genjob_lazy NOINHERIT;
-- carol is a member of alice's role; lazy too, but has to say so
GRANT regress_genjob_alice TO regress_genjob_carol, regress_genjob_lazy;
GRANT SELECT, INSERT, UPDATE, DELETE ON gen_jobs, gen_outputs
	TO regress_genjob_alice, regress_genjob_bob, regress_genjob_carol, regress_genjob_lazy;
CREATE SERVER regress_s FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', paused 'on');
GRANT USAGE ON FOREIGN SERVER regress_s TO regress_genjob_alice, regress_genjob_bob;

-- 11 and 21 have ended, with an output
INSERT INTO gen_jobs (id, server, request, state, owner, result)
	VALUES (11, 'regress_s', '{"prompt": "alice''s"}', 'succeeded', 'regress_genjob_alice', '{"$output": 1}'),
		(12, 'regress_s', '{"prompt": "alice''s"}', 'queued', 'regress_genjob_alice', NULL),
		(21, 'regress_s', '{"prompt": "bob''s"}', 'succeeded', 'regress_genjob_bob', '{"$output": 1}'),
		(22, 'regress_s', '{"prompt": "bob''s"}', 'queued', 'regress_genjob_bob', NULL),
		(31, 'regress_s', '{"prompt": "the administrator''s"}', 'queued', current_user::regrole, NULL);
INSERT INTO gen_outputs SELECT id, 1, 'text/plain', 2, sha256('hi'), 'hi' FROM gen_jobs WHERE result IS NOT NULL;

-- ---- reading ----

SET ROLE regress_genjob_alice;
SELECT id, owner FROM gen_jobs ORDER BY id;
SELECT job_id FROM gen_outputs ORDER BY job_id;
SET ROLE regress_genjob_bob;
SELECT id, owner FROM gen_jobs ORDER BY id;
SELECT job_id FROM gen_outputs ORDER BY job_id;
SET ROLE regress_genjob_carol;
SELECT id, owner FROM gen_jobs ORDER BY id;
SELECT job_id FROM gen_outputs ORDER BY job_id;
SET ROLE regress_genjob_lazy;
SELECT id, owner FROM gen_jobs ORDER BY id;
SET ROLE regress_genjob_alice;
SELECT id, owner FROM gen_jobs ORDER BY id;
-- a superuser, and who owns the extension's tables
RESET ROLE;
SELECT id FROM gen_jobs ORDER BY id;
SELECT job_id FROM gen_outputs ORDER BY job_id;
SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class
	WHERE oid IN ('gen_jobs'::regclass, 'gen_outputs'::regclass) ORDER BY relname;
-- a policy is no privilege: without SELECT there is nothing to see
CREATE ROLE regress_genjob_stranger;
SET ROLE regress_genjob_stranger;
SELECT id FROM gen_jobs;
SELECT job_id FROM gen_outputs;

-- ---- writing: another's rows are not there ----

SET ROLE regress_genjob_bob;
UPDATE gen_jobs SET state = 'cancelled' WHERE id = 12;
UPDATE gen_jobs SET priority = 7 RETURNING id;
DELETE FROM gen_jobs WHERE id IN (11, 12);
DELETE FROM gen_outputs WHERE job_id = 11;
UPDATE gen_outputs SET data = 'forged' WHERE job_id = 11;
INSERT INTO gen_outputs VALUES (11, 2, 'text/plain', 2, sha256('hi'), 'hi');
-- nor can a job be given away
UPDATE gen_jobs SET owner = 'regress_genjob_alice' WHERE id = 22;
SET ROLE regress_genjob_carol;
UPDATE gen_jobs SET owner = 'regress_genjob_carol' WHERE id = 12;
-- a member may do what the owner may
UPDATE gen_jobs SET priority = 9 WHERE id = 12 RETURNING id, owner, priority;
RESET ROLE;
UPDATE gen_jobs SET owner = 'regress_genjob_bob' WHERE id = 12 RETURNING owner;
UPDATE gen_jobs SET owner = 'regress_genjob_alice' WHERE id = 12 RETURNING owner;

-- ---- functions: that a job exists cannot be told from that it does not ----

SET ROLE regress_genjob_bob;
SELECT genjob.cancel(12);
SELECT genjob.cancel(999);
SELECT genjob.retry(11);
SELECT genjob.retry(999);
SELECT genjob.wait(11);
SELECT genjob.wait(999);
SELECT genjob.wait(12, '1 h');
SET ROLE regress_genjob_lazy;
SELECT genjob.cancel(12);
-- without any privilege on the tables
SET ROLE regress_genjob_stranger;
SELECT genjob.cancel(12);
SELECT genjob.wait(11);
CALL genjob.run('regress_s', '{}');
SELECT genjob.preview('regress_s', '{}');
-- members
SET ROLE regress_genjob_carol;
SELECT id, state FROM genjob.wait(11);
SELECT genjob.cancel(12);
SELECT genjob.retry(12);
-- a call within a function that runs as alice is alice's
RESET ROLE;
CREATE FUNCTION pg_temp.cancel(bigint) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS 'SELECT genjob.cancel($1)';
ALTER FUNCTION pg_temp.cancel(bigint) OWNER TO regress_genjob_alice;
SELECT pg_temp.cancel(12);
SELECT pg_temp.cancel(22);
SELECT id, state, error FROM gen_jobs WHERE id IN (12, 22) ORDER BY id;

-- ---- preview is of the caller's own: its rights, its secrets ----

CREATE USER MAPPING FOR regress_genjob_alice SERVER regress_s OPTIONS (api_key 'sk-of-alice');
SET ROLE regress_genjob_bob;
SELECT genjob.preview('regress_s', '{}') LIKE '%Authorization%' AS has_a_key;
SET ROLE regress_genjob_alice;
SELECT genjob.preview('regress_s', '{}') LIKE '%Authorization: Bearer ***%' AS has_a_key;
SELECT genjob.preview('regress_s', '{}') LIKE '%sk-of-alice%' AS shows_it;

-- ---- views: what a server has to do is everyone's to know, in numbers; what it does, its owner's ----

SET ROLE regress_genjob_stranger;
SELECT server, queued, in_flight FROM genjob.servers WHERE server = 'regress_s';
SELECT count(*) FROM genjob.activity;
SELECT count(last_error) FROM genjob.workers;

-- ---- a role that goes takes nothing along that others see ----

RESET ROLE;
DROP OWNED BY regress_genjob_bob;
DROP ROLE regress_genjob_bob;
SET ROLE regress_genjob_alice;
SELECT id FROM gen_jobs ORDER BY id;
-- one that is renamed keeps what it had
RESET ROLE;
ALTER ROLE regress_genjob_alice RENAME TO regress_genjob_alicia;
SELECT id, owner FROM gen_jobs WHERE id IN (11, 12) ORDER BY id;
SET ROLE regress_genjob_alicia;
SELECT id FROM gen_jobs ORDER BY id;

RESET ROLE;
DELETE FROM gen_jobs;
DROP SERVER regress_s CASCADE;
DROP OWNED BY regress_genjob_alicia, regress_genjob_carol, regress_genjob_lazy, regress_genjob_stranger;
DROP ROLE regress_genjob_alicia, regress_genjob_carol, regress_genjob_lazy, regress_genjob_stranger;
