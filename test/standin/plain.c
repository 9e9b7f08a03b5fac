/*
 * plain.c
 *		Servers of no particular dialect: /echo answers with the request itself,
 *		/binary with a PNG, /text with plain text.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

/* Writes the parts of a form: what they are called, and the text of those that are no files. */
static void
echo_write_parts(struct evbuffer *out, const Body *body)
{
	evbuffer_add_printf(out, ",\"parts\":[");
	for (int i = 0; i < body->nparts; i++)
	{
		const Part *part = &body->parts[i];

		evbuffer_add_printf(out, "%s{\"name\":", i > 0 ? "," : "");
		json_add_string(out, part->name);
		evbuffer_add_printf(out, ",\"filename\":");
		json_add_string(out, part->filename);
		evbuffer_add_printf(out, ",\"content_type\":");
		json_add_string(out, part->content_type);
		evbuffer_add_printf(out, ",\"bytes\":%zu,\"text\":", part->len);
		json_add_string(out, part->text);
		evbuffer_add(out, "}", 1);
	}
	evbuffer_add(out, "]", 1);
}

/* The body is still there: the answer is written at once, and sent when the latency is over. */
static void
echo_accept(Call *call, const Body *body)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json");

	evbuffer_add_printf(out, "{\"method\":\"%s\",\"uri\":", request_method(call->req));
	json_add_string(out, evhttp_request_get_uri(call->req));
	evbuffer_add_printf(out, ",\"headers\":");
	json_add_headers(out, call->req);
	if (body->multipart)
		echo_write_parts(out, body);
	evbuffer_add_printf(out, ",\"body\":");
	if (body->json)
		evbuffer_add(out, body->data, body->len);
	else
	{
		evbuffer_add_printf(out, "{\"base64\":\"");
		json_add_base64(out, body->data, body->len);
		evbuffer_add_printf(out, "\"}");
	}
	evbuffer_add(out, "}", 1);
}

static void
binary_accept(Call *call, const Body *body)
{
	if (call_describe(call, body, 400) && body->json == NULL)
		picture_mix_input(&call->picture, body->data, body->len);
}

static void
binary_answer(Call *call)
{
	size_t len;
	const void *png = picture_draw(&call->picture, 0, &len);

	evbuffer_add(call_begin_answer(call, 200, "image/png"), png, len);
}

static void
text_accept(Call *call, const Body *body)
{
	const char *prompt = body_text(body, "prompt");
	struct evbuffer *out = call_begin_answer(call, 200, "text/plain; charset=utf-8");

	evbuffer_add_printf(out, "You said: %s\n", prompt ? prompt : "nothing");
}

static const Route routes[] = {{NULL, "/echo", echo_accept, NULL, ERRAND_SUBMIT},
							   {NULL, "/echo/*", echo_accept, NULL, ERRAND_SUBMIT},
							   {"POST", "/binary", binary_accept, binary_answer, ERRAND_SUBMIT},
							   {"POST", "/text", text_accept, NULL, ERRAND_SUBMIT},
							   {.path = NULL}};

const Dialect plain_dialect = {.routes = routes};
