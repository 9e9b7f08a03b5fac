/*
 * anthropic.c
 *		The dialect of Anthropic's messages: /v1/messages, at once or as a stream of events with types.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

static void
anthropic_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json");

	evbuffer_add_printf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":",
						code            ? code
						: status == 529 ? "overloaded_error"
						: status == 429 ? "rate_limit_error"
						: status >= 500 ? "api_error"
										: "invalid_request_error");
	json_add_string(out, message);
	evbuffer_add_printf(out, "}}");
}

/* The message up to its content, as it is when its stream begins. */
static void
messages_write_head(Call *call, struct evbuffer *out)
{
	(void) call;
	evbuffer_add_printf(out, "{\"id\":\"msg_standin\",\"type\":\"message\",\"role\":\"assistant\","
							 "\"model\":\"stand-in\",\"content\":[");
}

static void
messages_write_tail(Call *call, struct evbuffer *out, const char *reason, size_t tokens)
{
	evbuffer_add_printf(out, "],\"stop_reason\":%s,\"stop_sequence\":null,\"usage\":", reason);
	if (call->usage)
		evbuffer_add_printf(out, "%s}", call->usage);
	else
		evbuffer_add_printf(out, "{\"input_tokens\":%zu,\"output_tokens\":%zu}}",
							call->picture.prompt_bytes, tokens);
}

static void
messages_write_delta(struct evbuffer *out, const char *text, size_t len)
{
	evbuffer_add_printf(out, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\","
							 "\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":");
	json_add_text(out, text, len);
	evbuffer_add_printf(out, "}}\n\n");
}

static void
messages_write_end(Call *call, struct evbuffer *out, size_t tokens)
{
	evbuffer_add_printf(out, "event: content_block_stop\n"
							 "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
							 "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":"
							 "{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":");
	if (call->usage)
		evbuffer_add_printf(out, "%s", call->usage);
	else
		evbuffer_add_printf(out, "{\"output_tokens\":%zu}", tokens);
	evbuffer_add_printf(out, "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

static void
messages_write_stream(Call *call, const char *text)
{
	struct evbuffer *out = call_begin_stream(call, "text/event-stream; charset=utf-8", "\n\n");
	size_t pieces = text_pieces(text);
	size_t left = call->fault.stream_error ? pieces / 2 : pieces;

	evbuffer_add_printf(out,
						"event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
	messages_write_head(call, out);
	messages_write_tail(call, out, "null", 1);
	evbuffer_add_printf(out,
						"}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\","
						"\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
						"event: ping\ndata: {\"type\":\"ping\"}\n\n");
	for (size_t n; left > 0; left--, text += n)
	{
		n = text_piece_bytes(text);
		messages_write_delta(out, text, n);
	}
	if (!call->fault.stream_error)
	{
		messages_write_end(call, out, pieces);
		return;
	}
	evbuffer_add_printf(out, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"
							 "\"overloaded_error\",\"message\":");
	json_add_string(out, call->fault.message ? call->fault.message : "Overloaded");
	evbuffer_add_printf(out, "}}\n\n");
}

static void
messages_write_whole(Call *call, const char *text)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json");

	messages_write_head(call, out);
	evbuffer_add_printf(out, "{\"type\":\"text\",\"text\":");
	json_add_string(out, text);
	evbuffer_add_printf(out, "}");
	messages_write_tail(call, out, "\"end_turn\"", text_pieces(text));
}

static void
messages_accept(Call *call, const Body *body)
{
	const cJSON *messages = cJSON_GetObjectItemCaseSensitive(body->json, "messages");
	const char *prompt = json_last_text(messages);
	double most;
	char *text;

	if (call_header(call, "anthropic-version") == NULL)
	{
		call_refuse(call, 400, "invalid_request_error", "anthropic-version: header is required");
		return;
	}
	if (!cJSON_IsArray(messages) || messages->child == NULL ||
		!body_number(body, "max_tokens", &most))
	{
		call_refuse(call, 400, "invalid_request_error", "%s: Field required",
					cJSON_IsArray(messages) ? "max_tokens" : "messages");
		return;
	}
	call->picture.prompt_bytes = prompt ? text_pieces(prompt) : 0;
	text = call_said(call, prompt);
	if (script_bool(body->json, "stream"))
		messages_write_stream(call, text);
	else
		messages_write_whole(call, text);
	free(text);
}

static const Route routes[] = {{"POST", "/v1/messages", messages_accept, NULL, ERRAND_SUBMIT},
							   {.path = NULL}};

const Dialect anthropic_dialect = {.routes = routes,
								   .auth = "x-api-key: ",
								   .unauthorized = 401,
								   .unauthorized_message = "invalid x-api-key",
								   .busy_message =
									   "Number of requests has exceeded your rate limit.",
								   .write_error = anthropic_write_error};
