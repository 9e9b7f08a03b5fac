/*
 * stability.c
 *		The dialect of Stability's v2beta: always a form; the answer is a picture
 *		or JSON, as the header Accept says.  What its filter finds is blurred and
 *		answered with 200.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *
stability_error_name(int status)
{
	switch (status)
	{
		case 401:
			return "unauthorized";
		case 403:
			return "content_moderation";
		case 404:
			return "not_found";
		case 413:
			return "payload_too_large";
		case 422:
			return "invalid_language";
		case 429:
			return "rate_limit_exceeded";
		default:
			return status < 500 ? "bad_request" : "internal_error";
	}
}

static void
stability_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json");

	(void) code;
	evbuffer_add_printf(out,
						"{\"id\":\"4212a4b66fbe1cedca4bf2133d35dca5\",\"name\":\"%s\",\"errors\":[",
						stability_error_name(status));
	json_add_string(out, message);
	evbuffer_add(out, "]}", 2);
}

static bool
stability_wants_json(const Call *call)
{
	const char *accept = call_header(call, "Accept");

	return accept && strncasecmp(accept, "application/json", 16) == 0;
}

static void
stability_accept(Call *call, const Body *body)
{
	const char *accept = call_header(call, "Accept");
	const char *message = script_text(call->script->json, "message");

	if (!body->multipart)
		call_write_error(call, 400, NULL, "content-type: must be multipart/form-data");
	else if (accept && !stability_wants_json(call) && strncasecmp(accept, "image/", 6) != 0 &&
			 strcmp(accept, "*/*") != 0)
		call_write_error(call, 400, NULL, "accept: must be 'image/*' or 'application/json'");
	else if (body_text(body, "prompt") == NULL)
		call_write_error(call, 400, NULL, "prompt: is required");
	else if (call_describe(call, body, 400))
	{
		call->picture.n = 1;
		for (int i = 0; i < body->nparts; i++)
			if (body->parts[i].filename)
				picture_mix_input(&call->picture, body->parts[i].data, body->parts[i].len);
		if (call->ending == ENDING_FAIL)
			call_write_error(call, 500, NULL, message ? message : "An internal error occurred.");
	}
}

static void
stability_answer(Call *call)
{
	const char *reason = call->ending == ENDING_MODERATED ? "CONTENT_FILTERED" : "SUCCESS";
	struct evbuffer *out;
	char *seed;
	const void *png;
	size_t len;

	if (stability_wants_json(call))
	{
		out = call_begin_answer(call, 200, "application/json");
		evbuffer_add_printf(out, "{\"image\":");
		picture_add_base64(call, out, 0);
		evbuffer_add_printf(out, ",\"finish_reason\":\"%s\",\"seed\":%u}", reason,
							call->picture.seed);
		return;
	}
	seed = text_format("%u", call->picture.seed);
	png = picture_draw(&call->picture, 0, &len);
	evbuffer_add(call_begin_answer(call, 200, "image/png"), png, len);
	call_add_header(call, "finish-reason", reason);
	call_add_header(call, "seed", seed);
	free(seed);
}

static const Route routes[] = {{"POST", "/v2beta/stable-image/generate/{model}", stability_accept,
								stability_answer, ERRAND_SUBMIT},
							   {.path = NULL}};

const Dialect stability_dialect =
	{.routes = routes,
	 .auth = "Authorization: Bearer ",
	 .unauthorized_message = "authorization: missing or invalid api key",
	 .busy_message = "You have exceeded the rate limit of 150 requests within a 10 second period, "
					 "and have been timed out for 60 seconds.",
	 .own_endings = true,
	 .write_error = stability_write_error};
