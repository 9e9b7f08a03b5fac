--
-- options: what CREATE SERVER and CREATE USER MAPPING take, and what they say to all else
--
-- A mistake is found when it is made, by whoever makes it, and not by a job at night.
--
\set SHOW_CONTEXT never

-- The name that a hint suggests for a server's option of this name.
CREATE FUNCTION regress_hint(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	PERFORM genjob.validator(ARRAY[name || '=1'], 'pg_foreign_server'::regclass);
	RETURN 'valid';
EXCEPTION WHEN fdw_invalid_option_name THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN substring(hint FROM 'Perhaps you meant "(.*?)"');
END $$;

-- ---- required ----

CREATE SERVER regress_s FOREIGN DATA WRAPPER genjob;
CREATE SERVER regress_s FOREIGN DATA WRAPPER genjob OPTIONS (api 'http');
CREATE SERVER regress_s FOREIGN DATA WRAPPER genjob OPTIONS (url 'http://127.0.0.1:9');
CREATE SERVER regress_s FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9');

-- ---- every option of a server ----

CREATE SERVER regress_full FOREIGN DATA WRAPPER genjob OPTIONS (
	api 'openai-images',
	url 'https://images.example.com/base/',
	path '/v2/images/generations?beta=1',
	inputs_path '/v2/images/edits',
	auth 'header:X-Api-Key',
	model 'gpt-image-1',
	defaults '{"size": "1024x1024", "n": 1}',
	headers '{"X-Team": "art", "X-Trace": "yes"}',
	ca_file '/etc/ssl/certs/ca-certificates.crt',
	max_in_flight '4',
	timeout '10 min',
	connect_timeout '1500 ms',
	max_response '64MB',
	max_attempts '3',
	retry_base '500ms',
	retry_max '1 h',
	on_unknown 'fail',
	paused 'on');
-- and every one that describes a protocol
CREATE SERVER regress_own FOREIGN DATA WRAPPER genjob OPTIONS (
	api 'http',
	url 'https://models.example.com',
	auth 'query:key',
	path '/{model}/run',
	body 'multipart',
	wrap '/input',
	model_at '/options/model',
	accept 'application/json, image/*;q=0.5',
	allow_hosts '*.example.net cdn.example.org',
	inputs_path '/{model}/edit',
	inputs_body 'json',
	inputs_as 'data-url',
	inputs_at '/input/images',
	reply 'poll',
	remote_id '/id',
	poll 'GET /jobs/{id}',
	poll_interval '250 ms',
	state '/status',
	states 'ok=done,finished;fail=failed,not allowed;gone=expired',
	result 'GET @/urls/answer',
	output '/files/*/url /images/*',
	encoding 'url',
	download_auth 'same-origin',
	error '/error/message /error',
	retry_after '/wait',
	usage '/usage /cost',
	progress '/percent*0.01',
	cancel 'POST /jobs/{id}/cancel {"why": "asked to"}; DELETE /jobs/{id}',
	model 'm');
SELECT count(*) FROM pg_foreign_server, pg_options_to_table(srvoptions) WHERE srvname = 'regress_own';
SELECT option_name, option_value FROM pg_foreign_server, pg_options_to_table(srvoptions) WHERE srvname = 'regress_full';
-- as they came, so that pg_dump and \des+ show what was written
SELECT server, api, url FROM genjob.servers ORDER BY server;

-- ---- names ----

ALTER SERVER regress_s OPTIONS (ADD colour 'red');
ALTER SERVER regress_s OPTIONS (ADD timeouts '1 min');
ALTER SERVER regress_s OPTIONS (ADD "Timeout" '1 min');
-- which name each mistyped one is taken for; none where it is far from all, or too short or long to tell
SELECT left(name, 20) AS name, regress_hint(name) FROM unnest(ARRAY['time_out', 'tiemout', 'apikey', 'APIKEY', 'API', 'BUCKET-', 'max_inflight', 'maxinflight',
	'connection_timeout', 'connect_timeuot', 'retry_bax', 'header', 'uri', 'ur', '', 'colour', 'password', 'tìmeout', 'ñotify',
	repeat('é', 7), repeat('timeout', 10), repeat('x', 100000)]) name;
-- secrets are not a server's, whose options everyone can read
ALTER SERVER regress_s OPTIONS (ADD api_key 'sk-do-not-repeat');
-- nor is the wrapper the place for any
ALTER FOREIGN DATA WRAPPER genjob OPTIONS (ADD url 'http://127.0.0.1:9');
-- and a GenAI server is not read like a table
CREATE FOREIGN TABLE regress_t (a text) SERVER regress_s OPTIONS (path '/x');
IMPORT FOREIGN SCHEMA public FROM SERVER regress_s INTO public;

-- ---- api ----

ALTER SERVER regress_s OPTIONS (SET api 'openai');
ALTER SERVER regress_s OPTIONS (SET api 'HTTP');
ALTER SERVER regress_s OPTIONS (SET api '');
ALTER SERVER regress_s OPTIONS (SET api 'automatic1111');
ALTER SERVER regress_s OPTIONS (SET api 'openai-images');
ALTER SERVER regress_s OPTIONS (SET api 'http');
ALTER SERVER regress_s OPTIONS (DROP api);

-- ---- url ----

ALTER SERVER regress_s OPTIONS (SET url 'https://api.example.com');
ALTER SERVER regress_s OPTIONS (SET url 'http://[::1]:8188/base/path/');
ALTER SERVER regress_s OPTIONS (SET url 'http://painter');
ALTER SERVER regress_s OPTIONS (SET url '');
ALTER SERVER regress_s OPTIONS (SET url '127.0.0.1:8188');
ALTER SERVER regress_s OPTIONS (SET url 'painter');
ALTER SERVER regress_s OPTIONS (SET url 'http://');
ALTER SERVER regress_s OPTIONS (SET url 'http://127.0.0.1:99999');
ALTER SERVER regress_s OPTIONS (SET url 'ftp://127.0.0.1/');
ALTER SERVER regress_s OPTIONS (SET url 'file:///etc/passwd');
ALTER SERVER regress_s OPTIONS (SET url 'http://127.0.0.1:9/?key=1');
ALTER SERVER regress_s OPTIONS (SET url 'http://127.0.0.1:9/#top');
ALTER SERVER regress_s OPTIONS (SET url 'http://127.0.0.1:9/a b');
ALTER SERVER regress_s OPTIONS (SET url E'http://127.0.0.1:9/\nX-Evil: 1');
-- the password in it is not repeated, also where something else is wrong
ALTER SERVER regress_s OPTIONS (SET url 'http://me:do-not-repeat@127.0.0.1:9');
ALTER SERVER regress_s OPTIONS (SET url 'ftp://me:do-not-repeat@127.0.0.1:9');
ALTER SERVER regress_s OPTIONS (DROP url);
-- several are one pool; white space around a comma and a slash at the end are nothing
ALTER SERVER regress_s OPTIONS (SET url 'http://127.0.0.1:8188,http://127.0.0.1:8189');
ALTER SERVER regress_s OPTIONS (SET url E'  http://a/,\n\thttps://b/base/ , http://[::1]:1  ');
SELECT url, state, in_flight, failures FROM genjob.backends WHERE server = 'regress_s';
-- each counts its own calls, so none may be there twice, or not at all
ALTER SERVER regress_s OPTIONS (SET url 'http://a,http://b,http://a');
ALTER SERVER regress_s OPTIONS (SET url 'http://a , http://a/');
ALTER SERVER regress_s OPTIONS (SET url 'http://a,');
ALTER SERVER regress_s OPTIONS (SET url ',http://a');
ALTER SERVER regress_s OPTIONS (SET url 'http://a, ,http://b');
ALTER SERVER regress_s OPTIONS (SET url 'http://a http://b');
ALTER SERVER regress_s OPTIONS (SET url 'http://a,b');
ALTER SERVER regress_s OPTIONS (SET url 'http://a;http://b');
-- also of a password with a comma in it nothing is repeated
ALTER SERVER regress_s OPTIONS (SET url 'http://a,http://me:do-not-repeat@b');
ALTER SERVER regress_s OPTIONS (SET url 'http://me:do-not-repeat,do-not-repeat@a');
-- 16 are a pool, 17 too many
DO $$
BEGIN
	EXECUTE format('ALTER SERVER regress_s OPTIONS (SET url %L)',
		(SELECT string_agg('http://127.0.0.1:' || n, ',') FROM generate_series(1, 16) n));
	EXECUTE format('ALTER SERVER regress_s OPTIONS (SET url %L)',
		(SELECT string_agg('http://127.0.0.1:' || n, ',') FROM generate_series(1, 17) n));
END;
$$;
ALTER SERVER regress_s OPTIONS (SET url 'http://painter');

-- ---- path ----

ALTER SERVER regress_s OPTIONS (ADD path '/v1/generate?version=2&x=%20');
ALTER SERVER regress_s OPTIONS (SET path '?version=2');
ALTER SERVER regress_s OPTIONS (SET path '');
ALTER SERVER regress_s OPTIONS (SET path 'v1/generate');
ALTER SERVER regress_s OPTIONS (SET path 'http://elsewhere/');
ALTER SERVER regress_s OPTIONS (SET path '/a b');
ALTER SERVER regress_s OPTIONS (SET path E'/a\nX-Evil: 1');
ALTER SERVER regress_s OPTIONS (SET path '/a#b');
ALTER SERVER regress_s OPTIONS (SET path U&'/\00fc');
ALTER SERVER regress_s OPTIONS (DROP path);

-- ---- auth ----

ALTER SERVER regress_s OPTIONS (ADD auth 'none');
ALTER SERVER regress_s OPTIONS (SET auth 'basic');
ALTER SERVER regress_s OPTIONS (SET auth 'header:xi-api-key');
ALTER SERVER regress_s OPTIONS (SET auth 'header:Authorization:Key');
ALTER SERVER regress_s OPTIONS (SET auth 'query:key');
ALTER SERVER regress_s OPTIONS (SET auth 'query:');
ALTER SERVER regress_s OPTIONS (SET auth 'query:a=b');
ALTER SERVER regress_s OPTIONS (SET auth 'header::Key');
ALTER SERVER regress_s OPTIONS (SET auth E'header:X-Key:Key\nX-Evil: 1');
ALTER SERVER regress_s OPTIONS (SET auth 'header:Idempotency-Key:Key');
ALTER SERVER regress_s OPTIONS (SET auth 'digest');
ALTER SERVER regress_s OPTIONS (SET auth 'header:');
ALTER SERVER regress_s OPTIONS (SET auth 'header:X Key');
ALTER SERVER regress_s OPTIONS (SET auth 'header:Content-Length');
ALTER SERVER regress_s OPTIONS (DROP auth);

-- ---- the request ----

ALTER SERVER regress_s OPTIONS (ADD body 'json');
ALTER SERVER regress_s OPTIONS (SET body 'multipart');
ALTER SERVER regress_s OPTIONS (SET body 'multi');
ALTER SERVER regress_s OPTIONS (SET body 'json, multipart');
ALTER SERVER regress_s OPTIONS (SET body '');
ALTER SERVER regress_s OPTIONS (DROP body);
ALTER SERVER regress_s OPTIONS (ADD inputs_body 'JSON');
ALTER SERVER regress_s OPTIONS (ADD wrap '/input', ADD model_at '/a/b~1c');
ALTER SERVER regress_s OPTIONS (SET wrap 'input');
ALTER SERVER regress_s OPTIONS (SET wrap '=/input');
ALTER SERVER regress_s OPTIONS (SET model_at 'http');
ALTER SERVER regress_s OPTIONS (DROP wrap, DROP model_at);
ALTER SERVER regress_s OPTIONS (ADD accept 'image/*');
ALTER SERVER regress_s OPTIONS (SET accept E'image/*\r\nX-Evil: 1');
ALTER SERVER regress_s OPTIONS (SET accept '');
ALTER SERVER regress_s OPTIONS (DROP accept);
-- a field of a form has a name, an array in JSON a place
ALTER SERVER regress_s OPTIONS (ADD inputs_as 'hex');
ALTER SERVER regress_s OPTIONS (ADD inputs_at '/images');
ALTER SERVER regress_s OPTIONS (SET inputs_at 'image');
ALTER SERVER regress_s OPTIONS (SET inputs_at 'image', ADD inputs_body 'multipart');
ALTER SERVER regress_s OPTIONS (DROP inputs_body);
ALTER SERVER regress_s OPTIONS (DROP inputs_at, DROP inputs_body);
-- a path that names the model needs one
ALTER SERVER regress_s OPTIONS (ADD path '/{model}/run');
ALTER SERVER regress_s OPTIONS (SET api 'gemini');
ALTER SERVER regress_s OPTIONS (ADD path '/{model}/run', ADD model 'a/b');
ALTER SERVER regress_s OPTIONS (DROP model);
ALTER SERVER regress_s OPTIONS (DROP path, DROP model);

-- ---- the answer ----

ALTER SERVER regress_s OPTIONS (ADD stream_end 'event:');
ALTER SERVER regress_s OPTIONS (ADD stream_error '/type=');
ALTER SERVER regress_s OPTIONS (ADD stream_type 'type');
ALTER SERVER regress_s OPTIONS (ADD stream_parts '/delta -> message');
ALTER SERVER regress_s OPTIONS (ADD stream_parts '/delta -> ');
ALTER SERVER regress_s OPTIONS (ADD stream_places 'words:/text');
ALTER SERVER regress_s OPTIONS (ADD stream_type '/kind', ADD stream_end 'event:end', ADD stream_error 'event:sorry',
	ADD stream_parts 'piece: /word -> /text; end: .', ADD stream_places '/text');
ALTER SERVER regress_s OPTIONS (DROP stream_type, SET stream_end '', DROP stream_error, SET stream_parts '', DROP stream_places);
ALTER SERVER regress_s OPTIONS (DROP stream_end, DROP stream_parts);
ALTER SERVER regress_s OPTIONS (ADD reply 'stream');
ALTER SERVER regress_s OPTIONS (SET reply 'sse');
ALTER SERVER regress_s OPTIONS (SET reply 'poll');
ALTER SERVER regress_s OPTIONS (SET reply 'poll', ADD poll 'GET /jobs/{id}');
ALTER SERVER regress_s OPTIONS (SET reply 'poll', ADD poll 'GET /jobs/{id}', ADD state '/status');
ALTER SERVER regress_s OPTIONS (SET reply 'poll', ADD poll 'GET /jobs/{id}', ADD state '/status', ADD remote_id '/id');
-- by what an answer gives, there need be no id
ALTER SERVER regress_s OPTIONS (SET reply 'poll', ADD poll 'GET @/url', ADD state 'exists:/output');
ALTER SERVER regress_s OPTIONS (SET poll 'GET @/urls/get', SET state 'bool:/done');
ALTER SERVER regress_s OPTIONS (SET poll 'GET');
ALTER SERVER regress_s OPTIONS (SET poll 'get /jobs');
ALTER SERVER regress_s OPTIONS (SET poll 'GET jobs');
ALTER SERVER regress_s OPTIONS (SET poll 'GET @url');
ALTER SERVER regress_s OPTIONS (SET poll 'GET http://elsewhere/');
ALTER SERVER regress_s OPTIONS (SET poll '');
ALTER SERVER regress_s OPTIONS (ADD poll_interval '1');
ALTER SERVER regress_s OPTIONS (ADD poll_interval '1 ms');
-- "http" is the status of the poll, which must mean something as well
ALTER SERVER regress_s OPTIONS (SET state 'http');
ALTER SERVER regress_s OPTIONS (SET state 'http', ADD states 'ok=200;fail=422');
ALTER SERVER regress_s OPTIONS (SET state 'status');
ALTER SERVER regress_s OPTIONS (SET state 'exists:output');
ALTER SERVER regress_s OPTIONS (SET state '=/status');
ALTER SERVER regress_s OPTIONS (SET states 'done');
ALTER SERVER regress_s OPTIONS (ADD requires_output '');
ALTER SERVER regress_s OPTIONS (ADD requires_output 'yes');
ALTER SERVER regress_s OPTIONS (ADD requires_output '/text text');
ALTER SERVER regress_s OPTIONS (ADD any_answer 'true');
ALTER SERVER regress_s OPTIONS (ADD reason '+ /why');
ALTER SERVER regress_s OPTIONS (SET states 'ok=done;running=busy');
ALTER SERVER regress_s OPTIONS (DROP states);
ALTER SERVER regress_s OPTIONS (DROP reply, DROP poll, DROP state, DROP states);
-- also of an answer that comes at once, a state must mean something
ALTER SERVER regress_s OPTIONS (ADD state '/finish_reason');
ALTER SERVER regress_s OPTIONS (ADD remote_id '=/id');
ALTER SERVER regress_s OPTIONS (SET remote_id 'id');
ALTER SERVER regress_s OPTIONS (SET remote_id '=id');
ALTER SERVER regress_s OPTIONS (SET remote_id 'exists:/id');
ALTER SERVER regress_s OPTIONS (DROP remote_id);
-- whether it is there can be asked where the request chooses the id
CREATE SERVER regress_comfy FOREIGN DATA WRAPPER genjob OPTIONS (api 'comfyui', url 'http://127.0.0.1:9', lookup 'GET /history/{id}');
ALTER SERVER regress_comfy OPTIONS (SET lookup 'POST /find {"ids": ["{id}"]}#/found/*; GET /queue#/running/*/id /waiting/{id}');
ALTER SERVER regress_comfy OPTIONS (SET lookup 'GET /jobs/{id}#status');
ALTER SERVER regress_comfy OPTIONS (SET lookup 'GET /jobs/{id}; /queue');
ALTER SERVER regress_comfy OPTIONS (SET lookup 'GET @/urls/get');
ALTER SERVER regress_comfy OPTIONS (SET lookup '/jobs');
ALTER SERVER regress_comfy OPTIONS (SET lookup 'GET /{model}/jobs/{id}');
ALTER SERVER regress_comfy OPTIONS (ADD remote_id '/prompt_id');
ALTER SERVER regress_comfy OPTIONS (ADD reply 'body');
ALTER SERVER regress_comfy OPTIONS (ADD remote_id '/prompt_id', SET lookup '');
ALTER SERVER regress_comfy OPTIONS (DROP lookup);
ALTER SERVER regress_comfy OPTIONS (ADD lookup 'GET /jobs/{id}');
DROP SERVER regress_comfy;
ALTER SERVER regress_s OPTIONS (ADD result 'response_url');
ALTER SERVER regress_s OPTIONS (ADD cancel 'POST /a; stop');
ALTER SERVER regress_s OPTIONS (ADD output '/a /b/*/c', ADD error '/message', ADD retry_after '/wait', ADD usage '/usage');
ALTER SERVER regress_s OPTIONS (SET output '/a, b');
ALTER SERVER regress_s OPTIONS (SET error 'message');
ALTER SERVER regress_s OPTIONS (SET retry_after '10 s');
ALTER SERVER regress_s OPTIONS (SET usage '$.usage');
-- "nowhere" takes back what the api has
ALTER SERVER regress_s OPTIONS (SET output '', SET error '');
ALTER SERVER regress_s OPTIONS (DROP output, DROP error, DROP retry_after, DROP usage);
ALTER SERVER regress_s OPTIONS (ADD encoding 'file:/view?name={filename}');
ALTER SERVER regress_s OPTIONS (SET encoding 'file:view');
ALTER SERVER regress_s OPTIONS (SET encoding 'base64');
ALTER SERVER regress_s OPTIONS (DROP encoding);
ALTER SERVER regress_s OPTIONS (ADD download_auth 'none');
ALTER SERVER regress_s OPTIONS (SET download_auth 'always');
ALTER SERVER regress_s OPTIONS (DROP download_auth);
ALTER SERVER regress_s OPTIONS (ADD progress 'GET /progress?x=1#/progress');
ALTER SERVER regress_s OPTIONS (SET progress '/percent*0.01');
ALTER SERVER regress_s OPTIONS (SET progress 'percent');
ALTER SERVER regress_s OPTIONS (SET progress 'GET /progress');
ALTER SERVER regress_s OPTIONS (SET progress 'GET progress#/x');
ALTER SERVER regress_s OPTIONS (SET progress 'GET @/progress_url#/x');
ALTER SERVER regress_s OPTIONS (SET progress 'GET /progress/{id}#/x');
ALTER SERVER regress_s OPTIONS (DROP progress);

-- ---- defaults and headers ----

ALTER SERVER regress_s OPTIONS (ADD defaults '{}');
ALTER SERVER regress_s OPTIONS (SET defaults '{"seed": 9007199254740993, "nested": {"a": [1, null]}}');
ALTER SERVER regress_s OPTIONS (SET defaults '');
ALTER SERVER regress_s OPTIONS (SET defaults '[1]');
ALTER SERVER regress_s OPTIONS (SET defaults '"size"');
ALTER SERVER regress_s OPTIONS (SET defaults '{"size": }');
ALTER SERVER regress_s OPTIONS (SET defaults '{"size": 1} {"n": 2}');
ALTER SERVER regress_s OPTIONS (SET defaults 'size=1');
ALTER SERVER regress_s OPTIONS (ADD headers '{"X-A": "1", "x-b": ""}');
ALTER SERVER regress_s OPTIONS (SET headers '{"X-A": 1}');
ALTER SERVER regress_s OPTIONS (SET headers '{"X A": "1"}');
ALTER SERVER regress_s OPTIONS (SET headers '{"": "1"}');
ALTER SERVER regress_s OPTIONS (SET headers '{"X-A": "1\r\nX-Evil: 1"}');
ALTER SERVER regress_s OPTIONS (SET headers '["X-A: 1"]');
ALTER SERVER regress_s OPTIONS (SET headers 'X-A: 1');
ALTER SERVER regress_s OPTIONS (SET headers '{"content-length": "1"}');
ALTER SERVER regress_s OPTIONS (SET headers '{"Idempotency-Key": "1"}');
ALTER SERVER regress_s OPTIONS (DROP defaults, DROP headers);

-- ---- ca_file ----

ALTER SERVER regress_s OPTIONS (ADD ca_file '/etc/ssl/our.pem');
ALTER SERVER regress_s OPTIONS (SET ca_file 'our.pem');
ALTER SERVER regress_s OPTIONS (SET ca_file '');
ALTER SERVER regress_s OPTIONS (DROP ca_file);

-- ---- counts ----

ALTER SERVER regress_s OPTIONS (ADD max_in_flight '1', ADD max_attempts '1');
ALTER SERVER regress_s OPTIONS (SET max_in_flight '1000000');
ALTER SERVER regress_s OPTIONS (SET max_in_flight '0');
ALTER SERVER regress_s OPTIONS (SET max_in_flight '-1');
ALTER SERVER regress_s OPTIONS (SET max_in_flight '1000001');
ALTER SERVER regress_s OPTIONS (SET max_in_flight '99999999999999999999');
ALTER SERVER regress_s OPTIONS (SET max_in_flight '1.5');
ALTER SERVER regress_s OPTIONS (SET max_in_flight 'many');
ALTER SERVER regress_s OPTIONS (SET max_in_flight '');
-- or as many as the server is found to do
ALTER SERVER regress_s OPTIONS (SET max_in_flight 'auto');
ALTER SERVER regress_s OPTIONS (SET max_in_flight 'Auto');
ALTER SERVER regress_s OPTIONS (SET max_in_flight 'auto 8');
ALTER SERVER regress_s OPTIONS (SET max_attempts '0');
ALTER SERVER regress_s OPTIONS (SET max_attempts '3 times');

-- "auto" is for calls at a time, and nothing else
ALTER SERVER regress_s OPTIONS (SET max_attempts 'auto');

-- ---- rates: a unit of time is required ----

-- how many at once says something only where there is a rate
ALTER SERVER regress_s OPTIONS (ADD rate_burst '10');
ALTER SERVER regress_s OPTIONS (ADD rate_limit '5/s', ADD rate_burst '10');
ALTER SERVER regress_s OPTIONS (DROP rate_limit);
ALTER SERVER regress_s OPTIONS (SET rate_burst '0');
ALTER SERVER regress_s OPTIONS (SET rate_burst '2.5');
ALTER SERVER regress_s OPTIONS (SET rate_burst '10/s');
ALTER SERVER regress_s OPTIONS (DROP rate_burst);
ALTER SERVER regress_s OPTIONS (SET rate_limit '0.5/s');
ALTER SERVER regress_s OPTIONS (SET rate_limit '1000/h');
ALTER SERVER regress_s OPTIONS (SET rate_limit '1/d');
ALTER SERVER regress_s OPTIONS (SET rate_limit '60/min');
ALTER SERVER regress_s OPTIONS (SET rate_limit '60');
ALTER SERVER regress_s OPTIONS (SET rate_limit '60/');
ALTER SERVER regress_s OPTIONS (SET rate_limit '/min');
ALTER SERVER regress_s OPTIONS (SET rate_limit '60/minute');
ALTER SERVER regress_s OPTIONS (SET rate_limit '60/m');
ALTER SERVER regress_s OPTIONS (SET rate_limit '60/ms');
ALTER SERVER regress_s OPTIONS (SET rate_limit '60/S');
ALTER SERVER regress_s OPTIONS (SET rate_limit '60 per min');
ALTER SERVER regress_s OPTIONS (SET rate_limit '0/s');
ALTER SERVER regress_s OPTIONS (SET rate_limit '-1/s');
ALTER SERVER regress_s OPTIONS (SET rate_limit '1000001/s');
ALTER SERVER regress_s OPTIONS (SET rate_limit '0.001/d');
ALTER SERVER regress_s OPTIONS (SET rate_limit 'nan/s');
ALTER SERVER regress_s OPTIONS (SET rate_limit 'inf/s');
ALTER SERVER regress_s OPTIONS (SET rate_limit '');

-- ---- no value is longer than 256 kB, and none that is wrong is repeated whole ----

DO $$
BEGIN
	EXECUTE format('ALTER SERVER regress_s OPTIONS (ADD defaults %L)', jsonb_build_object('a', repeat('a', 262135)));
	EXECUTE format('ALTER SERVER regress_s OPTIONS (SET defaults %L)', jsonb_build_object('a', repeat('a', 262136)));
END;
$$;
DO $$
BEGIN
	EXECUTE format('ALTER SERVER regress_s OPTIONS (SET url %L)', 'ftp://' || repeat('a', 60000));
END;
$$;
DO $$
BEGIN
	EXECUTE format('CREATE USER MAPPING FOR PUBLIC SERVER regress_s OPTIONS (api_key %L)', repeat('a', 262145));
END;
$$;

-- ---- fallback: a name; whether there is such a server shows when it is needed ----

ALTER SERVER regress_s OPTIONS (ADD fallback 'regress_full');
ALTER SERVER regress_s OPTIONS (SET fallback 'regress_nowhere');
ALTER SERVER regress_s OPTIONS (SET fallback '');
DO $$
BEGIN
	EXECUTE format('ALTER SERVER regress_s OPTIONS (SET fallback %L)', repeat('a', 63));
	EXECUTE format('ALTER SERVER regress_s OPTIONS (SET fallback %L)', repeat('a', 64));
END;
$$;
ALTER SERVER regress_s OPTIONS (SET fallback 'regress_full');

-- ---- durations: a unit is required, as "30" may be meant in seconds by one and in minutes by another ----

ALTER SERVER regress_s OPTIONS (ADD timeout '30 s');
ALTER SERVER regress_s OPTIONS (SET timeout '1.5 h');
ALTER SERVER regress_s OPTIONS (SET timeout '2d');
ALTER SERVER regress_s OPTIONS (SET timeout '30');
ALTER SERVER regress_s OPTIONS (SET timeout '0');
ALTER SERVER regress_s OPTIONS (SET timeout '0 s');
ALTER SERVER regress_s OPTIONS (SET timeout '-5 s');
ALTER SERVER regress_s OPTIONS (SET timeout '21 d');
ALTER SERVER regress_s OPTIONS (SET timeout '1000000 d');
ALTER SERVER regress_s OPTIONS (SET timeout '10 minutes');
ALTER SERVER regress_s OPTIONS (SET timeout '64 MB');
ALTER SERVER regress_s OPTIONS (SET timeout '00:10:00');
ALTER SERVER regress_s OPTIONS (SET timeout '');
ALTER SERVER regress_s OPTIONS (ADD connect_timeout '2 d');
ALTER SERVER regress_s OPTIONS (ADD retry_base '1');
ALTER SERVER regress_s OPTIONS (ADD retry_max 'soon');
-- the two belong together
ALTER SERVER regress_s OPTIONS (ADD retry_base '10 min');
ALTER SERVER regress_s OPTIONS (ADD retry_base '10 min', ADD retry_max '10 min');
ALTER SERVER regress_s OPTIONS (SET retry_max '9 min');
ALTER SERVER regress_s OPTIONS (DROP retry_max);

-- ---- how long jobs are kept ----

ALTER SERVER regress_s OPTIONS (ADD retention '30 days', ADD retention_failed '2 weeks');
ALTER SERVER regress_s OPTIONS (SET retention '1 day');
ALTER SERVER regress_s OPTIONS (SET retention '36 h');
ALTER SERVER regress_s OPTIONS (SET retention '-1 day');
ALTER SERVER regress_s OPTIONS (SET retention '0 days');
ALTER SERVER regress_s OPTIONS (SET retention '36501 days');
ALTER SERVER regress_s OPTIONS (SET retention '10 ms');
ALTER SERVER regress_s OPTIONS (SET retention '30');
ALTER SERVER regress_s OPTIONS (SET retention 'never');
ALTER SERVER regress_s OPTIONS (SET retention 'days');
ALTER SERVER regress_s OPTIONS (SET retention '1 month');
ALTER SERVER regress_s OPTIONS (SET retention '');
ALTER SERVER regress_s OPTIONS (SET retention_failed 'forever');
ALTER SERVER regress_s OPTIONS (DROP retention, DROP retention_failed);

-- ---- sizes ----

ALTER SERVER regress_s OPTIONS (ADD max_response '1kB');
ALTER SERVER regress_s OPTIONS (SET max_response '2048B');
ALTER SERVER regress_s OPTIONS (SET max_response '953MB');
ALTER SERVER regress_s OPTIONS (SET max_response '1GB');
ALTER SERVER regress_s OPTIONS (SET max_response '1000B');
ALTER SERVER regress_s OPTIONS (SET max_response '256');
ALTER SERVER regress_s OPTIONS (SET max_response '256mb');
ALTER SERVER regress_s OPTIONS (SET max_response '10 s');

-- ---- choices ----

ALTER SERVER regress_s OPTIONS (ADD on_unknown 'retry');
ALTER SERVER regress_s OPTIONS (SET on_unknown 'ignore');
ALTER SERVER regress_s OPTIONS (ADD paused 'true');
ALTER SERVER regress_s OPTIONS (SET paused 'no');
ALTER SERVER regress_s OPTIONS (SET paused 'maybe');

-- nothing of what was refused has stayed
SELECT option_name, option_value FROM pg_foreign_server, pg_options_to_table(srvoptions)
	WHERE srvname = 'regress_s' ORDER BY option_name;

-- ---- user mappings: their values are secrets, so no message repeats one ----

CREATE USER MAPPING FOR PUBLIC SERVER regress_s;
ALTER USER MAPPING FOR PUBLIC SERVER regress_s OPTIONS (ADD api_key 'sk-do-not-repeat');
ALTER USER MAPPING FOR PUBLIC SERVER regress_s OPTIONS (ADD headers '{"X-Secret": "do-not-repeat"}');
ALTER USER MAPPING FOR PUBLIC SERVER regress_s OPTIONS (SET api_key '');
ALTER USER MAPPING FOR PUBLIC SERVER regress_s OPTIONS (SET api_key E'do-not-repeat\n');
ALTER USER MAPPING FOR PUBLIC SERVER regress_s OPTIONS (SET headers '{"X-Secret": "do-not-repeat"');
ALTER USER MAPPING FOR PUBLIC SERVER regress_s OPTIONS (SET headers '["do-not-repeat"]');
ALTER USER MAPPING FOR PUBLIC SERVER regress_s OPTIONS (SET headers '{"X-Secret": ["do-not-repeat"]}');
ALTER USER MAPPING FOR PUBLIC SERVER regress_s OPTIONS (ADD password 'do-not-repeat');
ALTER USER MAPPING FOR PUBLIC SERVER regress_s OPTIONS (ADD timeout '30 s');
-- and no other role can read one: PostgreSQL shows the names of options at most
CREATE ROLE regress_genjob_reader;
SET ROLE regress_genjob_reader;
SELECT umoptions FROM pg_user_mappings WHERE srvname = 'regress_s';
SELECT umoptions FROM pg_user_mapping;
RESET ROLE;

DROP ROLE regress_genjob_reader;
DROP SERVER regress_s CASCADE;
DROP FUNCTION regress_hint(text);
DROP SERVER regress_full, regress_own;
