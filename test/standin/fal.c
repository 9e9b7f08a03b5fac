/*
 * fal.c
 *		The dialect of fal's queue: a request has a status, a response and a
 *		cancel URL, none of which has the path below the app.  That a request is
 *		COMPLETED does not mean that it succeeded: the response tells.
 *
 *		The owner of the apps is always "fal-ai".
 */
#include "prediction.h"

#include <stdlib.h>
#include <string.h>

/* Errors are of two shapes: flat ones are the platform's, lists the models'. */
static void
fal_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json");
	const char *type = code;

	if (status == 422)
	{
		evbuffer_add_printf(out, "{\"detail\":[{\"loc\":[\"body\",\"prompt\"],\"msg\":");
		json_add_string(out, message);
		evbuffer_add_printf(out, ",\"type\":\"%s\"}]}", code ? code : "value_error");
		call_add_header(call, "X-Fal-Error-Type", code ? code : "value_error");
		return;
	}
	if (status == 429)
	{
		type = "concurrent_requests_limit";
		call_add_header(call, "X-Fal-Needs-Retry", "1");
	}
	else if (type == NULL)
		type = status >= 500 ? "internal_error" : "bad_request";
	evbuffer_add_printf(out, "{\"detail\":");
	json_add_string(out, message);
	evbuffer_add_printf(out, ",\"error_type\":\"%s\"}", type);
	call_add_header(call, "X-Fal-Error-Type", type);
}

static void
fal_accept(Call *call, const Body *body)
{
	const char *app =
		evhttp_uri_get_path(evhttp_request_get_evhttp_uri(call->req)) + strlen("/fal-ai/");
	Prediction *request;

	if (!cJSON_IsObject(body->json))
	{
		call_write_error(call, 422, NULL, "JSON decode error");
		return;
	}
	if (body->json->child == NULL)
	{
		call_write_error(call, 422, "missing", "Field required");
		return;
	}
	if (!call_describe(call, body, 422))
		return;
	picture_mix_member(&call->picture, body->json, "image_url");
	picture_mix_member(&call->picture, body->json, "image_urls");
	picture_mix_member(&call->picture, body->json, "mask_url");
	if (cJSON_HasObjectItem(body->json, "num_images"))
	{
		double n = 1;

		body_number(body, "num_images", &n);
		call->picture.n = n >= 1 && n <= 100 ? (int) n : 1;
	}
	request = prediction_submit(call, NULL);
	if (request && request->note == NULL)
		request->note = strndup(app, strcspn(app, "/"));
}

/* The URLs, and what else the answers to submit and to status begin with. */
static void
fal_write_request(const Call *call, struct evbuffer *out, const char *status)
{
	const Prediction *request = call->prediction;
	char *url = call_own_url(call, "/fal-ai/%s/requests/%s", request->note, request->id);

	evbuffer_add_printf(out,
						"{\"status\":\"%s\",\"request_id\":\"%s\",\"response_url\":\"%s\","
						"\"status_url\":\"%s/status\",\"cancel_url\":\"%s/cancel\"",
						status, request->id, url, url, url);
	free(url);
}

static void
fal_answer_submit(Call *call)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json");

	fal_write_request(call, out, "IN_QUEUE");
	evbuffer_add_printf(out, ",\"logs\":null,\"metrics\":{},\"queue_position\":%u}",
						prediction_queue_position(call->prediction));
}

static bool
fal_check_known(Call *call)
{
	if (call->prediction && prediction_state(call->prediction) != PREDICTION_GONE)
		return true;
	call_write_error(call, 404, "not_found", "Request not found");
	return false;
}

static void
fal_write_logs(Call *call, struct evbuffer *out)
{
	double progress = prediction_progress(call->prediction);
	char *wanted = call_query(call, "logs");

	if (wanted && strcmp(wanted, "0") != 0 && progress >= 0)
		evbuffer_add_printf(out,
							",\"logs\":[{\"message\":\"%d%%\",\"level\":\"INFO\",\"source\":\"USER\","
							"\"timestamp\":\"2023-11-14T22:13:20.000000Z\"}]",
							(int) (progress * 100));
	else
		evbuffer_add_printf(out, ",\"logs\":null");
	free(wanted);
}

