/*
 * openai.c
 *		The dialect of OpenAI's images: /v1/images/generations as JSON and
 *		/v1/images/edits as a form.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Remembers what to draw, or refuses. */
static bool
openai_describe(Call *call, const Body *body)
{
	char *why = NULL;

	if (body_text(body, "prompt") == NULL)
	{
		call_refuse(call, 400, "missing_required_parameter",
					"Missing required parameter: 'prompt'.");
		return false;
	}
	if (!picture_describe(&call->picture, body, &why))
	{
		call_write_error(call, 400, "invalid_value", why);
		free(why);
		return false;
	}
	return true;
}

static void
openai_accept_generation(Call *call, const Body *body)
{
	if (!cJSON_IsObject(body->json))
		call_refuse(call, 400, NULL, "We could not parse the JSON body of your request.");
	else
		openai_describe(call, body);
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
		evbuffer_add_printf(out, "%s{\"b64_json\":", i > 0 ? "," : "");
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

const Route openai_routes[] = {{"POST", "/v1/images/generations", openai_accept_generation,
								openai_answer},
							   {"POST", "/v1/images/edits", openai_accept_edit, openai_answer},
							   {NULL, NULL, NULL, NULL}};
