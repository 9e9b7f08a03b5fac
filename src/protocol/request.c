/*
 * request.c
 *		From a job's request to the HTTP request that is sent.
 *
 * Pure: neither network nor SQL nor clock, so that genjob.preview can show what would be sent, and
 * INSERT can refuse what could not be.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "base/bytes.h"
#include "http/header.h"
#include "base/json.h"
#include "protocol/binary.h"
#include "protocol/body.h"
#include "server/grammar.h"
#include "server/pointer.h"
#include "protocol/request.h"
#include "http/url.h"

#define FOLLOW_TIMEOUT_MS 60000 /* of a call that only asks */

/* ---------- headers ---------- */

static void
set_header(HttpRequest *http, const char *name, char *value, const char *shown)
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
 * What base64 makes of a secret with that many bytes before it, but for the characters that say something of what
 * stands around it.
 */
static char *
encode_within(const char *secret, int n_before)
{
	int skipped = n_before == 0 ? 0 : n_before + 1;
	int whole = (n_before + (int) strlen(secret)) * 8 / 6;
	char *padded = psprintf("%.*s%s", n_before, "??", secret);
	char *encoded = base64_encode(padded, strlen(padded));

	pfree(padded);
	encoded[whole] = '\0';
	return encoded + skipped;
}

static void
add_base64(HttpRequest *http, const char *secret)
{
	int n_before;

	for (n_before = 0; n_before < 3; n_before++)
	{
		char *encoded = encode_within(secret, n_before);
		char *p;

		http->secrets_base64 = lappend(http->secrets_base64, encoded);
		if (strpbrk(encoded, "+/") == NULL)
			continue;
		encoded = pstrdup(encoded);
		for (p = encoded; *p != '\0'; p++)
			*p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
		http->secrets_base64 = lappend(http->secrets_base64, encoded);
	}
}

/*
 * Has the answer give away nothing of a secret, nor of what is behind the name of a scheme in it, as in "Bearer ...".
 */
static void
add_secret(HttpRequest *http, char *secret)
{
	static const char *const schemes[] = {"Bearer ", "Token ", "Basic ", "Key ", "ApiKey "};
	int i;

	http->secrets = lappend(http->secrets, secret);
	add_base64(http, secret);
	for (i = 0; i < lengthof(schemes); i++)
	{
		size_t len = strlen(schemes[i]);

		if (pg_strncasecmp(secret, schemes[i], len) == 0)
		{
			http->secrets = lappend(http->secrets, secret + len);
			add_base64(http, secret + len);
		}
	}
}

/*
 * "NAME" or "NAME:PREFIX" of an own header.
 */
static void
set_own_header(HttpRequest *http, const char *spec, char *api_key)
{
	const char *colon = strchr(spec, ':');

	if (colon == NULL)
		set_header(http, spec, api_key, "***");
	else
		set_header(http, pnstrdup(spec, colon - spec), psprintf("%s %s", colon + 1, api_key),
				   psprintf("%s ***", colon + 1));
}

static void
set_basic(HttpRequest *http, char *api_key)
{
	char *encoded = base64_encode(api_key, strlen(api_key));
	char *colon = strchr(api_key, ':');

	add_secret(http, encoded);
	if (colon != NULL)
		add_secret(http, pstrdup(colon + 1));
	set_header(http, "Authorization", psprintf("Basic %s", encoded), "Basic ***");
}

static void
set_query(HttpRequest *http, const char *name, const char *api_key)
{
	const char *glue = strchr(http->url, '?') ? "&" : "?";
	char *encoded = grammar_percent_encode(api_key, "");

	name = grammar_percent_encode(name, "");
	add_secret(http, encoded);
	http->shown_url = psprintf("%s%s%s=***", http->url, glue, name);
	http->url = psprintf("%s%s%s=%s", http->url, glue, name, encoded);
}

