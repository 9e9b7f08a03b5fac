--
-- preview: what goes over the wire, byte for byte, for each api
--
-- genjob.preview() builds the request with the code that sends it, masks secrets and sends nothing. Lines
-- of a multipart body end with CR LF; "show" writes the CR as \r.
--
\set SHOW_CONTEXT never
\pset tuples_only on
\pset format unaligned
\pset null '(null)'

CREATE FUNCTION pg_temp.show(server name, request jsonb, inputs bytea[] DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$SELECT replace(genjob.preview(server, request, inputs), E'\r', '\r') || E'\n-----'$$;

-- the first bytes of a PNG, of a JPEG, and text
\set png '\'\\x89504e470d0a1a0a0000000d49484452\'::bytea'
\set jpeg '\'\\xffd8ffe000104a464946\'::bytea'
\set text '\'\\x68656c6c6f\'::bytea'

-- ---- openai-images ----

CREATE SERVER regress_openai FOREIGN DATA WRAPPER genjob OPTIONS (api 'openai-images', url 'http://127.0.0.1:9/');
CREATE USER MAPPING FOR PUBLIC SERVER regress_openai OPTIONS (api_key 'sk-secret');
SELECT pg_temp.show('regress_openai', '{"prompt": "a lighthouse at dawn", "n": 2}');
-- with an input: an edit, as a form
SELECT pg_temp.show('regress_openai', '{"prompt": "make it night", "n": 2, "stream": false, "user": null,
	"options": {"a": [1, "two"]}}', ARRAY[:png]);
-- several, and one that the request names itself
SELECT pg_temp.show('regress_openai', '{"prompt": "both", "mask": {"$input": 2}}', ARRAY[:png, :png, :jpeg]);
-- an array of the request's own
SELECT pg_temp.show('regress_openai', '{"image": [{"$input": 2}, {"$input": 1}], "tags": ["a", "b"]}', ARRAY[:png, :text]);
-- names and values of a form stay within their part
SELECT pg_temp.show('regress_openai', '{"a\"b\r\nc": "x\r\n--y"}', ARRAY[:text]);
-- defaults below the request, the model where the request has none
ALTER SERVER regress_openai OPTIONS (ADD model 'gpt-image-1', ADD defaults '{"size": "1024x1024", "n": 1, "x": {"a": 1, "b": 2}}');
SELECT pg_temp.show('regress_openai', '{"prompt": "p", "n": 3, "x": {"b": [3]}}');
SELECT pg_temp.show('regress_openai', '{"prompt": "p", "model": "dall-e-3", "size": null}');
SELECT pg_temp.show('regress_openai', '{"prompt": "p"}', ARRAY[:png]);
ALTER SERVER regress_openai OPTIONS (DROP defaults);
-- a Content-Type of one's own is for JSON: it would hide the boundary of a form
ALTER SERVER regress_openai OPTIONS (ADD headers '{"content-type": "application/json; charset=utf-8"}');
SELECT pg_temp.show('regress_openai', '{"prompt": "p"}');
SELECT pg_temp.show('regress_openai', '{"prompt": "p"}', ARRAY[:text]);

-- ---- automatic1111 ----

CREATE SERVER regress_a1111 FOREIGN DATA WRAPPER genjob OPTIONS (api 'automatic1111', url 'http://127.0.0.1:9');
SELECT pg_temp.show('regress_a1111', '{"prompt": "a cat", "steps": 20}');
SELECT pg_temp.show('regress_a1111', '{"prompt": "a cat", "mask": {"$input": 2}}', ARRAY[:png, :text]);
SELECT pg_temp.show('regress_a1111', '{"prompt": "a cat", "init_images": ["aGVsbG8="]}', ARRAY[:text]);
ALTER SERVER regress_a1111 OPTIONS (ADD model 'sd_xl_base_1.0');
SELECT pg_temp.show('regress_a1111', '{"prompt": "a cat"}');
SELECT pg_temp.show('regress_a1111', '{"override_settings": {"CLIP_stop_at_last_layers": 2}}');
SELECT pg_temp.show('regress_a1111', '{"override_settings": {"sd_model_checkpoint": "mine"}}');
CREATE USER MAPPING FOR PUBLIC SERVER regress_a1111 OPTIONS (api_key 'user:password');
SELECT pg_temp.show('regress_a1111', '{}');

-- ---- http ----

CREATE SERVER regress_http FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'https://example.com/api');
SELECT pg_temp.show('regress_http', '{}');
SELECT pg_temp.show('regress_http', '{"image": {"$input": 1}, "again": [{"deep": {"$input": 1}}]}', ARRAY[:text]);
SELECT pg_temp.show('regress_http', '{"image": {"$input": 1}}', ARRAY[''::bytea]);
ALTER SERVER regress_http OPTIONS (ADD path '/run?version=2', ADD model 'm');
SELECT pg_temp.show('regress_http', '{}');
SELECT pg_temp.show('regress_http', '{"a": {"$input": 1}}', ARRAY[:text]);
ALTER SERVER regress_http OPTIONS (ADD inputs_path '/edit');
SELECT pg_temp.show('regress_http', '{"a": {"$input": 1}}', ARRAY[:text]);
ALTER SERVER regress_http OPTIONS (DROP path, DROP inputs_path, DROP model);

