/*
 * sdcpp.c
 *		The dialect of stable-diffusion.cpp's own server: /sdcpp/v1/img_gen and
 *		its jobs.  A job that is generating cannot be cancelled.
 */
#include "prediction.h"

#include <stdlib.h>
#include <string.h>

static const char *const state_names[] = {"queued", "generating", "completed", "failed",
										  "failed", "cancelled",  "expired"};

static void
sdcpp_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json");

	(void) code;
	evbuffer_add_printf(out, "{\"error\":");
	json_add_string(out, message);
	evbuffer_add(out, "}", 1);
}

static void
sdcpp_accept(Call *call, const Body *body)
{
	double n = 1;

	if (!cJSON_IsObject(body->json))
	{
		call_write_error(call, 400, NULL, body->len == 0 ? "empty body" : "invalid json");
		return;
	}
	if (!call_describe(call, body, 400))
		return;
	body_number(body, "batch_count", &n);
	if (!(n >= 1 && n <= 100))
	{
		call_write_error(call, 400, NULL, "invalid generation parameters");
		return;
	}
	call->picture.n = (int) n;
	picture_mix_member(&call->picture, body->json, "init_image");
	picture_mix_member(&call->picture, body->json, "mask_image");
	picture_mix_member(&call->picture, body->json, "ref_images");
	prediction_submit(call, NULL);
}

static void
sdcpp_answer_submit(Call *call)
{
	const Prediction *job = call->prediction;

	evbuffer_add_printf(call_begin_answer(call, 202, "application/json"),
						"{\"created\":1700000000,\"id\":\"%s\",\"kind\":\"img_gen\","
						"\"poll_url\":\"/sdcpp/v1/jobs/%s\",\"status\":\"queued\"}",
						job->id, job->id);
}

static void
sdcpp_write_result(Call *call, struct evbuffer *out)
{
	evbuffer_add_printf(out, "{\"output_format\":\"png\",\"images\":[");
	for (int i = 0; i < call->picture.n; i++)
	{
		evbuffer_add_printf(out, "%s{\"index\":%d,\"b64_json\":", i > 0 ? "," : "", i);
		picture_add_base64(call, out, i);
		evbuffer_add(out, "}", 1);
	}
	evbuffer_add(out, "]", 1);
	if (cJSON_HasObjectItem(call->prediction->script, "usage"))
	{
		evbuffer_add_printf(out, ",\"usage\":");
		prediction_add_usage(call->prediction, out, "null");
	}
	evbuffer_add(out, "}", 1);
}

static void
sdcpp_write_job(Call *call, PredictionState state)
{
	const Prediction *job = call->prediction;
	struct evbuffer *out = call_begin_answer(call, 200, "application/json");
	double progress = prediction_progress(job);

	evbuffer_add_printf(out,
						"{\"id\":\"%s\",\"kind\":\"img_gen\",\"status\":\"%s\","
						"\"created\":1700000000,\"queue_position\":%u",
						job->id, state_names[state], prediction_queue_position(job));
	if (progress >= 0)
		evbuffer_add_printf(out, ",\"progress\":%.17g", progress);
	evbuffer_add_printf(out, ",\"result\":");
	if (state == PREDICTION_SUCCEEDED)
		sdcpp_write_result(call, out);
	else
		evbuffer_add(out, "null", 4);
	if (state <= PREDICTION_SUCCEEDED)
		evbuffer_add_printf(out, ",\"error\":null}");
	else
	{
		bool cancelled = state == PREDICTION_CANCELLED;

		evbuffer_add_printf(out, ",\"error\":{\"code\":\"%s\",\"message\":",
							cancelled ? "cancelled" : "generation_failed");
		json_add_string(out, cancelled ? "job cancelled by client" : prediction_message(job));
		evbuffer_add(out, "}}", 2);
	}
}

/* Is the job known?  Else refuses. */
static bool
sdcpp_check_known(Call *call)
{
	if (call->prediction == NULL)
		call_write_error(call, 404, NULL, "job not found");
	else if (prediction_state(call->prediction) == PREDICTION_GONE)
		call_write_error(call, 410, NULL, "job expired");
	else
		return true;
	return false;
}

static void
sdcpp_answer_poll(Call *call)
{
	if (sdcpp_check_known(call))
		sdcpp_write_job(call, prediction_state(call->prediction));
}

static void
sdcpp_answer_cancel(Call *call)
{
	if (!sdcpp_check_known(call))
		return;
	if (prediction_state(call->prediction) == PREDICTION_RUNNING)
	{
		call_write_error(call, 409, NULL,
						 "job is currently generating and cannot be interrupted yet");
		return;
	}
	prediction_cancel(call, call->prediction);
	sdcpp_write_job(call, prediction_state(call->prediction));
}

static const Route routes[] = {{"POST", "/sdcpp/v1/img_gen", sdcpp_accept, sdcpp_answer_submit,
								ERRAND_SUBMIT},
							   {"GET", "/sdcpp/v1/jobs/{id}", NULL, sdcpp_answer_poll, ERRAND_POLL},
							   {"POST", "/sdcpp/v1/jobs/{id}/cancel", NULL, sdcpp_answer_cancel,
								ERRAND_CANCEL},
							   {.path = NULL}};

const Dialect sdcpp_dialect = {.routes = routes,
							   .busy_message = "job queue is full",
							   .ids = "job_65xxxxxx_xxxxxxxxxxxx",
							   .write_error = sdcpp_write_error};
