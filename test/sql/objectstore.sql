--
-- objectstore: servers with api 's3', requests that are signed, and methods other than POST
--
\set SHOW_CONTEXT never
\pset tuples_only on
\pset format unaligned
\pset null '(null)'

-- dates and hosts of the moment, and the signature, which is not shown anyway
CREATE FUNCTION pg_temp.show(server name, request jsonb, inputs bytea[] DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$SELECT regexp_replace(genjob.preview(server, request, inputs), 'Date: \d{8}T\d{6}Z', 'Date: NOW') || E'\n-----'$$;
\set png '\'\\x89504e470d0a1a0a0000000d49484452\'::bytea'

-- ---- options ----

CREATE SERVER regress_s3 FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'https://s3.eu-central-1.amazonaws.com');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'https://s3.eu-central-1.amazonaws.com', bucket 'p');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'https://s3.eu-central-1.amazonaws.com', bucket 'a/b');
CREATE SERVER regress_s3 FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'https://s3.eu-central-1.amazonaws.com', bucket 'pictures');
CREATE SERVER regress_swift FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://127.0.0.1:8080', bucket 'pictures');
CREATE SERVER regress_dots FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'https://s3.amazonaws.com', bucket 'my.pictures');
CREATE SERVER regress_http FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:8080', bucket 'pictures');
CREATE SERVER regress_http FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:8080', auth 'sigv4');
CREATE SERVER regress_http FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:8080', auth 'sigv4', region 'us-east-1');
CREATE SERVER regress_http FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:8080', auth 'sigv4', region 'us east', service 'lambda');
CREATE SERVER regress_http FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:8080', auth 'sigv4', region 'us-east-1', service 'lambda');
CREATE SERVER regress_lambda FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'https://lambda.eu-west-1.amazonaws.com', auth 'sigv4', path '/2015-03-31/functions/{function}/invocations');
CREATE SERVER regress_items FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:8080', method 'GET', path '/items/{item}');
ALTER SERVER regress_items OPTIONS (SET method 'get');
ALTER SERVER regress_items OPTIONS (SET method 'CONNECT');

-- a bucket that cannot be where it would be, and a region that cannot be right
CREATE SERVER regress_no FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'https://s3.amazonaws.com', bucket 'my.pictures', addressing 'virtual');
CREATE SERVER regress_no FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://store.local', bucket 'My_pictures', addressing 'virtual');
CREATE SERVER regress_no FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://127.0.0.1:9000', bucket 'pictures', addressing 'virtual');
CREATE SERVER regress_no FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://[::1]:9000', bucket 'pictures', addressing 'virtual');
CREATE SERVER regress_no FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'https://pictures.s3.eu-central-1.amazonaws.com', bucket 'pictures');
CREATE SERVER regress_no FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'https://account.r2.cloudflarestorage.com/pictures/', bucket 'pictures');
CREATE SERVER regress_no FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'https://s3.eu-central-1.amazonaws.com', bucket 'pictures', region 'us-east-1');
CREATE SERVER regress_no FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'https://s3-accelerate.amazonaws.com', bucket 'pictures');
CREATE SERVER regress_virtual FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://store.local:9000/s3', bucket 'my.pictures', addressing 'virtual');
CREATE SERVER regress_fits FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'https://s3.amazonaws.com', bucket 'pictures', region 'eu-west-1');
DROP SERVER regress_virtual, regress_fits;

-- keys are checked before anything is paid for
ALTER SERVER regress_s3 OPTIONS (ADD key '{server}/{yyyy}/{mm}/{job}-{ordinal}.{ext}');
ALTER SERVER regress_s3 OPTIONS (SET key '{tenant}/{sha256}');
ALTER SERVER regress_s3 OPTIONS (SET key '{job}/{ordinal}/{colour}');
ALTER SERVER regress_s3 OPTIONS (SET key 's3://pictures/{job}-{ordinal}');
ALTER SERVER regress_s3 OPTIONS (SET key '{job}-{ordinal');
ALTER SERVER regress_s3 OPTIONS (SET key '{job}-{ordinal}}');
ALTER SERVER regress_s3 OPTIONS (SET key '{job}');
ALTER SERVER regress_s3 OPTIONS (SET key '/{job}-{ordinal}');
ALTER SERVER regress_s3 OPTIONS (SET key '');
ALTER SERVER regress_s3 OPTIONS (SET key E'{job}-{ordinal}\n');
DO $$ BEGIN
	EXECUTE format('ALTER SERVER regress_s3 OPTIONS (SET key %L)', '{sha256}' || repeat('k', 960));
	RAISE NOTICE '1,024 bytes at most';
	EXECUTE format('ALTER SERVER regress_s3 OPTIONS (SET key %L)', '{sha256}' || repeat('k', 961));
