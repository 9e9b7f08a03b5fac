/*
 * huggingface.c
 *		The dialect of Hugging Face's inference: a picture is the answer's body.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

/* A model that is being loaded says how long that takes. */
static void
huggingface_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json");
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(call->req));
	const char *model = strstr(path, "/models/");
	char *loading = NULL;

	(void) code;
	if (status == 503 && call->fault.message == NULL)
		message = loading =
			text_format("Model %s is currently loading", model + strlen("/models/"));
	evbuffer_add_printf(out, "{\"error\":");
	json_add_string(out, message);
	if (loading)
		evbuffer_add_printf(out, ",\"estimated_time\":%g",
							call->fault.retry_in_s > 0 ? call->fault.retry_in_s : 20.0);
	evbuffer_add(out, "}", 1);
	free(loading);
}

static void
huggingface_accept(Call *call, const Body *body)
{
	Body parameters = body_inside(body, "parameters");
	const char *inputs = body_text(body, "inputs");

	if (!cJSON_IsObject(body->json) || inputs == NULL)
	{
		call_write_error(call, 400, NULL, "Missing required field: inputs");
		return;
	}
	if (!call_describe(call, &parameters, 400))
		return;
	call->picture.n = 1;
	call->picture.prompt_bytes = strlen(inputs);
	picture_mix_input(&call->picture, inputs, strlen(inputs));
}

static void
huggingface_answer(Call *call)
{
	size_t len;
	const void *png = picture_draw(&call->picture, 0, &len);

	evbuffer_add(call_begin_answer(call, 200, "image/png"), png, len);
	call_add_header(call, "x-compute-type", "gpu");
	call_add_header(call, "x-compute-time", "1.25");
}

static const Route routes[] = {{"POST", "/models/*", huggingface_accept, huggingface_answer,
								ERRAND_SUBMIT},
							   {"POST", "/hf-inference/models/*", huggingface_accept,
								huggingface_answer, ERRAND_SUBMIT},
							   {.path = NULL}};

const Dialect huggingface_dialect = {.routes = routes,
									 .auth = "Authorization: Bearer ",
									 .unauthorized_message = "Invalid credentials in Authorization "
															 "header",
									 .busy_message = "Rate limit reached. Please slow down.",
									 .write_error = huggingface_write_error};
