/*
 * openai_responses.c
 *		The dialect of OpenAI's /v1/responses: with "background" a prediction to
 *		be polled, else answered at once.  Pictures are what the tool
 *		image_generation puts out, beside the text.
 */
#include "prediction.h"

#include <stdlib.h>
#include <string.h>

static const char *const state_names[] = {"queued",     "in_progress", "completed", "failed",
										  "incomplete", "cancelled",   "gone"};

static bool
response_wants_pictures(const cJSON *json)
{
	const cJSON *tool;

	cJSON_ArrayForEach(tool, cJSON_GetObjectItemCaseSensitive(json, "tools"))
	{
		const char *type = script_text(tool, "type");

		if (type && strcmp(type, "image_generation") == 0)
			return true;
	}
	return false;
}

static void
response_accept(Call *call, const Body *body)
{
	const char *prompt = json_last_text(cJSON_GetObjectItemCaseSensitive(body->json, "input"));
	bool background = script_bool(body->json, "background");
	bool pictures = response_wants_pictures(body->json);
	char *text;
	Prediction *response;

	if (prompt == NULL)
	{
		call_refuse(call, 400, "missing_required_parameter",
					"Missing required parameter: 'input'.");
		return;
	}
	if (!call_describe(call, body, 400))
		return;
	picture_mix_member(&call->picture, body->json, "input");
	call->picture.n = 1;
	text = call_said(call, prompt);
	response = prediction_submit(call, NULL);
	if (response && response->note == NULL) /* whether it has pictures, then the text */
		response->note = text_format("%c%s", pictures ? '1' : '0', text);
	free(text);
	if (response && !background && !call->fault.has_latency)
		call->latency_ms = call->work_ms;
}

static void
response_write_output(Call *call, struct evbuffer *out)
{
	const char *note = call->prediction->note;

	evbuffer_add(out, "[", 1);
	for (int i = 0; *note == '1' && i < call->picture.n; i++)
	{
		evbuffer_add_printf(out,
							"{\"id\":\"ig_%d\",\"type\":\"image_generation_call\","
							"\"status\":\"completed\",\"output_format\":\"png\",\"result\":",
							i);
		picture_add_base64(call, out, i);
		evbuffer_add(out, "},", 2);
	}
	evbuffer_add_printf(out, "{\"id\":\"msg_0\",\"type\":\"message\",\"status\":\"completed\","
							 "\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\","
							 "\"annotations\":[],\"text\":");
	json_add_string(out, note + 1);
	evbuffer_add_printf(out, "}]}]");
}

static void
response_write_error(const Prediction *response, PredictionState state, struct evbuffer *out)
{
	if (state == PREDICTION_FAILED)
	{
		evbuffer_add_printf(out, "{\"code\":\"server_error\",\"message\":");
		json_add_string(out, prediction_message(response));
		evbuffer_add(out, "}", 1);
	}
	else
		evbuffer_add(out, "null", 4);
	evbuffer_add_printf(out, ",\"incomplete_details\":%s",
						state == PREDICTION_MODERATED ? "{\"reason\":\"content_filter\"}" : "null");
}

static void
response_write(Call *call, PredictionState state)
{
	const Prediction *response = call->prediction;
	struct evbuffer *out = call_begin_answer(call, 200, "application/json");
	size_t tokens = text_pieces(response->note + 1);

	evbuffer_add_printf(out,
						"{\"id\":\"%s\",\"object\":\"response\",\"created_at\":1700000000,"
						"\"status\":\"%s\",\"background\":true,\"model\":\"stand-in\",\"error\":",
						response->id, state_names[state]);
	response_write_error(response, state, out);
	evbuffer_add_printf(out, ",\"output\":");
	if (state == PREDICTION_SUCCEEDED)
		response_write_output(call, out);
	else
		evbuffer_add(out, "[]", 2);
	evbuffer_add_printf(out, ",\"usage\":");
	if (state == PREDICTION_SUCCEEDED)
	{
		char *usage =
			text_format("{\"input_tokens\":%zu,\"output_tokens\":%zu,\"total_tokens\":%zu}",
						response->picture.prompt_bytes, tokens,
						response->picture.prompt_bytes + tokens);

		prediction_add_usage(response, out, usage);
		free(usage);
	}
	else
		evbuffer_add(out, "null", 4);
	evbuffer_add(out, "}", 1);
}

static bool
response_check_known(Call *call)
{
	if (call->prediction && prediction_state(call->prediction) != PREDICTION_GONE)
		return true;
	call_refuse(call, 404, NULL, "Response with id '%s' not found.",
				call->about ? call->about : "");
	return false;
}

static void
response_answer_poll(Call *call)
{
	if (response_check_known(call))
		response_write(call, prediction_state(call->prediction));
}

static void
response_answer_submit(Call *call)
{
	PredictionState state = prediction_state(call->prediction);

	response_write(call, state == PREDICTION_GONE ? PREDICTION_RUNNING : state);
}

static void
response_answer_cancel(Call *call)
{
	PredictionState state;

	if (!response_check_known(call))
		return;
	state = prediction_state(call->prediction);
	if (prediction_cancel(call, call->prediction) || state == PREDICTION_CANCELLED)
		response_write(call, PREDICTION_CANCELLED);
	else
		call_refuse(call, 400, NULL, "Cannot cancel a %s response.", state_names[state]);
}

static const Route routes[] =
	{{"POST", "/v1/responses", response_accept, response_answer_submit, ERRAND_SUBMIT},
	 {"GET", "/v1/responses/{id}", NULL, response_answer_poll, ERRAND_POLL},
	 {"POST", "/v1/responses/{id}/cancel", NULL, response_answer_cancel, ERRAND_CANCEL},
	 {.path = NULL}};

const Dialect openai_responses_dialect = {.routes = routes,
										  .auth = "Authorization: Bearer ",
										  .busy_message = "Rate limit reached.",
										  .ids = "resp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
										  .write_error = openai_write_error};
