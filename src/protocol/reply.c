/*
 * reply.c
 *		What an HTTP reply means for the job.
 *
 * Pure: the clock comes in with the source.  Every byte of a reply is hostile,
 * and may have been paid for: nothing in it may raise an error, and what
 * cannot be understood is kept.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/bytes.h"
#include "http/header.h"
#include "base/media.h"
#include "protocol/awsjson.h"
#include "protocol/judge.h"
#include "protocol/s3answer.h"
#include "protocol/saved.h"
#include "server/pointer.h"
#include "protocol/reasons.h"
#include "protocol/stream.h"
#include "protocol/words.h"
#include "http/url.h"

#define MAX_ID 2048   /* bytes of a prediction's id; a longer one is ignored */
#define MAX_URL 16384 /* bytes of a URL that an answer gives */

/*
 * Begins to judge a reply, or a saved answer if reply is NULL.
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
	if (reply != NULL)
		awsjson_read_status(source->options, reply);
	verdict->http_status = reply ? reply->status : 0;
	if (reply != NULL)
		words_mask_reply(source->request, reply);
	return judge;
}

/*
 * Returns the memory context for trees of JSON; judge_end() frees it.
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
 * Ends the judgement, and returns the verdict.
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
 * True if a call brought a success.
 */
bool
reply_is_success(const HttpReply *reply)
{
	return reply->error == HTTP_OK && reply->status >= 200 && reply->status < 300;
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
 * Returns the place of the next "{/place}" in a path; NULL if there is none.
 */
static const char *
find_place(const char *path, int *len)
{
	const char *open = strstr(path, "{/");
	const char *close = open ? strchr(open, '}') : NULL;

	*len = close ? (int) (close - open - 1) : 0;
	return close ? open + 1 : NULL;
}

/*
 * Fills the places of a path, such as "/files/{/file_id}", from the answer.
 * Adds the path to urls if it has places, and the answer has them all.
 */
static void
read_path(cJSON *json, const char *path, cJSON *urls)
{
	char *filled = pstrdup(path);
	const char *place;
	int len;

	while ((place = find_place(filled, &len)) != NULL)
	{
		char *pointer = pnstrdup(place, len);
		cJSON *node = pointer_first(json, pointer);
		char *text = node != NULL ? answer_text_of(node) : NULL;

		if (text == NULL || *text == '\0' || strlen(text) > MAX_ID)
			return;
		filled = grammar_fill(filled, pointer, grammar_percent_encode(text, ""));
	}
	if (strcmp(filled, path) != 0)
		json_attach(urls, path, json_create_string(filled));
}

/*
 * Returns where further calls go, by this answer and by earlier ones; JSON or
 * NULL.
 */
char *
reply_read_urls(const Judge *judge, cJSON *json, const char *earlier)
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
			else
				read_path(json, address.path, urls);
		}
	}
	if (urls->child == NULL)
		return earlier != NULL ? pstrdup(earlier) : NULL;
	if (earlier != NULL)
		urls = json_merge(json_parse_trusted(earlier), urls);
	return json_print(urls);
}

/*
 * Judges the answer to a submission that became a prediction: its name, which
 * goes into *remote, and its state.
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
		/* a server that ignores the id that we chose answers with its own */
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
	remote->urls = reply_read_urls(judge, json, NULL);
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
	if (judge->protocol->kind.state == STATE_HTTP)
		judge->verdict->kind = VERDICT_WAIT; /* the status of the poll says the state */
	else
		prediction_judge_state(judge, json);
}

/*
 * Judges a refusal.  If it says that an earlier call with this name has begun
 * the work, the job takes that over.
 */
static void
judge_refused(Judge *judge, Remote *remote)
{
	char *id = awsjson_known_id(judge->source->options, judge->reply);

	if (id == NULL)
	{
		failure_judge(judge);
		return;
	}
	remote->id = id;
	judge->id = id;
	judge->verdict->kind = VERDICT_WAIT;
}

/*
 * Judges the answer to a hand-over: the receiver has taken the job, under an
 * id that we never ask about.
 */
static void
judge_handed_over(Judge *judge, Remote *remote)
{
	char *id = header_find(judge->reply, "x-amzn-RequestId");

	remote->id = id != NULL && *id != '\0' && strlen(id) <= MAX_ID
					 ? id
					 : pstrdup(judge->source->idempotency_key);
	judge->id = remote->id;
	judge->verdict->kind = VERDICT_WAIT;
}

/*
 * Judges an answer whose header says that it is a failure, such as that of a
 * function that raised an error.  Keeps the answer.
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
	judge->verdict->error = psprintf("the function that server \"%s\" ran has failed%s%s%s%s%s",
									 source->server_name, *kind ? " (" : "", pnstrdup(kind, 100),
									 *kind ? ")" : "", words ? ": " : ".", words ? words : "");
}

/*
 * Judges the answer to the job's own call, in the current memory context.
 * Overwrites the reply's body; either frees it, or outputs point into it.  If
 * the answer names a prediction, fills in *remote: commit that before anything
 * else is done with the verdict.
 */
Verdict *
reply_judge(const ReplySource *source, HttpReply *reply, Remote *remote)
{
	Judge judge = judge_begin(source, reply);

	if (source->options->preset->is_store)
		s3_judge(&judge);
	else if (!reply_is_success(reply))
		judge_refused(&judge, remote);
	else if (source->options->preset->fails_by != NULL &&
			 header_find(reply, source->options->preset->fails_by) != NULL)
		judge_declared_failure(&judge);
	else if (judge.protocol->kind.reply == REPLY_POLL)
		judge_named(&judge, remote);
	else if (options_hands_over(source->options))
		judge_handed_over(&judge, remote);
	else
		answer_judge_body(&judge);
	return judge_end(&judge);
}

/*
 * Judges a saved answer whose outputs were being downloaded.  If it is a saved
 * verdict (saved.c) instead, sets *is_verdict and returns that.  Raises an
 * error if it is not JSON.
 */
Verdict *
reply_judge_saved(const ReplySource *source, const char *answer, bool *is_verdict)
{
	Judge judge = judge_begin(source, NULL);
	MemoryContext caller = CurrentMemoryContext;
	char *text = MemoryContextAllocHuge(caller, strlen(answer) + 1); /* outputs may point into it */
	const char *reason;
	cJSON *json;

	strcpy(text, answer);
	MemoryContextSwitchTo(judge_scratch(&judge));
	json = json_parse_saved(text, strlen(text), &reason);
	MemoryContextSwitchTo(caller);
	if (json == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION), errmsg("it is %s", reason)));
	*is_verdict = saved_is(json);
	if (*is_verdict)
	{
		Verdict *verdict = saved_read(json);

		(void) judge_end(&judge);
		return verdict;
	}
	words_mask_json(source->request, json);
	answer_judge_json(&judge, json);
	return judge_end(&judge);
}

/*
 * Returns the verdict for a finished call if reply_judge() raised an error,
 * because memory ran out.  Keeps an answer as it came, because it may have
 * been paid for.
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

		if (media_has_text(media_type_of(reply->body->data, reply->body->len)))
			words_mask_plain(source->request, reply->body->data, reply->body->len);
		output->content_type = "application/octet-stream";
		output->data = reply->body->data;
		output->len = reply->body->len;
		verdict->outputs = lappend(verdict->outputs, output);
	}
	return verdict;
}

/*
 * Returns the verdict for a job whose call was in flight when genjob ended.
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