-- ---- auth and headers: the mapping's win over the server's, both over genjob's; secrets are masked ----

ALTER SERVER regress_http OPTIONS (ADD headers '{"X-Team": "art", "accept": "image/png", "Content-Type": "application/vnd.api+json"}');
SELECT pg_temp.show('regress_http', '{}');
CREATE USER MAPPING FOR PUBLIC SERVER regress_http OPTIONS (api_key 'sk-secret');
SELECT pg_temp.show('regress_http', '{}');
ALTER SERVER regress_http OPTIONS (ADD auth 'header:X-Api-Key');
SELECT pg_temp.show('regress_http', '{}');
ALTER SERVER regress_http OPTIONS (SET auth 'basic');
SELECT pg_temp.show('regress_http', '{}');
ALTER SERVER regress_http OPTIONS (SET auth 'none');
SELECT pg_temp.show('regress_http', '{}');
ALTER USER MAPPING FOR PUBLIC SERVER regress_http OPTIONS (ADD headers '{"X-Session": "secret-session", "x-team": "secret-team"}');
SELECT pg_temp.show('regress_http', '{}');
-- with a word before the key, and in the URL, where it is percent-encoded and masked as well
ALTER SERVER regress_http OPTIONS (SET auth 'header:Authorization:Token');
SELECT pg_temp.show('regress_http', '{}');
ALTER SERVER regress_http OPTIONS (SET auth 'query:key');
SELECT pg_temp.show('regress_http', '{}');
ALTER SERVER regress_http OPTIONS (ADD path '/run?version=2');
ALTER USER MAPPING FOR PUBLIC SERVER regress_http OPTIONS (SET api_key 'sk secret&more=#');
SELECT pg_temp.show('regress_http', '{}');
ALTER SERVER regress_http OPTIONS (DROP path);
ALTER SERVER regress_http OPTIONS (DROP headers, DROP auth);
DROP USER MAPPING FOR PUBLIC SERVER regress_http;

-- ---- values arrive as they are in jsonb ----

-- a seed or an id of 64 bits and more keeps every digit, which a double would not
SELECT pg_temp.show('regress_http', '{"a": 9007199254740993, "b": -18446744073709551615, "c": 0.1, "d": 1e-7, "e": 1e30,
	"f": 3.14159265358979323846, "g": [123456789012345678, {"h": 2}], "i": "9007199254740993", "j\"k\\": 0}');
ALTER SERVER regress_http OPTIONS (ADD defaults '{"seed": 9007199254740993}');
SELECT pg_temp.show('regress_http', '{"z": 12345678901234567890}');
ALTER SERVER regress_http OPTIONS (DROP defaults);
-- text of all the world, and what JSON must escape
SELECT pg_temp.show('regress_http', '{"prompt": "\u706f\u53f0 \ud83d\uddfc caf\u00e9", "quoted": "a \"b\" \\ / \t\r\n\u0001\u007f"}');
SELECT pg_temp.show('regress_http', '{"true": true, "null": null, "empty": [{}, [], ""]}');
-- a binary is shown escaped, text in it as it is
SELECT pg_temp.show('regress_openai', '{}', ARRAY['\x00017f80ff0a63616666c3a9c328'::bytea]);

