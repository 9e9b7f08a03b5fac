/*
 * headers.c
 *		The headers of a request, and the secrets that go with it.
 *
 * The request notes each secret that it sends, in every form, so that the
 * secret can be masked in the answer.
 */
#include "postgres.h"

#include "base/base64.h"
#include "base/json.h"
#include "protocol/building.h"
#include "protocol/disguise.h"

#define MIN_WORD 12 /* characters; a shorter word behind an unknown scheme is not noted alone */

/*
 * Sets a header; replaces one of the same name.  shown: what people see in
 * place of value, NULL: value itself.  Copies only the name.
 */
void
headers_set(HttpRequest *http, const char *name, char *value, const char *shown)
{
	HttpHeader *header = NULL;
	ListCell *cell;

	foreach(cell, http->headers)
	{
		HttpHeader *other = lfirst(cell);

		if (pg_strcasecmp(other->name, name) == 0)
			header = other;
	}
	if (header == NULL)
	{
		header = palloc(sizeof(HttpHeader));
		http->headers = lappend(http->headers, header);
	}
	header->name = pstrdup(name);
	header->value = value;
	header->shown = shown;
}

/*
 * Sets each header of a list of HttpHeader; their values are copied.
 */
void
headers_set_list(HttpRequest *http, const List *headers)
{
	ListCell *cell;

	foreach(cell, headers)
	{
		const HttpHeader *header = lfirst(cell);

		headers_set(http, header->name, pstrdup(header->value), NULL);
	}
}

/*
 * Notes a secret that the answer must not reveal, also without its scheme, as
 * in "Bearer ...".  Does not copy it.
 */
void
headers_add_secret(HttpRequest *http, char *secret)
{
	static const char *const schemes[] = {"Bearer ", "Token ", "Basic ", "Key ", "ApiKey "};
	char *bare = secret;
	char *word;
	int i;

	for (i = 0; i < lengthof(schemes); i++)
	{
		size_t len = strlen(schemes[i]);

		if (pg_strncasecmp(secret, schemes[i], len) == 0)
			bare = secret + len;
	}
	if (bare == secret && (word = strchr(secret, ' ')) != NULL && strchr(word + 1, ' ') == NULL &&
		strlen(word + 1) >= MIN_WORD)
		bare = word + 1;
	http->secrets = lappend(http->secrets, secret);
	if (bare != secret)
		http->secrets = lappend(http->secrets, bare);
	http->disguises = disguise_list(http->disguises, bare);
}

/*
 * Sends the key in a header of the server's own; spec is "NAME" or
 * "NAME:PREFIX".
 */
static void
set_own_header(HttpRequest *http, const char *spec, char *api_key)
{
	const char *colon = strchr(spec, ':');

	if (colon == NULL)
		headers_set(http, spec, api_key, "***");
	else
		headers_set(http, pnstrdup(spec, colon - spec), psprintf("%s %s", colon + 1, api_key),
					psprintf("%s ***", colon + 1));
}

static void
set_basic(HttpRequest *http, char *api_key)
{
	char *encoded = base64_encode(api_key, strlen(api_key));
	char *colon = strchr(api_key, ':');

	headers_add_secret(http, encoded);
	if (colon != NULL)
		headers_add_secret(http, pstrdup(colon + 1));
	headers_set(http, "Authorization", psprintf("Basic %s", encoded), "Basic ***");
}

static void
set_query(HttpRequest *http, const char *name, const char *api_key)
{
	const char *glue = strchr(http->url, '?') ? "&" : "?";
	char *encoded = grammar_percent_encode(api_key, "");

	name = grammar_percent_encode(name, "");
	headers_add_secret(http, encoded);
	http->shown_url = psprintf("%s%s%s=***", http->url, glue, name);
	http->url = psprintf("%s%s%s=%s", http->url, glue, name, encoded);
}

static void
set_authorization(HttpRequest *http, const Protocol *protocol, char *api_key)
{
	if (api_key == NULL)
		return;
	headers_add_secret(http, api_key); /* even if it is not sent */
	switch (protocol->kind.auth)
	{
		case AUTH_BEARER:
			headers_set(http, "Authorization", psprintf("Bearer %s", api_key), "Bearer ***");
			break;
		case AUTH_BASIC:
			set_basic(http, api_key);
			break;
		case AUTH_QUERY:
			set_query(http, protocol->auth + strlen("query:"), api_key);
			break;
		case AUTH_HEADER:
			set_own_header(http, protocol->auth + strlen("header:"), api_key);
			break;
		case AUTH_NONE:
		case AUTH_SIGV4:
		case AUTH_WEBHOOK:
			break; /* the last two sign the request when it is built */
	}
}

static void
set_headers_from(HttpRequest *http, const char *json, bool secret)
{
	const cJSON *header;

	if (json == NULL)
		return;
	for (header = json_parse_trusted(json)->child; header != NULL; header = header->next)
	{
		char *value = pstrdup(header->valuestring);

		headers_set(http, header->string, value, secret ? "***" : NULL);
		if (secret)
			headers_add_secret(http, value);
	}
}

static void
note_keys(HttpRequest *http, const MappingOptions *secrets)
{
	if (secrets->access_key_id != NULL)
		headers_add_secret(http, secrets->access_key_id);
	if (secrets->secret_access_key != NULL)
		headers_add_secret(http, secrets->secret_access_key);
	if (secrets->session_token != NULL)
		headers_add_secret(http, secrets->session_token);
}

/*
 * Notes the server's secrets for a call that carries none: other calls carried
 * them, and the answer may reveal them.
 */
void
headers_note_secrets(HttpRequest *http, const MappingOptions *secrets)
{
	const cJSON *header;

	note_keys(http, secrets);
	if (secrets->api_key != NULL)
		headers_add_secret(http, secrets->api_key);
	if (secrets->api_key != NULL && strchr(secrets->api_key, ':') != NULL)
		headers_add_secret(http, strchr(secrets->api_key, ':') + 1);
	if (secrets->headers == NULL)
		return;
	for (header = json_parse_trusted(secrets->headers)->child; header != NULL;
		 header = header->next)
		headers_add_secret(http, pstrdup(header->valuestring));
}

/*
 * Sets the headers of every call to the server, with its secrets.
 */
void
headers_set_server(HttpRequest *http, const RequestSource *source)
{
	headers_set(http, "Accept", pstrdup(source->options->protocol.accept), NULL);
	note_keys(http, source->secrets);
	set_authorization(http, &source->options->protocol, source->secrets->api_key);
	set_headers_from(http, source->options->preset->headers, false);
	set_headers_from(http, source->options->headers, false);
	set_headers_from(http, source->secrets->headers, true);
}

/*
 * Sets the headers of a submission.
 */
void
headers_set_all(HttpRequest *http, const RequestSource *source, const Body *body)
{
	if (body->content_type != NULL)
		headers_set(http, "Content-Type", pstrdup(body->content_type), NULL);
	headers_set(http, "Accept", pstrdup(source->options->protocol.accept), NULL);
	headers_set(http, "Idempotency-Key", pstrdup(source->idempotency_key), NULL);
	headers_set_server(http, source);
	if (body->type_is_fixed)
		headers_set(http, "Content-Type", pstrdup(body->content_type), NULL);
}
