/*
 * files.c
 *		/files/...: the pictures of predictions, for those dialects that answer
 *		with URLs.  They stand on the server itself, and on a foreign host: a
 *		port of its own, where no secret may come.
 *
 * A URL that expires is signed, as object stores do it: it carries its end in
 * "se" (milliseconds of the server's clock) and a checksum in "sig".
 */
#include "prediction.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static uint32_t
file_sign(const char *id, unsigned long long expires)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%llu", expires);
	uint32_t sum = (uint32_t) crc32(0, (const Bytef *) id, (uInt) strlen(id));

	return (uint32_t) crc32(sum, (const Bytef *) text, (uInt) len) ^ 0x5EC2E7u;
}

/* Do the URLs of its files lead to the foreign host? */
static bool
files_are_foreign(const Prediction *prediction)
{
	const char *urls = script_text(prediction->script, "urls");

	return urls ? strcmp(urls, "foreign") == 0 : prediction->dialect->foreign_files;
}

/* Adds the URL of picture "index" of the call's prediction as a JSON string. */
void
files_add_url(const Call *call, struct evbuffer *out, int index)
{
	const Prediction *prediction = call->prediction;
	char *path = text_format("/files/%s/%d.png", prediction->id, index);
	bool renewed = script_bool(prediction->script, "url_renewed");
	double from_s = renewed ? clock_now_s() : prediction_ended_s(prediction);
	unsigned long long expires = (unsigned long long) (from_s * 1000 + prediction->expires_ms);
	char *query = prediction->expires_ms > 0
					  ? text_format("?se=%llu&sp=r&sig=%08x%%2B%%3D", expires,
									file_sign(prediction->id, expires))
					  : strdup("");
	char *url = files_are_foreign(prediction) ? text_format("%s%s%s", foreign_base, path, query)
											  : call_own_url(call, "%s%s", path, query);

	json_add_string(out, url);
	free(path);
	free(query);
	free(url);
}

/* Adds the URLs of all pictures of the call's prediction as a JSON array. */
void
files_add_urls(const Call *call, struct evbuffer *out)
{
	evbuffer_add(out, "[", 1);
	for (int i = 0; i < call->prediction->picture.n; i++)
	{
		evbuffer_add(out, ",", i > 0);
		files_add_url(call, out, i);
	}
	evbuffer_add(out, "]", 1);
}

/* Refuses as object stores do: in XML. */
static void
files_write_error(Call *call, int status, const char *code, const char *message)
{
	evbuffer_add_printf(call_begin_answer(call, status, "application/xml"),
						"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
						"<Error><Code>%s</Code><Message>%s</Message></Error>",
						code ? code : "InternalError", message);
}

/* Is the URL signed right, and still valid?  Else refuses. */
static bool
file_check_signature(Call *call, const Prediction *prediction)
{
	char *se = call_query(call, "se");
	char *sig = call_query(call, "sig");
	unsigned long long expires = se ? strtoull(se, NULL, 10) : 0;
	char *expected = text_format("%08x+=", file_sign(prediction->id, expires));
	bool valid = false;

	if (sig == NULL || strcmp(sig, expected) != 0)
		call_write_error(call, 403, "SignatureDoesNotMatch",
						 "The request signature we calculated does not match the signature you "
						 "provided.");
	else if (clock_now_s() * 1000 > (double) expires)
		call_write_error(call, 403, "AccessDenied", "Request has expired");
	else
		valid = true;
	free(se);
	free(sig);
	free(expected);
	return valid;
}

/* A secret must not come to a foreign host: it is counted, and refused. */
static void
files_accept(Call *call, const Body *body)
{
	(void) body;
	if (!call->listener->foreign || !auth_has_secret(call))
		return;
	if (call->prediction)
		counts_add(&call->prediction->count, EVENT_LEAK);
	else
		counts_add_leak();
	call_write_error(call, 400, "InvalidArgument",
					 "Only one auth mechanism allowed; a secret was sent to a foreign host");
}

static void
files_answer(Call *call)
{
	const Prediction *prediction = call->prediction;
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(call->req));
	char *end = "";
	long index = strtol(strrchr(path, '/') + 1, &end, 10);
	const void *png;
	size_t len;

	if (prediction == NULL || strcmp(end, ".png") != 0 || index < 0 ||
		index >= prediction->picture.n)
	{
		call_write_error(call, 404, "NoSuchKey", "The specified key does not exist.");
		return;
	}
	if (prediction->expires_ms > 0 && !file_check_signature(call, prediction))
		return;
	png = picture_draw(&prediction->picture, (int) index, &len);
	evbuffer_add(call_begin_answer(call, 200, "image/png"), png, len);
}

/* Any other address of the foreign host: where redirects and mistakes lead. */
static void
files_answer_nothing(Call *call)
{
	call_write_error(call, 404, "NoSuchKey", "The specified key does not exist.");
}

static const Route routes[] = {{"GET", "/files/{id}/{file}", files_accept, files_answer,
								ERRAND_DOWNLOAD},
							   {NULL, "/files/*", files_accept, files_answer_nothing, ERRAND_ASK},
							   {.path = NULL}};

static const Route foreign_routes[] = {{NULL, "/*", files_accept, files_answer_nothing, ERRAND_ASK},
									   {.path = NULL}};

const Dialect files_dialect = {.routes = routes, .write_error = files_write_error};
const Dialect foreign_dialect = {.routes = foreign_routes, .write_error = files_write_error};
