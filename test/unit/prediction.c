/*
 * prediction.c
 *		Predictions: their names, their states, and what is called about them.
 */
#include "cases.h"

/* ---------- states of predictions ---------- */

static const Case states[] = {
	{"aborted", "replicate", NULL, STEP_POLL, 200, NULL, "{\"status\":\"aborted\"}", 0,
	 "FAIL error=server \"s\" ended the prediction as \"aborted\"."},
	{"in capitals", "replicate", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"Failed\",\"error\":\"no\"}", 0,
	 "FAIL error=server \"s\" ended the prediction as \"Failed\": no"},
	{"in small letters", "runpod", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"completed\",\"output\":1}", 0, "DONE"},
	{"one that is not known", "runpod", NULL, STEP_POLL, 200, NULL, "{\"status\":\"PURGED\"}", 0,
	 "WAIT state=PURGED"},
	{"none", "runpod", NULL, STEP_POLL, 200, NULL, "{\"id\":\"x\"}", 0, "WAIT"},
	{"any other, as the option has it", "http",
	 "reply=poll|remote_id=/id|poll=GET /{id}|state=/status|states=ok=done;run=queued,running;fail=*",
	 STEP_POLL, 200, NULL, "{\"status\":\"purged\"}", 0,
	 "FAIL error=server \"s\" ended the prediction as \"purged\"."},
	{"but one that runs", "http",
	 "reply=poll|remote_id=/id|poll=GET /{id}|state=/status|states=fail=*;ok=done;run=queued,running",
	 STEP_POLL, 200, NULL, "{\"status\":\"Running\"}", 0, "WAIT state=Running"},
	{"it is not there at first", "bfl", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"Task not found\"}", 0, "WAIT forgotten state=Task not found"},
	{"nor the third time, while it is new", "bfl", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"Task not found\"}", 0, "WAIT forgotten state=Task not found", 9, 29},
	{"the first time later on", "bfl", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"Task not found\"}", 0, "WAIT forgotten state=Task not found", 0, 31},
	{"the third time later on", "bfl", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"Task not found\"}", 0,
	 "FAIL error=server \"s\" does not know the prediction p1 any longer (\"Task not found\"). It may have been paid for: look for it at the provider before you call genjob.retry().",
	 2, 31},
	{"by its status, while it is new", "bfl", NULL, STEP_POLL, 404, NULL, "{\"detail\":\"no\"}", 0,
	 "WAIT error=server \"s\" answered HTTP 404: no. Check the server's options api, url and path. forgotten",
	 9, 29},
	{"by its status, later on", "bfl", NULL, STEP_POLL, 404, NULL, "{}", 0,
	 "FAIL error=server \"s\" does not know the prediction p1 any longer (HTTP 404). It may have been paid for: look for it at the provider before you call genjob.retry().",
	 2, 31},
	{"by its status, of others", "replicate", NULL, STEP_POLL, 404, NULL, "{}", 0,
	 "FAIL error=server \"s\" does not know the prediction p1 any longer (HTTP 404). It may have been paid for: look for it at the provider before you call genjob.retry().",
	 2, 0},
	{"an answer that was kept of a failure", "fal", NULL, STEP_RESULT, 503,
	 "X-Fal-Retryable: true\r\nX-Fal-Error-Type: runner_server_error\r\n", "{\"detail\":\"down\"}",
	 0, "RETRY error=server \"s\" answered HTTP 503 (runner_server_error): down."},
	{"one that would fail again", "fal", NULL, STEP_RESULT, 500, "X-Fal-Retryable: false\r\n",
	 "{\"detail\":\"down\"}", 0, "FAIL error=server \"s\" answered HTTP 500: down."},
	{"what stands between", "fal", NULL, STEP_RESULT, 503, "Server: proxy\r\n",
	 "{\"detail\":\"down\"}", 0, "WAIT error=server \"s\" answered HTTP 503: down."},
};

/* ---------- names of predictions ---------- */

static const struct
{
	const char *what;
	const char *api;
	const char *body;
	const char *id;
	const char *note;
} names[] = {
	{"the id that we chose", "comfyui",
	 "{\"prompt_id\":\"" KEY "\",\"number\":1,\"node_errors\":{}}", KEY, NULL},
	{"the id of a server that takes none", "comfyui", "{\"prompt_id\":\"a1\",\"number\":1}", "a1",
	 NULL},
	{"no id", "comfyui", "{\"number\":1}", KEY, NULL},
	{"nodes that are left out", "comfyui",
	 "{\"prompt_id\":\"" KEY
	 "\",\"node_errors\":{\"7\":{\"class_type\":\"SaveImage\",\"errors\":[{\"message\":\"No\",\"details\":\"images\"}]}}}",
	 KEY, "server \"s\" warns: node 7 (SaveImage), No: images"},
	{"a number", "sdcpp", "{\"id\":17,\"status\":\"queued\"}", "17", NULL},
};