static void
set_authorization(HttpRequest *http, const char *auth, char *api_key)
{
	if (api_key == NULL)
		return;
	add_secret(http, api_key); /* also one that is not sent: nothing shows it */
	if (strcmp(auth, "none") == 0)
		return;
	if (strcmp(auth, "bearer") == 0)
		set_header(http, "Authorization", psprintf("Bearer %s", api_key), "Bearer ***");
	else if (strcmp(auth, "basic") == 0)
		set_basic(http, api_key);
	else if (strncmp(auth, "query:", 6) == 0)
		set_query(http, auth + 6, api_key);
	else
		set_own_header(http, auth + strlen("header:"), api_key);
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

		set_header(http, header->string, value, secret ? "***" : NULL);
		if (secret)
			add_secret(http, value);
	}
}

/*
 * Has the answer to a call that brings no secrets give none away either: they went along with others.
 */
static void
note_secrets(HttpRequest *http, const MappingOptions *secrets)
{
	const cJSON *header;

	if (secrets->api_key != NULL)
		add_secret(http, secrets->api_key);
	if (secrets->api_key != NULL && strchr(secrets->api_key, ':') != NULL)
		add_secret(http, strchr(secrets->api_key, ':') + 1);
	if (secrets->headers == NULL)
		return;
	for (header = json_parse_trusted(secrets->headers)->child; header != NULL;
		 header = header->next)
		add_secret(http, pstrdup(header->valuestring));
}

/*
 * The headers of every call of the server, with its secrets.
 */
static void
set_server_headers(HttpRequest *http, const RequestSource *source)
{
	set_header(http, "Accept", pstrdup(source->options->protocol.accept), NULL);
	set_authorization(http, source->options->protocol.auth, source->secrets->api_key);
	set_headers_from(http, source->options->headers, false);
	set_headers_from(http, source->secrets->headers, true);
}

static void
set_headers(HttpRequest *http, const RequestSource *source, const Body *body)
{
	set_header(http, "Content-Type", pstrdup(body->content_type), NULL);
	set_header(http, "Accept", pstrdup(source->options->protocol.accept), NULL);
	set_header(http, "Idempotency-Key", pstrdup(source->idempotency_key), NULL);
	set_server_headers(http, source);
	if (body->type_is_fixed)
		set_header(http, "Content-Type", pstrdup(body->content_type), NULL);
}

/* ---------- calls ---------- */

static cJSON *
read_defaults(const ServerOptions *options)
{
	cJSON *defaults =
		json_parse_trusted(options->preset->defaults ? options->preset->defaults : "{}");

	return options->defaults ? json_merge(defaults, json_parse_trusted(options->defaults))
							 : defaults;
}

/*
 * Puts the members where the protocol wants them, unless the request has done so itself.
 */
static cJSON *
wrap_params(const Protocol *protocol, cJSON *params)
{
	cJSON *root;

	if (protocol->wrap == NULL || cJSON_IsObject(pointer_first(params, protocol->wrap)))
		return params;
	root = json_create(cJSON_Object);
	pointer_set(root, protocol->wrap, params);
	return root;
}

/*
 * The address below url that path names, palloc'd.  Many write the first part of an api's path with its url, as in
 * https://api.openai.com/v1: what the end of one and the beginning of the other have in common is there once.
 */
static char *
join_url(const char *url, const char *path)
{
	const char *host = strstr(url, "://");
	const char *end;

	for (end = host ? strchr(host + 3, '/') : NULL; end != NULL; end = strchr(end + 1, '/'))
	{
		size_t len = strlen(end);

		if (strncmp(path, end, len) == 0 && strchr("/?", path[len]) != NULL)
			return psprintf("%.*s%s", (int) (end - url), url, path);
	}
	return psprintf("%s%s", url, path);
}

/*
 * The request's members: the server's defaults under the job's, each in its wrapping, and the model and
 * the remote id where the protocol has a place for them.  *names_model: the job's own members say the model.
 */
