--
-- store_refusals: what an administrator or an application gets wrong about an object store, as early as it can be known
--
\set SHOW_CONTEXT never
\pset tuples_only on
\pset format unaligned

-- ---- the url of something else ----

CREATE FUNCTION pg_temp.try_server(url text, bucket text DEFAULT 'pictures', more text DEFAULT '') RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	problem text;
	hint text;
BEGIN
	EXECUTE format('CREATE SERVER regress_try FOREIGN DATA WRAPPER genjob OPTIONS (api ''s3'', url %L, bucket %L %s)', url, bucket, more);
	DROP SERVER regress_try;
	RAISE NOTICE '% % %: taken', url, bucket, more;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RAISE NOTICE E'% % %\n  %\n  %', url, bucket, more, problem, hint;
END $$;
DO $$ BEGIN
	-- the bucket is in the host
	PERFORM pg_temp.try_server(url) FROM unnest(ARRAY[
		'https://PICTURES.S3.eu-central-1.amazonaws.com', 'https://pictures.fra1.digitaloceanspaces.com',
		'https://pictures.storage.googleapis.com', 'https://pictures.account.r2.cloudflarestorage.com',
		'https://pictures.s3.eu-central-003.backblazeb2.com', 'https://pictures.s3.example.com:9000/',
		'https://pictures.oss-eu-central-1.aliyuncs.com']) AS url;
	-- ... or in the path, with more behind it, or in another url of the pool
	PERFORM pg_temp.try_server(url) FROM unnest(ARRAY['http://10.0.0.1:9000/pictures/in', 'http://10.0.0.1:9000//pictures//',
		'http://10.0.0.1:9000/s3/pictures', 'http://10.0.0.1:9000, http://10.0.0.2:9000/pictures']) AS url;
	-- pages for people
	PERFORM pg_temp.try_server(url) FROM unnest(ARRAY['https://s3.console.aws.amazon.com/s3/buckets/pictures',
		'https://eu-central-1.console.aws.amazon.com', 'https://pictures.s3-website.eu-central-1.amazonaws.com',
		'https://s3-website-us-east-1.amazonaws.com', 'https://lambda.eu-west-1.amazonaws.com']) AS url;
	-- what only resembles these
	PERFORM pg_temp.try_server(url) FROM unnest(ARRAY['https://pictures.example.com', 'https://fra1.digitaloceanspaces.com',
		'https://storage.googleapis.com', 'https://account.r2.cloudflarestorage.com', 'http://10.0.0.1:9000/s3/',
		'https://s3.dualstack.eu-west-1.amazonaws.com', 'https://s3-eu-west-1.amazonaws.com',
		'https://bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com', 'http://10.0.0.1:9000/pictures2']) AS url;
END $$;

-- ---- names that no bucket has ----

DO $$ BEGIN
	PERFORM pg_temp.try_server('https://s3.eu-central-1.amazonaws.com', bucket) FROM unnest(ARRAY['Pictures', 'my_pictures',
		'pictures-', 'my..pictures', 'my.-pictures', 'my-.pictures', '192.168.5.4', 'my.pictures', '1.2.3.4.5']) AS bucket;
	PERFORM pg_temp.try_server('https://s3.amazonaws.com', 'Old_Pictures');
	PERFORM pg_temp.try_server('http://10.0.0.1:8080', 'My_Pictures');
END $$;

-- ---- options that a store cannot use ----

DO $$ BEGIN
	PERFORM pg_temp.try_server('http://10.0.0.1:8080', more => ', ' || more) FROM unnest(ARRAY['method ''PUT''', 'service ''lambda''', 'service ''s3''']) AS more;
	PERFORM pg_temp.try_server('http://10.0.0.1:8080', more => format(', put_headers %L', headers)) FROM unnest(ARRAY[
		'{"x-amz-copy-source": "/others/cat.png"}', '{"X-AMZ-COPY-SOURCE-IF-MATCH": "x"}', '{"x-amz-metadata-directive": "COPY"}',
		'{"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}', '{"x-amz-checksum-sha256": "x"}', '{"x-amz-sdk-checksum-algorithm": "SHA256"}',
		'{"X-Amz-Trailer": "x-amz-checksum-crc32"}', '{"x-amz-decoded-content-length": "3"}', '{"Content-Range": "bytes 0-1/2"}',
		'{"Range": "bytes=0-1"}', '{"Date": "Thu, 26 Nov 2026 10:00:00 GMT"}', '{"X-Amz-Signature": "00"}', '{"X-Amz-Expires": "60"}',
		'{"x-amz-server-side-encryption-customer-key": "a2V5"}', '{"x-amz-server-side-encryption-customer-algorithm": "AES256"}',
		'{"x-amz-tagging": "a=b", "if-none-match": "*"}',
		'{"x-amz-acl": "private", "Cache-Control": "no-store", "x-amz-meta-who": "me", "Iffy": "x", "x-amz-tagging": "a=b"}']) AS headers;
	PERFORM pg_temp.try_server('http://10.0.0.1:8080', more => format(', headers %L', headers)) FROM unnest(ARRAY['{"Authorization": "AWS4"}',
		'{"x-amz-date": "20261126T100000Z"}', '{"x-amz-copy-source": "/a/b"}', '{"X-Team": "art"}']) AS headers;
END $$;

-- ---- a server that has such an option already is altered otherwise, and comes back from a dump ----

