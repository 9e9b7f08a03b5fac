-- genjob.submit(), genjob.wait() of several jobs, genjob.wait_any(), genjob.tree(), genjob.poke(). Nothing is run here: the
-- server is paused.
\set SHOW_CONTEXT never
CREATE SERVER regress_submit FOREIGN DATA WRAPPER genjob OPTIONS (api 'openai-images', url 'http://127.0.0.1:9', paused 'on', auth 'none');
CREATE ROLE regress_submit;
CREATE ROLE regress_other;
GRANT USAGE ON FOREIGN SERVER regress_submit TO regress_submit, regress_other;
GRANT SELECT, INSERT (server, request, inputs, request_id, after, after_rule) ON gen_jobs TO regress_submit, regress_other;
DELETE FROM gen_jobs;
ALTER SEQUENCE gen_jobs_id_seq RESTART 1;

-- what is not given has its default, and needs no privilege
SET ROLE regress_submit;
SELECT genjob.submit('regress_submit', '{"prompt": "a"}');
SELECT genjob.submit('regress_submit', '{"prompt": "b"}', input => '\x01', request_id => 'order 17');
SELECT genjob.submit('regress_submit', '{"prompt": "c"}', inputs => ARRAY['\x01', '\x02']::bytea[]);
SELECT genjob.submit('regress_submit', '{"prompt": "d"}', after => '{1}', after_rule => 'ended');
SELECT genjob.submit('regress_submit', '{"prompt": "e"}', priority => 1);
SELECT id, state, inputs, request_id, after, after_rule, priority, tenant FROM gen_jobs ORDER BY id;
-- an order that is sent twice is one job, also when it has ended
SELECT genjob.submit('regress_submit', '{"prompt": "again"}', request_id => 'order 17');
SELECT genjob.cancel(2);
SELECT genjob.submit('regress_submit', '{"prompt": "again"}', request_id => 'order 17');
SELECT count(*) FROM gen_jobs;
-- each owner has orders of his own
SET ROLE regress_other;
SELECT genjob.submit('regress_submit', '{"prompt": "other"}', request_id => 'order 17') > 2 AS own;
RESET ROLE;
SELECT genjob.submit('regress_submit', '{"prompt": "all"}', NULL, NULL, 3, '2100-01-01', '2200-01-01', 'acme', 'key', 'order', NULL, NULL, NULL, 2) > 0 AS given;
SELECT priority, run_at::date, expires_at::date, tenant, unique_key, request_id, max_attempts FROM gen_jobs WHERE request_id = 'order' ORDER BY id;
\set VERBOSITY terse
SELECT genjob.submit('regress_submit', '{"prompt": "key"}', unique_key => 'key');
\set VERBOSITY default

-- refused as by INSERT
\set VERBOSITY terse
SELECT genjob.submit('regress_submit', NULL);
\set VERBOSITY default
SELECT genjob.submit(NULL, NULL);
SELECT genjob.submit('regress_none', '{}');
SELECT genjob.submit('regress_submit', '[]');
SELECT genjob.submit('regress_submit', '{}', input => '\x01', inputs => ARRAY['\x01']::bytea[]);

-- several
SET ROLE regress_submit;
SELECT id, state FROM genjob.wait(ARRAY[3, 1, 2], '0 s');
SELECT id, state FROM genjob.wait(ARRAY[2, 2]);
SELECT id, state FROM genjob.wait('{}'::bigint[]);
SELECT id, state FROM genjob.wait(NULL::bigint[]);
-- as drivers send it that know no types
SELECT id, state FROM genjob.wait('3', '0 s');
SELECT id, state FROM genjob.wait(' {3, 1,NULL}', '0 s');
SELECT id, state FROM genjob.wait('{}');
SELECT id, state FROM genjob.wait(NULL);
PREPARE untyped AS SELECT id, state FROM genjob.wait($1, $2);
EXECUTE untyped ('{1,2}', '0 s');
EXECUTE untyped (2, NULL);
DEALLOCATE untyped;
SELECT w.id FROM unnest('{2,1}'::text[]) AS t (id), genjob.wait(t.id, '0 s') AS w;
\set VERBOSITY terse
SELECT id, state FROM genjob.wait('');
SELECT id, state FROM genjob.wait('seven');
SELECT id, state FROM genjob.wait('{1,seven}');
SELECT id, state FROM genjob.wait('9223372036854775808');
SELECT id, state FROM genjob.wait('99999');
\set VERBOSITY default
SELECT id, state FROM genjob.wait(ARRAY[1, 99999], '0 s');
SELECT id, state FROM genjob.wait_any(ARRAY[1, 2, 3]);
SELECT id, state FROM genjob.wait_any(ARRAY[1, 3], '10 ms');
SELECT id, state FROM genjob.wait_any(ARRAY[1, 99999], '0 s');
SELECT id, state FROM genjob.wait_any('{}'::bigint[]);
-- times beyond the calendar, and behind now
SELECT id, state FROM genjob.wait(2, '170000000 years');
SELECT id, state FROM genjob.wait(3, '-170000000 years');
SELECT id, state FROM genjob.wait_any(ARRAY[2], '2000000000 days');
SELECT id, state FROM genjob.wait_any(ARRAY[3], '-1 s');
BEGIN;
INSERT INTO gen_jobs (server, request) VALUES ('regress_submit', '{"prompt": "a"}') RETURNING id AS new \gset
SELECT count(*) FROM genjob.wait(ARRAY[1, :new], '1 s');
ROLLBACK;
BEGIN;
SELECT genjob.submit('regress_submit', '{"prompt": "a"}') AS new \gset
SELECT id FROM genjob.wait_any(ARRAY[1, :new], '1 s');
ROLLBACK;
RESET ROLE;
-- not another's
SET ROLE regress_other;
SELECT id, state FROM genjob.wait(ARRAY[1], '0 s');
SELECT id, state FROM genjob.wait_any(ARRAY[1], '0 s');
SELECT * FROM genjob.tree(1);

-- who waits for whom
SET ROLE regress_submit;
SELECT genjob.submit('regress_submit', '{"prompt": "f"}', after => '{4, 3}') AS f \gset
SELECT depth, job_id - :f AS job, state, blocked_by, server FROM genjob.tree(:f);
SELECT depth, state FROM genjob.tree(1);
SELECT genjob.cancel(4);
SELECT depth, state FROM genjob.tree(4) WHERE depth <= 0;
SELECT genjob.cancel(3);
SELECT depth, state FROM genjob.tree(3);
SELECT * FROM genjob.tree(99999);
SELECT * FROM genjob.waiting;

-- a prediction that nobody has
SELECT genjob.poke('regress_submit', 'prediction 1');
SELECT genjob.poke('regress_submit', NULL);
RESET ROLE;

TRUNCATE gen_jobs CASCADE;
REVOKE ALL ON gen_jobs FROM regress_submit, regress_other;
DROP SERVER regress_submit CASCADE;
DROP ROLE regress_submit, regress_other;
