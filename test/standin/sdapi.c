/*
 * sdapi.c
 *		The dialect of AUTOMATIC1111's web UI: /sdapi/v1/txt2img, img2img,
 *		progress and interrupt.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

#define MAX_BATCH 100

/* Fails as the web UI does; it words what its framework refuses otherwise. */
static void
sdapi_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json");

	(void) code;
	if (status == 401)
		evbuffer_add_printf(out, "{\"detail\":");
	else
		evbuffer_add_printf(out, "{\"error\":\"%s\",\"detail\":\"\",\"body\":\"\",\"errors\":",
							status == 404 ? "HTTPException" : "RuntimeError");
	json_add_string(out, message);
	evbuffer_add(out, "}", 1);
}

/* Refuses in the words of the web UI's framework. */
static void
sdapi_refuse(Call *call, int status, const char *field, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json");

	evbuffer_add_printf(out, "{\"detail\":[{\"loc\":[\"body\",\"%s\"],\"msg\":", field);
	json_add_string(out, message);
	evbuffer_add_printf(out, ",\"type\":\"value_error\"}]}");
}

/* Keeps the request's parameters for the answer, without the pictures, as the web UI does. */
static void
sdapi_keep_parameters(Call *call, cJSON *json)
{
	cJSON *inputs = cJSON_GetObjectItemCaseSensitive(json, "init_images");
	cJSON *mask = cJSON_GetObjectItemCaseSensitive(json, "mask");

	if (inputs)
		cJSON_ReplaceItemInObjectCaseSensitive(json, "init_images", cJSON_CreateNull());
	if (mask)
		cJSON_ReplaceItemInObjectCaseSensitive(json, "mask", cJSON_CreateNull());
	call->note = cJSON_PrintUnformatted(json);
}

/* Remembers what to draw, or refuses. */
static bool
sdapi_describe(Call *call, const Body *body)
{
	double batch_size = 1;
	double n_iter = 1;
	char *why = NULL;

	if (!cJSON_IsObject(body->json))
	{
		sdapi_refuse(call, 422, "body", "JSON decode error: the request is not a JSON object");
		return false;
	}
	if (!picture_describe(&call->picture, body, &why))
	{
		sdapi_refuse(call, 422, "size", why);
		free(why);
		return false;
	}
	body_number(body, "batch_size", &batch_size);
	body_number(body, "n_iter", &n_iter);
	if (!(batch_size >= 1 && n_iter >= 1 && batch_size * n_iter <= MAX_BATCH))
	{
		call->picture.n = 0;
		sdapi_refuse(call, 422, "batch_size", "batch_size times n_iter must be from 1 to 100");
		return false;
	}
	call->picture.n = (int) batch_size * (int) n_iter;
	return true;
}

static void
sdapi_accept_txt2img(Call *call, const Body *body)
{
	if (sdapi_describe(call, body))
		sdapi_keep_parameters(call, body->json);
}

static bool
sdapi_mix_image(Call *call, const cJSON *image)
{
	const char *text = cJSON_GetStringValue(image);
	size_t len;
	unsigned char *bytes = text ? base64_decode(text, &len) : NULL;

	if (bytes == NULL)
		return false;
	picture_mix_input(&call->picture, bytes, len);
	free(bytes);
	return true;
}

static void
sdapi_accept_img2img(Call *call, const Body *body)
{
	const cJSON *images = cJSON_GetObjectItemCaseSensitive(body->json, "init_images");
	const cJSON *mask = cJSON_GetObjectItemCaseSensitive(body->json, "mask");
	const cJSON *image;

	if (!sdapi_describe(call, body))
		return;
	if (!cJSON_IsArray(images) || images->child == NULL)
	{
		sdapi_refuse(call, 422, "init_images", "Init image not found");
		return;
	}
	cJSON_ArrayForEach(image, images)
	{
		if (!sdapi_mix_image(call, image))
		{
			sdapi_refuse(call, 422, "init_images", "Invalid encoded image");
			return;
		}
	}
	if (mask && !cJSON_IsNull(mask) && !sdapi_mix_image(call, mask))
	{
		sdapi_refuse(call, 422, "mask", "Invalid encoded image");
		return;
	}
	sdapi_keep_parameters(call, body->json);
}

/* "info" is JSON inside a string, as the web UI has it. */
static void
sdapi_write_info(Call *call, struct evbuffer *out)
{
	struct evbuffer *info = evbuffer_new();

	evbuffer_add_printf(info,
						"{\"seed\":%u,\"width\":%d,\"height\":%d,\"batch_size\":%d,\"interrupted\":%s%s%s}",
						call->picture.seed, call->picture.width, call->picture.height,
						call->picture.n, call->interrupted ? "true" : "false",
						call->usage ? ",\"usage\":" : "", call->usage ? call->usage : "");
	json_add_text(out, (char *) evbuffer_pullup(info, -1), evbuffer_get_length(info));
	evbuffer_free(info);
}

static void
sdapi_answer(Call *call)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json");

	evbuffer_add_printf(out, "{\"images\":[");
	for (int i = 0; i < call->picture.n; i++)
	{
		evbuffer_add(out, ",", i > 0);
		picture_add_base64(call, out, i);
	}
	evbuffer_add_printf(out, "],\"parameters\":%s,\"info\":", call->note);
	sdapi_write_info(call, out);
	evbuffer_add(out, "}", 1);
}

/* How far the call that has waited longest is; the web UI works on one at a time. */
static void
sdapi_answer_progress(Call *call)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json");
	const Call *oldest = call_oldest(call->dialect->routes);
	double waited = oldest ? clock_now_s() - oldest->arrived_s : 0;
	double latency = oldest ? oldest->latency_ms / 1000 : 0;
	double progress = latency > waited ? waited / latency : oldest ? 0.99 : 0;

	evbuffer_add_printf(out,
						"{\"progress\":%.17g,\"eta_relative\":%.3f,\"state\":{\"skipped\":false,"
						"\"interrupted\":%s,\"job\":\"%s\",\"job_count\":%d,\"job_no\":0,"
						"\"sampling_step\":%d,\"sampling_steps\":20},\"current_image\":null,\"textinfo\":null}",
						progress, latency > waited ? latency - waited : 0,
						oldest && oldest->interrupted ? "true" : "false",
						oldest ? "scripts_txt2img" : "", oldest ? oldest->picture.n : 0,
						(int) (progress * 20));
}

/* Ends the latency of the call that has waited longest: it is answered with what there is. */
static void
sdapi_answer_interrupt(Call *call)
{
	Call *oldest = call_oldest(call->dialect->routes);

	if (oldest)
		call_hurry(oldest);
	evbuffer_add_printf(call_begin_answer(call, 200, "application/json"), "{}");
}

static const Route routes[] =
	{{"POST", "/sdapi/v1/txt2img", sdapi_accept_txt2img, sdapi_answer, ERRAND_SUBMIT},
	 {"POST", "/sdapi/v1/img2img", sdapi_accept_img2img, sdapi_answer, ERRAND_SUBMIT},
	 {"GET", "/sdapi/v1/progress", NULL, sdapi_answer_progress, ERRAND_ASK},
	 {"POST", "/sdapi/v1/interrupt", NULL, sdapi_answer_interrupt, ERRAND_ASK},
	 {.path = NULL}};

const Dialect sdapi_dialect = {.routes = routes,
							   .auth = "Authorization: Basic ",
							   .unauthorized_message = "Incorrect username or password",
							   .write_error = sdapi_write_error};
