/*
 * reply.c
 *		From an HTTP reply to what it means for the job.
 *
 * Pure: the clock comes in with the source.  Every byte of a reply is hostile, and may have been paid
 * for: nothing in it can raise an error, and what cannot be understood is kept.
 *
 * Once a prediction has a name, no fault in asking about it makes the job submit again: the question
 * is repeated until there is an answer, the provider says that it does not know the prediction, or the
 * time is up.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/backoff.h"
#include "base/bytes.h"
#include "base/clip.h"
#include "http/header.h"
#include "base/media.h"
#include "protocol/judge.h"
#include "protocol/s3answer.h"
#include "protocol/saved.h"
#include "server/pointer.h"
#include "protocol/reasons.h"
#include "protocol/stream.h"
#include "protocol/words.h"
#include "http/url.h"

#define FORGOTTEN_AFTER 3  /* answers that there is no such prediction, before they are believed */
#define UNREADABLE_AFTER 3 /* results that cannot be read, before one is believed */
#define REFUSED_AFTER \
	8 /* refusals of the secrets, before one of a result is believed: some two minutes */
#define MAX_ID 2048           /* bytes of a prediction's id; a longer one is none */
#define MAX_URL 16384         /* bytes of a URL to ask at */
#define MAX_WORD 200          /* bytes of a state, where it is shown */
#define MAX_LAST_ANSWER 65536 /* bytes of JSON that are kept of a prediction that does not end */

static const Backoff ask_again = {1000, 60000}; /* ms, between questions that are not answered */

/*
 * Begins to judge a reply, or, where it is NULL, what was kept of one.
 */
Judge
judge_begin(const ReplySource *source, HttpReply *reply)
{
	Verdict *verdict = palloc0(sizeof(Verdict));
	Judge judge = {
		.source = source,
		.protocol = &source->options->protocol,
		.reply = reply,
		.verdict = verdict,
		.id = source->remote ? source->remote->id : NULL,
	};

	verdict->after = -1;
	verdict->progress = -1;
	verdict->http_status = reply ? reply->status : 0;
	if (reply != NULL)
		words_mask_reply(source->request, reply);
	return judge;
}

/*
 * Where trees of JSON are that go with the judge.
 */
MemoryContext
judge_scratch(Judge *judge)
{
	if (judge->scratch == NULL)
		judge->scratch =
			AllocSetContextCreate(CurrentMemoryContext, "genjob answer", ALLOCSET_DEFAULT_SIZES);
	return judge->scratch;
}

/*
 * The verdict, when all is read.
 */
Verdict *
judge_end(Judge *judge)
{
	if (judge->scratch != NULL)
		MemoryContextDelete(judge->scratch);
	judge->scratch = NULL;
	return judge->verdict;
}

/*
 * Whether a call has brought what it was for.
 */
bool
reply_is_success(const HttpReply *reply)
{
	return reply->error == HTTP_OK && reply->status >= 200 && reply->status < 300;
}

/* ---------- predictions ---------- */

/*
 * How a prediction is, as an answer in JSON says; and *word, the value that says so, if there is one.
 */
static RemoteState
read_state(const Judge *judge, cJSON *json, char **word)
{
	const char *place = judge->protocol->state;
	const char *states = judge->protocol->states ? judge->protocol->states : "";
	const char *pointer = strchr(place, '/');
	cJSON *node;

	*word = NULL;
	if (strcmp(place, "http") == 0)
	{
		*word = psprintf("%d", judge->reply->status);
		return grammar_state_of(states, *word);
	}
	if (*place == '/')
	{
		*word = answer_state(judge, json);
		return *word ? grammar_state_of(states, *word) : REMOTE_RUNNING;
	}
	node = pointer_first(json, pointer_fill(pointer, "id", judge->id ? judge->id : ""));
	if (strncmp(place, "bool:", 5) == 0)
		return cJSON_IsTrue(node) ? REMOTE_OK : REMOTE_RUNNING;
	return node != NULL ? REMOTE_OK : REMOTE_RUNNING;
}

/*
 * "place", or "place*factor", in an answer.
 */
