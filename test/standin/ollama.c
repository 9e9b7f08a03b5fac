/*
 * ollama.c
 *		The dialect of Ollama: /api/generate, as one object or a line for each
 *		piece of the text.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

#define HEAD "{\"model\":%s,\"created_at\":\"2023-11-14T22:13:20Z\",\"response\":"

static void
ollama_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json; charset=utf-8");

	(void) code;
	if (status == 503 && call->fault.message == NULL)
		message = "server busy, please try again.  maximum pending requests exceeded";
	evbuffer_add_printf(out, "{\"error\":");
	json_add_string(out, message);
	evbuffer_add(out, "}", 1);
}

/* One object: a piece of the text, or with "done" the last, which has the usage. */
static void
ollama_write_object(Call *call, struct evbuffer *out, const char *model, const char *text,
					size_t len, size_t pieces)
{
	evbuffer_add_printf(out, HEAD, model);
	json_add_text(out, text, len);
	if (pieces == 0)
		evbuffer_add_printf(out, ",\"done\":false}");
	else
		evbuffer_add_printf(out,
							",\"done\":true,\"done_reason\":\"stop\",\"context\":[1,2,3],"
							"\"total_duration\":%.0f,\"load_duration\":1000000,"
							"\"prompt_eval_count\":%zu,\"prompt_eval_duration\":2000000,"
							"\"eval_count\":%zu,\"eval_duration\":3000000%s%s}",
							call->work_ms * 1e6, call->picture.prompt_bytes, pieces,
							call->usage ? ",\"usage\":" : "", call->usage ? call->usage : "");
}

static void
ollama_write_stream(Call *call, const char *model, const char *text)
{
	struct evbuffer *out = call_begin_stream(call, "application/x-ndjson", "\n");
	size_t pieces = text_pieces(text);
	size_t left = call->fault.stream_error ? pieces / 2 : pieces;

	for (size_t n; left > 0; left--, text += n)
	{
		n = text_piece_bytes(text);
		ollama_write_object(call, out, model, text, n, 0);
		evbuffer_add(out, "\n", 1);
	}
	if (call->fault.stream_error)
	{
		evbuffer_add_printf(out, "{\"error\":");
		json_add_string(out, call->fault.message
								 ? call->fault.message
								 : "an error was encountered while running the model");
		evbuffer_add(out, "}", 1);
	}
	else
		ollama_write_object(call, out, model, "", 0, pieces > 0 ? pieces : 1);
	evbuffer_add(out, "\n", 1);
}

static void
ollama_accept(Call *call, const Body *body)
{
	const char *model = body_text(body, "model");
	const char *prompt = body_text(body, "prompt");
	const cJSON *stream = cJSON_GetObjectItemCaseSensitive(body->json, "stream");
	struct evbuffer *quoted;
	char *text;

	if (model == NULL)
	{
		call_write_error(call, 400, NULL, body->json ? "model is required" : "invalid JSON");
		return;
	}
	call->picture.prompt_bytes = prompt ? text_pieces(prompt) : 0;
	text = call_said(call, prompt);
	quoted = evbuffer_new();
	json_add_string(quoted, model);
	evbuffer_add(quoted, "", 1);
	model = (char *) evbuffer_pullup(quoted, -1);
	if (cJSON_IsFalse(stream))
		ollama_write_object(call, call_begin_answer(call, 200, "application/json; charset=utf-8"),
							model, text, strlen(text), text_pieces(text));
	else
		ollama_write_stream(call, model, text);
	evbuffer_free(quoted);
	free(text);
}

static const Route routes[] = {{"POST", "/api/generate", ollama_accept, NULL, ERRAND_SUBMIT},
							   {.path = NULL}};

const Dialect ollama_dialect = {.routes = routes, .write_error = ollama_write_error};
