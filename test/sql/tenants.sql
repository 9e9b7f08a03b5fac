--
-- tenants: whose jobs are whose turn, how often, and where that can be seen
--
-- In which order they are run is shown by the TAP tests, which have a server that answers.
--
\set SHOW_CONTEXT never
\pset null '(null)'

CREATE ROLE regress_genjob_alice;
CREATE ROLE regress_genjob_bob;
-- so that the numbers of their jobs are known: ids are not theirs to choose
GRANT UPDATE ON SEQUENCE gen_jobs_id_seq TO regress_genjob_alice, regress_genjob_bob;
GRANT SELECT, INSERT, UPDATE ON gen_jobs TO regress_genjob_alice;
GRANT SELECT, INSERT (server, request) ON gen_jobs TO regress_genjob_bob;
CREATE SERVER regress_s FOREIGN DATA WRAPPER genjob
	OPTIONS (api 'http', url 'http://127.0.0.1:9, http://127.0.0.1:10/', max_in_flight '3', rate_limit '5/s', rate_burst '10', paused 'on');
CREATE SERVER regress_other FOREIGN DATA WRAPPER genjob
	OPTIONS (api 'http', url 'http://127.0.0.1:9', max_in_flight 'auto', paused 'on');
GRANT USAGE ON FOREIGN SERVER regress_s, regress_other TO regress_genjob_alice, regress_genjob_bob;

-- ---- tenant: the inserting role, unless the application says for whom it is ----

SET ROLE regress_genjob_alice;
SELECT setval('gen_jobs_id_seq', 1001, false) AS n \gset
INSERT INTO gen_jobs (server, request) VALUES ('regress_s', '{}') RETURNING tenant, owner;
SELECT setval('gen_jobs_id_seq', 1002, false) AS n \gset
INSERT INTO gen_jobs (server, request, tenant) VALUES ('regress_s', '{}', 'customer 17') RETURNING tenant, owner;
SELECT setval('gen_jobs_id_seq', 1003, false) AS n \gset
INSERT INTO gen_jobs (server, request, tenant) VALUES ('regress_s', '{}', 'Customer 17') RETURNING tenant;
SELECT setval('gen_jobs_id_seq', 1004, false) AS n \gset
INSERT INTO gen_jobs (server, request, tenant) VALUES ('regress_s', '{}', '') RETURNING tenant;
\set VERBOSITY terse
-- null is the default
BEGIN;
INSERT INTO gen_jobs (server, request, tenant) VALUES ('regress_s', '{}', NULL) RETURNING tenant;
UPDATE gen_jobs SET tenant = NULL WHERE id = 1001 RETURNING tenant;
ROLLBACK;
\set VERBOSITY default
-- it is not the owner: who may set the column may set it to anything, and sees no more for it
SELECT setval('gen_jobs_id_seq', 1005, false) AS n \gset
INSERT INTO gen_jobs (server, request, tenant) VALUES ('regress_s', '{}', 'regress_genjob_bob') RETURNING tenant, owner;
SELECT setval('gen_jobs_id_seq', 500, false) AS n \gset
-- who may not set it has jobs of its own name only
SET ROLE regress_genjob_bob;
INSERT INTO gen_jobs (server, request, tenant) VALUES ('regress_s', '{}', 'regress_genjob_alice');
INSERT INTO gen_jobs (server, request) VALUES ('regress_s', '{}') RETURNING tenant, owner;
RESET ROLE;
-- it stands in an index; bytes are counted, not characters
INSERT INTO gen_jobs (id, server, request, tenant) VALUES (1006, 'regress_other', '{}', repeat('x', 256)) RETURNING octet_length(tenant);
INSERT INTO gen_jobs (server, request, tenant) VALUES ('regress_other', '{}', repeat('x', 257));
INSERT INTO gen_jobs (server, request, tenant) VALUES ('regress_other', '{}', repeat(U&'\00fc', 129));
UPDATE gen_jobs SET tenant = repeat('x', 257) WHERE id = 1006;
UPDATE gen_jobs SET tenant = 'customer 17' WHERE id = 1006 RETURNING tenant;
-- also that of a job that is running, for it may be queued again
BEGIN;
SET LOCAL session_replication_role = replica;
UPDATE gen_jobs SET state = 'running' WHERE id = 1006;
SET LOCAL session_replication_role = origin;
UPDATE gen_jobs SET tenant = 'customer 18' WHERE id = 1006 RETURNING state, tenant;
UPDATE gen_jobs SET tenant = repeat('x', 257) WHERE id = 1006;
ROLLBACK;