static double
progress_in(cJSON *json, const char *place)
{
	const char *star = strrchr(place, '*');
	bool has_factor = star != NULL && (isdigit((unsigned char) star[1]) || star[1] == '.');
	const cJSON *node = pointer_first(json, has_factor ? pnstrdup(place, star - place) : place);

	if (!json_is_number(node))
		return -1;
	return Max(0.0, Min(1.0, json_double(node) * (has_factor ? atof(star + 1) : 1)));
}

static void
read_url(const Judge *judge, cJSON *json, const char *place, cJSON *urls)
{
	const cJSON *node = pointer_first(json, place);
	char *url = cJSON_IsString(node) && strlen(node->valuestring) <= MAX_URL
					? url_resolve(judge->source->request->url, node->valuestring)
					: NULL;

	if (url != NULL)
		json_attach(urls, place, json_create_string(url));
}

/*
 * The URLs that an answer gives for further questions.
 */
static char *
read_urls(const Judge *judge, cJSON *json)
{
	const char *cancel = judge->protocol->cancel;
	const char *addresses[] = {judge->protocol->poll, judge->protocol->result,
							   cancel ? grammar_fit_addresses(cancel, true) : NULL};
	cJSON *urls = json_create(cJSON_Object);
	int i;

	for (i = 0; i < lengthof(addresses); i++)
	{
		const char *rest = addresses[i];

		while (rest != NULL)
		{
			Address address;

			rest = grammar_read_address(rest, &address);
			if (address.place != NULL)
				read_url(judge, json, address.place, urls);
		}
	}
	return urls->child != NULL ? json_print(urls) : NULL;
}

/*
 * A prediction that has failed, by the word of its state.
 */
static void
judge_failed(Judge *judge, cJSON *json, const char *word)
{
	Verdict *verdict = judge->verdict;
	char *words = reasons_of_json(json, judge->protocol->error, judge->id);

	verdict->kind = VERDICT_FAIL;
	verdict->usage = answer_read_usage(judge, json);
	words_mask_rest(judge->source->request, json);
	answer_keep_json(judge, json);
	verdict->error =
		psprintf("server \"%s\" ended the prediction as \"%s\"%s%s", judge->source->server_name,
				 clip_line(word, strlen(word), MAX_WORD), words ? ": " : ".", words ? words : "");
}

/*
 * A prediction that has not ended.  The answer is kept, in case that nothing better comes.
 */
static void
judge_running(Judge *judge, cJSON *json)
{
	const char *progress = judge->protocol->progress;
	Verdict *verdict = judge->verdict;

	verdict->kind = VERDICT_WAIT;
	verdict->absent = verdict->remote_state == NULL;
	if (progress != NULL && *progress == '/')
		verdict->progress = progress_in(json, progress);
	if (json_length(json) > MAX_LAST_ANSWER)
		return;
	words_mask_rest(judge->source->request, json);
	verdict->result = json_print(json);
}

/*
 * An answer, of which how is a description, that there is no such prediction: believed only when it is given
 * several times in a row, and not of a prediction that is only just made.
 */
static void
judge_forgotten(Judge *judge, const char *how)
{
	const ReplySource *source = judge->source;
	Verdict *verdict = judge->verdict;

	verdict->kind = VERDICT_WAIT;
	verdict->forgotten = true;
	if (source->forgotten + 1 < FORGOTTEN_AFTER || source->age < source->options->gone_after)
		return;
	verdict->kind = VERDICT_FAIL;
	verdict->error =
		psprintf("server \"%s\" does not know the prediction %s any more (%s). It may have been paid for: look for it at the provider before genjob.retry().",
				 source->server_name, judge->id ? judge->id : "", how);
}

/*
 * What the state of a prediction means.
 */
static void
judge_state(Judge *judge, cJSON *json)
{
	Verdict *verdict = judge->verdict;
	char *word;
	RemoteState state = read_state(judge, json, &word);

	if (word != NULL)
		verdict->remote_state = clip_line(word, strlen(word), MAX_WORD);
	switch (state)
	{
		case REMOTE_RUNNING:
			judge_running(judge, json);
			break;
		case REMOTE_OK:
		case REMOTE_PARTLY:
			if (judge->protocol->result == NULL)
				answer_judge_json(judge, json);
			else if (reasons_of_json(json, judge->protocol->error, judge->id) != NULL)
				judge_failed(judge, json, word ? word : "done"); /* fal: COMPLETED, with an error */
			else
			{
				verdict->kind = VERDICT_WAIT;
				verdict->usage = answer_read_usage(judge, json);
				verdict->has_answer = true;
				verdict->after = 0;
			}
			break;
		case REMOTE_FAILED:
			judge_failed(judge, json, word);
			break;
		case REMOTE_GONE:
			judge_forgotten(judge, psprintf("\"%s\"", verdict->remote_state));
			break;
	}
}

