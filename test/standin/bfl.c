/*
 * bfl.c
 *		The dialect of Black Forest Labs: a task is polled by its polling_url,
 *		and its sample stands on a foreign host under a URL that expires.
 */
#include "prediction.h"

#include <stdlib.h>
#include <string.h>

#define SAMPLE_EXPIRES_MS 600000

static const char *const state_names[] = {"Pending",           "Pending", "Ready",         "Error",
										  "Content Moderated", "Error",   "Task not found"};

static void
bfl_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json");

	(void) code;
	if (status == 422)
		evbuffer_add_printf(out,
							"{\"detail\":[{\"loc\":[\"body\",\"prompt\"],\"type\":\"value_error\",\"msg\":");
	else
		evbuffer_add_printf(out, "{\"detail\":");
	json_add_string(out, message);
	evbuffer_add_printf(out, status == 422 ? "}]}" : "}");
}

static void
bfl_accept(Call *call, const Body *body)
{
	Prediction *task;

	if (!cJSON_IsObject(body->json) || body_text(body, "prompt") == NULL)
	{
		call_write_error(call, 422, NULL, "Field required");
		return;
	}
	if (!call_describe(call, body, 422))
		return;
	call->picture.n = 1;
	picture_mix_member(&call->picture, body->json, "input_image");
	picture_mix_member(&call->picture, body->json, "input_image_2");
	task = prediction_submit(call, NULL);
	if (task && task->expires_ms == 0)
		task->expires_ms = SAMPLE_EXPIRES_MS;
}

static void
bfl_answer_submit(Call *call)
{
	const Prediction *task = call->prediction;
	double megapixels = (double) task->picture.width * task->picture.height / 1e6;
	char *url = call_own_url(call, "/v1/get_result?id=%s", task->id);
	const cJSON *cost =
		cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(task->script, "usage"),
										 "cost");

	evbuffer_add_printf(call_begin_answer(call, 200, "application/json"),
						"{\"id\":\"%s\",\"polling_url\":\"%s\",\"cost\":%g,\"input_mp\":0.0,"
						"\"output_mp\":%.6f}",
						task->id, url, cJSON_IsNumber(cost) ? cost->valuedouble : 4.0, megapixels);
	free(url);
}

static void
bfl_write_details(const Prediction *task, PredictionState state, struct evbuffer *out)
{
	if (state == PREDICTION_MODERATED)
		evbuffer_add_printf(out, "{\"Moderation Reasons\":[");
	else if (state == PREDICTION_FAILED || state == PREDICTION_CANCELLED)
		evbuffer_add_printf(out, "{\"error\":");
	else
	{
		evbuffer_add(out, "null", 4);
		return;
	}
	json_add_string(out, prediction_message(task));
	evbuffer_add_printf(out, state == PREDICTION_MODERATED ? "]}" : "}");
}

static void
bfl_answer_poll(Call *call)
{
	const Prediction *task = call->prediction;
	PredictionState state = task ? prediction_state(task) : PREDICTION_GONE;
	struct evbuffer *out =
		call_begin_answer(call, state == PREDICTION_GONE ? 404 : 200, "application/json");
	double progress = task ? prediction_progress(task) : -1;

	evbuffer_add_printf(out, "{\"id\":");
	json_add_string(out, call->about);
	evbuffer_add_printf(out, ",\"status\":\"%s\",\"result\":", state_names[state]);
	if (state == PREDICTION_SUCCEEDED)
	{
		evbuffer_add_printf(out, "{\"sample\":");
		files_add_url(call, out, 0);
		evbuffer_add_printf(out, ",\"seed\":%u,\"duration\":%.3f}", task->picture.seed,
							task->run_s);
	}
	else
		evbuffer_add(out, "null", 4);
	if (progress >= 0)
		evbuffer_add_printf(out, ",\"progress\":%.17g,\"details\":", progress);
	else
		evbuffer_add_printf(out, ",\"progress\":null,\"details\":");
	bfl_write_details(task, state, out);
	evbuffer_add_printf(out, ",\"preview\":null}");
}

static const Route routes[] = {{"POST", "/v1/flux-{model}", bfl_accept, bfl_answer_submit,
								ERRAND_SUBMIT},
							   {"GET", "/v1/get_result", NULL, bfl_answer_poll, ERRAND_POLL},
							   {.path = NULL}};

const Dialect bfl_dialect = {.routes = routes,
							 .auth = "x-key: ",
							 .unauthorized = 403,
							 .unauthorized_message = "Not authenticated - Invalid Authentication",
							 .busy_message = "Rate limit exceeded: too many active tasks",
							 .ids = "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx",
							 .foreign_files = true,
							 .write_error = bfl_write_error};
