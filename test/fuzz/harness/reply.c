/*
 * reply.c
 *		What an answer means: every preset, every step, every status.
 *
 *		API STEP [id=ID] [usage=JSON] [failures=N] [OPTION=VALUE]...
 *		STATUS END [sent] [private]
 *		HEADERS
 *
 *		BODY
 *
 * Whatever a server sends: what is written into rows is text without secrets and JSON that can be read
 * again, outputs lie where they say, and what is asked next is a URL without a blank.
 */
#include "fuzz.h"

#include "base/json.h"
#include "protocol/found.h"
#include "protocol/reply.h"

static const char *const steps[] = {"judge",    "poll",  "result",  "saved",   "download",
									"progress", "found", "unended", "unjudged"};

/* A call of which the answer is judged. */
typedef struct Call
{
	ServerOptions *options;
	MappingOptions secrets;
	RequestSource request;
	ReplySource source;
	Remote remote;
	HttpReply *reply;
} Call;

static const char *
read_api(const char *word)
{
	const char *names[64];
	char *list = preset_list();
	char *name;
	int n = 0;

	for (name = strtok(list, ", "); name != NULL && n < lengthof(names); name = strtok(NULL, ", "))
		names[n++] = name;
	return names[input_choose(word, names, n)];
}

/*
 * The words of a line that are about the prediction; the others go back into *line.
 */
static void
read_remote(Call *call, char **line)
{
	char *others = pstrdup("");
	char *word;

	while (*(word = input_take_word(line)) != '\0')
	{
		if (strncmp(word, "id=", 3) == 0)
			call->remote.id = word + 3;
		else if (strncmp(word, "usage=", 6) == 0 && grammar_check_object(word + 6) == NULL)
			call->remote.usage = word + 6;
		else if (strncmp(word, "failures=", 9) == 0)
			call->source.failures = call->source.forgotten = atoi(word + 9) & 0xff;
		else
		{
			char *blank;

			while ((blank = strchr(word, ' ')) != NULL)
				*blank = '+';
			others = psprintf("%s %s", others, word);
		}
	}
	*line = others;
}

static void
begin(Call *call, FuzzInput *input, char *line, const char *api)
{
	memset(call, 0, sizeof(*call));
	read_remote(call, &line);
	call->options = input_read_options(api, &line);
	call->secrets.api_key = pstrdup(FUZZ_SECRET);
	call->secrets.access_key_id = call->secrets.secret_access_key = call->secrets.session_token =
		call->secrets.api_key;
	call->request.options = call->options;
	call->request.secrets = &call->secrets;
	call->request.request = !call->options->preset->is_store ? "{}"
							: call->remote.id == NULL        ? "{\"get\": \"a\"}"
							: strcmp(call->remote.id, "copy") == 0
								? "{\"copy\": \"a\", \"to\": \"b\"}"
								: psprintf("{\"%s\": \"a\"}", call->remote.id);
	call->request.idempotency_key = "0190a0a0-0000-7000-8000-000000000000";
	call->source.server_name = "server";
	call->source.options = call->options;
	call->source.request = request_build(&call->request);
	call->source.idempotency_key = call->request.idempotency_key;
	call->source.now_unix = 1700000000;
	if (call->remote.id != NULL)
		call->source.remote = &call->remote;
	call->reply = input_take_reply(input);
}

/* ---------- what must hold ---------- */

static void
must_be_json(const char *text, const char *what)
{
	const char *reason;
	char *copy;

	if (text == NULL)
		return;
	must_be_text(text, what);
	must_be_jsonb(text, what);
	copy = pstrdup(text);
	must_be(json_parse(copy, strlen(copy), &reason) != NULL, psprintf("%s is JSON", what), text);
}

static void
must_be_call(const HttpRequest *http)
{
	const char *p;

	if (http == NULL)
		return;
	for (p = http->url; *p > ' ' && *p != 0x7f; p++)
		;
	must_be(*p == '\0', "a URL has no blank and no byte beyond ASCII", http->url);
	must_be_text(http->shown_url, "shown_url");
	must_be_bytes(http->body, http->body_len);
}

/*
 * The calls that an answer leads to.
 */
static void
must_lead_on(Call *call, const Remote *remote)
{
	const char *addresses[] = {call->options->protocol.poll, call->options->protocol.result,
							   call->options->protocol.cancel, call->options->protocol.lookup};
	int i;

	for (i = 0; i < lengthof(addresses); i++)
	{
		Address address;
		char *places;

		if (addresses[i] == NULL)
			continue;
		(void) grammar_read_lookup(addresses[i], &address, &places);
		if (address.method != NULL)
			must_be_call(request_follow(&call->request, remote, &address));
	}
}