-- ---- unique_key: at most one unfinished job of an owner and server ----

SET ROLE regress_genjob_alice;
SELECT setval('gen_jobs_id_seq', 1011, false) AS n \gset
INSERT INTO gen_jobs (server, request, unique_key) VALUES ('regress_s', '{}', 'order 1') RETURNING unique_key;
SELECT setval('gen_jobs_id_seq', 1012, false) AS n \gset
INSERT INTO gen_jobs (server, request, unique_key) VALUES ('regress_s', '{}', 'order 1');
SELECT setval('gen_jobs_id_seq', 1012, false) AS n \gset
INSERT INTO gen_jobs (server, request, unique_key) VALUES ('regress_s', '{}', 'order 1') ON CONFLICT DO NOTHING;
-- the one that is there may be changed instead
INSERT INTO gen_jobs (server, request, unique_key) VALUES ('regress_s', '{"seed": 2}', 'order 1')
	ON CONFLICT (owner, server, unique_key) WHERE unique_key IS NOT NULL AND state IN ('waiting', 'queued', 'running')
	DO UPDATE SET request = excluded.request RETURNING id, request;
-- another key, another server, no key
SELECT setval('gen_jobs_id_seq', 1013, false) AS n \gset
INSERT INTO gen_jobs (server, request, unique_key)
	VALUES ('regress_s', '{}', 'Order 1'), ('regress_other', '{}', 'order 1'), ('regress_s', '{}', NULL), ('regress_s', '{}', NULL)
	RETURNING id;
UPDATE gen_jobs SET unique_key = 'order 1' WHERE id = 1015;
-- two in one statement
SELECT setval('gen_jobs_id_seq', 1021, false) AS n \gset
INSERT INTO gen_jobs (server, request, unique_key) SELECT 'regress_s', '{}', 'order 2' FROM generate_series(1, 2) n
	ON CONFLICT DO NOTHING RETURNING id;
-- when it has ended, the next may come; then it cannot run again beside that
SELECT genjob.cancel(1011);
SELECT setval('gen_jobs_id_seq', 1012, false) AS n \gset
INSERT INTO gen_jobs (server, request, unique_key) VALUES ('regress_s', '{}', 'order 1') RETURNING id;
\set VERBOSITY terse
SELECT genjob.retry(1011);
\set VERBOSITY default
SELECT genjob.cancel(1012), genjob.retry(1011);
-- another owner's are no one else's business
RESET ROLE;
INSERT INTO gen_jobs (id, server, request, unique_key, owner) VALUES (1017, 'regress_s', '{}', 'order 3', 'regress_genjob_bob');
SET ROLE regress_genjob_alice;
SELECT setval('gen_jobs_id_seq', 1041, false) AS n \gset
INSERT INTO gen_jobs (server, request, unique_key) VALUES ('regress_s', '{}', 'order 3');
INSERT INTO gen_jobs (server, request, unique_key) VALUES ('regress_s', '{}', 'order 3') ON CONFLICT DO NOTHING;
INSERT INTO gen_jobs (server, request, unique_key) VALUES ('regress_s', '{}', repeat('x', 1025));
UPDATE gen_jobs SET unique_key = repeat('x', 1025) WHERE id = 1015;
RESET ROLE;
DELETE FROM gen_jobs WHERE id > 1010 AND owner = 'regress_genjob_alice'::regrole OR id = 1017;

-- ---- genjob.tenants: what each has waiting, of the jobs that the role may see ----

INSERT INTO gen_jobs (id, server, request, tenant, run_at) VALUES (1031, 'regress_s', '{}', 'customer 17', '2000-01-01 00:00Z'),
	(1032, 'regress_s', '{}', 'customer 17', 'infinity'), (1033, 'regress_s', '{}', 'customer 18', 'infinity');