/*
 * The answer to a submission that became a prediction: its name, and how it is already.
 */
static void
judge_named(Judge *judge, Remote *remote)
{
	const ReplySource *source = judge->source;
	const char *place = judge->protocol->remote_id;
	const char *reason;
	cJSON *json =
		stream_is(judge->protocol, judge->reply) ? NULL : answer_read_json(judge, &reason);
	cJSON *node;

	if (json == NULL)
	{
		answer_judge_body(judge);
		return;
	}
	node = place != NULL && *place == '/' ? pointer_first(json, place) : NULL;
	if (place != NULL && *place == '=')
	{
		/* a server that knows nothing of ids that others choose answers with its own */
		node = pointer_first(json, place + 1);
		remote->id = cJSON_IsString(node) && *node->valuestring != '\0'
						 ? pstrdup(node->valuestring)
						 : pstrdup(source->idempotency_key);
		if (strlen(remote->id) > MAX_ID)
			remote->id = pstrdup(source->idempotency_key);
	}
	else if (node != NULL)
		remote->id = answer_text_of(node);
	if (remote->id != NULL && (*remote->id == '\0' || strlen(remote->id) > MAX_ID))
		remote->id = NULL;
	remote->urls = read_urls(judge, json);
	remote->usage = answer_read_usage(judge, json);
	remote->is_private = judge->reply->peer_is_private;
	remote->is_public = judge->reply->peer_is_public;
	judge->id = remote->id;
	if (remote->id == NULL && remote->urls == NULL)
	{
		char *words = reasons_of_json(json, judge->protocol->error, NULL);

		judge->verdict->kind = VERDICT_FAIL;
		words_mask_rest(source->request, json);
		answer_keep_json(judge, json);
		judge->verdict->error =
			words
				? answer_describe_words(judge, words)
				: psprintf("the answer of server \"%s\" names no prediction at %s; it is kept in the column result.",
						   source->server_name, place ? place : "remote_id");
		return;
	}
	judge->verdict->note = answer_describe_warning(judge, json);
	if (strcmp(judge->protocol->state, "http") == 0)
		judge->verdict->kind = VERDICT_WAIT; /* it is the status of the poll that tells */
	else
		judge_state(judge, json);
}

/*
 * An answer that is a failure by its own word, such as a function's that raised an error.  It is kept.
 */
