/*
 * auth.c
 *		The API key: whether it came to those who may have it, and to nobody else.
 */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

#include <event2/keyvalq_struct.h>

const char *auth_key; /* NULL: any will do, and none */

/* Headers that carry secrets, whatever is in them */
static const char *const secret_headers[] = {"Authorization", "Proxy-Authorization", "Cookie",
											 "x-key",         "x-api-key",           "api-key",
											 "x-goog-api-key"};

/* The key as the dialect wants it after the name of the header; to be freed. */
static char *
auth_expected(const char *prefix)
{
	struct evbuffer *base64;
	char *text;

	if (strcmp(prefix, "Basic ") != 0)
		return text_format("%s%s", prefix, auth_key);
	base64 = evbuffer_new();
	json_add_base64(base64, auth_key, strlen(auth_key));
	evbuffer_add(base64, "", 1);
	text = text_format("%s%s", prefix, (char *) evbuffer_pullup(base64, -1));
	evbuffer_free(base64);
	return text;
}

/* Did the call bring the key, or does it need none? */
bool
auth_is_valid(const Call *call)
{
	const char *wanted = call->dialect ? call->dialect->auth : NULL;
	const char *colon = wanted ? strchr(wanted, ':') : NULL;
	const char *value;
	char *name;
	char *expected;
	bool valid;

	if (auth_key == NULL || colon == NULL)
		return true;
	name = strndup(wanted, colon - wanted);
	value = call_header(call, name);
	expected = auth_expected(colon[1] ? colon + 2 : "");
	valid = value && strcmp(value, expected) == 0;
	free(name);
	free(expected);
	return valid;
}

/* Did the call bring a secret? */
bool
auth_has_secret(const Call *call)
{
	const struct evkeyvalq *headers = evhttp_request_get_input_headers(call->req);
	const struct evkeyval *header;

	for (size_t i = 0; i < sizeof(secret_headers) / sizeof(secret_headers[0]); i++)
		if (evhttp_find_header(headers, secret_headers[i]))
			return true;
	if (auth_key == NULL)
		return false;
	TAILQ_FOREACH(header, headers, next)
	{
		if (strstr(header->value, auth_key))
			return true;
	}
	return strstr(evhttp_request_get_uri(call->req), auth_key) != NULL;
}