-- ---- what cannot be sent ----

SELECT genjob.preview('regress_http', '[]');
SELECT genjob.preview('regress_nowhere', '{}');
SELECT genjob.preview('regress_http', '{"a": {"$input": 1}}');
SELECT genjob.preview('regress_http', '{}', ARRAY[:text]);
SELECT genjob.preview('regress_a1111', '{}', ARRAY[:text, NULL]);
SELECT genjob.preview('regress_a1111', '{}', ARRAY[ARRAY[:text], ARRAY[:text]]);
SELECT genjob.preview('regress_http', (repeat('{"a":', 1500) || '1' || repeat('}', 1500))::jsonb);
CREATE ROLE regress_genjob_app;
SET ROLE regress_genjob_app;
SELECT genjob.preview('regress_openai', '{}');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER regress_openai TO regress_genjob_app;
DROP USER MAPPING FOR PUBLIC SERVER regress_openai;
SET ROLE regress_genjob_app;
SELECT genjob.preview('regress_openai', '{}');
RESET ROLE;
SELECT genjob.preview(NULL, '{}'), genjob.preview('regress_http', NULL);

-- ---- every other api: plain, with inputs, with an override ----

CREATE PROCEDURE pg_temp.make(api text, model text DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER genjob OPTIONS (api %L, url ''https://api.example.com'' %s)',
		'regress-' || api, api, ', model ' || quote_literal(model));
	EXECUTE format('CREATE USER MAPPING FOR PUBLIC SERVER %I OPTIONS (api_key ''sk-secret'')', 'regress-' || api);
END $$;

CALL pg_temp.make('openai-chat', 'gpt-5');
SELECT pg_temp.show('regress-openai-chat', '{"messages": [{"role": "user", "content": "hello"}]}');
SELECT pg_temp.show('regress-openai-chat', '{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": {"$input": 1}}}]}]}', ARRAY[:png]);
-- sound is bare base64 there, though pictures are data: URLs
SELECT pg_temp.show('regress-openai-chat', '{"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": {"$input": 1}, "format": "mp3"}},
	{"type": "file", "file": {"file_data": {"$input": 1}}}]}]}', ARRAY['\x494433040000'::bytea]);
ALTER SERVER "regress-openai-chat" OPTIONS (ADD defaults '{"stream": false, "stream_options": null}', ADD path '/openai/v1/chat/completions?api-version=preview');
SELECT pg_temp.show('regress-openai-chat', '{"messages": []}');

-- headers of the api's own, and another version of one
CALL pg_temp.make('anthropic', 'claude-sonnet-4-5');
SELECT pg_temp.show('regress-anthropic', '{"messages": [{"role": "user", "content": "hello"}]}');
ALTER SERVER "regress-anthropic" OPTIONS (ADD headers '{"Anthropic-Version": "2024-01-01", "anthropic-beta": "x"}');
SELECT pg_temp.show('regress-anthropic', '{"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": {"$input": 1}}}]}], "max_tokens": 10, "stream": false}', ARRAY[:png]);

CALL pg_temp.make('openai-embeddings', 'text-embedding-3-small');
SELECT pg_temp.show('regress-openai-embeddings', '{"input": ["a", "b"]}');
ALTER SERVER "regress-openai-embeddings" OPTIONS (ADD model_at '/deployment', ADD auth 'header:api-key');
SELECT pg_temp.show('regress-openai-embeddings', '{"input": "a"}');

CALL pg_temp.make('openai-responses', 'gpt-5');
SELECT pg_temp.show('regress-openai-responses', '{"input": "a lighthouse", "tools": [{"type": "image_generation"}]}');
SELECT pg_temp.show('regress-openai-responses', '{"input": [{"role": "user", "content": [{"type": "input_image", "image_url": {"$input": 1}}]}]}', ARRAY[:png]);
ALTER SERVER "regress-openai-responses" OPTIONS (ADD defaults '{"background": false}', ADD reply 'body');
SELECT pg_temp.show('regress-openai-responses', '{"input": "p", "store": false}');