EXCEPTION WHEN fdw_invalid_attribute_value THEN
	RAISE NOTICE '1,025 bytes: refused';
END $$;
ALTER SERVER regress_s3 OPTIONS (SET key '{server}{tenant}{owner}{database}/{job}-{ordinal}.{ext}');
ALTER SERVER regress_s3 OPTIONS (SET key '{server}{tenant}{owner}{database}{tenant}/{job}-{ordinal}.{ext}');
ALTER SERVER regress_s3 OPTIONS (SET key '{tenant}{job}-{ordinal}.{ext}');
ALTER SERVER regress_s3 OPTIONS (SET key 'out/../{job}-{ordinal}.{ext}');
ALTER SERVER regress_s3 OPTIONS (ADD put_headers '{"x-amz-storage-class": "STANDARD_IA", "x-amz-server-side-encryption": "AES256"}');
ALTER SERVER regress_s3 OPTIONS (SET put_headers '{"x-amz-storage-class": 1}');
ALTER SERVER regress_s3 OPTIONS (SET put_headers '{"x-amz-storage-class": "STANDARD", "authorization": "AWS4"}');
ALTER SERVER regress_s3 OPTIONS (SET put_headers '{"X-Amz-Security-Token": "t"}');
ALTER SERVER regress_s3 OPTIONS (ADD addressing 'host');

-- ---- where outputs go ----

ALTER SERVER regress_s3 OPTIONS (ADD store 'regress_swift');
CREATE SERVER regress_painter FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', store 'regress_nowhere', paused 'on');
INSERT INTO gen_jobs (server, request) VALUES ('regress_painter', '{}');
ALTER SERVER regress_painter OPTIONS (SET store 'regress_items');
INSERT INTO gen_jobs (server, request) VALUES ('regress_painter', '{}');
ALTER SERVER regress_painter OPTIONS (SET store 'regress_swift');
INSERT INTO gen_jobs (server, request) VALUES ('regress_painter', '{}');
CREATE ROLE regress_genjob_app;
GRANT USAGE ON FOREIGN DATA WRAPPER genjob TO regress_genjob_app;
ALTER SERVER regress_swift OWNER TO regress_genjob_app;
INSERT INTO gen_jobs (server, request) VALUES ('regress_painter', '{}');
ALTER SERVER regress_swift OWNER TO CURRENT_USER;
REVOKE USAGE ON FOREIGN DATA WRAPPER genjob FROM regress_genjob_app;
DROP ROLE regress_genjob_app;
DROP SERVER regress_painter;

-- ---- keys to sign with ----

CREATE USER MAPPING FOR PUBLIC SERVER regress_s3 OPTIONS (access_key_id 'AKIA-do-not-repeat');
CREATE USER MAPPING FOR PUBLIC SERVER regress_s3 OPTIONS (secret_access_key 'do-not-repeat');
CREATE USER MAPPING FOR PUBLIC SERVER regress_s3 OPTIONS (session_token 'do-not-repeat');
SELECT genjob.preview('regress_s3', '{"get": "a"}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_s3', '{"get": "a"}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": 1}');
CREATE USER MAPPING FOR PUBLIC SERVER regress_http OPTIONS (api_key 'sk-secret');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": 1}');
DROP USER MAPPING FOR PUBLIC SERVER regress_http;
CREATE USER MAPPING FOR PUBLIC SERVER regress_s3
	OPTIONS (access_key_id 'AKIA-do-not-repeat', secret_access_key 'do-not-repeat', session_token 'token-do-not-repeat');
CREATE USER MAPPING FOR PUBLIC SERVER regress_swift OPTIONS (access_key_id 'test:tester', secret_access_key 'testing');
CREATE USER MAPPING FOR PUBLIC SERVER regress_dots OPTIONS (access_key_id 'test:tester', secret_access_key 'testing');
CREATE USER MAPPING FOR PUBLIC SERVER regress_lambda OPTIONS (access_key_id 'test:tester', secret_access_key 'testing');