CREATE VIEW pg_temp.tenants AS
	SELECT server, tenant, weight, queued, later, in_flight, waiting_since = '2000-01-01 00:00Z' AS since_2000 FROM genjob.tenants;
TABLE pg_temp.tenants ORDER BY server, tenant, later DESC;
SET ROLE regress_genjob_alice;
SELECT server, tenant, queued, later FROM genjob.tenants ORDER BY server, tenant;
SET ROLE regress_genjob_bob;
SELECT server, tenant, queued, later FROM genjob.tenants ORDER BY server, tenant;
-- counts of all are in genjob.servers
SELECT server, queued, later, in_flight FROM genjob.servers ORDER BY server;
RESET ROLE;
REVOKE ALL ON gen_jobs FROM regress_genjob_bob;
SET ROLE regress_genjob_bob;
SELECT server, tenant FROM genjob.tenants;
RESET ROLE;

-- ---- genjob.tenant_weights ----

INSERT INTO genjob.tenant_weights VALUES ('regress_s', 'customer 17', 5), ('regress_s', 'customer 18', 0.001), ('regress_s', 'nobody', 1000);
SELECT DISTINCT server, tenant, weight FROM genjob.tenants WHERE tenant LIKE 'customer%' ORDER BY server, tenant;
SELECT genjob.tenant_weight('regress_s', 'customer 17') AS set, genjob.tenant_weight('regress_other', 'customer 17') AS not_set;
INSERT INTO genjob.tenant_weights VALUES ('regress_s', 'customer 17', 6);
INSERT INTO genjob.tenant_weights VALUES ('regress_s', 'customer 17', 6) ON CONFLICT (server, tenant) DO UPDATE SET weight = excluded.weight;
SELECT genjob.tenant_weight('regress_s', 'customer 17');
\set VERBOSITY terse
UPDATE genjob.tenant_weights SET weight = 0;
UPDATE genjob.tenant_weights SET weight = -1;
UPDATE genjob.tenant_weights SET weight = 1000.1;
UPDATE genjob.tenant_weights SET weight = 'NaN';
UPDATE genjob.tenant_weights SET weight = 'infinity';
UPDATE genjob.tenant_weights SET weight = NULL;
UPDATE genjob.tenant_weights SET tenant = NULL;
\set VERBOSITY default
-- who is favoured is for the administrator to say, and to know
SET ROLE regress_genjob_alice;
SELECT * FROM genjob.tenant_weights;
INSERT INTO genjob.tenant_weights VALUES ('regress_s', 'regress_genjob_alice', 1000);
UPDATE genjob.tenant_weights SET weight = 1000;
SELECT genjob.after_weights();
RESET ROLE;
-- it is in dumps, and takes effect also where replication brings it
SELECT extconfig @> ARRAY['genjob.tenant_weights'::regclass::oid] AS in_dumps FROM pg_extension WHERE extname = 'genjob';
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'genjob.tenant_weights'::regclass AND NOT tgisinternal;
TRUNCATE genjob.tenant_weights;

-- ---- genjob.owner_weights ----

INSERT INTO genjob.owner_weights VALUES ('regress_s', 'regress_genjob_alice', 5), ('regress_other', 'regress_genjob_bob', 0.001);
SELECT tenant, owner, weight, owner_weight FROM genjob.tenants WHERE owner <> quote_ident(current_user)::regrole ORDER BY server, tenant;
SELECT genjob.owner_weight('regress_s', 'regress_genjob_alice') AS set, genjob.owner_weight('regress_s', 'regress_genjob_bob') AS not_set;
\set VERBOSITY terse
INSERT INTO genjob.owner_weights VALUES ('regress_s', 'regress_genjob_alice', 6);
UPDATE genjob.owner_weights SET weight = 0;
UPDATE genjob.owner_weights SET weight = 1000.1;
UPDATE genjob.owner_weights SET weight = 'NaN';
UPDATE genjob.owner_weights SET owner = NULL;
INSERT INTO genjob.owner_weights VALUES ('regress_s', 'regress_genjob_nobody', 1);
\set VERBOSITY default
-- who is favoured is for the administrator to say, and to know
SET ROLE regress_genjob_alice;
SELECT * FROM genjob.owner_weights;
UPDATE genjob.owner_weights SET weight = 1000;
SELECT genjob.owner_weight('regress_s', 'regress_genjob_alice') AS own, genjob.owner_weight('regress_other', 'regress_genjob_bob') AS of_others;
RESET ROLE;
-- a tenant of one name is another one of each owner; in dumps, and takes effect also where replication brings it
SELECT tenant, count(DISTINCT owner) FROM genjob.tenants WHERE tenant = 'customer 17' GROUP BY tenant;
SELECT extconfig @> ARRAY['genjob.owner_weights'::regclass::oid] AS in_dumps FROM pg_extension WHERE extname = 'genjob';
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'genjob.owner_weights'::regclass AND NOT tgisinternal;
TRUNCATE genjob.owner_weights;

