--
-- bodies: binaries in a request: outputs of earlier jobs, and the body that is one binary
--
\set SHOW_CONTEXT never
\pset tuples_only on
\pset format unaligned
\pset null '(null)'

CREATE FUNCTION pg_temp.show(server name, request jsonb, inputs bytea[] DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$SELECT replace(genjob.preview(server, request, inputs), E'\r', '\r') || E'\n-----'$$;

\set png '\'\\x89504e470d0a1a0a0000000d49484452\'::bytea'
\set jpeg '\'\\xffd8ffe000104a464946\'::bytea'
\set text '\'\\x68656c6c6f\'::bytea'

CREATE ROLE regress_genjob_app;
CREATE ROLE regress_genjob_team;
CREATE ROLE regress_genjob_other;
GRANT regress_genjob_team TO regress_genjob_app;
GRANT SELECT, INSERT, UPDATE ON gen_jobs TO regress_genjob_app, regress_genjob_other;
GRANT SELECT ON gen_outputs TO regress_genjob_app, regress_genjob_other;
CREATE SERVER regress_http FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'https://example.com/api', paused 'on');
CREATE SERVER regress_images FOREIGN DATA WRAPPER genjob
	OPTIONS (api 'openai-images', url 'https://example.com', auth 'none', paused 'on');
GRANT USAGE ON FOREIGN SERVER regress_http, regress_images TO regress_genjob_app, regress_genjob_other;

-- jobs that have ended, as a restore brings them in
INSERT INTO gen_jobs (id, server, request, state, owner) VALUES
	(2000001, 'regress_http', '{}', 'succeeded', 'regress_genjob_app'),
	(2000002, 'regress_http', '{}', 'succeeded', 'regress_genjob_team'),
	(2000003, 'regress_http', '{}', 'succeeded', 'regress_genjob_other'),
	(9007199254740993, 'regress_http', '{}', 'succeeded', 'regress_genjob_app');
INSERT INTO gen_outputs (job_id, ordinal, content_type, bytes, sha256, data)
	SELECT job, ordinal, type, octet_length(data), sha256(data), data FROM (VALUES
		(2000001, 1, 'image/png', :png), (2000001, 2, 'audio/x-own', :text), (2000001, 3, E'a/b\r\nX: y', :jpeg),
		(2000001, 4, 'text/plain', ''), (2000002, 1, 'image/jpeg', :jpeg), (2000003, 1, 'image/png', :png),
		(9007199254740993, 1, 'text/plain', :text)) v (job, ordinal, type, data);

SET ROLE regress_genjob_app;

-- ---- {"$output": [job, ordinal]}: as an input where it stands ----

SELECT pg_temp.show('regress_http', '{"a": {"$output": [2000001, 1]}, "b": [{"c": {"$output": [2000002, 1]}}, {"$output": [2000001, 1]}]}');
SELECT pg_temp.show('regress_http', '{"a": {"$output": [9007199254740993, 1]}, "b": {"$output": [2000001, 4]}}');
SELECT pg_temp.show('regress_http', '{"a": {"$output": [2000001, 1]}, "b": {"$input": 1}}', ARRAY[:text]);
-- a data: URL and a part of a form have the content type that the output has, if it is one
RESET ROLE;
ALTER SERVER regress_http OPTIONS (ADD inputs_as 'data-url');
SET ROLE regress_genjob_app;
SELECT pg_temp.show('regress_http', '{"a": [{"$output": [2000001, 1]}, {"$output": [2000001, 2]}, {"$output": [2000001, 3]}]}');
SELECT pg_temp.show('regress_images', '{"prompt": "p", "image": [{"$output": [2000001, 1]}, {"$output": [2000001, 2]}], "mask": {"$output": [2000002, 1]}}');
SELECT pg_temp.show('regress_images', '{"prompt": "p", "mask": {"$output": [2000001, 3]}}', ARRAY[:png]);

-- ---- who may ----

SELECT genjob.preview('regress_http', '{"a": {"$output": [2000001, 5]}}');
SELECT genjob.preview('regress_http', '{"a": {"$output": [2000003, 1]}}');
SELECT genjob.preview('regress_http', '{"a": {"$output": [2999999, 1]}}');
SET ROLE regress_genjob_other;
SELECT genjob.preview('regress_http', '{"a": {"$output": [2000001, 1]}}');
SELECT genjob.preview('regress_http', '{"a": {"$output": [2000002, 1]}}');
SELECT pg_temp.show('regress_http', '{"a": {"$output": [2000003, 1]}}');
SET ROLE regress_genjob_app;

-- ---- what is not written as it should be is refused at once; whether it is there is seen when it is sent ----

INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": {"$output": 1}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": [{"b": {"$output": [1]}}]}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": {"$output": [1, 2, 3]}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": {"$output": [0, 1]}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": {"$output": [1, -1]}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": {"$output": [1.5, 1]}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": {"$output": ["1", 1]}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": {"$output": [9223372036854775808, 1]}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": {"$output": [1, 2147483648]}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": {"$output": null}}');
INSERT INTO gen_jobs (server, request) SELECT 'regress_http', jsonb_build_object('a', jsonb_agg(jsonb_build_object('$output', jsonb_build_array(n, 1))))
	FROM generate_series(1, 1001) n;
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": {"$output": [9223372036854775807, 2147483647]}, "b": {"$output": [2000003, 1]}}')
	RETURNING state;
UPDATE gen_jobs SET request = '{"a": {"$output": [1]}}' WHERE state = 'queued';
UPDATE gen_jobs SET request = '{"a": {"$output": [1, 1]}}' WHERE state = 'queued' RETURNING request;
-- the text alone is no reference
INSERT INTO gen_jobs (server, request) VALUES ('regress_http', '{"a": "$output", "b": "{\"$output\": 1}"}') RETURNING state;
RESET ROLE;

-- in the defaults of a server, too; then each job has a binary
ALTER SERVER regress_images OPTIONS (ADD defaults '{"mask": {"$output": [2000002, 1]}}');
SELECT pg_temp.show('regress_images', '{"prompt": "p"}');
SELECT genjob.preview('regress_images', '{"prompt": "p", "mask": {"$output": [2000002, 2]}}');

-- ---- raw: the body is one binary, the rest are parameters of the URL ----

CREATE SERVER regress_raw FOREIGN DATA WRAPPER genjob
	OPTIONS (api 'http', url 'https://example.com', path '/v1/listen', body 'raw', model 'nova-3', auth 'none', paused 'on');
SELECT pg_temp.show('regress_raw', '{}', ARRAY[:png]);
SELECT pg_temp.show('regress_raw', '{"language": "de & at", "smart": true, "n": 9007199254740993, "tags": ["a", "b/c"],
	"more": {"x": [1]}, "none": null, "empty": {}, "a=b": "\u706f"}', ARRAY[:text]);
SELECT pg_temp.show('regress_raw', '{"audio": {"$input": 1}, "model": "mine"}', ARRAY[:jpeg]);
SELECT pg_temp.show('regress_raw', '{"audio": {"$output": [2000001, 2]}}');
SELECT pg_temp.show('regress_raw', '{}', ARRAY[''::bytea]);
-- a path that has parameters, a key in the URL, a content type of one's own
CREATE USER MAPPING FOR PUBLIC SERVER regress_raw OPTIONS (api_key 'sk-secret');
ALTER SERVER regress_raw OPTIONS (SET path '/v1/listen?v=2', SET auth 'query:key', ADD headers '{"Content-Type": "audio/x-raw"}');
SELECT pg_temp.show('regress_raw', '{"language": "de"}', ARRAY[:text]);
ALTER SERVER regress_raw OPTIONS (DROP headers, SET auth 'none', SET path '/v1/listen', DROP model);
-- where the binary stands
ALTER SERVER regress_raw OPTIONS (ADD inputs_at '/input/image');
SELECT pg_temp.show('regress_raw', '{"input": {"image": {"$input": 1}, "a": 1}, "b": 2}', ARRAY[:png]);
SELECT pg_temp.show('regress_raw', '{"input": {"image": {"$input": 1}}}', ARRAY[:png]);
SELECT genjob.preview('regress_raw', '{"image": {"$input": 1}}', ARRAY[:png]);
ALTER SERVER regress_raw OPTIONS (DROP inputs_at);
-- one binary, and not deeper than the top
INSERT INTO gen_jobs (server, request) VALUES ('regress_raw', '{"a": 1}');
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_raw', '{}', ARRAY[:png, :png]);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_raw', '{"a": {"$output": [1, 1]}}', ARRAY[:png]);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_raw', '{"a": {"b": {"$input": 1}}}', ARRAY[:png]);
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_raw', '{"a": {"$input": 2}}', ARRAY[:png]);
INSERT INTO gen_jobs (server, request) VALUES ('regress_raw', '{"a": {"$output": [2999999, 1]}}') RETURNING state;
-- of jobs with binaries alone
CREATE SERVER regress_hf FOREIGN DATA WRAPPER genjob OPTIONS (api 'huggingface', url 'https://router.huggingface.co/hf-inference',
	model 'openai/whisper-large-v3', auth 'none', inputs_body 'raw');
SELECT pg_temp.show('regress_hf', '{}', ARRAY[:text]);
SELECT pg_temp.show('regress_hf', '{"inputs": {"$output": [2000001, 1]}}');
SELECT pg_temp.show('regress_hf', '{"inputs": "a cat"}');
ALTER SERVER regress_hf OPTIONS (ADD inputs_at 'inputs');

DELETE FROM gen_jobs;
DROP SERVER regress_http, regress_images, regress_hf;
DROP SERVER regress_raw CASCADE;
DROP OWNED BY regress_genjob_app, regress_genjob_other, regress_genjob_team;
DROP ROLE regress_genjob_app, regress_genjob_other, regress_genjob_team;
