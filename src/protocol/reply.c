/*
 * reply.c
 *		From an HTTP reply to what it means for the job.
 *
 * Pure: the clock comes in with the source.  Every byte of a reply is hostile, and may have been paid
 * for: nothing in it can raise an error, and what cannot be understood is kept as an output.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "bytes.h"
#include "header.h"
#include "json.h"
#include "media.h"
#include "protocol/pointer.h"
#include "protocol/reply.h"
#include "retry.h"

#define MAX_WORDS 1000 /* bytes of the server's own words in an error */
#define MIN_SECRET 6   /* bytes; shorter ones would mask ordinary text */

/* A reply that is being judged. */
typedef struct Judge
{
	const ReplySource *source;
	HttpReply *reply;
	Verdict *verdict;
	char *fault; /* the first output that cannot be read, as a sentence */
} Judge;

/* ---------- words ---------- */

/*
 * Overwrites every secret in text, so that a server that echoes its request gives nothing away.
 */
static void
mask_secrets(const HttpRequest *request, char *text, size_t len)
{
	ListCell *cell;

	foreach(cell, request->secrets)
	{
		const char *secret = lfirst(cell);
		size_t secret_len = strlen(secret);
		char *end = text + len;
		char *found = text;

		if (secret_len < MIN_SECRET)
			continue;
		while ((found = memmem(found, end - found, secret, secret_len)) != NULL)
		{
			memset(found, '*', secret_len);
			found += secret_len;
		}
	}
}

/*
 * The same in every string of parsed JSON, whose escapes may have hidden a secret in the text.
 */
static void
mask_secrets_of_json(const HttpRequest *request, cJSON *node)
{
	for (; node != NULL; node = node->next)
	{
		if (node->string != NULL)
			mask_secrets(request, node->string, strlen(node->string));
		if (cJSON_IsString(node))
			mask_secrets(request, node->valuestring, strlen(node->valuestring));
		mask_secrets_of_json(request, node->child);
	}
}

/*
 * A palloc'd copy of text as one line of at most MAX_WORDS bytes.
 */
static char *
clip_words(const char *text, size_t len)
{
	StringInfoData words;
	size_t i;

	initStringInfo(&words);
	len = pg_encoding_mbcliplen(PG_UTF8, text, (int) Min(len, MaxAllocSize), MAX_WORDS);
	for (i = 0; i < len; i++)
	{
		bool blank = (unsigned char) text[i] <= ' ';

		if (!blank)
			appendStringInfoChar(&words, text[i]);
		else if (words.len > 0 && words.data[words.len - 1] != ' ')
			appendStringInfoChar(&words, ' ');
	}
	if (words.len > 0 && words.data[words.len - 1] == ' ')
		words.data[--words.len] = '\0';
	return words.data;
}

static char *
words_of_node(const cJSON *node)
{
	char *text;

	if (cJSON_IsString(node))
		text = node->valuestring;
	else if ((cJSON_IsObject(node) || cJSON_IsArray(node)) && node->child != NULL)
		text = json_print(node);
	else
		return NULL;
	text = clip_words(text, strlen(text));
	return *text != '\0' ? text : NULL;
}

/*
 * What the server says went wrong, where the preset says that such words stand; NULL if nowhere.
 */
static char *
words_of_json(const Judge *judge, cJSON *json)
{
	const char *p = judge->source->options->preset->errors;

	while (p != NULL && *p != '\0')
	{
		size_t len = strcspn(p, " ");
		char *words = words_of_node(pointer_first(json, pnstrdup(p, len)));

		if (words != NULL)
			return words;
		p += len + strspn(p + len, " ");
	}
	return NULL;
}

static char *
words_of_html(const char *text, size_t len)
{
	const char *title = strcasestr(text, "<title>");
	const char *end = title ? strcasestr(title, "</title>") : NULL;

	if (end == NULL)
		return pstrdup("(an HTML page)");
	title += strlen("<title>");
	return psprintf("(an HTML page) %s", clip_words(title, end - title));
}

/*
 * The server's own words in a body of any kind; empty where it has none.  The body is overwritten.
 */