static void
must_be_verdict(Call *call, const Verdict *verdict)
{
	ListCell *cell;

	must_be_text(verdict->error, "error");
	must_be_json(verdict->result, "result");
	must_be_json(verdict->usage, "usage");
	must_be_json(verdict->answer, "answer");
	must_be(verdict->progress == -1 || (verdict->progress >= 0 && verdict->progress <= 1),
			"progress is from 0 to 1", NULL);
	must_be(verdict->after >= -1 && verdict->after <= INT64CONST(86400000),
			"a delay is a day at most", NULL);
	must_be(verdict->kind != VERDICT_FAIL || verdict->error != NULL, "a failure says why", NULL);
	foreach(cell, verdict->outputs)
	{
		const Output *output = lfirst(cell);

		must_be_text(output->content_type, "content_type");
		if (output->url != NULL)
			must_be_call(request_download(&call->request, output->url, false, 1000));
		else
			must_be_bytes(output->data, output->len);
	}
}

/* ---------- steps ---------- */

static void
run_submission(Call *call)
{
	Remote remote = {NULL};
	Verdict *verdict = reply_judge(&call->source, call->reply, &remote);

	must_be_verdict(call, verdict);
	must_be_text(remote.id, "remote_id");
	must_be_json(remote.urls, "urls");
	must_be_json(remote.usage, "usage of a prediction");
	must_lead_on(call, &remote);
}

static void
run_saved(Call *call)
{
	char *answer = pnstrdup(call->reply->body->data, call->reply->body->len);
	bool is_verdict;

	if (grammar_check_object(answer) == NULL)
		must_be_verdict(call, reply_judge_saved(&call->source, answer, &is_verdict));
}

static void
run_download(Call *call)
{
	Output output = {NULL};
	char *redirect;

	must_be_verdict(call, reply_judge_download(&call->source, call->reply, &output, &redirect));
	must_be_bytes(output.data, output.len);
	if (redirect != NULL)
		must_be_call(request_download(&call->request, redirect, true, 1000));
}

static void
run_found(Call *call)
{
	const char *lookup = call->options->protocol.lookup;
	Address address;
	char *places;

	(void) grammar_read_lookup(lookup ? lookup : "GET /jobs/{id}#/jobs/*/id /done/{id}", &address,
							   &places);
	(void) found_judge(call->reply, &address, places, call->remote.id ? call->remote.id : "id");
}

static void
run_progress(Call *call)
{
	const char *place = call->options->protocol.progress;
	double progress = reply_read_progress(call->reply, place && *place == '/' ? place : "/a*0.01");

	must_be(progress == -1 || (progress >= 0 && progress <= 1), "progress is from 0 to 1", NULL);
}

static void
run_poll(Call *call, const char *step)
{
	call->source.remote = &call->remote;
	if (strcmp(step, "poll") == 0)
		must_be_verdict(call, reply_judge_poll(&call->source, call->reply, &call->remote));
	else if (strcmp(step, "result") == 0)
		must_be_verdict(call, reply_judge_result(&call->source, call->reply));
	else
		must_be_verdict(call, reply_judge_unended(&call->source, call->reply,
												  "/running/*/id /pending/*/1"));
}

FUZZ_HARNESS(reply)
{
	char *line = input_take_line(input);
	const char *api = read_api(input_take_word(&line));
	const char *step = steps[input_choose(input_take_word(&line), steps, lengthof(steps))];
	Call call;

	if (strstr(line, FUZZ_SECRET) != NULL)
		return; /* whoever writes it into a server's options shows it himself */
	begin(&call, input, line, api);
	if (strcmp(step, "judge") == 0)
		run_submission(&call);
	else if (strcmp(step, "saved") == 0)
		run_saved(&call);
	else if (strcmp(step, "download") == 0)
		run_download(&call);
	else if (strcmp(step, "found") == 0)
		run_found(&call);
	else if (strcmp(step, "progress") == 0)
		run_progress(&call);
	else if (strcmp(step, "unjudged") == 0)
		must_be_verdict(&call, reply_unjudged(&call.source, call.reply, "memory was short"));
	else if (call.options->protocol.state != NULL)
		run_poll(&call, step);
}
