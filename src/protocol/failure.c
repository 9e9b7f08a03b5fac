/*
 * failure.c
 *		What a call comes to that brought no answer, or a refusal.
 */
#include "postgres.h"

#include "http/header.h"
#include "base/json.h"
#include "protocol/delay.h"
#include "protocol/judge.h"
#include "protocol/s3answer.h"
#include "protocol/words.h"

static const char *
describe_duration(int64 ms)
{
	if (ms % 60000 == 0)
		return psprintf(INT64_FORMAT " min", ms / 60000);
	return ms % 1000 == 0 ? psprintf(INT64_FORMAT " s", ms / 1000)
						  : psprintf(INT64_FORMAT " ms", ms);
}

/*
 * What to tell about a call that ended without an answer.
 */
char *
failure_describe(const ReplySource *source, const HttpReply *reply)
{
	const char *name = source->server_name;
	const char *url = source->options->url;
	char *why = words_of_bytes(source->request, reply->error_text, strlen(reply->error_text));

	switch (reply->error)
	{
		case HTTP_OK:
		case HTTP_RESOLVE:
		case HTTP_CONNECT:
			return psprintf("could not reach server \"%s\" at %s: %s. Check that it runs, and its option url.",
							name, url, why);
		case HTTP_FORBIDDEN:
			return psprintf("the URL that server \"%s\" gave leads into a private network, where nothing is fetched from.",
							name);
		case HTTP_TLS:
			return psprintf("could not agree on TLS with server \"%s\" at %s: %s. Check its option url.",
							name, url, why);
		case HTTP_UNTRUSTED:
			return psprintf("the TLS certificate of server \"%s\" at %s does not verify: %s. Name its authority's certificate in the option ca_file.",
							name, url, why);
		case HTTP_TIMEOUT:
			return psprintf("server \"%s\" did not answer within %s. Raise its option timeout if it needs longer.",
							name, describe_duration(source->options->timeout));
		case HTTP_CUT:
			return psprintf("the connection to server \"%s\" ended before the answer was complete: %s.",
							name, why);
		case HTTP_GARBLED:
			return psprintf("what server \"%s\" answered is not HTTP: %s. Check its option url.",
							name, why);
		case HTTP_TOO_LARGE:
			return psprintf("the answer of server \"%s\" is larger than " INT64_FORMAT
							" kB. Raise its option max_response.",
							name, source->options->max_response / 1024);
		case HTTP_MEMORY:
			return psprintf("no memory was left for the answer of server \"%s\". Lower max_in_flight or max_response.",
							name);
		case HTTP_OTHER:
			break;
	}
	return psprintf("the call of server \"%s\" failed: %s.", name, why);
}

/*
 * What becomes of a call that ended without an answer: a fault of the moment is tried again, one of
 * the configuration is not.
 */
static void
judge_no_answer(Judge *judge)
{
	const HttpReply *reply = judge->reply;
	Verdict *verdict = judge->verdict;
	HttpError error = reply->error;
	bool reached = error != HTTP_RESOLVE && error != HTTP_CONNECT && error != HTTP_UNTRUSTED &&
				   error != HTTP_FORBIDDEN;

	verdict->kind = error == HTTP_UNTRUSTED || error == HTTP_FORBIDDEN || error == HTTP_GARBLED ||
							error == HTTP_TOO_LARGE
						? VERDICT_FAIL
						: VERDICT_RETRY;
	verdict->unknown = reached && reply->sent && error != HTTP_TOO_LARGE;
	verdict->error = failure_describe(judge->source, reply);
}

static const char *
advice_for(int status)
{
	switch (status)
	{
		case 401:
		case 403:
			return " Check the api_key in the user mapping, and the server's option auth.";
		case 404:
		case 405:
			return " Check the server's options api, url and path.";
		default:
			return "";
	}
}

/*
 * Returns what is done after a refusal of that step.  The option retry_status goes before the server's own word on
 * whether to try again, and that before what its status says.
 */
StatusAction
failure_action(const Judge *judge, StatusStep step)
{
	const ServerOptions *options = judge->source->options;
	StatusAction action = status_action(step, judge->reply->status, options->retry_status);
	const char *own = options->preset->worth_a_retry;
	char *word = own ? header_find(judge->reply, own) : NULL;

	if (judge->is_of_the_moment)
		return ACTION_AGAIN;
	if (options->retry_status != NULL && step == STATUS_OF_SUBMIT)
		return action;
	if (word == NULL)
		word = header_find(judge->reply, "x-should-retry");
	if (word != NULL && pg_strcasecmp(word, "true") == 0 && action == ACTION_FAIL)
		return ACTION_AGAIN;
	if (word != NULL && pg_strcasecmp(word, "false") == 0 &&
		(action == ACTION_AGAIN || action == ACTION_DEFER))
		return ACTION_FAIL;
	return action;
}

