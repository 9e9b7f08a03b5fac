/*
 * reply.c
 *		What answers mean: each case is an answer as a server sends it, and what genjob makes of it.
 *
 * A case's server is described as by CREATE SERVER, its answer by status, headers and body.  What comes of it is compared
 * as one line:
 *
 *		KIND[ error=SENTENCE][ result=JSON][ outputs=TYPE:BYTES TYPE?URL ...]
 */
#include "unit.h"

#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "utils/memutils.h"

#include "protocol/missing.h"
#include "protocol/reply.h"

#define SECRET "sk-unit-secret"
#define KEY "0190a0a0-0000-7000-8000-000000000000"
#define PNG "\x89PNG\r\n\x1a\n"
#define PNG_BASE64 "iVBORw0KGgo="

typedef enum Step
{
	STEP_JUDGE,
	STEP_POLL,
	STEP_RESULT
} Step;

typedef struct Case
{
	const char *what;
	const char *api;
	const char *options; /* "name=value|name=value" */
	Step step;
	int status;
	const char *headers;
	const char *body;
	size_t len;           /* of body; 0: as text */
	const char *expected; /* NULL in place of what is not compared */
} Case;

static List *
add_option(List *defs, const char *name, const char *value)
{
	return lappend(defs, makeDefElem(pstrdup(name), (Node *) makeString(pstrdup(value)), -1));
}

static ServerOptions *
read_options(const char *api, const char *text)
{
	ServerOptions *options = palloc(sizeof(ServerOptions));
	List *defs = add_option(NIL, "api", api);
	char *copy = pstrdup(text ? text : "");
	char *word;

	defs = add_option(defs, "url", "http://server.test/x");
	defs = add_option(defs, "model", "maker/model");
	for (word = strtok(copy, "|"); word != NULL; word = strtok(NULL, "|"))
	{
		char *value = strchr(word, '=');

		*value++ = '\0';
		defs = add_option(defs, word, value);
	}
	options_parse_server(defs, options);
	return options;
}

static Bytes *
bytes_of(const char *data, size_t len)
{
	Bytes *bytes = bytes_create(CurrentMemoryContext, MaxAllocSize);

	bytes_append(bytes, data, len);
	bytes_append(bytes, "", 1);
	bytes->len--;
	return bytes;
}

static HttpReply *
make_reply(const Case *test)
{
	HttpReply *reply = palloc0(sizeof(HttpReply));
	const char *headers = test->headers ? test->headers : "Content-Type: application/json\r\n";

	reply->error = HTTP_OK;
	reply->error_text = pstrdup("");
	reply->sent = true;
	reply->status = test->status;
	reply->headers = bytes_of(headers, strlen(headers));
	reply->body = bytes_of(test->body, test->len > 0 ? test->len : strlen(test->body));
	return reply;
}

static Verdict *
judge(const Case *test, Remote *remote)
{
	ServerOptions *options = read_options(test->api, test->options);
	MappingOptions secrets = {.api_key = SECRET};
	RequestSource request = {.options = options,
							 .secrets = &secrets,
							 .request = "{}",
							 .idempotency_key = KEY};
	ReplySource source = {
		.server_name = "s",
		.options = options,
		.request = request_build(&request),
		.idempotency_key = KEY,
		.now_unix = 1700000000,
	};
	HttpReply *reply = make_reply(test);

	if (test->step == STEP_JUDGE)
		return reply_judge(&source, reply, remote);
	remote->id = "p1";
	source.remote = remote;
	return test->step == STEP_POLL ? reply_judge_poll(&source, reply)
								   : reply_judge_result(&source, reply);
}

static char *
describe_outputs(const Verdict *verdict)
{
	StringInfoData text;
	ListCell *cell;

	initStringInfo(&text);
	foreach(cell, verdict->outputs)
	{
		const Output *output = lfirst(cell);

		if (output->data != NULL)
			appendStringInfo(&text, " %s:%zu", output->content_type, output->len);
		else
			appendStringInfo(&text, " ?%s", output->url);
	}
	return text.data;
}

static char *
describe(const Verdict *verdict)
{
	static const char *const kinds[] = {"DONE",  "WAIT",     "FETCH", "RETRY",
										"DEFER", "POSTPONE", "LOST",  "FAIL"};

	return psprintf("%s%s%s%s%s%s%s", kinds[verdict->kind], verdict->error ? " error=" : "",
					verdict->error ? verdict->error : "", verdict->result ? " result=" : "",
					verdict->result ? verdict->result : "",
					verdict->outputs != NIL ? " outputs=" : "",
					verdict->outputs != NIL ? describe_outputs(verdict) + 1 : "");
}

static void
run_cases(const Case *cases, int n)
{
	int i;

	for (i = 0; i < n; i++)
	{
		Remote remote = {NULL};

		unit_is_text(describe(judge(&cases[i], &remote)), cases[i].expected, "%s: %s", cases[i].api,
					 cases[i].what);
	}
}

/* ---------- outputs, and what is beside them ---------- */