-- ---- requests ----

SELECT pg_temp.show('regress_s3', '{"put": "in/cat & dog.png", "metadata": {"who": "me"}}', ARRAY[:png]);
SELECT pg_temp.show('regress_s3', '{"put": "a", "content_type": "image/x-cat", "body": {"$input": 1}}', ARRAY[:png]);
SELECT pg_temp.show('regress_swift', '{"get": "a//b/../ü+%?#", "range": "bytes=0-9", "version_id": "v/1"}');
SELECT pg_temp.show('regress_dots', '{"head": "a"}');
SELECT pg_temp.show('regress_swift', '{"delete": "a"}');
SELECT pg_temp.show('regress_swift', '{"copy": "a b", "to": "c", "content_type": "image/png"}');
SELECT pg_temp.show('regress_swift', '{"list": ""}');
SELECT pg_temp.show('regress_s3', '{"list": "in/", "delimiter": "/", "max": 10, "after": "to+ken="}');
-- a key with which the store encrypts goes with all that reads
ALTER SERVER regress_swift OPTIONS (ADD put_headers '{"X-Amz-Server-Side-Encryption-Customer-Algorithm": "AES256", "x-amz-server-side-encryption-customer-key": "a2V5", "x-amz-storage-class": "STANDARD"}');
SELECT pg_temp.show('regress_swift', '{"get": "a"}');
SELECT pg_temp.show('regress_swift', '{"head": "a"}');
SELECT pg_temp.show('regress_swift', '{"delete": "a"}');
SELECT pg_temp.show('regress_swift', '{"copy": "a", "to": "b"}');
ALTER SERVER regress_swift OPTIONS (DROP put_headers);
SELECT pg_temp.show('regress_lambda', '{"function": "enlarge:1", "payload": 1}');
CREATE SERVER regress_function FOREIGN DATA WRAPPER genjob OPTIONS (api 'aws-lambda', url 'https://lambda.eu-west-1.amazonaws.com', model 'enlarge');
CREATE USER MAPPING FOR PUBLIC SERVER regress_function OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'secret');
SELECT pg_temp.show('regress_function', '{"picture": {"$input": 1}}', ARRAY[:png]);
DROP USER MAPPING FOR PUBLIC SERVER regress_function;
DROP SERVER regress_function;
SELECT pg_temp.show('regress_items', '{"item": "a/b c", "page": 2, "tags": ["x", "y"]}');
ALTER SERVER regress_items OPTIONS (SET method 'PUT', SET path '/items/{id}');
SELECT pg_temp.show('regress_items', '{"page": 2}');
ALTER SERVER regress_items OPTIONS (SET method 'HEAD', SET path '/items/{item}');
SELECT pg_temp.show('regress_items', '{"item": 7}');

-- ---- what is no request ----

INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"prompt": "a cat"}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"get": "a", "head": "a"}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"get": "a", "gat": "b"}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"get": "a", "version": "b"}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"get": ""}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"get": 7}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"get": "s3://pictures/in/cat.png"}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"copy": "in/cat.png", "to": "s3://others/cat.png"}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"list": "s3://pictures/"}');
SELECT genjob.presign_put('regress_swift', 's3://pictures/cat.png', 'image/png', '1 h');
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', jsonb_build_object('get', repeat('k', 1025)));
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', jsonb_build_object('get', repeat('ü', 513)));
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"get": "a", "range": "bytes=0-1\r\nX: y"}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"put": "a"}');
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_swift', '{"put": "a"}', ARRAY[:png, :png]);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_swift', '{"put": "a", "metadata": {"a b": "c"}}', ARRAY[:png]);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_swift', '{"put": "a", "metadata": {"a": "c\n"}}', ARRAY[:png]);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_swift', '{"get": "a"}', ARRAY[:png]);
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"copy": "a"}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_swift', '{"list": "a", "max": 1001}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_items', '{"page": 1}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_items', '{"item": ".."}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_items', '{"item": {"a": 1}}');
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_items', '{"item": "a"}', ARRAY[:png]);
SELECT count(*) FROM gen_jobs;

SET client_min_messages = warning;
DROP SERVER regress_s3, regress_swift, regress_dots, regress_http, regress_lambda, regress_items CASCADE;