-- ---- genjob.servers and genjob.backends, as soon as the dispatcher has looked ----

CREATE PROCEDURE pg_temp.until(condition text) LANGUAGE plpgsql AS $$
DECLARE
	done boolean;
BEGIN
	FOR i IN 1..600 LOOP
		EXECUTE 'SELECT EXISTS (SELECT FROM genjob.servers WHERE ' || condition || ')' INTO done;
		EXIT WHEN done;
		PERFORM pg_sleep(0.1);
	END LOOP;
END;
$$;
CALL pg_temp.until($$server = 'regress_s' AND held_reason IS NOT NULL AND allowed IS NOT NULL$$);
CALL pg_temp.until($$server = 'regress_other' AND held_reason IS NOT NULL AND allowed IS NOT NULL$$);
-- two addresses of three; what "auto" begins with
SELECT server, queued, later, in_flight, allowed, tokens, held_reason, held_until FROM genjob.servers ORDER BY server;
SELECT * FROM genjob.backends ORDER BY server, url;
-- anyone may look
SET ROLE regress_genjob_bob;
SELECT count(*) FROM genjob.backends;
RESET ROLE;

-- ---- genjob.estimate: when a job inserted now would start ----

CREATE SERVER regress_rate FOREIGN DATA WRAPPER genjob
	OPTIONS (api 'http', url 'http://127.0.0.1:9', max_attempts '1', connect_timeout '1 s', rate_limit '1/d');
SELECT genjob.estimate('regress_nowhere');
SELECT genjob.estimate(NULL);
SELECT genjob.estimate('regress_s'), genjob.estimate('regress_s', 'customer 17');
-- nothing is before it
SELECT genjob.estimate('regress_rate') BETWEEN now() AND clock_timestamp() AS at_once;
-- there is, and nobody knows how long that takes: no job of this server has ended yet
BEGIN;
INSERT INTO gen_jobs (server, request) VALUES ('regress_rate', '{}');
SELECT genjob.estimate('regress_rate');
ROLLBACK;
-- one a day: the first is run, and fails in its one attempt, for no one listens at that address; the others wait
INSERT INTO gen_jobs (server, request, tenant) SELECT 'regress_rate', '{}', 'a' FROM generate_series(1, 5);
CALL pg_temp.until($$server = 'regress_rate' AND queued = 4 AND failed = 1 AND held_reason IS NOT NULL AND allowed IS NOT NULL$$);
SELECT queued, in_flight, failed, allowed, floor(tokens) AS tokens, held_reason,
		round(extract(epoch FROM held_until - now()) / 86400) AS days
	FROM genjob.servers WHERE server = 'regress_rate';
-- behind the four of its own; b has its turn after one of them
CREATE FUNCTION pg_temp.days(tenant text) RETURNS numeric LANGUAGE sql AS
	$$SELECT round(extract(epoch FROM genjob.estimate('regress_rate', tenant) - now()) / 86400)$$;
SELECT pg_temp.days('a') AS a, pg_temp.days('b') AS b;
-- two turns of a for each of b's
INSERT INTO genjob.tenant_weights VALUES ('regress_rate', 'a', 2);
SELECT pg_temp.days('a') AS a, pg_temp.days('b') AS b;
TRUNCATE genjob.tenant_weights;

DELETE FROM gen_jobs;
DROP SERVER regress_s, regress_other, regress_rate;
DROP OWNED BY regress_genjob_alice, regress_genjob_bob;
DROP ROLE regress_genjob_alice, regress_genjob_bob;
