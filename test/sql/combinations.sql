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

-- a dump gives them back: pg_dump switches the checks of functions off
SET check_function_bodies = off;
CREATE SERVER regress_u FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', poll 'GET /jobs');
CREATE SERVER regress_v FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', no 'such');
RESET check_function_bodies;
SELECT split_part(genjob.preview('regress_u', '{}'), E'\n', 1);
-- they can be paused, and altered otherwise
SELECT genjob.pause('regress_u'), genjob.resume('regress_u'), genjob.pause('regress_u');
ALTER SERVER regress_u OPTIONS (DROP paused, ADD max_in_flight '1');
ALTER SERVER regress_u OPTIONS (ADD paused 'perhaps');
CREATE USER MAPPING FOR PUBLIC SERVER regress_u OPTIONS (api_key 'x');
ALTER USER MAPPING FOR PUBLIC SERVER regress_u OPTIONS (SET api_key 'y');
-- but not in these options, unless that mends them
ALTER SERVER regress_u OPTIONS (SET poll 'GET /other');
ALTER SERVER regress_u OPTIONS (SET max_in_flight '2', ADD cancel 'POST /{id}');
-- what an ALTER SERVER that failed has named counts for no other
CREATE SERVER regress_v FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', poll 'GET /jobs');
ALTER SERVER regress_u OPTIONS (DROP poll);
DROP SERVER regress_u CASCADE;
-- nor does one that a trigger stops for another statement
CREATE SERVER regress_u FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9');
CREATE FUNCTION alter_another() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
	IF tg_tag = 'ALTER SERVER' THEN
		CREATE SERVER regress_v FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', poll 'GET /jobs');
	END IF;
END $$;
CREATE EVENT TRIGGER regress_alter ON ddl_command_start EXECUTE FUNCTION alter_another();
ALTER SERVER regress_u OPTIONS (ADD paused 'on');
DROP EVENT TRIGGER regress_alter;
DROP FUNCTION alter_another();
UPDATE pg_foreign_server SET srvoptions = srvoptions || ('model=' || repeat('x', 300000)) WHERE srvname = 'regress_u';
SELECT genjob.pause('regress_u');
ALTER SERVER regress_u OPTIONS (SET model 'x');
SELECT split_part(genjob.preview('regress_u', '{}'), E'\n', 1);
DROP SERVER regress_u;
DROP FUNCTION try;
