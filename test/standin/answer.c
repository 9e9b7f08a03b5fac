/*
 * answer.c
 *		What dialects write answers with, and read of a request beside its body.
 */
#include "standin.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/keyvalq_struct.h>

static char *
text_format_list(const char *fmt, va_list args)
{
	char *text;

	if (vasprintf(&text, fmt, args) < 0)
		errx(1, "out of memory");
	return text;
}

/* printf() to a text that the caller frees. */
char *
text_format(const char *fmt, ...)
{
	va_list args;
	char *text;

	va_start(args, fmt);
	text = text_format_list(fmt, args);
	va_end(args);
	return text;
}

/*
 * Begins the answer: the caller writes its body to the buffer returned, which
 * the call owns.  "content_type" must be a constant.
 */
struct evbuffer *
call_begin_answer(Call *call, int status, const char *content_type)
{
	if (call->answer.body == NULL)
		call->answer.body = evbuffer_new();
	if (call->answer.body == NULL)
		errx(1, "out of memory");
	evbuffer_drain(call->answer.body, evbuffer_get_length(call->answer.body));
	call->answer.status = status;
	call->answer.content_type = content_type;
	call->answer.delimiter = NULL;
	return call->answer.body;
}

/* call_begin_answer() of a stream of events, each of which ends with the delimiter. */
struct evbuffer *
call_begin_stream(Call *call, const char *content_type, const char *delimiter)
{
	struct evbuffer *out = call_begin_answer(call, 200, content_type);

	call->answer.delimiter = delimiter;
	return out;
}

/* Adds a header to the answer. */
void
call_add_header(Call *call, const char *name, const char *value)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(call->req);

	evhttp_remove_header(headers, name);
	evhttp_add_header(headers, name, value);
}

/* The value of the request's header; NULL when there is none. */
const char *
call_header(const Call *call, const char *name)
{
	return evhttp_find_header(evhttp_request_get_input_headers(call->req), name);
}

/* The value of "name" in the request's query, to be freed; NULL when there is none. */
char *
call_query(const Call *call, const char *name)
{
	const char *text = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(call->req));
	struct evkeyvalq query;
	const char *value;
	char *copy;

	if (text == NULL || evhttp_parse_query_str(text, &query) != 0)
		return NULL;
	value = evhttp_find_header(&query, name);
	copy = value ? text_format("%s", value) : NULL;
	evhttp_clear_headers(&query);
	return copy;
}

/* A URL of the server that was called, by the name it was called by; to be freed. */
char *
call_own_url(const Call *call, const char *fmt, ...)
{
	const char *host = call_header(call, "Host");
	va_list args;
	char *path;
	char *url;

	va_start(args, fmt);
	path = text_format_list(fmt, args);
	va_end(args);
	url = text_format("%s://%s%s", own_scheme, host ? host : "127.0.0.1", path);
	free(path);
	return url;
}

/* Answers with an error as the dialect words it; "code" may be NULL. */
void
call_write_error(Call *call, int status, const char *code, const char *message)
{
	if (call->dialect && call->dialect->write_error)
		call->dialect->write_error(call, status, code, message);
	else
		openai_write_error(call, status, code, message);
}

/* call_write_error() with a format. */
void
call_refuse(Call *call, int status, const char *code, const char *fmt, ...)
{
	va_list args;
	char *message;

	va_start(args, fmt);
	message = text_format_list(fmt, args);
	va_end(args);
	call_write_error(call, status, code, message);
	free(message);
}

/* Answers with the error that the call's fault says. */
void
call_write_fault(Call *call)
{
	const char *busy = call->dialect ? call->dialect->busy_message : NULL;
	const char *message = call->fault.message;
	int status = call->fault.status;

	if (message == NULL)
		message = status == 429 && busy ? busy : "The stand-in was told to fail.";
	call_write_error(call, status, status == 429 ? "rate_limit_exceeded" : NULL, message);
}

/* Remembers what to draw, or refuses with the status. */
bool
call_describe(Call *call, const Body *body, int status)
{
	char *why = NULL;

	if (picture_describe(&call->picture, body, &why))
		return true;
	call_write_error(call, status, "invalid_value", why);
	free(why);
	return false;
}

/* Lets a call that is answered at once end as its script says, if it was accepted. */
void
call_apply_ending(Call *call)
{
	const cJSON *script = call->script->json;
	double outputs = script_number(script, "outputs", 0);
	const char *message = script_text(script, "message");

	if (call->prediction || call->answer.status >= 400 || call->fault.status >= 400)
		return;
	if (outputs >= 1 && call->picture.n > 0)
		call->picture.n = outputs < 100 ? (int) outputs : 100;
	if (call->ending == ENDING_NEVER)
		call->fault.stall = STALL_ALL;
	else if (call->dialect->own_endings)
		return;
	else if (call->ending == ENDING_MODERATED)
		call_write_error(call, 400, "moderation_blocked",
						 message ? message : "The request was rejected by the safety system.");
	else if (call->ending != ENDING_SUCCEED)
		call_write_error(call, 500, NULL, message ? message : "The model has failed.");
}
