/*
 * gemini.c
 *		The dialect of Gemini: generateContent with text, or with pictures when
 *		the request or the name of the model wants them.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

static const char *
gemini_status_name(int status)
{
	static const struct
	{
		int status;
		const char *name;
	} names[] = {{400, "INVALID_ARGUMENT"}, {401, "UNAUTHENTICATED"},    {403, "PERMISSION_DENIED"},
				 {404, "NOT_FOUND"},        {429, "RESOURCE_EXHAUSTED"}, {503, "UNAVAILABLE"},
				 {504, "DEADLINE_EXCEEDED"}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].status == status)
			return names[i].name;
	return status < 500 ? "FAILED_PRECONDITION" : "INTERNAL";
}

static void
gemini_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json; charset=UTF-8");

	(void) code;
	evbuffer_add_printf(out, "{\"error\":{\"code\":%d,\"message\":", status);
	json_add_string(out, message);
	evbuffer_add_printf(out, ",\"status\":\"%s\"", gemini_status_name(status));
	if (call->fault.retry_in_s > 0)
		evbuffer_add_printf(out,
							",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.Help\","
							"\"links\":[]},{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\","
							"\"retryDelay\":\"%gs\"}]",
							call->fault.retry_in_s);
	evbuffer_add_printf(out, "}}");
}

/* Does the request want pictures? */
static bool
gemini_wants_pictures(const Call *call, const cJSON *config)
{
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(call->req));
	const cJSON *modality;

	cJSON_ArrayForEach(modality, cJSON_GetObjectItemCaseSensitive(config, "responseModalities"))
	{
		if (cJSON_IsString(modality) && strcasecmp(modality->valuestring, "IMAGE") == 0)
			return true;
	}
	return strstr(path, "image") != NULL;
}

static void
gemini_write_usage(Call *call, struct evbuffer *out, size_t tokens)
{
	size_t prompt = call->picture.prompt_bytes;

	if (call->usage)
		evbuffer_add_printf(out, ",\"usageMetadata\":%s", call->usage);
	else
		evbuffer_add_printf(out,
							",\"usageMetadata\":{\"promptTokenCount\":%zu,"
							"\"candidatesTokenCount\":%zu,\"totalTokenCount\":%zu}",
							prompt, tokens, prompt + tokens);
	evbuffer_add_printf(out, ",\"modelVersion\":\"stand-in\",\"responseId\":\"standin\"}");
}

/* A request that is blocked has no candidates. */
static void
gemini_write_blocked(Call *call)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json; charset=UTF-8");

	evbuffer_add_printf(out, "{\"promptFeedback\":{\"blockReason\":\"SAFETY\","
							 "\"blockReasonMessage\":");
	json_add_string(out, script_text(call->script->json, "message"));
	evbuffer_add(out, "}", 1);
	gemini_write_usage(call, out, 0);
}

static void
gemini_write_text(Call *call, const char *prompt)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json; charset=UTF-8");
	char *text = call_said(call, prompt);

	evbuffer_add_printf(out, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":");
	json_add_string(out, text);
	evbuffer_add_printf(out, "}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}]");
	gemini_write_usage(call, out, text_pieces(text));
	free(text);
}

static void
gemini_accept(Call *call, const Body *body)
{
	const cJSON *contents = cJSON_GetObjectItemCaseSensitive(body->json, "contents");
	const cJSON *config = cJSON_GetObjectItemCaseSensitive(body->json, "generationConfig");
	const char *prompt = json_last_text(contents);
	const char *message = script_text(call->script->json, "message");
	Body settings = {.json = (cJSON *) config};

	if (!cJSON_IsArray(contents) && !cJSON_IsObject(contents))
	{
		call_write_error(call, 400, NULL,
						 "* GenerateContentRequest.contents: contents is not specified");
		return;
	}
	if (!call_describe(call, &settings, 400))
		return;
	call->picture.prompt_bytes = prompt ? text_pieces(prompt) : 0;
	if (call->ending == ENDING_MODERATED)
		gemini_write_blocked(call);
	else if (call->ending != ENDING_SUCCEED && call->ending != ENDING_NEVER)
		call_write_error(call, 500, NULL, message ? message : "An internal error has occurred.");
	else if (gemini_wants_pictures(call, config))
		picture_mix_member(&call->picture, body->json, "contents");
	else
		gemini_write_text(call, prompt);
}

static void
gemini_answer(Call *call)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json; charset=UTF-8");

	evbuffer_add_printf(out,
						"{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Here it is.\"}");
	for (int i = 0; i < call->picture.n; i++)
	{
		evbuffer_add_printf(out, ",{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":");
		picture_add_base64(call, out, i);
		evbuffer_add(out, "}}", 2);
	}
	evbuffer_add_printf(out, "],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}]");
	gemini_write_usage(call, out, 1290 * (size_t) call->picture.n);
}

static const Route routes[] = {{"POST", "/v1beta/models/{model}:generateContent", gemini_accept,
								gemini_answer, ERRAND_SUBMIT},
							   {.path = NULL}};

const Dialect gemini_dialect =
	{.routes = routes,
	 .auth = "x-goog-api-key: ",
	 .unauthorized = 400,
	 .unauthorized_message = "API key not valid. Please pass a valid API key.",
	 .busy_message = "You exceeded your current quota, please check your plan and billing details.",
	 .own_endings = true,
	 .write_error = gemini_write_error};