static void
test_names(void)
{
	int i;

	for (i = 0; i < lengthof(names); i++)
	{
		Case test = {NULL, names[i].api, NULL, STEP_JUDGE, 200, NULL, names[i].body};
		Remote remote = {NULL};
		Verdict *verdict = cases_judge(&test, &remote);

		unit_is_text(remote.id, names[i].id, "%s: %s", names[i].api, names[i].what);
		unit_is_text(verdict->note, names[i].note, "%s: %s: note", names[i].api, names[i].what);
	}
}

/* ---------- what is called then ---------- */

static const struct
{
	const char *what;
	const char *address;
	const char *id;
	const char *url;
	const char *body;
} calls[] = {
	{"a name with strokes", "GET /v1/{id}", "models/veo/operations/7",
	 "http://server.test/x/v1/models/veo/operations/7", NULL},
	{"one that leads elsewhere", "GET /v1/{id}", "../keys", "http://server.test/x/v1/..%2Fkeys",
	 NULL},
	{"one that leads elsewhere further on", "GET /v1/{id}", "a/./b",
	 "http://server.test/x/v1/a%2F.%2Fb", NULL},
	{"one with an empty part", "GET /v1/{id}", "/a", "http://server.test/x/v1/%2Fa", NULL},
	{"one with a query", "GET /v1/{id}", "a?b#c", "http://server.test/x/v1/a%3Fb%23c", NULL},
	{"a POST without a body", "POST /v1/{id}/cancel", "7", "http://server.test/x/v1/7/cancel", "{}"},
	{"a PUT without a body", "PUT /v1/{id}", "7", "http://server.test/x/v1/7", "{}"},
	{"a DELETE", "DELETE /v1/{id}", "7", "http://server.test/x/v1/7", NULL},
};

static void
test_calls(void)
{
	int i;

	for (i = 0; i < lengthof(calls); i++)
	{
		MappingOptions secrets = {.api_key = SECRET};
		RequestSource source = {.options = cases_options("http", NULL),
								.secrets = &secrets,
								.request = "{}"};
		Remote remote = {.id = pstrdup(calls[i].id)};
		HttpRequest *http;
		Address address;

		(void) grammar_read_address(calls[i].address, &address);
		http = request_follow(&source, &remote, &address);
		unit_is_text(http->url, calls[i].url, "%s: address", calls[i].what);
		unit_is_text(http->body, calls[i].body, "%s: body", calls[i].what);
	}
	unit_is_text(grammar_fit_addresses("POST /a {}; ?POST /b {}; GET /c", true),
				 "POST /a {}; POST /b {}; GET /c", "all addresses");
	unit_is_text(grammar_fit_addresses("?POST /b {}; POST /a {}; ?GET /c", false), "POST /a {}",
				 "those of a server that takes no id");
}

/* ---------- results whose place the poll tells ---------- */

static const struct
{
	const char *result;
	const char *earlier; /* URLs that the submission told */
	const char *body;
	const char *url; /* that is called then; NULL: none */
} results[] = {
	{"GET @/results_url", NULL, "{\"status\":\"ended\",\"results_url\":\"http://server.test/r/7\"}",
	 "http://server.test/r/7"},
	{"GET @/results_url", "{\"/results_url\":\"http://server.test/old\",\"/a\":\"b\"}",
	 "{\"status\":\"ended\",\"results_url\":\"/r/8\"}", "http://server.test/r/8"},
	{"GET @/results_url", "{\"/results_url\":\"http://server.test/old\"}", "{\"status\":\"ended\"}",
	 "http://server.test/old"},
	{"GET @/results_url", NULL, "{\"status\":\"ended\"}", NULL},
	{"GET /files/{/out/file_id}/content", NULL,
	 "{\"status\":\"ended\",\"out\":{\"file_id\":\"a/b{id}\"}}",
	 "http://server.test/x/files/a%2Fb%7Bid%7D/content"},
	{"GET /{id}/files/{/file_id}", NULL, "{\"status\":\"ended\",\"file_id\":17}",
	 "http://server.test/x/p1/files/17"},
	{"GET /files/{/file_id}", NULL, "{\"status\":\"ended\",\"file_id\":null}", NULL},
};

static void
test_results(void)
{
	int i;

	for (i = 0; i < lengthof(results); i++)
	{
		char *options =
			psprintf("reply=poll|remote_id=/id|poll=GET /{id}|state=/status|states=ok=ended|result=%s",
					 results[i].result);
		Case test = {NULL, "http", options, STEP_POLL, 200, NULL, results[i].body};
		MappingOptions secrets = {.api_key = SECRET};
		RequestSource source = {.options = cases_options("http", options),
								.secrets = &secrets,
								.request = "{}"};
		Remote remote = {.urls = results[i].earlier ? pstrdup(results[i].earlier) : NULL};
		Verdict *verdict = cases_judge(&test, &remote);
		HttpRequest *http;
		Address address;

		(void) grammar_read_address(results[i].result, &address);
		http = request_follow(&source, &remote, &address);
		unit_ok(verdict->has_answer, "%s: there is a result", results[i].result);
		unit_is_text(http ? http->url : NULL, results[i].url, "%s: where it is", results[i].result);
	}
}

void
unit_run(void)
{
	test_results();
	test_names();
	test_calls();
	cases_run(states, lengthof(states), false);
}
