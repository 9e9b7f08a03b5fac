/*
 * spoil.c
 *		Changes an answer as the call's fault says, before it is delivered:
 *		another status or body, garbage, more bytes.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

#define NESTING 10000

/*
 * Opens a JSON object for one more member, a string: "body" ends after the
 * string's opening quote, "tail" begins with its closing one.
 */
static void
answer_open_member(Answer *answer, const char *name)
{
	bool empty = evbuffer_get_length(answer->body) <= 2;

	if (answer->tail == NULL)
		answer->tail = evbuffer_new();
	evbuffer_add_printf(answer->tail, empty ? "\"" : "\",");
	evbuffer_drain(answer->body, 1);
	evbuffer_add_buffer(answer->tail, answer->body);
	evbuffer_add_printf(answer->body, "{\"%s\":\"", name);
}

static bool
answer_is_json_object(const Answer *answer)
{
	char first;

	return evbuffer_copyout(answer->body, &first, 1) == 1 && first == '{';
}

/* Pads the answer to "bytes": a JSON object with a member more, anything else with zeros. */
static void
answer_pad(Answer *answer, size_t bytes)
{
	if (answer_is_json_object(answer))
	{
		answer->padding_byte = 'x';
		answer_open_member(answer, "padding");
	}
	if (bytes > answer_bytes(answer))
		answer->padding = bytes - answer_bytes(answer);
}

/* Adds a member "note" whose string holds "bytes" to a JSON answer. */
static void
answer_add_note(Answer *answer, const char *bytes, size_t len)
{
	if (!answer_is_json_object(answer))
		return;
	answer_open_member(answer, "note");
	evbuffer_add(answer->body, bytes, len);
	evbuffer_add_buffer(answer->body, answer->tail);
}

static void
answer_nest(struct evbuffer *out)
{
	char brackets[2 * NESTING];

	memset(brackets, '[', NESTING);
	memset(brackets + NESTING, ']', NESTING);
	evbuffer_add(out, brackets, sizeof(brackets));
}

/* Halves the body: an answer that ends too early without anyone noticing in HTTP. */
static void
answer_truncate(Answer *answer)
{
	size_t half = evbuffer_get_length(answer->body) / 2;
	struct evbuffer *kept = evbuffer_new();

	evbuffer_remove_buffer(answer->body, kept, half);
	evbuffer_free(answer->body);
	answer->body = kept;
}

/* Spoils the answer as the fault says. */
static void
answer_spoil(Call *call)
{
	Answer *answer = &call->answer;
	const char *message = call->fault.message;
	int status = answer->status;

	switch (call->fault.garbage)
	{
		case GARBAGE_NONE:
		case GARBAGE_BAD_BASE64: /* the dialect has seen to it */
		case GARBAGE_NO_HTTP:    /* see deliver_no_http() */
			break;
		case GARBAGE_NOT_JSON:
			evbuffer_add_printf(call_begin_answer(call, status, "application/json"),
								"this is not JSON");
			break;
		case GARBAGE_TRUNCATED_JSON:
			answer_truncate(answer);
			break;
		case GARBAGE_EMPTY:
			call_begin_answer(call, status, answer->content_type);
			break;
		case GARBAGE_NUL:
			answer_add_note(answer, "a NUL \0 byte", 12);
			break;
		case GARBAGE_NUL_ESCAPE:
			answer_add_note(answer, "a NUL \\u0000 escaped", 20);
			break;
		case GARBAGE_INVALID_UTF8:
			answer_add_note(answer, "not UTF-8: \xC3\x28 \xFF\xFE", 16);
			break;
		case GARBAGE_NESTED:
			answer_nest(call_begin_answer(call, status, "application/json"));
			break;
		case GARBAGE_ERROR_200:
			openai_write_error(call, 200, NULL, message ? message : "The model has failed.");
			break;
		case GARBAGE_HTML:
			evbuffer_add_printf(call_begin_answer(call, status, "text/html"),
								"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>"
								"<body><h1>502 Bad Gateway</h1><hr>nginx</body></html>\n");
			break;
	}
}

/* Puts the fault's own body in place of the answer's. */
static void
answer_replace_body(Call *call)
{
	const cJSON *body = call->fault.body;
	const char *text = cJSON_GetStringValue(body);
	const char *base64 = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(body, "base64"));
	struct evbuffer *out = call_begin_answer(call, call->answer.status, call->answer.content_type);
	size_t len = 0;
	unsigned char *bytes = base64 && *base64 ? base64_decode(base64, &len) : NULL;

	if (text)
		evbuffer_add(out, text, strlen(text));
	else if (bytes)
		evbuffer_add(out, bytes, len);
	else if (base64 && *base64)
		call_refuse(call, 400, "bad_standin_script", "standin: \"base64\" is not base64");
	free(bytes);
}

/* Changes the answer as the fault says: status, body, garbage, size. */
void
answer_apply_fault(Call *call)
{
	Fault *fault = &call->fault;

	if (fault->status >= 400 && fault->garbage == GARBAGE_NONE)
		call_write_fault(call);
	else if (fault->status != 0)
		call->answer.status = fault->status;
	if (fault->body)
		answer_replace_body(call);
	answer_spoil(call);
	if (fault->content_type)
		call->answer.content_type = fault->content_type;
	if (fault->huge > 0)
		answer_pad(&call->answer, (size_t) fault->huge);
}
