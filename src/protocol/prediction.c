/*
 * prediction.c
 *		What an answer says about a prediction: its state, its progress, and
 *		whether the provider still knows it.
 *
 * Once a prediction has a name, no fault in a poll makes the job submit again.
 * The poll is repeated until there is an answer, the provider says that it
 * does not know the prediction, or the time is up.
 */
#include "postgres.h"

#include "base/backoff.h"
#include "base/clip.h"
#include "protocol/awsjson.h"
#include "protocol/judge.h"
#include "protocol/reasons.h"
#include "protocol/words.h"
#include "server/pointer.h"

#define FORGOTTEN_AFTER 3  /* answers "no such prediction" in a row, before the job fails */
#define UNREADABLE_AFTER 3 /* unreadable results in a row, before the job fails */

/* Refusals of the secrets, before one of a result fails the job: two minutes */
#define REFUSED_AFTER 8
#define MAX_WORD 200          /* bytes of a state, where it is shown */
#define MAX_LAST_ANSWER 65536 /* bytes of JSON; of an unfinished prediction, no more is kept */

static const Backoff ask_again = {1000, 60000}; /* ms, between polls that fail */

/*
 * Returns the node at the place after "exists:" or "bool:".
 */
static cJSON *
node_of_state(const Judge *judge, cJSON *json)
{
	const char *place = strchr(judge->protocol->state, '/');

	return pointer_first(json, pointer_fill(place, "id", judge->id ? judge->id : ""));
}

/*
 * Returns the state of a prediction by a JSON answer. *word is the value that
 * says so, or NULL.
 */
static RemoteState
read_state(const Judge *judge, cJSON *json, char **word)
{
	const char *states = judge->protocol->states ? judge->protocol->states : "";

	*word = NULL;
	switch (judge->protocol->kind.state)
	{
		case STATE_HTTP:
			*word = psprintf("%d", judge->reply->status);
			return grammar_state_of(states, *word);
		case STATE_AT_PLACE:
			*word = answer_state(judge, json);
			return *word ? grammar_state_of(states, *word) : REMOTE_RUNNING;
		case STATE_EXISTS:
			return node_of_state(judge, json) != NULL ? REMOTE_OK : REMOTE_RUNNING;
		case STATE_BOOL:
			return cJSON_IsTrue(node_of_state(judge, json)) ? REMOTE_OK : REMOTE_RUNNING;
	}
	pg_unreachable();
}

/*
 * Returns the number at "place", or at "place*factor" times the factor, from 0
 * to 1; -1 if there is none.
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

/*
 * Judges a prediction that has failed, by the word of its state.
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
 * Judges a prediction that has not ended.  Its answer is kept, in case nothing better comes.
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
 * Judges an answer that there is no such prediction; how describes it.  Fails
 * the job only after several such answers in a row, and not before the
 * prediction is as old as gone_after.
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
		psprintf("server \"%s\" does not know the prediction %s any longer (%s). It may have been paid for: look for it at the provider before you call genjob.retry().",
				 source->server_name, judge->id ? judge->id : "", how);
}

/*
 * Judges the answer of a prediction that succeeded.  If it is JSON inside a
 * string, members with the names of an error's are the answer's own.
 */
static void
judge_answer(Judge *judge, cJSON *json)
{
	MemoryContext caller = MemoryContextSwitchTo(judge_scratch(judge));
	cJSON *answer = awsjson_answer(judge->source->options, json);
	Protocol *own = palloc(sizeof(Protocol));

	MemoryContextSwitchTo(caller);
	*own = *judge->protocol;
	if (answer != json)
	{
		own->error = NULL;
		judge->protocol = own;
	}
	answer_judge_json(judge, answer);
}

/*
 * Judges the state of a prediction.
 */
void
prediction_judge_state(Judge *judge, cJSON *json)
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
				judge_answer(judge, json);
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
 * Judges a call about a prediction that brought no answer, a refusal, or
 * something unreadable: the call is repeated.
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
			psprintf("server \"%s\" answered HTTP %d with %s%s. Check for a proxy in between.",
					 source->server_name, reply->status,
					 reply->body->len == 0 ? "an empty body" : "a body that is ",
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
 * Judges the answer to a poll.  If the prediction has succeeded, adds to
 * *remote where its result is.
 */
Verdict *
reply_judge_poll(const ReplySource *source, HttpReply *reply, Remote *remote)
{
	Judge judge = judge_begin(source, reply);
	const char *reason = NULL;
	cJSON *json = reply_is_success(reply) ? answer_read_json(&judge, &reason) : NULL;

	if (json != NULL)
	{
		prediction_judge_state(&judge, json);
		if (judge.verdict->has_answer)
			remote->urls = reply_read_urls(&judge, json, remote->urls);
	}
	else if (reply_is_success(reply) && reply->body->len > 0 &&
			 judge.protocol->kind.state == STATE_HTTP && reply->status == 200)
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
 * Judges a list of all unfinished predictions (ids at places), for a
 * prediction about which the poll says nothing.  An answer that is no list
 * says nothing either.
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
 * True if the answer that failed a job may come from a proxy instead of the
 * server.
 */
static bool
is_unreadable(const Verdict *verdict)
{
	return verdict->kind == VERDICT_FAIL && verdict->result == NULL;
}

/*
 * True if a refusal may be about a secret that was replaced meanwhile.
 */
static bool
refuses_secrets(const HttpReply *reply)
{
	return reply->status == 401 || reply->status == 403;
}

/*
 * Judges the result of a prediction that succeeded, where it has an address of its own.
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
 * Returns the progress in an answer; -1 if there is none.
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