static const Case outputs[] = {
	{"an empty base64 is like null", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"data\":[{\"b64_json\":\"\",\"url\":\"http://cdn.test/a.png\"}]}", 0,
	 "FETCH result={\"data\":[{\"b64_json\":\"\",\"url\":{\"$output\":1}}]} outputs=?http://cdn.test/a.png"},
	{"an empty URL is like null", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"data\":[{\"b64_json\":\"" PNG_BASE64 "\",\"url\":\"\"}]}", 0,
	 "DONE result={\"data\":[{\"b64_json\":{\"$output\":1},\"url\":\"\"}]} outputs=image/png:8"},
	{"nothing but empty ones is no output", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"data\":[{\"b64_json\":\"\",\"url\":null}]}", 0,
	 "FAIL error=the answer of server \"s\" has no output at /data/*/b64_json /data/*/url; it is kept in the column result. result={\"data\":[{\"b64_json\":\"\",\"url\":null}]}"},
	{"bad base64 stops no other", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"data\":[{\"b64_json\":\"?!\"},{\"url\":\"http://cdn.test/a.png\"}]}", 0,
	 "FETCH error=the answer of server \"s\" has invalid base64 at /data/0/b64_json; it is kept in the column result. result={\"data\":[{\"b64_json\":\"?!\"},{\"url\":{\"$output\":1}}]} outputs=?http://cdn.test/a.png"},
	{"each that is bad is named", "automatic1111", NULL, STEP_JUDGE, 200, NULL,
	 "{\"images\":[\"?!\",\"" PNG_BASE64 "\",\"\",\"!\"]}", 0,
	 "FAIL error=the answer of server \"s\" has invalid base64 at /images/0, /images/3; it is kept in the column result. result={\"images\":[\"?!\",{\"$output\":1},\"\",\"!\"]} outputs=image/png:8"},
	{"an error beside a link does not lose what is there", "openai-images", NULL, STEP_JUDGE, 200,
	 NULL, "{\"data\":[{\"url\":\"http://cdn.test/a.png\"}],\"error\":\"one was filtered\"}", 0,
	 "FETCH error=server \"s\" answered HTTP 200 with an error inside: one was filtered result={\"data\":[{\"url\":{\"$output\":1}}],\"error\":\"one was filtered\"} outputs=?http://cdn.test/a.png"},
};

/* ---------- outputs that do not come ---------- */

static const struct
{
	const char *what;
	const char *body;
	int given_up;         /* bits: 1 the first, 2 the second ... */
	const char *expected; /* result */
} missing[] = {
	{"none", "{\"data\":[{\"url\":\"http://h/1\"},{\"url\":\"http://h/2\"}]}", 0,
	 "{\"data\":[{\"url\":{\"$output\":1}},{\"url\":{\"$output\":2}}]}"},
	{"the first", "{\"data\":[{\"url\":\"http://h/1\"},{\"url\":\"http://h/2\"}]}", 1,
	 "{\"data\":[{\"url\":\"http://h/1\"},{\"url\":{\"$output\":2}}]}"},
	{"the last", "{\"data\":[{\"url\":\"http://h/1\"},{\"url\":\"http://h/2\"}]}", 2,
	 "{\"data\":[{\"url\":{\"$output\":1}},{\"url\":\"http://h/2\"}]}"},
	{"all", "{\"data\":[{\"url\":\"HTTP://h/\\u0031\"},{\"url\":\"http://h/2\"}]}", 3,
	 "{\"data\":[{\"url\":\"HTTP://h/1\"},{\"url\":\"http://h/2\"}]}"},
	{"beside base64", "{\"data\":[{\"b64_json\":\"" PNG_BASE64 "\",\"url\":\"http://h/1\"}]}", 2,
	 "{\"data\":[{\"b64_json\":{\"$output\":1},\"url\":\"http://h/1\"}]}"},
	{"beside what only looks like a reference",
	 "{\"a\":{\"$output\":1},\"data\":[{\"url\":\"http://h/1\"}],\"z\":{\"$output\":1}}", 1,
	 "{\"a\":{\"$output\":1},\"data\":[{\"url\":\"http://h/1\"}],\"z\":{\"$output\":1}}"},
	{"at a place that looks like a reference",
	 "{\"data\":[{\"url\":{\"$output\":1}},{\"url\":\"http://h/1\"}]}", 1,
	 "{\"data\":[{\"url\":{\"$output\":1}},{\"url\":\"http://h/1\"}]}"},
};

static void
test_missing(void)
{
	int i;

	for (i = 0; i < lengthof(missing); i++)
	{
		Case test = {NULL, "openai-images", NULL, STEP_JUDGE, 200, NULL, missing[i].body};
		Remote remote = {NULL};
		Verdict *verdict = judge(&test, &remote);
		ListCell *cell;
		int bit = 1;

		foreach(cell, verdict->outputs)
		{
			Output *output = lfirst(cell);

			if (missing[i].given_up & bit)
				output->fault = "it is not there.";
			else if (output->data == NULL)
				output->data = "x";
			bit *= 2;
		}
		missing_restore(verdict);
		unit_is_text(verdict->result, missing[i].expected, "missing: %s", missing[i].what);
		unit_ok((missing_describe(verdict) != NULL) == (missing[i].given_up != 0),
				"missing: %s: is told of", missing[i].what);
	}
}

void
unit_run(void)
{
	run_cases(outputs, lengthof(outputs));
	test_missing();
}
