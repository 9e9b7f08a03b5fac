--
-- combinations: options of a server that can never work together
--
\set SHOW_CONTEXT never

CREATE FUNCTION try(options text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	hint text;
BEGIN
	EXECUTE format('CREATE SERVER regress_u FOREIGN DATA WRAPPER genjob OPTIONS (url ''http://127.0.0.1:9'', %s)', options);
	DROP SERVER regress_u;
	RETURN 'taken';
EXCEPTION WHEN fdw_error OR fdw_invalid_attribute_value OR fdw_option_name_not_found THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN message || E'\n' || hint;
END;
$$;
\pset format unaligned
\pset tuples_only on

-- ---- what only a poll can use ----

SELECT try($$api 'http', poll 'GET /jobs/{id}', remote_id '/id'$$);
SELECT try($$api 'http', result 'GET /result'$$);
SELECT try($$api 'http', progress '/percent*0.01'$$);
SELECT try($$api 'http', progress 'GET /progress#/percent'$$);
SELECT try($$api 'http', cancel 'POST /jobs/{id}/cancel'$$);
SELECT try($$api 'http', cancel 'POST /stop; POST @/urls/cancel'$$);
SELECT try($$api 'http', cancel 'POST /stop'$$);
SELECT try($$api 'http', reply 'stream', poll 'GET /jobs'$$);
SELECT try($$api 'http', reply 'hand-over', poll 'GET /jobs/{id}'$$);
SELECT try($$api 'http', reply 'hand-over', cancel 'DELETE /jobs/{id}', remote_id '/id'$$);
SELECT try($$api 'http', reply 'hand-over', method 'GET'$$);
-- what the api has may be turned off, or have no effect
SELECT try($$api 'openai-responses', model 'm', reply 'body'$$);
SELECT try($$api 'openai-responses', model 'm', reply 'body', poll ''$$);

-- ---- predictions ----

SELECT try($$api 'http', reply 'poll', poll 'GET @/url', state '/s', states 'ok=a', result 'GET /r/{id}'$$);
SELECT try($$api 'http', reply 'poll', poll 'GET @/url', state '/s', states 'ok=a', cancel 'POST /stop; POST /c/{id}'$$);
SELECT try($$api 'http', reply 'poll', poll 'GET @/url', state '/s', states 'ok=a', cancel 'POST @/urls/cancel'$$);
SELECT try($$api 'http', reply 'poll', poll 'GET @/url', state '/s', states 'fail=a;run=b'$$);
SELECT try($$api 'http', reply 'poll', poll 'GET @/url', state '/s', states 'fail=a;partly=*'$$);
SELECT try($$api 'http', reply 'poll', poll 'GET @/url', state 'exists:/s', states 'fail=a'$$);
SELECT try($$api 'http', reply 'poll', poll 'GET @/url', state 'http', states 'ok=done'$$);
SELECT try($$api 'http', reply 'poll', poll 'GET @/url', state 'http', states 'ok=200;run=202,2xx'$$);
SELECT try($$api 'http', reply 'poll', poll 'GET @/url', state 'http', states 'ok=200;run=202;fail=*'$$);
-- an answer that comes at once has states of its own
SELECT try($$api 'http', state '/finish', states 'fail=error'$$);

-- ---- hosts ----

SELECT try($$api 'http', allow_hosts '*.example.net cdn.example.org'$$);
SELECT try($$api 'http', allow_hosts 'cdn.example.org https://me:do-not-repeat@files.example.com/x'$$);

-- ---- servers that have them already ----

CREATE SERVER regress_u FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9');
UPDATE pg_foreign_server SET srvoptions = srvoptions || '{poll=GET /jobs}'::text[] WHERE srvname = 'regress_u';
SELECT split_part(genjob.preview('regress_u', '{}'), E'\n', 1);
DROP SERVER regress_u;
DROP FUNCTION try;