static void
judge_declared_failure(Judge *judge)
{
	const ReplySource *source = judge->source;
	char *kind = header_find(judge->reply, source->options->preset->fails_by);
	const char *reason;
	cJSON *json = answer_read_json(judge, &reason);
	char *words = json ? reasons_of_json(json, judge->protocol->error, NULL) : NULL;

	judge->verdict->kind = VERDICT_FAIL;
	if (json != NULL)
	{
		words_mask_rest(source->request, json);
		answer_keep_json(judge, json);
	}
	else if (judge->reply->body->len > 0)
		answer_judge_unread(judge, reason);
	judge->verdict->kind = VERDICT_FAIL;
	kind[strspn(kind, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")] = '\0';
	judge->verdict->error = psprintf("what server \"%s\" ran has failed%s%s%s%s%s",
									 source->server_name, *kind ? " (" : "", pnstrdup(kind, 100),
									 *kind ? ")" : "", words ? ": " : ".", words ? words : "");
}

/*
 * What the answer to the job's own call means, in the current memory context.  The reply's body is
 * overwritten, and freed or pointed to by the outputs.  Where the answer names a prediction, *remote
 * is filled in: that must be committed before anything else is done with the verdict.
 */
Verdict *
reply_judge(const ReplySource *source, HttpReply *reply, Remote *remote)
{
	Judge judge = judge_begin(source, reply);

	if (source->options->preset->is_store)
		s3_judge(&judge);
	else if (!reply_is_success(reply))
		failure_judge(&judge);
	else if (source->options->preset->fails_by != NULL &&
			 header_find(reply, source->options->preset->fails_by) != NULL)
		judge_declared_failure(&judge);
	else if (strcmp(judge.protocol->reply, "poll") == 0)
		judge_named(&judge, remote);
	else
		answer_judge_body(&judge);
	return judge_end(&judge);
}

/*
 * A question about a prediction that was not answered, or by what cannot be read for that reason: it is
 * asked again.
 */
static void
judge_unanswered(Judge *judge, StatusStep step, const char *reason)
{
	const ReplySource *source = judge->source;
	const HttpReply *reply = judge->reply;
	Verdict *verdict = judge->verdict;
	bool refused = reply->error == HTTP_OK && reply->status >= 300;
	bool forgotten = refused && failure_action(judge, step) == ACTION_MISS;

	if (refused)
		verdict->error = failure_of_refusal(judge, &verdict->after);
	else if (reply->error == HTTP_OK)
		verdict->error =
			psprintf("server \"%s\" answered HTTP %d with %s%s. Check what stands between, such as a proxy.",
					 source->server_name, reply->status,
					 reply->body->len == 0 ? "an empty body" : "what is ",
					 reply->body->len == 0 ? "" : reason);
	else
		verdict->error = failure_describe(source, reply);
	verdict->kind = VERDICT_WAIT;
	if (verdict->after < 0)
		verdict->after = backoff_delay(&ask_again, source->failures);
	if (forgotten)
		judge_forgotten(judge, psprintf("HTTP %d", reply->status));
}

/*
 * What the answer to a poll means.
 */
Verdict *
reply_judge_poll(const ReplySource *source, HttpReply *reply)
{
	Judge judge = judge_begin(source, reply);
	const char *reason = NULL;
	cJSON *json = reply_is_success(reply) ? answer_read_json(&judge, &reason) : NULL;

	if (json != NULL)
		judge_state(&judge, json);
	else if (reply_is_success(reply) && reply->body->len > 0 &&
			 strcmp(judge.protocol->state, "http") == 0 && reply->status == 200)
		answer_judge_body(&judge);
	else if (reason != NULL && json_is_too_much(reason))
		answer_judge_unread(&judge, reason); /* another answer would be no smaller */
	else
		judge_unanswered(&judge, STATUS_OF_POLL, reason);
	return judge_end(&judge);
}

typedef struct Search
{
	const char *text;
	bool found;
} Search;

static void
compare_text(cJSON *node, const PointerPlace *place, void *arg)
{
	Search *search = arg;

	search->found |= cJSON_IsString(node) && strcmp(node->valuestring, search->text) == 0;
}

/*
 * What a list of all predictions that have not ended means for one about which the poll says nothing.  The
 * list has ids at places.  No list means nothing.
 */
Verdict *
reply_judge_unended(const ReplySource *source, HttpReply *reply, const char *places)
{
	Judge judge = judge_begin(source, reply);
	const char *reason;
	cJSON *json = reply_is_success(reply) ? answer_read_json(&judge, &reason) : NULL;
	Search search = {judge.id ? judge.id : ""};
	const char *place;
	int len;

	judge.verdict->kind = VERDICT_WAIT;
	if (json == NULL)
		return judge_end(&judge);
	while ((place = grammar_next_word(&places, &len)) != NULL)
		pointer_each(json, pnstrdup(place, len), compare_text, &search);
	if (!search.found)
		judge_forgotten(&judge, "it is neither in the queue nor in the history");
	return judge_end(&judge);
}

/*
 * Whether an answer that failed a job was none: something in between may have said it.
 */
static bool
is_unreadable(const Verdict *verdict)
{
	return verdict->kind == VERDICT_FAIL && verdict->result == NULL;
}

/*
 * Whether a refusal may be of a secret that was replaced in the meantime.
 */
static bool
refuses_secrets(const HttpReply *reply)
{
	return reply->status == 401 || reply->status == 403;
}

/*
 * What the answer of a prediction that succeeded means, where it is fetched from an address of its own.
 */
Verdict *
reply_judge_result(const ReplySource *source, HttpReply *reply)
{
	Judge judge = judge_begin(source, reply);
	Verdict *verdict = judge.verdict;

	if (reply_is_success(reply))
	{
		answer_judge_body(&judge);
		if (is_unreadable(verdict) && source->failures + 1 < UNREADABLE_AFTER)
		{
			verdict->kind = VERDICT_WAIT;
			verdict->has_answer = true;
			verdict->outputs = NIL;
			verdict->after = backoff_delay(&ask_again, source->failures);
		}
	}
	else if (reply->error == HTTP_OK && reply->status >= 500 && failure_is_of_prediction(&judge))
	{
		verdict->kind = VERDICT_RETRY;
		verdict->error = failure_of_refusal(&judge, &verdict->after);
	}
	else if (reply->error == HTTP_OK &&
			 (failure_action(&judge, STATUS_OF_RESULT) == ACTION_FAIL ||
			  (refuses_secrets(reply) && source->failures + 1 >= REFUSED_AFTER)))
	{
		verdict->kind = VERDICT_FAIL;
		verdict->error = failure_of_refusal(&judge, &verdict->after);
	}
	else
	{
		judge_unanswered(&judge, STATUS_OF_RESULT, NULL);
		verdict->has_answer = true;
	}
	return judge_end(&judge);
}

/*
 * What an answer means that was saved while its outputs were downloaded.
 */
Verdict *
reply_judge_saved(const ReplySource *source, const char *answer)
{
	Judge judge = judge_begin(source, NULL);
	MemoryContext caller = CurrentMemoryContext;
	char *text = MemoryContextAllocHuge(caller, strlen(answer) + 1); /* outputs may be in it */
	const char *reason;
	cJSON *json;

	strcpy(text, answer);
	MemoryContextSwitchTo(judge_scratch(&judge));
	json = json_parse(text, strlen(text), &reason);
	MemoryContextSwitchTo(caller);
	if (json == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION), errmsg("it is %s", reason)));
	if (saved_is(json))
	{
		Verdict *verdict = saved_read(json);

		(void) judge_end(&judge);
		return verdict;
	}
	words_mask_json(source->request, json);
	answer_judge_json(&judge, json);
	return judge_end(&judge);
}