static cJSON *
read_params(const RequestSource *source, bool *names_model)
{
	const ServerOptions *options = source->options;
	const Protocol *protocol = &options->protocol;
	const char *remote_id = protocol->remote_id;
	cJSON *params = json_parse_trusted(source->request);

	/* replication brings in what INSERT would refuse */
	if (!cJSON_IsObject(params))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("request is not a JSON object")));
	params = wrap_params(protocol, params);
	*names_model = protocol->model_at != NULL && pointer_first(params, protocol->model_at) != NULL;
	params = json_merge(wrap_params(protocol, read_defaults(options)), params);
	if (options->model != NULL && protocol->model_at != NULL &&
		pointer_first(params, protocol->model_at) == NULL)
		pointer_set(params, protocol->model_at, json_create_string(pstrdup(options->model)));
	if (remote_id != NULL && *remote_id == '=' && source->idempotency_key != NULL)
		pointer_set(params, remote_id + 1, json_create_string(pstrdup(source->idempotency_key)));
	return params;
}

static char *
fill_path(const ServerOptions *options, const char *path, const char *id)
{
	if (options->model != NULL)
		path = grammar_fill(path, "model", grammar_percent_encode(options->model, "/:@"));
	if (id != NULL)
		path = grammar_fill(path, "id", grammar_percent_encode(id, ":"));
	return join_url(options->url, path);
}

static HttpRequest *
new_request(const ServerOptions *options, const char *method, char *url, int64 timeout)
{
	HttpRequest *http = palloc0(sizeof(HttpRequest));

	http->method = method;
	http->url = http->shown_url = url;
	http->timeout = timeout;
	http->connect_timeout = options->connect_timeout;
	http->max_response = options->max_response;
	http->ca_file = options->ca_file;
	return http;
}

/*
 * Copies what was built in another context, where it grew: for as long as the call lasts it takes no more than it has.
 */
static void
take_body(HttpRequest *http, Body *body)
{
	http->body = MemoryContextAllocHuge(CurrentMemoryContext, body->len + 1);
	memcpy(http->body, body->data, body->len);
	http->body[body->len] = '\0';
	http->body_len = body->len;
	if (body->content_type != NULL)
		body->content_type = pstrdup(body->content_type);
}

/*
 * What to send for a job, in the current memory context; it goes on pointing to the options.  Errors
 * for the user where the request and its binaries do not fit together.
 */
HttpRequest *
request_build(const RequestSource *source)
{
	const ServerOptions *options = source->options;
	MemoryContext result = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(result, "genjob request", ALLOCSET_DEFAULT_SIZES);
	const char *path;
	HttpRequest *http;
	bool names_model;
	cJSON *params;
	Body body;

	MemoryContextSwitchTo(scratch);
	params = read_params(source, &names_model);
	path = binary_is_in(source, params) ? options->protocol.inputs_path : options->protocol.path;
	body = body_build(source, params);
	MemoryContextSwitchTo(result);
	http = new_request(options, "POST", fill_path(options, path, NULL), options->timeout);
	if (body.query != NULL)
		http->url = http->shown_url =
			psprintf("%s%c%s", http->url, strchr(http->url, '?') ? '&' : '?', body.query);
	http->names_model = names_model;
	take_body(http, &body);
	set_headers(http, source, &body);
	MemoryContextDelete(scratch);
	return http;
}

/*
 * Raises the error that request_build() would, without building anything; but for outputs that are not
 * there.
 */
void
request_check(const RequestSource *source)
{
	bool names_model;

	body_check(source, read_params(source, &names_model));
}

/*
 * The outputs of other jobs that must be read for a request, each once, palloc'd; their number in *n.
 * Errors for the user as request_check() has them.
 */
Reference *
request_list_references(const RequestSource *source, int *n)
{
	bool names_model;

	return binary_list_references(read_params(source, &names_model), n);
}

/*
 * Whether a request may refer to outputs of other jobs.  Most do not, and then there is nothing to parse.
 */
