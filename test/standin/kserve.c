/*
 * kserve.c
 *		The dialect of KServe's version 2, which Triton speaks too: tensors in,
 *		tensors out.  The first text among the inputs is the prompt; a picture is
 *		an element of BYTES, in base64.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

static void
kserve_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json");

	(void) code;
	evbuffer_add_printf(out, "{\"error\":");
	json_add_string(out, message);
	evbuffer_add(out, "}", 1);
}

/* The first text in the data of the inputs. */
static const char *
kserve_prompt(const cJSON *inputs)
{
	const cJSON *input;
	const cJSON *element;

	cJSON_ArrayForEach(input, inputs)
	{
		cJSON_ArrayForEach(element, cJSON_GetObjectItemCaseSensitive(input, "data"))
		{
			if (cJSON_IsString(element))
				return element->valuestring;
		}
	}
	return NULL;
}

/* Is each input a tensor?  Else refuses. */
static bool
kserve_check_inputs(Call *call, const cJSON *inputs)
{
	const cJSON *input;

	if (!cJSON_IsArray(inputs) || inputs->child == NULL)
	{
		call_write_error(call, 400, NULL, "expected at least one input tensor in \"inputs\"");
		return false;
	}
	cJSON_ArrayForEach(input, inputs)
	{
		if (script_text(input, "name") && script_text(input, "datatype") &&
			cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(input, "shape")) &&
			cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(input, "data")))
			continue;
		call_write_error(call, 400, NULL,
						 "an input needs \"name\", \"shape\", \"datatype\" and \"data\"");
		return false;
	}
	return true;
}

/* Keeps what the answer begins with: the model and the id of the request. */
static void
kserve_accept(Call *call, const Body *body)
{
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(call->req));
	const char *model = path + strlen("/v2/models/");
	const char *id = body_text(body, "id");
	const cJSON *inputs = cJSON_GetObjectItemCaseSensitive(body->json, "inputs");
	Body parameters = body_inside(body, "parameters");
	const char *prompt = kserve_prompt(inputs);
	struct evbuffer *head;

	if (!kserve_check_inputs(call, inputs) || !call_describe(call, &parameters, 400))
		return;
	picture_mix_member(&call->picture, body->json, "inputs");
	call->picture.prompt_bytes = prompt ? strlen(prompt) : 0;
	head = evbuffer_new();
	evbuffer_add_printf(head, "{\"model_name\":");
	json_add_text(head, model, strcspn(model, "/"));
	evbuffer_add_printf(head, ",\"model_version\":\"1\"");
	if (id)
	{
		evbuffer_add_printf(head, ",\"id\":");
		json_add_string(head, id);
	}
	evbuffer_add(head, "", 1);
	call->note = strdup((char *) evbuffer_pullup(head, -1));
	evbuffer_free(head);
}

static void
kserve_answer(Call *call)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json");

	evbuffer_add_printf(out,
						"%s,\"outputs\":[{\"name\":\"image\",\"datatype\":\"BYTES\",\"shape\":[%d],\"data\":[",
						call->note, call->picture.n);
	for (int i = 0; i < call->picture.n; i++)
	{
		evbuffer_add(out, ",", i > 0);
		picture_add_base64(call, out, i);
	}
	evbuffer_add_printf(out, "]}]}");
}

static void
kserve_answer_ready(Call *call)
{
	call_begin_answer(call, 200, NULL);
}

static const Route routes[] = {{"POST", "/v2/models/{model}/infer", kserve_accept, kserve_answer,
								ERRAND_SUBMIT},
							   {"POST", "/v2/models/{model}/versions/{version}/infer",
								kserve_accept, kserve_answer, ERRAND_SUBMIT},
							   {"GET", "/v2/health/ready", NULL, kserve_answer_ready, ERRAND_ASK},
							   {.path = NULL}};

const Dialect kserve_dialect = {.routes = routes,
								.busy_message = "Exceeds maximum queue size",
								.write_error = kserve_write_error};