/* ---------- other ---------- */

/*
 * What a finished call means when reply_judge() raised an error, for want of memory: an answer that may
 * have been paid for is kept as it came.
 */
Verdict *
reply_unjudged(const ReplySource *source, HttpReply *reply, const char *why)
{
	Judge judge = judge_begin(source, reply);
	Verdict *verdict = judge.verdict;
	bool is_answer = reply_is_success(reply) && reply->body->len > 0;

	verdict->kind = is_answer ? VERDICT_FAIL : VERDICT_RETRY;
	verdict->unknown = reply->sent;
	verdict->error =
		psprintf("the answer of server \"%s\" could not be read: %s%s.", source->server_name, why,
				 is_answer ? "; it is kept in gen_outputs" : "");
	if (is_answer)
	{
		Output *output = palloc0(sizeof(Output));

		if (!media_is_playable(media_type_of(reply->body->data, reply->body->len)))
			words_mask_plain(source->request, reply->body->data, reply->body->len);
		output->content_type = "application/octet-stream";
		output->data = reply->body->data;
		output->len = reply->body->len;
		verdict->outputs = lappend(verdict->outputs, output);
	}
	return verdict;
}

/*
 * The progress that an answer of its own tells; -1 if it does not.
 */
double
reply_read_progress(HttpReply *reply, const char *place)
{
	const char *reason;
	cJSON *json = reply_is_success(reply) && reply->body->len > 0
					  ? json_parse_answer(reply->body->data, reply->body->len, &reason)
					  : NULL;

	return json ? progress_in(json, place) : -1;
}

/*
 * What it means for a job that genjob ended while its call was in flight.
 */
Verdict *
reply_lost(void)
{
	Verdict *verdict = palloc0(sizeof(Verdict));

	verdict->kind = VERDICT_LOST;
	verdict->unknown = true;
	verdict->progress = -1;
	verdict->error = pstrdup("genjob or the database server stopped while the call was in flight.");
	return verdict;
}
