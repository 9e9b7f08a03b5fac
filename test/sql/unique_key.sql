-- unique_key: at most one unfinished job of it for an owner and server.
CREATE SERVER u_one FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', paused 'on');
CREATE SERVER u_two FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', paused 'on');

INSERT INTO gen_jobs (id, server, request, unique_key) VALUES (1, 'u_one', '{}', 'k');
\set VERBOSITY sqlstate
INSERT INTO gen_jobs (id, server, request, unique_key) VALUES (2, 'u_one', '{}', 'k');
\set VERBOSITY default
INSERT INTO gen_jobs (id, server, request, unique_key) VALUES (2, 'u_one', '{}', 'k') ON CONFLICT DO NOTHING RETURNING id;
INSERT INTO gen_jobs (id, server, request, unique_key) VALUES (3, 'u_one', '{}', 'k'), (4, 'u_one', '{}', 'l')
	ON CONFLICT (owner, server, unique_key) WHERE unique_key IS NOT NULL AND state IN ('waiting', 'queued', 'running')
	DO NOTHING RETURNING id;

-- another key, another server, none
INSERT INTO gen_jobs (id, server, request, unique_key) VALUES (5, 'u_one', '{}', 'K'), (6, 'u_two', '{}', 'k'), (7, 'u_one', '{}', NULL), (8, 'u_one', '{}', NULL);

-- free again after the end, whatever that is
UPDATE gen_jobs SET state = 'cancelled' WHERE id = 1;
INSERT INTO gen_jobs (id, server, request, unique_key) VALUES (9, 'u_one', '{}', 'k');
\set VERBOSITY sqlstate
SELECT genjob.retry(1);
\set VERBOSITY default
DELETE FROM gen_jobs WHERE id = 9;
SELECT genjob.retry(1);
SELECT id, server, unique_key, state FROM gen_jobs ORDER BY id;

DELETE FROM gen_jobs;
DROP SERVER u_one;
DROP SERVER u_two;
