/*
 * openai.c
 *		The dialect of OpenAI's images: /v1/images/generations as JSON and
 *		/v1/images/edits as a form.  With response_format "url" the pictures are
 *		files of a prediction that has ended at once.
 */
#include "prediction.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The type that OpenAI's API gives an error of this status. */
static const char *
error_type(int status)
{
	if (status == 401)
		return "authentication_error";
	if (status == 403)
		return "permission_error";
	if (status == 429)
		return "rate_limit_error";
	return status >= 500 ? "server_error" : "invalid_request_error";
}

/* Answers with an error as OpenAI's API words it; "code" may be NULL. */
void
openai_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json");
	char *text = call->fault.retry_in_s > 0
					 ? text_format("%s Please try again in %gs.", message, call->fault.retry_in_s)
					 : NULL;

	evbuffer_add_printf(out, "{\"error\":{\"message\":");
	json_add_string(out, text ? text : message);
	evbuffer_add_printf(out, ",\"type\":\"%s\",\"param\":null,\"code\":", error_type(status));
	json_add_string(out, code);
	evbuffer_add(out, "}}", 2);
	free(text);
}

/* Remembers what to draw, or refuses. */
static bool
openai_describe(Call *call, const Body *body)
{
	if (body_text(body, "prompt") == NULL)
	{
		call_refuse(call, 400, "missing_required_parameter",
					"Missing required parameter: 'prompt'.");
		return false;
	}
	return call_describe(call, body, 400);
}

/* With URLs wanted, the pictures become a prediction's; the answer still takes its latency. */
static void
openai_keep_files(Call *call, const Body *body)
{
	const char *format = body_text(body, "response_format");
	double latency_ms = call->latency_ms;

	if (format == NULL || strcmp(format, "url") != 0 || call->ending != ENDING_SUCCEED)
		return;
	prediction_submit(call, NULL);
	call->latency_ms = latency_ms;
}

static void
openai_accept_generation(Call *call, const Body *body)
{
	if (!cJSON_IsObject(body->json))
		call_refuse(call, 400, NULL, "We could not parse the JSON body of your request.");
	else if (openai_describe(call, body))
		openai_keep_files(call, body);
}

static bool
part_is_image(const Part *part)
{
	return part->filename && part->name &&
		   (strcmp(part->name, "image") == 0 || strcmp(part->name, "image[]") == 0);
}

static void
openai_accept_edit(Call *call, const Body *body)
{
	int images = 0;

	if (!body->multipart)
	{
		call_refuse(call, 400, "unsupported_content_type",
					"Invalid Content-Type: expected multipart/form-data.");
		return;
	}
	for (int i = 0; i < body->nparts; i++)
		images += part_is_image(&body->parts[i]);
	if (images == 0)
	{
		call_refuse(call, 400, "missing_required_parameter",
					"Missing required parameter: 'image'.");
		return;
	}
	if (!openai_describe(call, body))
		return;
	for (int i = 0; i < body->nparts; i++)
		if (body->parts[i].filename)
			picture_mix_input(&call->picture, body->parts[i].data, body->parts[i].len);
	openai_keep_files(call, body);
}

/*
 * The time "created" is fixed: the same request gets the same answer.  Tokens
 * are 4 bytes of prompt, 1024 bytes of input, 256 pixels of output.
 */
static void
openai_answer(Call *call)
{
	const Picture *picture = &call->picture;
	struct evbuffer *out = call_begin_answer(call, 200, "application/json");
	size_t input = (picture->prompt_bytes + 3) / 4 + (picture->input_bytes + 1023) / 1024;
	size_t output = picture->n * (((size_t) picture->width * picture->height + 255) / 256);

	evbuffer_add_printf(out, "{\"created\":1700000000,\"data\":[");
	for (int i = 0; i < picture->n; i++)
	{
		evbuffer_add_printf(out, "%s{\"%s\":", i > 0 ? "," : "",
							call->prediction ? "url" : "b64_json");
		if (call->prediction)
			files_add_url(call, out, i);
		else
			picture_add_base64(call, out, i);
		evbuffer_add(out, "}", 1);
	}
	if (call->usage)
		evbuffer_add_printf(out, "],\"usage\":%s}", call->usage);
	else
		evbuffer_add_printf(out,
							"],\"usage\":{\"input_tokens\":%zu,\"output_tokens\":%zu,\"total_tokens\":%zu}}",
							input, output, input + output);
}

static const Route routes[] = {{"POST", "/v1/images/generations", openai_accept_generation,
								openai_answer, ERRAND_SUBMIT},
							   {"POST", "/v1/images/edits", openai_accept_edit, openai_answer,
								ERRAND_SUBMIT},
							   {.path = NULL}};

const Dialect openai_dialect = {.routes = routes,
								.auth = "Authorization: Bearer ",
								.busy_message = "Rate limit reached.",
								.ids = "img_xxxxxxxxxxxxxxxxxxxxxxxx",
								.write_error = openai_write_error};