SET check_function_bodies = off;
CREATE SERVER regress_store FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://127.0.0.1:9', bucket 'pictures', method 'GET', paused 'on');
RESET check_function_bodies;
ALTER SERVER regress_store OPTIONS (SET paused 'off');
ALTER SERVER regress_store OPTIONS (SET bucket 'Others');
ALTER SERVER regress_store OPTIONS (DROP method, SET paused 'on');
ALTER SERVER regress_store OPTIONS (ADD put_headers '{"Content-MD5": "x"}');
ALTER SERVER regress_store OPTIONS (SET url 'http://10.0.0.1:9000/Others/in');

-- ---- keys that were copied with a blank ----

CREATE USER MAPPING FOR PUBLIC SERVER regress_store OPTIONS (access_key_id 'AKIA-do-not-repeat ', secret_access_key 'do-not-repeat');
CREATE USER MAPPING FOR PUBLIC SERVER regress_store OPTIONS (access_key_id 'AKIA-do-not-repeat', secret_access_key E'\tdo-not-repeat');
CREATE USER MAPPING FOR PUBLIC SERVER regress_store OPTIONS (access_key_id 'AKIA-do-not-repeat', secret_access_key 'do-not-repeat', session_token E'do-not-repeat\n');
CREATE USER MAPPING FOR PUBLIC SERVER regress_store OPTIONS (access_key_id 'test tester', secret_access_key 'a secret');

CREATE USER MAPPING FOR CURRENT_USER SERVER regress_store OPTIONS (headers '{"X-Amz-Copy-Source": "/do-not/repeat"}');

-- ---- a store that is no name of a server ----

CREATE SERVER regress_painter FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', store 's3://pictures');
CREATE SERVER regress_painter FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', store 'regress_painter', paused 'on');
INSERT INTO gen_jobs (server, request) VALUES ('regress_painter', '{}');
ALTER SERVER regress_painter OPTIONS (SET store 'regress_no "store"');
INSERT INTO gen_jobs (server, request) VALUES ('regress_painter', '{}');
DROP SERVER regress_painter;

-- ---- requests ----

CREATE FUNCTION pg_temp.try_request(request text, inputs bytea[] DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	problem text;
	hint text;
BEGIN
	INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_store', request::jsonb, inputs);
	RAISE NOTICE '%: taken', request;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RAISE NOTICE E'%\n  %\n  %', request, problem, hint;
END $$;
DO $$ BEGIN
	-- verbs
	PERFORM pg_temp.try_request('{"get": "a", "put": "b"}', '{x}');
	PERFORM pg_temp.try_request('{"list": "", "delete": "b", "head": "c"}');
	PERFORM pg_temp.try_request('{"GET": "a"}');
	-- what is no range that a store reads; it would send all of the object, or a body of several parts
	PERFORM pg_temp.try_request(format('{"get": "a", "range": "%s"}', range)) FROM unnest(ARRAY['0-10', 'bytes 0-10', 'bytes=10-5',
		'bytes=0-1,4-5', 'items=0-1', 'bytes=-', 'bytes=', 'bytes=1', 'bytes=a-b', 'bytes=0-1 ', '', 'bytes=99999999999999999999-',
		'bytes=0-0', 'bytes=5-', 'bytes=-5', 'Bytes=0-9']) AS range;
	PERFORM pg_temp.try_request('{"get": "a", "version_id": ""}');
	PERFORM pg_temp.try_request('{"delete": "a", "version_id": ""}');
	-- content types
	PERFORM pg_temp.try_request('{"put": "a", "content_type": "png"}', '{x}');
	PERFORM pg_temp.try_request('{"put": "a", "content_type": "image/png"}', '{x}');
	PERFORM pg_temp.try_request('{"copy": "a", "to": "b", "content_type": "/"}');
	-- a body that is none
	PERFORM pg_temp.try_request('{"put": "a", "body": "text"}');
	PERFORM pg_temp.try_request('{"put": "a", "body": {"$result": [7, "/text"]}}');
	PERFORM pg_temp.try_request('{"put": "a", "body": {"$url": "https://example.com/a"}}');
	PERFORM pg_temp.try_request('{"put": "a", "body": [{"$input": 1}]}', '{x}');
	PERFORM pg_temp.try_request('{"put": "a", "body": {"$input": 1}}', '{x}');
	-- what earlier jobs will have brought
	PERFORM pg_temp.try_request('{"get": {"$result": [7, "/objects/0/key"]}}');
	PERFORM pg_temp.try_request('{"copy": {"$result": [7, "/key"]}, "to": {"$concat": [{"$result": [7, "/key"]}]}}');
	PERFORM pg_temp.try_request('{"put": {"$result": [7, "/key"]}, "content_type": {"$result": [7, "/type"]}}', '{x}');
	PERFORM pg_temp.try_request('{"get": "a", "range": {"$result": [7, "/range"]}, "version_id": {"$result": [7, "/version_id"]}}');
	PERFORM pg_temp.try_request('{"list": "", "max": {"$result": [7, "/max"]}, "after": {"$result": [7, "/after"]}}');
END $$;

DELETE FROM gen_jobs;
SET client_min_messages = warning;
DROP SERVER regress_store CASCADE;
RESET client_min_messages;

-- ---- purge ----

SELECT genjob.purge('regress_nowhere', '30 days');
CREATE SERVER regress_store FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://127.0.0.1:9', bucket 'pictures');
SELECT genjob.purge('regress_store', '30 days');
SELECT genjob.purge('regress_store', '100000 years');
SELECT genjob.purge('regress_store', '-1 day');
DROP SERVER regress_store;
