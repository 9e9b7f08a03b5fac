-- Values of earlier jobs in a request: $result and $concat. Nothing is sent: the server is paused.
\set SHOW_CONTEXT never
CREATE SERVER regress_results FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9/', paused 'on');
CREATE ROLE regress_a;
CREATE ROLE regress_b;
GRANT USAGE ON FOREIGN SERVER regress_results TO regress_a, regress_b;
GRANT SELECT, INSERT ON gen_jobs TO regress_a, regress_b;
DELETE FROM gen_jobs;
ALTER SEQUENCE gen_jobs_id_seq RESTART 10;
INSERT INTO gen_jobs (id, server, request, owner, state, result) VALUES
	(7, 'regress_results', '{}', 'regress_a', 'succeeded', '{"text": "a boat", "n": 7.0, "ok": true, "none": null, "list": [1, {"a": 2}],
		"é/~": "slash", "picture": {"$output": 1}, "evil": {"deep": [{"$output": [1, 1]}]}}'),
	(8, 'regress_results', '{}', 'regress_a', 'failed', NULL);
CREATE FUNCTION pg_temp.body(request jsonb) RETURNS text LANGUAGE sql AS
	$$SELECT regexp_replace(genjob.preview('regress_results', request), '^.*\n\n', '') $$;

SET ROLE regress_a;
SELECT pg_temp.body('{"prompt": {"$result": [7, "/text"]}}');
SELECT pg_temp.body('{"prompt": {"$concat": ["A poster of ", {"$result": [7, "/text"]}, ", ", {"$result": [7, "/n"]}, " times: ", 3, true, null]}}');
SELECT pg_temp.body('{"a": [{"$result": [7, "/list"]}, {"$result": [7, "/list/1/a"]}, {"$result": [7, "/none"]}, {"$result": [7, "/é~1~0"]}]}');
SELECT pg_temp.body('{"nested": {"$concat": [{"$concat": ["a", {"$result": [7, "/ok"]}]}, ""]}}');
-- what a server wrote stands for nothing
SELECT pg_temp.body('{"a": {"$result": [7, "/picture"]}}');
SELECT pg_temp.body('{"a": {"$result": [7, ""]}}');
SELECT pg_temp.body('{"a": {"$result": [7, "/evil"]}}');
-- what is not there
SELECT pg_temp.body('{"a": {"$result": [7, "/nothing"]}}');
SELECT pg_temp.body('{"a": {"$result": [7, "/list/01"]}}');
SELECT pg_temp.body(jsonb_build_object('a', jsonb_build_object('$result', jsonb_build_array(7, '/' || repeat('é', 60)))));
SELECT pg_temp.body('{"a": {"$result": [8, "/text"]}}');
SELECT pg_temp.body('{"a": {"$result": [9, "/text"]}}');
SELECT pg_temp.body('{"a": {"$concat": [{"$result": [7, "/list"]}]}}');
-- and not another's, in the same words
SET ROLE regress_b;
SELECT pg_temp.body('{"a": {"$result": [7, "/text"]}}');

-- checked at INSERT
SET ROLE regress_a;
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": {"$result": 7}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": {"$result": [7]}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": {"$result": ["7", "/text"]}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": {"$result": [7, "text"]}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": {"$result": [0, "/text"]}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": {"$concat": "text"}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": {"$concat": [{"b": 1}]}}');
-- an object that stands for something has nothing else in it
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": [{"$result": [7, "/text"], "default": "none"}]}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": {"$concat": ["b"], "c": 1}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"$result": [7, "/text"]}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"$concat": ["b"]}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"$output": [7, 1]}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"$url": "https://example.com/cat.png"}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": {"type": "png", "$output": [7, 1]}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": {"$output_url": [7, 1], "detail": "low"}}');
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": {"$url": "https://example.com/a.png", "detail": "low"}}');
INSERT INTO gen_jobs (server, request, inputs) VALUES ('regress_results', '{"a": {"$input": 1, "$output": [7, 1]}}', ARRAY['a'::bytea]);
SELECT pg_temp.body('{"a": {"$result": [7, "/text"], "default": "none"}}');
-- other names that begin so are the server's
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"schema": {"$ref": "#/a", "$comment": "b"}}') RETURNING request;
-- one that refers to a job which has not ended waits for it
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"prompt": "a"}') RETURNING id;
INSERT INTO gen_jobs (server, request)
	SELECT 'regress_results', jsonb_build_object('prompt', jsonb_build_object('$concat', jsonb_build_array('b ', jsonb_build_object('$result', jsonb_build_array(max(id), '/text')))))
	FROM gen_jobs RETURNING state, cardinality(after), after[1] = id - 1 AS the_one_before;
INSERT INTO gen_jobs (server, request) VALUES ('regress_results', '{"a": {"$result": [7, "/text"]}}') RETURNING state, after;
RESET ROLE;

TRUNCATE gen_jobs CASCADE;
REVOKE ALL ON gen_jobs FROM regress_a, regress_b;
DROP SERVER regress_results CASCADE;
DROP ROLE regress_a, regress_b;
