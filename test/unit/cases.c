/*
 * cases.c
 *		How the cases of answers are judged and compared; for the tests that have some.
 */
#include "cases.h"
#include "replies.h"

#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "utils/memutils.h"

static List *
add_option(List *defs, const char *name, const char *value)
{
	return lappend(defs, makeDefElem(pstrdup(name), (Node *) makeString(pstrdup(value)), -1));
}

ServerOptions *
cases_options(const char *api, const char *text)
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

static HttpReply *
make_reply(const Case *test)
{
	const char *headers = test->headers ? test->headers : "Content-Type: application/json\r\n";
	HttpReply *reply = replies_make(test->status, headers, test->body);

	if (test->len > 0)
		reply->body = replies_bytes(test->body, test->len);
	return reply;
}

Verdict *
cases_judge(const Case *test, Remote *remote)
{
	ServerOptions *options = cases_options(test->api, test->options);
	MappingOptions secrets = {.api_key = SECRET,
							  .access_key_id = SECRET,
							  .secret_access_key = SECRET};
	RequestSource request = {.options = options,
							 .secrets = &secrets,
							 .request = "{}",
							 .idempotency_key = KEY};
	ReplySource source = {
		.server_name = "s",
		.options = options,
		.request = request_build(&request),
		.idempotency_key = KEY,
		.forgotten = test->forgotten,
		.age = test->age * INT64CONST(1000),
		.now_unix = 1700000000,
	};
	HttpReply *reply = make_reply(test);

	if (test->step == STEP_UNDECODED)
		reply->undecoded = "compressed";
	if (test->step == STEP_JUDGE || test->step == STEP_UNDECODED)
		return reply_judge(&source, reply, remote);
	remote->id = "p1";
	source.remote = remote;
	return test->step == STEP_POLL ? reply_judge_poll(&source, reply, remote)
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
describe(const Verdict *verdict, bool with_answer)
{
	static const char *const kinds[] = {"DONE",  "WAIT",     "FETCH", "RETRY",
										"DEFER", "POSTPONE", "LOST",  "FAIL"};

	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, kinds[verdict->kind]);
	if (verdict->error != NULL)
		appendStringInfo(&text, " error=%s", verdict->error);
	else if (verdict->note != NULL)
		appendStringInfo(&text, " note=%s", verdict->note);
	if (verdict->kind == VERDICT_WAIT)
		appendStringInfo(&text, "%s%s%s", verdict->forgotten ? " forgotten" : "",
						 verdict->remote_state ? " state=" : "",
						 verdict->remote_state ? verdict->remote_state : "");
	if (with_answer && verdict->result != NULL)
		appendStringInfo(&text, " result=%s", verdict->result);
	if (with_answer && verdict->outputs != NIL)
		appendStringInfo(&text, " outputs=%s", describe_outputs(verdict) + 1);
	return text.data;
}

void
cases_run(const Case *cases, int n, bool with_answer)
{
	int i;

	for (i = 0; i < n; i++)
	{
		Remote remote = {NULL};

		unit_is_text(describe(cases_judge(&cases[i], &remote), with_answer), cases[i].expected,
					 "%s: %s", cases[i].api, cases[i].what);
	}
}
