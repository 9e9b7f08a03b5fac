/*
 * fetched.c
 *		What the download of an output has brought.
 */
#include "postgres.h"

#include "base/bytes.h"
#include "http/header.h"
#include "base/media.h"
#include "protocol/judge.h"
#include "protocol/words.h"
#include "http/url.h"

/*
 * Returns the sentence for an output that is larger than max_output.
 */
static char *
describe_too_long(const ReplySource *source)
{
	return psprintf("the output is larger than " INT64_FORMAT
					" MB. Raise the option max_output of server \"%s\".",
					source->options->max_output / (1024 * 1024), source->server_name);
}

/*
 * True if an answer has only a part of the file, although all of it was asked
 * for: caches and proxies that keep parts give such answers.
 */
static bool
is_part(const HttpReply *reply)
{
	const char *range = reply->status == 206 ? header_find(reply, "Content-Range") : NULL;
	uint64 last;
	uint64 total;

	if (reply->error != HTTP_OK || reply->status != 206)
		return false;
	return range == NULL ||
		   sscanf(range, "bytes 0-" UINT64_FORMAT "/" UINT64_FORMAT, &last, &total) != 2 ||
		   last + 1 != total;
}

static char *
describe_no_download(Judge *judge)
{
	const HttpReply *reply = judge->reply;

	if (is_part(reply) && !reply->is_elsewhere)
		return pstrdup(
			"the server sent a part of the file (HTTP 206), although all of it was asked for.");
	if (reply->error == HTTP_TOO_LARGE)
		return reply->is_poured ? describe_too_long(judge->source)
								: reply_describe_too_large(judge->source);
	if (reply->is_elsewhere)
		return pstrdup(
			"the server did not send the rest of the file: the file has changed, or the server ignores ranges.");
	if (reply->error != HTTP_OK)
		return failure_describe(judge->source, reply);
	if (reply->status < 300)
		return pstrdup("the download is empty.");
	if (reply->status == 304)
		return pstrdup(
			"the server says that the file has not changed (HTTP 304), although genjob has no copy of it. A cache in between may be wrong, or the option headers may have a condition such as If-None-Match: take it out.");
	if (reply->status < 400 && header_find(reply, "Location") == NULL)
		return psprintf("the server answered HTTP %d, a redirection, without saying to where.",
						reply->status);
	if (reply->status < 400)
		return psprintf("HTTP %d redirects to an address from which genjob cannot fetch.",
						reply->status);
	return failure_of_refusal(judge, &judge->verdict->after);
}

/*
 * True if the server may yet have the file: 404 may come before it is there, 410 is for ever.
 */
static bool
is_to_be_repeated(const Judge *judge)
{
	StatusAction action = failure_action(judge, STATUS_OF_DOWNLOAD);

	return action == ACTION_AGAIN || (action == ACTION_MISS && judge->reply->status != 410);
}

/*
 * Returns why a file that has come cannot be used as it is; NULL if it can.
 */
static char *
describe_undecoded(const Judge *judge)
{
	static const char prefix[] = "not JSON but ";
	const char *why = judge->reply->undecoded;

	if (why == NULL)
		return NULL;
	if (strncmp(why, prefix, strlen(prefix)) == 0)
		why += strlen(prefix);
	return psprintf("the output from %s is %s; it is kept in gen_outputs as it came.",
					judge->source->request->shown_url, why);
}

/*
 * Returns what the end of a download means: VERDICT_DONE (the output is filled in), VERDICT_FETCH (try again or, with
 * *redirect set, there), or VERDICT_FAIL.
 */
Verdict *
reply_judge_download(const ReplySource *source, HttpReply *reply, Output *output, char **redirect)
{
	Judge judge = judge_begin(source, reply);
	Verdict *verdict = judge.verdict;
	char *location = header_find(reply, "Location");

	*redirect = NULL;
	if (reply_is_success(reply) && reply->body->len > 0 && !reply->is_elsewhere && !is_part(reply))
	{
		output->content_type = answer_body_type(reply);
		if (media_has_text(output->content_type))
			words_mask(source->request, reply->body->data, reply->body->len);
		output->data = reply->body->data;
		output->len = reply->body->len;
		output->fault = describe_undecoded(&judge);
		verdict->kind = VERDICT_DONE;
		return judge_end(&judge);
	}
	if (reply->error == HTTP_OK && reply->status >= 300 && reply->status < 400 && location != NULL)
		*redirect = url_resolve(source->request->url, location);
	verdict->error = describe_no_download(&judge);
	verdict->kind = *redirect != NULL || reply->error == HTTP_TIMEOUT || reply->error == HTTP_CUT ||
							reply->error == HTTP_CONNECT || reply->error == HTTP_RESOLVE ||
							reply->error == HTTP_TLS || reply->is_elsewhere || is_part(reply) ||
							(reply->status == 416 && source->request->pour != NULL) ||
							(reply->error == HTTP_OK && is_to_be_repeated(&judge))
						? VERDICT_FETCH
						: VERDICT_FAIL;
	verdict->error = psprintf("output could not be downloaded from %s: %s",
							  source->request->shown_url, verdict->error);
	return judge_end(&judge);
}

/*
 * Returns the sentence for outputs that are together larger than max_response.
 */
char *
reply_describe_too_large(const ReplySource *source)
{
	return psprintf("the outputs of server \"%s\" are together larger than " INT64_FORMAT
					" kB. Raise its option max_response%s.",
					source->server_name, source->options->max_response / 1024,
					source->options->store == NULL
						? ", or set its option store to put outputs into an object store"
						: "");
}
