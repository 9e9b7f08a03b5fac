/*
 * replicate.c
 *		The dialect of Replicate: predictions of a version or of a model, which
 *		are polled and cancelled by the URLs that the answer gives.
 */
#include "prediction.h"

#include <stdlib.h>
#include <string.h>

#define MAX_INPUT 16384 /* bytes of the input that are echoed */

static const char *const state_names[] = {"starting", "processing", "succeeded", "failed",
										  "failed",   "canceled",   "gone"};

static void
replicate_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/problem+json");
	char *throttled = NULL;

	(void) code;
	if (status == 429 && call->fault.retry_in_s > 0)
		message = throttled =
			text_format("Request was throttled. Your rate limit resets in ~%.0fs.",
						call->fault.retry_in_s);
	evbuffer_add_printf(out, "{\"title\":\"%s\",\"detail\":",
						status == 401   ? "Unauthenticated"
						: status == 402 ? "Insufficient credit"
						: status == 422 ? "Input validation failed"
						: status == 429 ? "Too many requests"
										: "Error");
	json_add_string(out, message);
	evbuffer_add_printf(out, ",\"status\":%d}", status);
	free(throttled);
}

/* How long the client wants to wait for the prediction to end, in milliseconds. */
static double
replicate_wait_ms(const Call *call)
{
	const char *prefer = call_header(call, "Prefer");

	if (prefer == NULL || strncmp(prefer, "wait", 4) != 0)
		return 0;
	return prefer[4] == '=' ? atof(prefer + 5) * 1000 : 60000;
}

static void
replicate_accept(Call *call, const Body *body)
{
	Body input = body_inside(body, "input");
	bool of_model = strncmp(call->route->path, "/v1/models/", 11) == 0;
	Prediction *prediction;
	double wait;

	if (!cJSON_IsObject(input.json))
	{
		call_write_error(call, 422, NULL, "- input is required\n");
		return;
	}
	if (!of_model && !body_text(body, "version") && !body_text(body, "model"))
	{
		call_write_error(call, 422, NULL, "- version is required\n");
		return;
	}
	if (!call_describe(call, &input, 422))
		return;
	picture_mix_member(&call->picture, input.json, "image");
	picture_mix_member(&call->picture, input.json, "mask");
	prediction = prediction_submit(call, NULL);
	if (prediction == NULL)
		return;
	if (prediction->note == NULL)
		prediction->note = cJSON_PrintUnformatted(input.json);
	if (strlen(prediction->note) > MAX_INPUT)
		strcpy(prediction->note, "{}");
	wait = (prediction_ended_s(prediction) - clock_now_s()) * 1000;
	if (wait > replicate_wait_ms(call))
		wait = replicate_wait_ms(call);
	if (wait > call->latency_ms)
		call->latency_ms = wait + 1;
}

static void
replicate_write_urls(const Call *call, struct evbuffer *out)
{
	char *url = call_own_url(call, "/v1/predictions/%s", call->prediction->id);

	evbuffer_add_printf(out, "\"urls\":{\"cancel\":\"%s/cancel\",\"get\":\"%s\"}", url, url);
	free(url);
}

/* The log of the model, the only place where it tells how far it is. */
static void
replicate_write_logs(const Prediction *prediction, struct evbuffer *out)
{
	double progress = prediction_progress(prediction);
	int steps = (int) (progress * 20);

	if (progress < 0)
		evbuffer_add_printf(out, "\"Using seed: %u\\n\"", prediction->picture.seed);
	else
		evbuffer_add_printf(out,
							"\"Using seed: %u\\n%3d%%|          | %d/20 [00:01<00:01, 9.87it/s]\\n\"",
							prediction->picture.seed, steps * 5, steps);
}

static void
replicate_write_outcome(const Call *call, PredictionState state, struct evbuffer *out)
{
	const Prediction *prediction = call->prediction;

	evbuffer_add_printf(out, "\"output\":");
	if (state != PREDICTION_SUCCEEDED)
		evbuffer_add(out, "null", 4);
	else if (!prediction_add_script_output(prediction, out))
		files_add_urls(call, out);
	evbuffer_add_printf(out, ",\"error\":");
	json_add_string(out, state == PREDICTION_FAILED || state == PREDICTION_MODERATED
							 ? prediction_message(prediction)
							 : NULL);
	evbuffer_add_printf(out, ",\"metrics\":");
	if (state == PREDICTION_SUCCEEDED)
	{
		char *metrics = text_format("{\"predict_time\":%.3f,\"total_time\":%.3f}",
									prediction->run_s, prediction->run_s + prediction->queue_s);

		prediction_add_usage(prediction, out, metrics);
		free(metrics);
	}
	else
		evbuffer_add(out, "{}", 2);
}

static void
replicate_write_prediction(Call *call, int status)
{
	const Prediction *prediction = call->prediction;
	PredictionState state = prediction_state(prediction);
	struct evbuffer *out = call_begin_answer(call, status, "application/json");

	if (state == PREDICTION_GONE) /* it was just submitted */
		state = PREDICTION_RUNNING;
	evbuffer_add_printf(out,
						"{\"id\":\"%s\",\"model\":\"stand-in/painter\",\"version\":\"hidden\","
						"\"input\":%s,\"status\":\"%s\",\"data_removed\":false,"
						"\"created_at\":\"2023-11-14T22:13:20.000Z\",\"logs\":",
						prediction->id, prediction->note, state_names[state]);
	if (state == PREDICTION_QUEUED)
		evbuffer_add(out, "\"\"", 2);
	else
		replicate_write_logs(prediction, out);
	evbuffer_add(out, ",", 1);
	replicate_write_outcome(call, state, out);
	evbuffer_add(out, ",", 1);
	replicate_write_urls(call, out);
	evbuffer_add(out, "}", 1);
}

static void
replicate_answer_submit(Call *call)
{
	replicate_write_prediction(call, 201);
}

static bool
replicate_check_known(Call *call)
{
	if (call->prediction && prediction_state(call->prediction) != PREDICTION_GONE)
		return true;
	call_write_error(call, 404, NULL, "The requested resource could not be found.");
	return false;
}

static void
replicate_answer_poll(Call *call)
{
	if (replicate_check_known(call))
		replicate_write_prediction(call, 200);
}

static void
replicate_answer_cancel(Call *call)
{
	if (!replicate_check_known(call))
		return;
	prediction_cancel(call, call->prediction);
	replicate_write_prediction(call, 200);
}

static const Route routes[] =
	{{"POST", "/v1/predictions", replicate_accept, replicate_answer_submit, ERRAND_SUBMIT},
	 {"POST", "/v1/models/{owner}/{name}/predictions", replicate_accept, replicate_answer_submit,
	  ERRAND_SUBMIT},
	 {"GET", "/v1/predictions/{id}", NULL, replicate_answer_poll, ERRAND_POLL},
	 {"POST", "/v1/predictions/{id}/cancel", NULL, replicate_answer_cancel, ERRAND_CANCEL},
	 {.path = NULL}};

const Dialect replicate_dialect = {.routes = routes,
								   .auth = "Authorization: Bearer ",
								   .unauthorized_message =
									   "You did not pass a valid authentication token",
								   .busy_message =
									   "Request was throttled. Your rate limit resets in ~30s.",
								   .ids = "xxxxxxxxxxxxrm0cxxxxxxxxxx",
								   .foreign_files = true,
								   .write_error = replicate_write_error};