CALL pg_temp.make('openai-speech', 'tts-1');
SELECT pg_temp.show('regress-openai-speech', '{"input": "hello", "voice": "alloy"}');
ALTER SERVER "regress-openai-speech" OPTIONS (ADD accept 'audio/mpeg');
SELECT pg_temp.show('regress-openai-speech', '{"input": "hello", "voice": "alloy", "model": "tts-1-hd"}');

-- the graph is the request, or stands in it; its id is genjob's to choose, and is the Idempotency-Key
CALL pg_temp.make('comfyui');
SELECT pg_temp.show('regress-comfyui', '{"3": {"class_type": "KSampler", "inputs": {"seed": 7}}}');
SELECT pg_temp.show('regress-comfyui', '{"prompt": {"3": {"class_type": "KSampler"}}, "extra_data": {"a": 1}}');
SELECT pg_temp.show('regress-comfyui', '{"1": {"class_type": "LoadImageBase64", "inputs": {"image": {"$input": 1}}}}', ARRAY[:png]);
ALTER SERVER "regress-comfyui" OPTIONS (ADD path '/api/prompt', ADD auth 'bearer', ADD remote_id '/prompt_id');
SELECT pg_temp.show('regress-comfyui', '{"3": {}}');

CALL pg_temp.make('sdcpp');
SELECT pg_temp.show('regress-sdcpp', '{"prompt": "a cat", "steps": 4}');
SELECT pg_temp.show('regress-sdcpp', '{"prompt": "a cat", "init_image": {"$input": 1}}', ARRAY[:png]);
ALTER SERVER "regress-sdcpp" OPTIONS (ADD path '/sdcpp/v1/vid_gen', ADD auth 'none');
SELECT pg_temp.show('regress-sdcpp', '{"prompt": "a cat"}');

CALL pg_temp.make('replicate', '5c7d5dc6');
SELECT pg_temp.show('regress-replicate', '{"prompt": "a cat"}');
SELECT pg_temp.show('regress-replicate', '{"prompt": "a cat", "image": {"$input": 1}}', ARRAY[:png]);
SELECT pg_temp.show('regress-replicate', '{"version": "mine", "input": {"prompt": "a cat"}}');
ALTER SERVER "regress-replicate" OPTIONS (SET model 'owner/name', ADD path '/v1/models/{model}/predictions', ADD model_at '/input/model', ADD headers '{"Prefer": "wait=5"}');
SELECT pg_temp.show('regress-replicate', '{"prompt": "a cat"}');

CALL pg_temp.make('fal', 'fal-ai/flux/dev');
SELECT pg_temp.show('regress-fal', '{"prompt": "a cat"}');
SELECT pg_temp.show('regress-fal', '{"prompt": "a cat", "image_url": {"$input": 1}}', ARRAY[:png]);
ALTER SERVER "regress-fal" OPTIONS (ADD inputs_path '/{model}/image-to-image', ADD inputs_at '/image_urls', ADD headers '{"X-Fal-No-Retry": "1"}');
SELECT pg_temp.show('regress-fal', '{"prompt": "a cat"}', ARRAY[:png]);

CALL pg_temp.make('stability', 'core');
SELECT pg_temp.show('regress-stability', '{"prompt": "a cat", "seed": 7}');
SELECT pg_temp.show('regress-stability', '{"prompt": "a cat", "strength": 0.5}', ARRAY[:png]);
ALTER SERVER "regress-stability" OPTIONS (ADD path '/v2beta/stable-image/edit/inpaint', ADD accept 'image/*');
SELECT pg_temp.show('regress-stability', '{"prompt": "a cat", "mask": {"$input": 2}}', ARRAY[:png, :jpeg]);

CALL pg_temp.make('bfl', 'flux-2-pro');
SELECT pg_temp.show('regress-bfl', '{"prompt": "a cat"}');
SELECT pg_temp.show('regress-bfl', '{"prompt": "a cat", "input_image": {"$input": 1}}', ARRAY[:png]);
ALTER SERVER "regress-bfl" OPTIONS (ADD defaults '{"output_format": "png"}', SET model 'flux-pro-1.1');
SELECT pg_temp.show('regress-bfl', '{"prompt": "a cat"}');