/*
 * Whether a refusal is the kept answer of a prediction that has failed, which another one may not: its server says in a
 * header of its own whether to submit again.
 */
bool
failure_is_of_prediction(const Judge *judge)
{
	const char *own = judge->source->options->preset->worth_a_retry;
	char *word = own ? header_find(judge->reply, own) : NULL;

	return word != NULL && pg_strcasecmp(word, "true") == 0;
}

/*
 * The server's name for the kind of error, in brackets; empty where it gives none.
 */
static const char *
describe_error_type(const Judge *judge)
{
	const char *header = judge->source->options->preset->error_type;
	char *type = header ? header_find(judge->reply, header) : NULL;

	if (type == NULL)
		return "";
	type[strspn(type, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")] = '\0';
	return *type != '\0' ? psprintf(" (%s)", pnstrdup(type, 100)) : "";
}

/*
 * What a refusal says, as a sentence, and in *after for how many ms it asks to wait, -1 if it does not.
 */
char *
failure_of_refusal(Judge *judge, int64 *after)
{
	const ReplySource *source = judge->source;
	int status = judge->reply->status;
	MemoryContext caller = MemoryContextSwitchTo(judge_scratch(judge));
	cJSON *json;
	char *words =
		words_of_body(source->request, judge->reply, judge->protocol->error, judge->id, &json);
	const char *stop = *words != '\0' && strchr(".!?", words[strlen(words) - 1]) ? "" : ".";

	judge->verdict->stuck = stuck_find(judge->reply, json, words);
	MemoryContextSwitchTo(caller);
	*after = delay_read(judge->reply, json, judge->protocol->retry_after, words, source->now_unix);
	judge->is_of_the_moment = source->options->preset->is_store && s3_is_of_the_moment(words);
	if (status >= 300 && status < 400 && !source->options->preset->is_store)
		return psprintf("server \"%s\" answered HTTP %d, a redirection, which is not followed. Set its option url to where it is now.",
						source->server_name, status);
	return psprintf("server \"%s\" answered HTTP %d%s%s%s%s%s", source->server_name, status,
					describe_error_type(judge), *words ? ": " : "", words, stop,
					source->options->preset->is_store ? s3_advice(source, judge->reply, words)
													  : advice_for(status));
}

/*
 * A submission that is refused, and waiting alone does not mend that: all of the server's jobs wait, unless it may be
 * about this job alone; one that is too large fails.  The option retry_status may say that such a job fails.
 */
static void
judge_stuck(Judge *judge)
{
	const StatusSet *retried = judge->source->options->retry_status;
	Verdict *verdict = judge->verdict;
	int status = judge->reply->status;

	if (retried != NULL && !status_is_in(retried, status))
		return;
	verdict->kind = verdict->stuck == STUCK_SIZE ? VERDICT_FAIL : VERDICT_DEFER;
	verdict->after = -1;
	verdict->of_job =
		status == 400 || (verdict->stuck == STUCK_MODEL && judge->source->request->names_model);
	verdict->error = psprintf("%s That is, %s: waiting alone does not mend it.", verdict->error,
							  stuck_describe(verdict->stuck));
}

/*
 * A submission that was refused.
 */
static void
judge_refusal(Judge *judge)
{
	Verdict *verdict = judge->verdict;

	verdict->error = failure_of_refusal(judge, &verdict->after);
	switch (failure_action(judge, STATUS_OF_SUBMIT))
	{
		case ACTION_DEFER:
			verdict->kind = VERDICT_DEFER;
			break;
		case ACTION_AGAIN:
			verdict->kind = VERDICT_RETRY;
			break;
		default:
			verdict->kind = VERDICT_FAIL;
	}
	verdict->unknown = status_may_be_accepted(judge->reply->status);
	if (verdict->stuck != STUCK_NOT)
		judge_stuck(judge);
}

/*
 * A submission that brought no answer, or a refusal.
 */
void
failure_judge(Judge *judge)
{
	const HttpReply *reply = judge->reply;

	if (reply->status >= 300 && (reply->error == HTTP_OK || reply->error == HTTP_CUT))
		judge_refusal(judge);
	else
		judge_no_answer(judge);
}
