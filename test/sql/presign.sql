--
-- presign: links to objects, made without a call
--
\set SHOW_CONTEXT never
\pset tuples_only on
\pset format unaligned
\pset null '(null)'

CREATE SERVER regress_store FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'https://s3.eu-central-1.amazonaws.com', bucket 'pictures');
CREATE SERVER regress_local FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://127.0.0.1:9', bucket 'local.pictures');
CREATE SERVER regress_http FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', paused 'on');
CREATE USER MAPPING FOR PUBLIC SERVER regress_store OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'secret');
CREATE USER MAPPING FOR PUBLIC SERVER regress_local OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'secret', session_token 'to+ken=');

-- dates and signatures of the moment
CREATE FUNCTION pg_temp.plain(link text) RETURNS text LANGUAGE sql AS
	$$SELECT regexp_replace(regexp_replace(link, '\d{8}(T\d{6}Z)?(?=%2F|&)', 'NOW', 'g'), 'Signature=[0-9a-f]{64}$', 'Signature=SIGNATURE')$$;

SELECT pg_temp.plain(genjob.presign('s3://pictures/in/cat & dog.png'));
SELECT pg_temp.plain(genjob.presign('s3://pictures/in/cat.png', '1 day'));
SELECT pg_temp.plain(genjob.presign('s3://local.pictures/ü//x', '7 days'));
SELECT pg_temp.plain(genjob.presign('s3://pictures/a', '1 min', 'regress_store'));
SELECT pg_temp.plain(genjob.presign_put('regress_store', 'in/cat.png'));
SELECT pg_temp.plain(genjob.presign_put('regress_store', 'in/cat.png', 'image/png', '5 min'));
SELECT pg_temp.plain(genjob.presign_put('regress_store', key => 'a', expires => '1 s'));
SELECT genjob.presign(NULL::text), genjob.presign('s3://pictures/a', NULL), genjob.presign_put(NULL, 'a'), genjob.presign_put('regress_store', NULL);

-- ---- what is none ----

SELECT genjob.presign('s3://pictures/a/../b');
SELECT genjob.presign_put('regress_store', 'x/.');
SELECT pg_temp.plain(genjob.presign('s3://pictures/a.../..b/c.'));
SELECT genjob.presign('https://example.com/a');
SELECT genjob.presign('s3://pictures');
SELECT genjob.presign('s3://pictures/');
SELECT genjob.presign('s3:///a');
SELECT genjob.presign('s3://pictures/' || repeat('k', 1025));
SELECT genjob.presign('s3://elsewhere/a');
SELECT genjob.presign('s3://pictures/a', '7 days 1 s');
SELECT genjob.presign('s3://pictures/a', '0.5 s');
SELECT genjob.presign('s3://pictures/a', '-1 h');
SELECT genjob.presign('s3://pictures/a', '1 year');
SELECT genjob.presign('s3://pictures/a', '1 h', 'regress_local');
SELECT genjob.presign('s3://pictures/a', '1 h', 'regress_http');
SELECT genjob.presign('s3://pictures/a', '1 h', 'regress_nowhere');
SELECT genjob.presign_put('regress_http', 'a');
SELECT genjob.presign_put('regress_store', '');
SELECT genjob.presign_put('regress_store', repeat('ü', 513));
SELECT genjob.presign_put('regress_store', 'a', 'png');
SELECT genjob.presign_put('regress_store', 'a', E'image/png\r\nX: y');
SELECT genjob.presign_put('regress_store', 'a', 'bild/ümlaut');
SELECT genjob.presign('s3://pictures/a', '178000000 years');
SELECT genjob.presign('s3://pictures/a', '-178000000 years');
SELECT genjob.presign('s3://pictures/a', '604801 s');
SELECT genjob.presign('s3://pictures/a', '-1 month 29 days');

-- ---- a link is valid from when it is made, however long its statement has run ----

DO $$
DECLARE
	link text;
	made timestamptz;