static char *
words_of_body(const Judge *judge)
{
	Bytes *body = judge->reply->body;
	const char *type = media_type_of(body->data, body->len);
	const char *reason;
	cJSON *json;
	char *words = NULL;

	if (body->len == 0 || strcmp(type, "application/octet-stream") == 0)
		return "";
	mask_secrets(judge->source->request, body->data, body->len);
	json_sanitize_text(body->data, body->len);
	if (strcmp(type, "text/html") == 0)
		return words_of_html(body->data, body->len);
	if (strcmp(type, "application/json") == 0)
	{
		char *copy = MemoryContextAllocHuge(CurrentMemoryContext, body->len + 1);

		memcpy(copy, body->data, body->len + 1);
		json = json_parse(copy, body->len, &reason);
		if (json != NULL)
		{
			mask_secrets_of_json(judge->source->request, json);
			words = words_of_json(judge, json);
			if (words != NULL)
				return words;
			words = json_print(json);
			return clip_words(words, strlen(words));
		}
	}
	return clip_words(body->data, body->len);
}

/* ---------- no complete answer ---------- */

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
static char *
describe_failure(const ReplySource *source, const HttpReply *reply)
{
	const char *name = source->server_name;
	const char *url = source->options->url;
	char *why = clip_words(reply->error_text, strlen(reply->error_text));

	switch (reply->error)
	{
		case HTTP_OK:
		case HTTP_RESOLVE:
		case HTTP_CONNECT:
			return psprintf("could not reach server \"%s\" at %s: %s. Check that it runs, and its option url.",
							name, url, why);
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
judge_failure(Judge *judge)
{
	const HttpReply *reply = judge->reply;
	Verdict *verdict = judge->verdict;
	HttpError error = reply->error;
	bool reached = error != HTTP_RESOLVE && error != HTTP_CONNECT && error != HTTP_UNTRUSTED;

	json_sanitize_text(reply->error_text, strlen(reply->error_text));
	verdict->kind = error == HTTP_UNTRUSTED || error == HTTP_GARBLED || error == HTTP_TOO_LARGE
						? VERDICT_FAIL
						: VERDICT_RETRY;
	verdict->unknown = reached && reply->sent && error != HTTP_TOO_LARGE;
	verdict->error = describe_failure(judge->source, reply);
}

/*
 * What on_unknown says where a call may have been accepted.
 */
static void
apply_on_unknown(const ServerOptions *options, Verdict *verdict)
{
	if (!verdict->unknown || verdict->kind == VERDICT_FAIL ||
		options->on_unknown == ON_UNKNOWN_RETRY)
		return;
	verdict->kind = VERDICT_FAIL;
	verdict->error =
		psprintf("%s The call may have been accepted, and money spent: look for it at the provider before genjob.retry().",
				 verdict->error);
}

/* ---------- an answer that is not a success ---------- */

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

static void
judge_refusal(Judge *judge)
{
	const ReplySource *source = judge->source;
	Verdict *verdict = judge->verdict;
	int status = judge->reply->status;
	char *words = words_of_body(judge);
	char *retry_after = header_find(judge->reply, "Retry-After");
	const char *stop = *words != '\0' && strchr(".!?", words[strlen(words) - 1]) ? "" : ".";

	if (status >= 300 && status < 400)
	{
		verdict->kind = VERDICT_FAIL;
		verdict->error =
			psprintf("server \"%s\" answered HTTP %d, a redirection, which is not followed. Set its option url to where it is now.",
					 source->server_name, status);
		return;
	}
	verdict->error = psprintf("server \"%s\" answered HTTP %d%s%s%s%s", source->server_name, status,
							  *words ? ": " : "", words, stop, advice_for(status));
	verdict->kind = retry_is_worthwhile(status) ? VERDICT_RETRY : VERDICT_FAIL;
	verdict->unknown = status == 502 || status == 504;
	if (verdict->kind == VERDICT_RETRY && retry_after != NULL)
	{
		verdict->after = retry_after_ms(retry_after, source->now_unix);
		if (verdict->after >= 0)
			verdict->kind = VERDICT_DEFER;
	}
}

/* ---------- success ---------- */

static int
add_output(Verdict *verdict, const char *content_type, const char *data, size_t len)
{
	Output *output = palloc(sizeof(Output));

	output->content_type = content_type;
	output->data = data;
	output->len = len;
	verdict->outputs = lappend(verdict->outputs, output);
	return list_length(verdict->outputs);
}

/*
 * Makes node {"$output": n}.
 */
static void
refer_to_output(cJSON *node, int ordinal)
{
	node->type = cJSON_Object;
	node->valuestring = NULL;
	node->child = NULL;
	cJSON_AddNumberToObject(node, "$output", ordinal);
}

/*
 * Where the base64 of a "data:" URL begins, or NULL if text is not one.
 */
static char *
data_url_payload(char *text)
{
	char *comma;

	if (pg_strncasecmp(text, "data:", 5) != 0)
		return NULL;
	comma = strchr(text, ',');
	return comma != NULL && comma - text > 7 && pg_strncasecmp(comma - 7, ";base64", 7) == 0
			   ? comma + 1
			   : NULL;
}

/*
 * Takes the binary out of a string: a data: URL, or base64 where that is what stands there.
 */
static void
extract_output(Judge *judge, cJSON *node, const char *path, bool is_base64)
{
	char *payload = data_url_payload(node->valuestring);
	ssize_t len;

	if (payload == NULL && !is_base64)
		return;
	if (payload == NULL)
		payload = node->valuestring;
	len = base64_decode_in_place(payload, strlen(payload));
	if (len > 0)
		refer_to_output(node,
						add_output(judge->verdict, media_type_of(payload, len), payload, len));
	else if (judge->fault == NULL && is_base64)
		judge->fault =
			psprintf("the answer of server \"%s\" has %s at %s; it is kept in the column result.",
					 judge->source->server_name, len < 0 ? "invalid base64" : "an empty output",
					 path);
}

static void
extract_base64(cJSON *node, const char *path, void *arg)
{
	if (cJSON_IsString(node))
		extract_output(arg, node, path, true);
}

static void
extract_data_urls(Judge *judge, cJSON *node)
{
	for (; node != NULL; node = node->next)
	{
		if (cJSON_IsString(node))
			extract_output(judge, node, "", false);
		else if (node->child != NULL)
			extract_data_urls(judge, node->child);
	}
}

static void
judge_json(Judge *judge, cJSON *json)
{
	const ReplySource *source = judge->source;
	const Preset *preset = source->options->preset;
	Verdict *verdict = judge->verdict;
	char *words = words_of_json(judge, json);
	cJSON *usage = preset->usage ? pointer_first(json, preset->usage) : NULL;

	if (preset->outputs != NULL)
		pointer_each(json, preset->outputs, extract_base64, judge);
	extract_data_urls(judge, json);
	if (words != NULL)
		judge->fault = psprintf("server \"%s\" answered HTTP %d with an error inside: %s",
								source->server_name, judge->reply->status, words);
	else if (preset->outputs != NULL && verdict->outputs == NIL && judge->fault == NULL)
		judge->fault =
			psprintf("the answer of server \"%s\" has no output at %s; it is kept in the column result.",
					 source->server_name, preset->outputs);
	verdict->kind = judge->fault ? VERDICT_FAIL : VERDICT_DONE;
	verdict->error = judge->fault;
	verdict->result = json_print(json);
	verdict->usage = cJSON_IsObject(usage) ? json_print(usage) : NULL;
}

/*
 * The content type of a body that is an output itself: by its bytes; where they tell nothing, what
 * the server claims, unless the bytes would have shown that.
 */
static const char *
body_type(const HttpReply *reply)
{
	const char *type = media_type_of(reply->body->data, reply->body->len);
	char *claim = header_find(reply, "Content-Type");
	size_t len;

	if (claim == NULL ||
		(strcmp(type, "application/octet-stream") != 0 && strcmp(type, "text/plain") != 0))
		return type;
	len = strspn(claim, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/.+-");
	claim[len] = '\0';
	if (len > 100 || strchr(claim, '/') == NULL || strcmp(media_extension_of(claim), "bin") != 0)
		return type;
	return claim;
}

static bool
claims_json(const HttpReply *reply)
{
	char *claim = header_find(reply, "Content-Type");

	return claim != NULL && strcasestr(claim, "json") != NULL;
}

/*
 * A body that is not JSON: the output itself where the api or the bytes say so, else kept for whoever
 * paid for it.
 */
static void
judge_bytes(Judge *judge, const char *type, const char *reason)
{
	const Bytes *body = judge->reply->body;
	Verdict *verdict = judge->verdict;
	bool is_media = strncmp(type, "image/", 6) == 0 || strncmp(type, "audio/", 6) == 0 ||
					strncmp(type, "video/", 6) == 0;

	add_output(verdict, type, body->data, body->len);
	verdict->kind = VERDICT_DONE;
	if (is_media || (judge->source->options->preset->any_answer && !claims_json(judge->reply)))
		return;
	verdict->kind = VERDICT_FAIL;
	verdict->error =
		psprintf("the answer of server \"%s\" is %s; it is kept in gen_outputs. Check the server's options api, url and path.",
				 judge->source->server_name, reason);
}

static void
judge_answer(Judge *judge)
{
	HttpReply *reply = judge->reply;
	Bytes *body = reply->body;
	const char *type = body_type(reply);
	const char *reason = "not JSON";
	bool is_text = strncmp(type, "text/", 5) == 0 || strcmp(type, "application/json") == 0;
	cJSON *json = NULL;

	if (body->len == 0)
	{
		judge->verdict->kind = reply->status == 204 ? VERDICT_DONE : VERDICT_FAIL;
		if (judge->verdict->kind == VERDICT_FAIL)
			judge->verdict->error =
				psprintf("server \"%s\" answered HTTP %d with an empty body. Check its options api, url and path.",
						 judge->source->server_name, reply->status);
		return;
	}
	if (is_text || claims_json(reply))
		mask_secrets(judge->source->request, body->data, body->len);
	if (strcmp(type, "application/json") == 0 || claims_json(reply))
		json = json_parse(body->data, body->len, &reason);
	if (json == NULL)
	{
		judge_bytes(judge, type, reason);
		return;
	}
	mask_secrets_of_json(judge->source->request, json);
	judge_json(judge, json);
	bytes_clear(body);
}

/*
 * What a finished call means, in the current memory context.  The reply's body is overwritten, and
 * freed or pointed to by the outputs.
 */
Verdict *
reply_judge(const ReplySource *source, HttpReply *reply)
{
	Verdict *verdict = palloc0(sizeof(Verdict));
	Judge judge = {source, reply, verdict, NULL};
	int status = reply->status;

	verdict->http_status = status;
	if (reply->error == HTTP_OK && status >= 200 && status < 300)
		judge_answer(&judge);
	else if (status >= 300 && (reply->error == HTTP_OK || reply->error == HTTP_CUT))
		judge_refusal(&judge);
	else
		judge_failure(&judge);
	apply_on_unknown(source->options, verdict);
	return verdict;
}

/*
 * What a finished call means when reply_judge() raised an error, for want of memory: an answer that may
 * have been paid for is kept as it came.
 */
Verdict *
reply_unjudged(const ReplySource *source, HttpReply *reply, const char *why)
{
	Verdict *verdict = palloc0(sizeof(Verdict));
	bool is_answer = reply->error == HTTP_OK && reply->status >= 200 && reply->status < 300 &&
					 reply->body->len > 0;

	verdict->kind = is_answer ? VERDICT_FAIL : VERDICT_RETRY;
	verdict->http_status = reply->status;
	verdict->unknown = reply->sent;
	verdict->error =
		psprintf("the answer of server \"%s\" could not be read: %s%s.", source->server_name, why,
				 is_answer ? "; it is kept in gen_outputs" : "");
	if (is_answer)
		add_output(verdict, "application/octet-stream", reply->body->data, reply->body->len);
	apply_on_unknown(source->options, verdict);
	return verdict;
}

/*
 * What it means for a job that genjob ended while its call was in flight.  options is NULL when the
 * server is gone.
 */
Verdict *
reply_lost(const ServerOptions *options)
{
	Verdict *verdict = palloc0(sizeof(Verdict));

	verdict->kind = VERDICT_LOST;
	verdict->unknown = true;
	verdict->error = pstrdup("genjob or the database server stopped while the call was in flight.");
	if (options != NULL)
		apply_on_unknown(options, verdict);
	return verdict;
}
