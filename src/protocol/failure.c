/*
 * failure.c
 *		Judges calls that brought no answer, or a refusal.
 */
#include "postgres.h"

#include "http/header.h"
#include "base/json.h"
#include "protocol/awsjson.h"
#include "protocol/delay.h"
#include "protocol/judge.h"
#include "protocol/s3refusal.h"
#include "protocol/words.h"
#include "http/url.h"

static const char *
describe_duration(int64 ms)
{
	if (ms % 60000 == 0)
		return psprintf(INT64_FORMAT " min", ms / 60000);
	return ms % 1000 == 0 ? psprintf(INT64_FORMAT " s", ms / 1000)
						  : psprintf(INT64_FORMAT " ms", ms);
}

/*
 * True if a call went to the server itself, and not to where one of its answers led.
 */
static bool
is_own_call(const ReplySource *source)
{
	return source->request == NULL || source->request->url == NULL ||
		   url_is_same_origin(source->request->url, source->options->url);
}

/*
 * Names who was called, for people: the server, or the host to which one of its answers led.
 */
static char *
describe_peer(const ReplySource *source)
{
	if (is_own_call(source))
		return psprintf("server \"%s\"", source->server_name);
	return psprintf("host \"%s\"", url_host(source->request->url));
}

/*
 * As describe_peer(); the server itself with its url.
 */
static char *
describe_address(const ReplySource *source)
{
	return is_own_call(source) ? psprintf("%s at %s", describe_peer(source), source->options->url)
							   : describe_peer(source);
}

/*
 * Describes a call that ended without an answer.
 */
char *
failure_describe(const ReplySource *source, const HttpReply *reply)
{
	bool is_own = is_own_call(source);
	char *peer = describe_peer(source);
	char *address = describe_address(source);
	char *why = words_of_bytes(source->request, reply->error_text, strlen(reply->error_text));

	switch (reply->error)
	{
		case HTTP_OK:
		case HTTP_RESOLVE:
		case HTTP_CONNECT:
			return psprintf("could not reach %s: %s. %s", address, why,
							is_own ? "Check that it runs, and its option url."
								   : "Check that this machine can reach it.");
		case HTTP_FORBIDDEN:
			return psprintf("the URL that server \"%s\" gave leads into a private network; genjob fetches nothing from there.",
							source->server_name);
		case HTTP_TLS:
			return psprintf("could not agree on TLS with %s: %s.%s", address, why,
							is_own ? " Check its option url." : "");
		case HTTP_UNTRUSTED:
			return psprintf("the TLS certificate of %s does not verify: %s. Name its authority's certificate in the option ca_file.",
							address, why);
		case HTTP_TIMEOUT:
			return psprintf("%s did not answer within %s. Raise %s if it needs longer.", peer,
							describe_duration(source->options->timeout),
							is_own ? "its option timeout" : "the server's option timeout");
		case HTTP_CUT:
			return psprintf("the connection to %s ended before the answer was complete: %s.", peer,
							why);
		case HTTP_GARBLED:
			return psprintf("what %s answered is not HTTP: %s.%s", peer, why,
							is_own ? " Check its option url." : "");
		case HTTP_TOO_LARGE:
			return psprintf("the answer of %s is larger than " INT64_FORMAT " kB. Raise %s.", peer,
							source->options->max_response / 1024,
							is_own ? "its option max_response"
								   : "the server's option max_response");
		case HTTP_MEMORY:
			return psprintf("no memory was left for the answer of %s. Lower max_in_flight or max_response.",
							peer);
		case HTTP_OTHER:
			break;
	}
	return psprintf("the call of %s failed: %s.", peer, why);
}

/*
 * Judges a call that ended without an answer: a temporary fault is retried, a fault of the configuration is not.
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

/*
 * True if a call carried the server's secrets, or could have.
 */
static bool
brings_secrets(const ReplySource *source)
{
	const ListCell *cell;

	if (source->request == NULL)
		return true;
	foreach(cell, source->request->headers)
	{
		if (((const HttpHeader *) lfirst(cell))->shown != NULL)
			return true;
	}
	return source->options->protocol.kind.auth == AUTH_QUERY;
}

static const char *
advice_for(const ReplySource *source, int status)
{
	bool is_own = is_own_call(source);

	switch (status)
	{
		case 401:
		case 403:
			if (!is_own)
				return " The link may have expired, or its target is not public.";
			if (source->request != NULL && source->request->is_download && !brings_secrets(source))
				return " Downloads carry no secrets if the server's option download_auth is none, or if there is no user mapping.";
			if (source->options->protocol.kind.auth == AUTH_SIGV4)
				return " Check the access key in the user mapping, what it may do, and the server's options region and service.";
			return " Check the api_key in the user mapping, and the server's option auth.";
		case 404:
		case 405:
			if (!is_own || (source->request != NULL && source->request->is_download))
				return "";
			return " Check the server's options api, url and path.";
		default:
			return "";
	}
}

