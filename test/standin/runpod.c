/*
 * runpod.c
 *		The dialect of RunPod's serverless endpoints.  What an output looks like
 *		is the worker's own: here it is as RunPod's ComfyUI worker has it.
 */
#include "prediction.h"

#include <stdlib.h>
#include <string.h>

#define MAX_RUNSYNC_MS 90000

static const char *const state_names[] = {"IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED",
										  "FAILED",   "CANCELLED",   "GONE"};

static void
runpod_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json");

	(void) code;
	evbuffer_add_printf(out, "{\"error\":");
	json_add_string(out, message);
	evbuffer_add(out, "}", 1);
}

static void
runpod_accept(Call *call, const Body *body)
{
	Body input = body_inside(body, "input");

	if (!cJSON_IsObject(input.json))
	{
		call_write_error(call, 400, NULL, "\"input\" is required");
		return;
	}
	if (!call_describe(call, &input, 400))
		return;
	picture_mix_member(&call->picture, input.json, "image");
	picture_mix_member(&call->picture, input.json, "images");
	prediction_submit(call, NULL);
}

/* /runsync waits for the end, but not for ever. */
static void
runpod_accept_sync(Call *call, const Body *body)
{
	double wait;

	runpod_accept(call, body);
	if (call->prediction == NULL)
		return;
	wait = (prediction_ended_s(call->prediction) - clock_now_s()) * 1000 + 1;
	wait = wait < MAX_RUNSYNC_MS ? wait : MAX_RUNSYNC_MS;
	call->latency_ms = wait > call->latency_ms ? wait : call->latency_ms;
}

static void
runpod_answer_submit(Call *call)
{
	evbuffer_add_printf(call_begin_answer(call, 200, "application/json"),
						"{\"id\":\"%s\",\"status\":\"IN_QUEUE\"}", call->prediction->id);
}

static void
runpod_write_output(Call *call, struct evbuffer *out)
{
	if (prediction_add_script_output(call->prediction, out))
		return;
	evbuffer_add_printf(out, "{\"images\":[");
	for (int i = 0; i < call->picture.n; i++)
	{
		evbuffer_add_printf(out,
							"%s{\"filename\":\"ComfyUI_%05d_.png\",\"type\":\"base64\",\"data\":",
							i > 0 ? "," : "", i + 1);
		picture_add_base64(call, out, i);
		evbuffer_add(out, "}", 1);
	}
	evbuffer_add_printf(out, "]}");
}

/* A worker tells how far it is by an output before its output. */
static void
runpod_write_status(Call *call)
{
	const Prediction *job = call->prediction;
	PredictionState state = prediction_state(job);
	struct evbuffer *out = call_begin_answer(call, 200, "application/json");
	double progress = prediction_progress(job);

	evbuffer_add_printf(out, "{\"id\":\"%s\",\"status\":\"%s\"", job->id, state_names[state]);
	if (state >= PREDICTION_RUNNING)
		evbuffer_add_printf(out, ",\"delayTime\":%.0f,\"workerId\":\"standin\"",
							job->queue_s * 1000);
	if (state == PREDICTION_RUNNING && progress >= 0)
		evbuffer_add_printf(out, ",\"output\":\"%d%%\"", (int) (progress * 100));
	if (state == PREDICTION_SUCCEEDED)
	{
		evbuffer_add_printf(out, ",\"executionTime\":%.0f,\"output\":", job->run_s * 1000);
		runpod_write_output(call, out);
		if (cJSON_HasObjectItem(job->script, "usage"))
		{
			evbuffer_add_printf(out, ",\"usage\":");
			prediction_add_usage(job, out, "null");
		}
	}
	if (state == PREDICTION_FAILED || state == PREDICTION_MODERATED)
	{
		evbuffer_add_printf(out, ",\"executionTime\":%.0f,\"error\":", job->run_s * 1000);
		json_add_string(out, prediction_message(job));
	}
	evbuffer_add(out, "}", 1);
}

static void
runpod_answer_status(Call *call)
{
	if (call->prediction && prediction_state(call->prediction) != PREDICTION_GONE)
		runpod_write_status(call);
	else
		call_write_error(call, 404, NULL, "job not found");
}

static void
runpod_answer_cancel(Call *call)
{
	if (call->prediction)
		prediction_cancel(call, call->prediction);
	runpod_answer_status(call);
}

static const Route routes[] =
	{{"POST", "/v2/{endpoint}/run", runpod_accept, runpod_answer_submit, ERRAND_SUBMIT},
	 {"POST", "/v2/{endpoint}/runsync", runpod_accept_sync, runpod_answer_status, ERRAND_SUBMIT},
	 {"GET", "/v2/{endpoint}/status/{id}", NULL, runpod_answer_status, ERRAND_POLL},
	 {"POST", "/v2/{endpoint}/cancel/{id}", NULL, runpod_answer_cancel, ERRAND_CANCEL},
	 {.path = NULL}};

const Dialect runpod_dialect = {.routes = routes,
								.auth = "Authorization: Bearer ",
								.unauthorized_message = "Unauthorized",
								.busy_message = "Too many requests",
								.ids = "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx-e1",
								.write_error = runpod_write_error};