BEGIN
	PERFORM pg_sleep(1.1);
	FOREACH link IN ARRAY ARRAY[genjob.presign('s3://pictures/a', '1 s'), genjob.presign_put('regress_store', 'a', expires => '1 s')] LOOP
		made := to_timestamp(substring(link FROM 'X-Amz-Date=(\w+)Z') || '+00', 'YYYYMMDD"T"HH24MISSTZH');
		IF made < date_trunc('second', statement_timestamp() + interval '1.1 s') THEN
			RAISE EXCEPTION 'made at %, in a statement of %', made, statement_timestamp();
		END IF;
	END LOOP;
END $$;

-- ---- the path of a link is encoded as it is signed, and as browsers keep it ----

CREATE SERVER regress_odd FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'HTTP://Example.COM:80/p+q/%7e%c3%bc/(a)|%zz', bucket 'odd');
CREATE USER MAPPING FOR PUBLIC SERVER regress_odd OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'secret');
SELECT substring(genjob.presign('s3://odd/a b'), '^[^?]*');
SELECT substring(genjob.presign_put('regress_odd', 'a+b', 'image/png'), '^[^?]*');
ALTER SERVER regress_odd OPTIONS (SET url 'http://example.com/a/../b');
ALTER SERVER regress_odd OPTIONS (SET url 'http://example.com/a/%2E');
ALTER SERVER regress_odd OPTIONS (SET url 'http://example.com/.%2e/a');
ALTER SERVER regress_odd OPTIONS (SET url 'http://example.com/.a/b../...');
ALTER SERVER regress_odd OPTIONS (SET url 'http:///example.com:81/a:///b');
SELECT substring(genjob.presign('s3://odd/a'), '^[^?]*');
DROP SERVER regress_odd CASCADE;

-- ---- outputs: for who sees them, whatever the row says that is given ----

CREATE ROLE regress_genjob_app;
CREATE ROLE regress_genjob_other;
GRANT INSERT, SELECT ON gen_jobs TO regress_genjob_app, regress_genjob_other;
GRANT SELECT ON gen_outputs TO regress_genjob_app, regress_genjob_other;
GRANT USAGE ON FOREIGN SERVER regress_http TO regress_genjob_app;
SET ROLE regress_genjob_app;
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{}') RETURNING id AS job \gset
RESET ROLE;
INSERT INTO gen_outputs (job_id, ordinal, content_type, bytes, sha256, data) VALUES (:job, 1, 'image/png', 1, '\x00', '\x00');
INSERT INTO gen_outputs (job_id, ordinal, content_type, bytes, sha256, url, etag, store)
	VALUES (:job, 2, 'image/png', 1, '\x00', 's3://pictures/of/app.png', 'x', 'regress_store');
\set VERBOSITY terse
INSERT INTO gen_outputs (job_id, ordinal, content_type, bytes, sha256) VALUES (:job, 3, 'image/png', 1, '\x00');
\set VERBOSITY default
SELECT ordinal, pg_temp.plain(genjob.presign(o)) FROM gen_outputs AS o WHERE job_id = :job ORDER BY 1;
SET ROLE regress_genjob_app;
SELECT genjob.presign(o) FROM gen_outputs AS o WHERE job_id = :job AND ordinal = 2;
SELECT genjob.presign('s3://pictures/a');
SELECT genjob.presign('s3://pictures/a', '1 h', 'regress_store');
SELECT genjob.presign_put('regress_store', 'a');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER regress_store TO regress_genjob_app, regress_genjob_other;
SET ROLE regress_genjob_app;
SELECT pg_temp.plain(genjob.presign(o, '1 min')) FROM gen_outputs AS o WHERE job_id = :job AND ordinal = 2;
SET ROLE regress_genjob_other;
SELECT genjob.presign(ROW(:job, 2, 'image/png', 1, '', NULL, 's3://pictures/forged', NULL, NULL, NULL)::gen_outputs);
RESET ROLE;
SELECT pg_temp.plain(genjob.presign(ROW(:job, 2, 'image/png', 1, '', NULL, 's3://pictures/forged', NULL, NULL, NULL)::gen_outputs));