static void
fal_answer_status(Call *call)
{
	PredictionState state;
	struct evbuffer *out;

	if (!fal_check_known(call))
		return;
	state = prediction_state(call->prediction);
	out = call_begin_answer(call, state < PREDICTION_SUCCEEDED ? 202 : 200, "application/json");
	fal_write_request(call, out,
					  state == PREDICTION_QUEUED    ? "IN_QUEUE"
					  : state == PREDICTION_RUNNING ? "IN_PROGRESS"
													: "COMPLETED");
	if (state == PREDICTION_QUEUED)
		evbuffer_add_printf(out, ",\"queue_position\":%u",
							prediction_queue_position(call->prediction));
	fal_write_logs(call, out);
	if (state == PREDICTION_FAILED)
	{
		evbuffer_add_printf(out, ",\"error\":");
		json_add_string(out, prediction_message(call->prediction));
		evbuffer_add_printf(out, ",\"error_type\":\"internal_error\"");
	}
	if (state >= PREDICTION_SUCCEEDED)
	{
		char *metrics = text_format("{\"inference_time\":%.3f}", call->prediction->run_s);

		evbuffer_add_printf(out, ",\"metrics\":");
		prediction_add_usage(call->prediction, out, metrics);
		free(metrics);
	}
	evbuffer_add(out, "}", 1);
}

static void
fal_write_response(Call *call)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json");

	if (prediction_add_script_output(call->prediction, out))
		return;
	evbuffer_add_printf(out, "{\"images\":[");
	for (int i = 0; i < call->picture.n; i++)
	{
		evbuffer_add_printf(out, "%s{\"url\":", i > 0 ? "," : "");
		files_add_url(call, out, i);
		evbuffer_add_printf(out, ",\"width\":%d,\"height\":%d,\"content_type\":\"image/png\"}",
							call->picture.width, call->picture.height);
	}
	evbuffer_add_printf(out, "],\"seed\":%u,\"timings\":{},\"has_nsfw_concepts\":[false]}",
						call->picture.seed);
}

static void
fal_answer_response(Call *call)
{
	if (!fal_check_known(call))
		return;
	switch (prediction_state(call->prediction))
	{
		case PREDICTION_SUCCEEDED:
			fal_write_response(call);
			break;
		case PREDICTION_FAILED:
			call_write_error(call, 500, "internal_error", prediction_message(call->prediction));
			call_add_header(call, "X-Fal-Retryable", "false");
			break;
		case PREDICTION_MODERATED:
			call_write_error(call, 422, "content_policy_violation",
							 prediction_message(call->prediction));
			break;
		case PREDICTION_CANCELLED:
			call_write_error(call, 499, "client_cancelled", "Request was cancelled");
			break;
		default:
			call_write_error(call, 400, "bad_request", "Request is still in progress");
			break;
	}
}

static void
fal_answer_cancel(Call *call)
{
	PredictionState state = call->prediction ? prediction_state(call->prediction) : PREDICTION_GONE;
	const char *status = "ALREADY_COMPLETED";
	int code = 400;

	if (state == PREDICTION_GONE)
	{
		code = 404;
		status = "NOT_FOUND";
	}
	else if (prediction_cancel(call, call->prediction))
	{
		code = state == PREDICTION_QUEUED ? 200 : 202;
		status = state == PREDICTION_QUEUED ? "OK" : "CANCELLATION_REQUESTED";
	}
	evbuffer_add_printf(call_begin_answer(call, code, "application/json"), "{\"status\":\"%s\"}",
						status);
}

static const Route routes[] =
	{{"GET", "/fal-ai/{app}/requests/{id}/status", NULL, fal_answer_status, ERRAND_POLL},
	 {"GET", "/fal-ai/{app}/requests/{id}", NULL, fal_answer_response, ERRAND_RESULT},
	 {"PUT", "/fal-ai/{app}/requests/{id}/cancel", NULL, fal_answer_cancel, ERRAND_CANCEL},
	 {"POST", "/fal-ai/*", fal_accept, fal_answer_submit, ERRAND_SUBMIT},
	 {.path = NULL}};

const Dialect fal_dialect = {.routes = routes,
							 .auth = "Authorization: Key ",
							 .unauthorized_message = "invalid key credentials",
							 .busy_message = "Concurrent requests limit exceeded",
							 .ids = "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx",
							 .foreign_files = true,
							 .write_error = fal_write_error};