CALL pg_temp.make('runpod', 'ab12cd');
SELECT pg_temp.show('regress-runpod', '{"prompt": "a cat"}');
SELECT pg_temp.show('regress-runpod', '{"input": {"prompt": "a cat"}, "policy": {"ttl": 60000}}');
SELECT pg_temp.show('regress-runpod', '{"prompt": "a cat", "image": {"$input": 1}}', ARRAY[:png]);
ALTER SERVER "regress-runpod" OPTIONS (ADD path '/v2/{model}/runsync');
SELECT pg_temp.show('regress-runpod', '{"prompt": "a cat"}');

CALL pg_temp.make('huggingface', 'owner/name');
SELECT pg_temp.show('regress-huggingface', '{"inputs": "a cat", "parameters": {"seed": 7}}');
SELECT pg_temp.show('regress-huggingface', '{"inputs": {"$input": 1}}', ARRAY[:png]);
ALTER SERVER "regress-huggingface" OPTIONS (ADD path '/hf-inference/models/{model}', ADD accept 'image/png');
SELECT pg_temp.show('regress-huggingface', '{"inputs": "a cat"}');

CALL pg_temp.make('tgi');
SELECT pg_temp.show('regress-tgi', '{"inputs": "a cat", "parameters": {"max_new_tokens": 7}}');
ALTER SERVER "regress-tgi" OPTIONS (ADD path '/generate', ADD auth 'none');
SELECT pg_temp.show('regress-tgi', '{"inputs": "a cat"}');

CALL pg_temp.make('cohere', 'command-a-03-2025');
SELECT pg_temp.show('regress-cohere', '{"messages": [{"role": "user", "content": "hello"}]}');
SELECT pg_temp.show('regress-cohere', '{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": {"$input": 1}}}]}]}', ARRAY[:png]);
ALTER SERVER "regress-cohere" OPTIONS (ADD path '/v2/embed', ADD defaults '{"stream": null}');
SELECT pg_temp.show('regress-cohere', '{"texts": ["a cat"], "input_type": "search_query", "embedding_types": ["float"]}');

CALL pg_temp.make('ollama', 'llava');
SELECT pg_temp.show('regress-ollama', '{"prompt": "hello"}');
SELECT pg_temp.show('regress-ollama', '{"prompt": "what are these?"}', ARRAY[:png, :jpeg]);
ALTER SERVER "regress-ollama" OPTIONS (ADD path '/api/chat', ADD inputs_at '/messages/0/images', ADD auth 'none');
SELECT pg_temp.show('regress-ollama', '{"messages": [{"role": "user", "content": "what is this?"}]}', ARRAY[:png]);

CALL pg_temp.make('gemini', 'gemini-2.5-flash-image');
SELECT pg_temp.show('regress-gemini', '{"contents": [{"parts": [{"text": "a cat"}]}]}');
SELECT pg_temp.show('regress-gemini', '{"contents": [{"parts": [{"text": "at night"}, {"inlineData": {"mimeType": "image/png", "data": {"$input": 1}}}]}]}', ARRAY[:png]);
ALTER SERVER "regress-gemini" OPTIONS (ADD auth 'query:key');
SELECT pg_temp.show('regress-gemini', '{"contents": []}');

-- its id is genjob's to choose as well
CALL pg_temp.make('kserve', 'painter');
SELECT pg_temp.show('regress-kserve', '{"inputs": [{"name": "prompt", "shape": [1], "datatype": "BYTES", "data": ["a cat"]}]}');
SELECT pg_temp.show('regress-kserve', '{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [{"$input": 1}]}]}', ARRAY[:png]);
ALTER SERVER "regress-kserve" OPTIONS (ADD path '/v2/models/{model}/versions/3/infer', ADD auth 'none', SET model 'a b/c?d');
SELECT pg_temp.show('regress-kserve', '{"inputs": []}');

-- no api is left out
DO $$
DECLARE
	hint text;
	missing text;