-- two stores with buckets of one name
CREATE SERVER regress_twin FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://127.0.0.1:8', bucket 'pictures');
SELECT pg_temp.plain(genjob.presign('s3://pictures/a'));
CREATE USER MAPPING FOR PUBLIC SERVER regress_twin OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'secret');
SELECT pg_temp.plain(genjob.presign('s3://pictures/a'));
SELECT pg_temp.plain(genjob.presign('s3://pictures/a', '1 h', 'regress_twin'));
SELECT pg_temp.plain(genjob.presign(o)) FROM gen_outputs AS o WHERE job_id = :job AND ordinal = 2;

-- ---- a store that was dropped, and that another role creates again, gets nothing of the old outputs ----

UPDATE gen_outputs SET store_oid = (SELECT oid FROM pg_foreign_server WHERE srvname = store) WHERE url IS NOT NULL;
UPDATE gen_jobs SET state = 'cancelled', finished_at = now() - interval '1 day' WHERE id = :job;
SET client_min_messages = warning;
DROP SERVER regress_store CASCADE;
DROP SERVER regress_twin CASCADE;
CREATE ROLE regress_genjob_mallory;
GRANT USAGE ON FOREIGN DATA WRAPPER genjob TO regress_genjob_mallory, regress_genjob_app;
RESET client_min_messages;
SELECT genjob.presign(o) FROM gen_outputs AS o WHERE job_id = :job AND ordinal = 2;
SET ROLE regress_genjob_mallory;
CREATE SERVER regress_store FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://127.0.0.1:7', bucket 'pictures', paused 'on');
CREATE USER MAPPING FOR PUBLIC SERVER regress_store OPTIONS (access_key_id 'MALLORY', secret_access_key 'secret');
GRANT USAGE ON FOREIGN SERVER regress_store TO PUBLIC;
RESET ROLE;
SELECT genjob.presign(o) FROM gen_outputs AS o WHERE job_id = :job AND ordinal = 2;
SET ROLE regress_genjob_app;
SELECT genjob.presign(o) FROM gen_outputs AS o WHERE job_id = :job AND ordinal = 2;
RESET ROLE;
SELECT genjob.purge('regress_http', '1 h');
SELECT * FROM genjob.purge_jobs(ARRAY[:job]::bigint[], false);
SELECT count(*) FROM gen_jobs WHERE server = 'regress_store';
-- whoever has what the owner of the job has need not be mistrusted, as after a restore
ALTER SERVER regress_store OWNER TO regress_genjob_app;
SELECT pg_temp.plain(genjob.presign(o)) FROM gen_outputs AS o WHERE job_id = :job AND ordinal = 2;
ALTER SERVER regress_store OWNER TO regress_genjob_mallory;
SELECT genjob.presign(o) FROM gen_outputs AS o WHERE job_id = :job AND ordinal = 2;
-- or it is said
GRANT UPDATE (store_oid) ON gen_outputs TO regress_genjob_app;
SET ROLE regress_genjob_app;
UPDATE gen_outputs SET store_oid = (SELECT oid FROM pg_foreign_server WHERE srvname = store) WHERE url IS NOT NULL;
SELECT pg_temp.plain(genjob.presign(o)) FROM gen_outputs AS o WHERE job_id = :job AND ordinal = 2;
RESET ROLE;
-- the name alone counts for nothing
UPDATE gen_outputs SET store_oid = NULL WHERE url IS NOT NULL;
SELECT genjob.presign(o) FROM gen_outputs AS o WHERE job_id = :job AND ordinal = 2;
UPDATE gen_outputs SET store = NULL WHERE url IS NOT NULL;
SELECT genjob.presign(o) FROM gen_outputs AS o WHERE job_id = :job AND ordinal = 2;

DELETE FROM gen_jobs;
SET client_min_messages = warning;
DROP SERVER regress_store, regress_local, regress_http CASCADE;
REVOKE ALL ON gen_jobs, gen_outputs FROM regress_genjob_app, regress_genjob_other;
REVOKE USAGE ON FOREIGN DATA WRAPPER genjob FROM regress_genjob_mallory, regress_genjob_app;
DROP ROLE regress_genjob_app, regress_genjob_other, regress_genjob_mallory;
