--
-- overrides: what options do to a preset: take something of it away, wrap the defaults, need the model
--
\set SHOW_CONTEXT never
\pset tuples_only on
\pset format unaligned

CREATE FUNCTION pg_temp.body(server name, request jsonb) RETURNS text LANGUAGE sql AS
	$$SELECT split_part(genjob.preview(server, request), E'\n\n', 2)$$;

-- ---- what has a wrapper ----
CREATE SERVER regress_w FOREIGN DATA WRAPPER genjob OPTIONS (api 'replicate', url 'http://127.0.0.1:9', model 'm',
	defaults '{"seed": 1, "size": {"w": 2, "h": 3}}');
CREATE USER MAPPING FOR PUBLIC SERVER regress_w OPTIONS (api_key 'sk-secret');
-- flat defaults go where the request's members go, whether it has the wrapper itself or not
SELECT pg_temp.body('regress_w', '{"prompt": "p", "size": {"w": 4}}');
SELECT pg_temp.body('regress_w', '{"input": {"prompt": "p", "size": {"w": 4}}, "webhook": "https://example.com"}');
-- defaults with the wrapper
ALTER SERVER regress_w OPTIONS (SET defaults '{"input": {"seed": 1}, "webhook": "https://example.com"}');
SELECT pg_temp.body('regress_w', '{"prompt": "p"}');
SELECT pg_temp.body('regress_w', '{"input": {"prompt": "p"}, "webhook": null}');
-- none
ALTER SERVER regress_w OPTIONS (DROP defaults);
SELECT pg_temp.body('regress_w', '{"prompt": "p"}');
SELECT pg_temp.body('regress_w', '{}');

-- ---- an empty value takes away what the preset says ----
ALTER SERVER regress_w OPTIONS (ADD wrap '', ADD model_at '');
SELECT pg_temp.body('regress_w', '{"prompt": "p"}');
ALTER SERVER regress_w OPTIONS (ADD cancel '', ADD usage '', ADD progress '', ADD result '', ADD output '', ADD error '');
ALTER SERVER regress_w OPTIONS (ADD state '');
ALTER SERVER regress_w OPTIONS (ADD states '');
ALTER SERVER regress_w OPTIONS (ADD poll '');
ALTER SERVER regress_w OPTIONS (ADD reply 'body', ADD state '', ADD states '', ADD poll '', ADD remote_id '');
SELECT pg_temp.body('regress_w', '{"prompt": "p"}');

-- ---- null takes a member away, at every depth, and is not sent ----
CREATE SERVER regress_n FOREIGN DATA WRAPPER genjob OPTIONS (api 'openai-chat', url 'http://127.0.0.1:9', model 'm', auth 'none');
SELECT pg_temp.body('regress_n', '{}');
SELECT pg_temp.body('regress_n', '{"stream": null, "stream_options": null}');
SELECT pg_temp.body('regress_n', '{"stream_options": {"include_usage": null, "more": 1}}');
SELECT pg_temp.body('regress_n', '{"model": null, "seed": null, "a": {"b": null, "c": [null, {"d": null}]}}');
ALTER SERVER regress_n OPTIONS (ADD defaults '{"stream_options": null, "stop": ["x"], "size": {"w": 2, "h": 3}, "user": null}');
SELECT pg_temp.body('regress_n', '{}');
SELECT pg_temp.body('regress_n', '{"stop": null, "size": {"h": null}, "stream_options": {"include_usage": true}}');
-- of many members
SELECT pg_temp.body('regress_n', (SELECT jsonb_object_agg('m' || n, CASE WHEN n % 10 = 0 THEN n END) FROM generate_series(1, 40) n) || '{"stream": null}');

-- ---- the model, wherever it is named ----
CREATE SERVER regress_m FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9');
ALTER SERVER regress_m OPTIONS (ADD inputs_path '/edit/{model}');
ALTER SERVER regress_m OPTIONS (ADD cancel 'POST /stop/{model}');
ALTER SERVER regress_m OPTIONS (ADD progress 'GET /progress/{model}#/done');
ALTER SERVER regress_m OPTIONS (ADD reply 'poll', ADD state '/status', ADD states 'ok=done', ADD poll 'GET /{model}');
ALTER SERVER regress_m OPTIONS (ADD reply 'poll', ADD state '/status', ADD states 'ok=done', ADD poll 'GET /x', ADD result 'GET /x/{model}');
ALTER SERVER regress_m OPTIONS (ADD inputs_path '/edit/{model}', ADD model 'm');

DROP SERVER regress_w, regress_m, regress_n CASCADE;