BEGIN
	CREATE SERVER regress_none FOREIGN DATA WRAPPER genjob OPTIONS (api 'none', url 'http://127.0.0.1:9');
EXCEPTION WHEN fdw_invalid_attribute_value THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	SELECT string_agg(api, ', ') INTO missing
		FROM regexp_split_to_table(rtrim(replace(hint, 'Valid values are: ', ''), '.'), ', ') AS known (api)
		WHERE api NOT IN (SELECT s.api FROM genjob.servers s) AND api NOT IN ('s3', 'aws-lambda', 'aws-sqs', 'aws-sfn', 'webhook'); -- which objectstore.sql, t/084_webhooks.pl and t/096_aws.pl show
	RAISE NOTICE 'apis without a preview here: %', coalesce(missing, 'none');
END $$;

-- nothing of it is a job
SELECT count(*) FROM gen_jobs;

SET client_min_messages = warning;
DROP SERVER regress_openai, regress_a1111, regress_http, "regress-openai-chat", "regress-anthropic", "regress-openai-embeddings", "regress-anthropic", "regress-openai-responses", "regress-openai-speech", "regress-comfyui",
	"regress-sdcpp", "regress-replicate", "regress-fal", "regress-stability", "regress-bfl", "regress-runpod", "regress-huggingface", "regress-tgi", "regress-cohere", "regress-ollama", "regress-gemini",
	"regress-kserve" CASCADE;
DROP ROLE regress_genjob_app;

-- ---- an url that ends with the beginning of the path, as many write it ----

CREATE FUNCTION pg_temp.address(api text, url text, path text, model text DEFAULT 'm') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	EXECUTE format('CREATE SERVER regress_url FOREIGN DATA WRAPPER genjob OPTIONS (api %L, url %L, auth ''none'', model %L %s)', api, url, model,
		CASE WHEN path IS NOT NULL THEN format(', path %L', path) END);
	line := split_part(genjob.preview('regress_url', '{}'), E'\n', 1);
	DROP SERVER regress_url;
	RETURN regexp_replace(line, '^POST |\r$| HTTP.*', '', 'g');
END$$;

-- each api: with every beginning of its path at the end of the url, the address is the same
WITH apis AS (
	SELECT api FROM unnest('{openai-images,openai-chat,openai-embeddings,openai-responses,openai-speech,automatic1111,comfyui,sdcpp,replicate,fal,stability,bfl,runpod,huggingface,tgi,cohere,ollama,gemini,kserve}'::text[]) api),
plain AS MATERIALIZED (SELECT api, pg_temp.address(api, 'http://h', NULL) AS address FROM apis),
beginnings AS (
	SELECT api, address, array_to_string((string_to_array(split_part(substr(address, 10), '?', 1), '/'))[:n], '/') AS beginning
		FROM plain, generate_series(1, array_length(string_to_array(split_part(substr(address, 10), '?', 1), '/'), 1)) n)
SELECT api, address, count(*) AS beginnings,
		bool_and(pg_temp.address(api, 'http://h/' || beginning, NULL) = address) AS all_the_same,
		bool_and(pg_temp.address(api, 'http://h/proxy/' || beginning || '/', NULL) = replace(address, 'http://h', 'http://h/proxy')) AS behind_a_proxy
	FROM beginnings WHERE beginning <> '' GROUP BY api, address ORDER BY api;
-- and of one's own paths; what is not a whole part is no beginning, and who means it twice writes it so
SELECT path, url, pg_temp.address('http', url, path) FROM (VALUES ('/v1/make', 'http://h/v1'), ('/v1/make', 'http://h/v1/'), ('/v1/make', 'http://h/api/v1'),
	('/api/v1/make', 'http://h/api/v1'), ('/v1beta/make', 'http://h/v1'), ('/v1', 'http://h/v1'), ('/v1?x=1', 'http://h/v1'), ('', 'http://h/v1'), ('?x=1', 'http://h/v1'),
	('/v1/v1/make', 'http://h/v1'), ('/make', 'http://h/v1'), ('/h/make', 'http://h/v1'), ('/v1/make', 'http://v1'), ('/a/a/make', 'http://h/a/a')) AS t (path, url);