bool
request_may_refer(const RequestSource *source)
{
	const char *defaults = source->options->defaults;

	return strstr(source->request, "\"$output\"") != NULL ||
		   (defaults != NULL && strstr(defaults, "\"$output\"") != NULL);
}

/*
 * The URL of an address: below the server's url, or as an answer gave it.  NULL when the answer did not.
 */
static char *
address_url(const RequestSource *source, const Remote *remote, const Address *address)
{
	const cJSON *url;

	if (address->path != NULL)
		return fill_path(source->options, address->path, remote->id);
	if (remote->urls == NULL)
		return NULL;
	url = cJSON_GetObjectItemCaseSensitive(json_parse_trusted(remote->urls), address->place);
	return cJSON_IsString(url) ? pstrdup(url->valuestring) : NULL;
}

/*
 * A further call about a prediction: to poll, fetch its answer, or cancel it.  NULL when the provider
 * has not said where.
 */
HttpRequest *
request_follow(const RequestSource *source, const Remote *remote, const Address *address)
{
	char *url = address_url(source, remote, address);
	HttpRequest *http;

	if (url == NULL)
		return NULL;
	http = new_request(source->options, address->method, url,
					   Min(source->options->timeout, FOLLOW_TIMEOUT_MS));
	if (address->body != NULL)
	{
		http->body = grammar_fill(address->body, "id", json_escape(remote->id ? remote->id : ""));
		http->body_len = strlen(http->body);
		set_header(http, "Content-Type", pstrdup("application/json"), NULL);
	}
	set_server_headers(http, source);
	http->shown_url = url_shown(http->url);
	return http;
}

/*
 * The download of an output.  Secrets go along only to the server itself, and only where its protocol
 * says so; a URL that leads elsewhere may not lead into a private network, unless the server is in one.
 * room is how many bytes it may have, at most max_response.
 */
HttpRequest *
request_download(const RequestSource *source, const char *url, bool server_is_private, size_t room)
{
	const ServerOptions *options = source->options;
	bool own = url_is_same_origin(url, options->url);
	HttpRequest *http = new_request(options, "GET", pstrdup(url), options->timeout);

	note_secrets(http, source->secrets);
	http->max_response = room;
	http->public_only = !own && !server_is_private;
	if (own && options->protocol.download_auth != NULL &&
		strcmp(options->protocol.download_auth, "same-origin") == 0)
		set_server_headers(http, source);
	set_header(http, "Accept", pstrdup("*/*"), NULL);
	http->shown_url = url_shown(http->url);
	return http;
}

/* ---------- showing ---------- */

/*
 * Bytes as text: what is not printable UTF-8 is written as \xNN.
 */
static void
append_readable(StringInfo text, const char *data, size_t len)
{
	while (len > 0)
	{
		unsigned char c = (unsigned char) *data;
		int width = pg_utf_mblen((const unsigned char *) data);
		bool readable = c == '\n' || c == '\r' || c == '\t' || (c >= ' ' && c < 0x7f);

		if (c >= 0x80)
			readable = width <= len && pg_utf8_islegal((const unsigned char *) data, width);
		if (readable)
			appendBinaryStringInfo(text, data, width);
		else
		{
			width = 1;
			appendStringInfo(text, "\\x%02x", c);
		}
		data += width;
		len -= width;
	}
}

/*
 * The request as text in UTF-8, as it goes over the wire but for masked secrets and escaped binary
 * bytes.
 */
char *
request_describe(const HttpRequest *http)
{
	StringInfoData text;
	ListCell *cell;

	initStringInfo(&text);
	appendStringInfo(&text, "%s %s\n", http->method, http->shown_url);
	foreach(cell, http->headers)
	{
		const HttpHeader *header = lfirst(cell);

		appendStringInfo(&text, "%s: %s\n", header->name,
						 header->shown ? header->shown : header->value);
	}
	appendStringInfoChar(&text, '\n');
	append_readable(&text, http->body, http->body_len);
	return text.data;
}