static const char *
advice_by_type(const ReplySource *source, const char *type, const char *words)
{
	const char *advice = is_own_call(source) ? awsjson_advice(type, words) : NULL;

	return advice ? advice : "";
}

/*
 * Returns advice on a refusal, as a sentence after a blank; "" if there is
 * none.  The header that the preset names in error_type comes first, then the
 * status.
 */
static const char *
advice_of(const Judge *judge, const char *words)
{
	const ReplySource *source = judge->source;
	char *type = awsjson_header_type(source->options, judge->reply);
	const char *advice = "";

	if (type != NULL)
		advice = advice_by_type(source, type, words);
	return *advice != '\0' ? advice : advice_for(source, judge->reply->status);
}

/*
 * Returns what to do after a refusal of that step.  What a store says will
 * pass is tried again.  Else the option retry_status decides about a
 * submission.  Without it, the server's own header can turn a failure into a
 * retry and the reverse; else the status decides.
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
	if (judge->is_for_good)
		return ACTION_FAIL;
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
 * True if a refusal is the stored answer of a prediction that failed, and the
 * server's own header says that another submission may succeed.
 */
bool
failure_is_of_prediction(const Judge *judge)
{
	const char *own = judge->source->options->preset->worth_a_retry;
	char *word = own ? header_find(judge->reply, own) : NULL;

	return word != NULL && pg_strcasecmp(word, "true") == 0;
}

/*
 * Returns the server's name for the type of an error, in brackets; "" if it
 * gives none.
 */
static const char *
describe_error_type(const Judge *judge)
{
	char *type = awsjson_header_type(judge->source->options, judge->reply);

	return type ? psprintf(" (%s)", type) : "";
}

/*
 * Returns what a refusal says, as a sentence.  Sets *after to how many ms it
 * asks to wait, -1 if it does not.  Also sets what failure_action() and
 * judge_stuck() need, and the verdict's body.
 */
char *
failure_of_refusal(Judge *judge, int64 *after)
{
	const ReplySource *source = judge->source;
	int status = judge->reply->status;
	MemoryContext caller = CurrentMemoryContext;
	cJSON *json;
	const char *stop;
	char *words;
	char *type = awsjson_error_type(source->options, judge->reply);

	judge->verdict->body = words_copy_body(source->request, judge->reply);
	MemoryContextSwitchTo(judge_scratch(judge));
	words = words_of_body(source->request, judge->reply, judge->protocol->error, judge->id, &json);
	stop = *words != '\0' && strchr(".!?", words[strlen(words) - 1]) ? "" : ".";
	judge->verdict->stuck = stuck_find(judge->reply, json, words);
	MemoryContextSwitchTo(caller);
	*after = delay_read(judge->reply, json, judge->protocol->retry_after, words, source->now_unix);
	judge->is_of_the_moment = source->options->preset->is_store && s3_is_of_the_moment(words);
	judge->is_for_good = source->options->preset->is_store && s3_is_for_good(words);
	if (status == 304)
		return psprintf("%s answered HTTP 304: nothing has changed, but genjob has no copy. Take conditions such as If-None-Match out of the options headers of the server and of the user mapping.",
						describe_peer(source));
	if (status >= 300 && status < 400 && !source->options->preset->is_store)
		return psprintf("%s answered HTTP %d, a redirection, which genjob does not follow. Set the server's option url to the new address.",
						describe_peer(source), status);
	if (type != NULL)
		return psprintf("%s answered %s%s%s%s%s", describe_peer(source), type, *words ? ": " : "",
						words, stop, advice_by_type(source, type, words));
	return psprintf("%s answered HTTP %d%s%s%s%s%s", describe_peer(source), status,
					describe_error_type(judge), *words ? ": " : "", words, stop,
					source->options->preset->is_store ? s3_advice(source, judge->reply, words)
													  : advice_of(judge, words));
}

/*
 * Judges a refused submission that waiting alone does not mend.  All of the
 * server's jobs wait, unless the refusal may be about this job alone.  A job
 * that is too large fails.  If the option retry_status is set without this
 * status, the verdict stays as it is.
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
	verdict->error = psprintf("%s That is, %s: waiting alone does not fix it.", verdict->error,
							  stuck_describe(verdict->stuck));
}

/*
 * Judges a submission that was refused.
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
 * Judges a submission that brought no answer, or a refusal.
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
