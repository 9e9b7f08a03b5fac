/*
 * request.c
 *		From a job's request to the HTTP request that is sent.
 *
 * Pure: neither network nor SQL nor clock, so that genjob.preview can show
 * what would be sent, and INSERT can refuse what cannot be sent.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "base/bytes.h"
#include "http/header.h"
#include "base/json.h"
#include "protocol/awsjson.h"
#include "protocol/binary.h"
#include "protocol/building.h"
#include "protocol/links.h"
#include "server/grammar.h"
#include "server/pointer.h"
#include "protocol/request.h"
#include "protocol/values.h"
#include "protocol/words.h"
#include "http/url.h"

#define FOLLOW_TIMEOUT_MS 60000 /* of a poll, a call for the result, or a cancel */
/* Bytes of a store's answer to a PUT, which is empty or a few words of XML. */
#define MAX_PUT_ANSWER (256 * 1024)

/* ---------- calls ---------- */

static cJSON *
read_defaults(const ServerOptions *options)
{
	cJSON *defaults =
		json_parse_trusted(options->preset->defaults ? options->preset->defaults : "{}");

	return options->defaults ? json_patch(defaults, json_parse_trusted(options->defaults))
							 : defaults;
}

/*
 * Puts the members where the protocol wants them, unless the request has done so itself.
 */
static cJSON *
wrap_params(const ServerOptions *options, cJSON *params)
{
	const Protocol *protocol = &options->protocol;
	const cJSON *there = protocol->wrap ? pointer_first(params, protocol->wrap) : NULL;
	cJSON *root;

	if (protocol->wrap == NULL || cJSON_IsObject(there) ||
		(options->preset->text_at != NULL && there != NULL && !cJSON_IsNull(there)))
		return params;
	root = json_create(cJSON_Object);
	pointer_set(root, protocol->wrap, params);
	return root;
}

/*
 * Returns the address of path below url, palloc'd.  Many users write the first
 * part of an api's path with its url, as in https://api.openai.com/v1.  If
 * url ends with what path begins with, the address has that only once.
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
 * True if a JSON text may have a node that stands for a link.
 */
static bool
has_link(const char *json)
{
	return json != NULL &&
		   (strstr(json, "\"$output_url\"") != NULL || strstr(json, "\"$url\"") != NULL);
}

/*
 * Returns the request's members: the server's defaults under the job's, each
 * in its wrapping, and the model and the remote id where the protocol has a
 * place for them.  Members that are null in the request are not sent.
 * *names_model: the job's own members say the model.
 */
static cJSON *
read_params_raw(const RequestSource *source, bool *names_model)
{
	const ServerOptions *options = source->options;
	const Protocol *protocol = &options->protocol;
	const char *remote_id = protocol->remote_id;
	cJSON *params = json_parse_trusted(source->request);
	cJSON *over;
	bool wants_no_model;

	/* INSERT refuses this, but replication does not */
	if (!cJSON_IsObject(params))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("request is not a JSON object")));
	over = wrap_params(options, params);
	*names_model = protocol->model_at != NULL && pointer_first(over, protocol->model_at) != NULL;
	wants_no_model =
		protocol->model_at != NULL && cJSON_IsNull(pointer_first(over, protocol->model_at));
	params = json_patch(wrap_params(options, read_defaults(options)), over);
	if (options->model != NULL && protocol->model_at != NULL && !wants_no_model &&
		pointer_first(params, protocol->model_at) == NULL)
		pointer_set(params, protocol->model_at, json_create_string(pstrdup(options->model)));
	if (remote_id != NULL && *remote_id == '=' && source->idempotency_key != NULL)
		pointer_set(params, remote_id + 1, json_create_string(pstrdup(source->idempotency_key)));
	if (!source->is_literal && (has_link(source->request) || has_link(options->defaults)))
		links_settle(source, params);
	return params;
}

/*
 * True if the slashes of an id, such as "models/veo/operations/7", may
 * separate parts of a path: no part is empty, "." or "..".
 */
static bool
is_path(const char *id)
{
	const char *part = id;

	for (;;)
	{
		size_t len = strcspn(part, "/");

		if (len == 0 || (len == 1 && *part == '.') || (len == 2 && strncmp(part, "..", 2) == 0))
			return false;
		if (part[len] == '\0')
			return true;
		part += len + 1;
	}
}

/*
 * True if the request may have values that are still to be filled in.
 */
static bool
has_values(const RequestSource *source)
{
	return !source->is_literal &&
		   (values_may_be_in(source->request) || values_may_be_in(source->options->defaults));
}

/*
 * As read_params_raw(), with $result and $concat filled in.
 */
static cJSON *
read_params(const RequestSource *source, bool *names_model)
{
	cJSON *params = read_params_raw(source, names_model);

	if (has_values(source))
		values_fill(source, params);
	return params;
}

static char *
fill_path(const ServerOptions *options, const char *path, const char *id)
{
	if (options->model != NULL)
		path = grammar_fill(path, "model", grammar_percent_encode(options->model, "/:@"));
	if (id != NULL)
		path = grammar_fill(path, "id", grammar_percent_encode(id, is_path(id) ? ":/" : ":"));
	return join_url(options->url, path);
}

/*
 * Begins a call, with the options that all calls to a server share.  Does not
 * copy method and url.
 */
HttpRequest *
request_begin(const ServerOptions *options, const char *method, char *url, int64 timeout)
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
 * Copies a body from the context where it grew, so that the call does not take
 * more memory than the body has bytes.
 */
static void
take_body(HttpRequest *http, Body *body)
{
	http->body = MemoryContextAllocHuge(CurrentMemoryContext, body->len + 1);
	if (body->len > 0)
		memcpy(http->body, body->data, body->len);
	http->body[body->len] = '\0';
	http->body_len = body->len;
	if (body->content_type != NULL)
		body->content_type = pstrdup(body->content_type);
}

/* ---------- words in a path ---------- */

#define WORD_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

/*
 * Returns the next "{name}" in a path that a member of the request fills, and
 * the length of the name; NULL if there is none.
 */
static const char *
find_word(const char *path, int *len)
{
	const char *brace;

	for (brace = strchr(path, '{'); brace != NULL; brace = strchr(brace + 1, '{'))
	{
		*len = (int) strspn(brace + 1, WORD_LETTERS);
		if (*len > 0 && brace[1 + *len] == '}' && strncmp(brace, "{model}", 7) != 0 &&
			strncmp(brace, "{id}", 4) != 0)
			return brace;
	}
	return NULL;
}

/*
 * True if the request must have members that go into the path.
 */
bool
request_has_words(const ServerOptions *options)
{
	int len;

	return find_word(options->protocol.path, &len) != NULL ||
		   find_word(options->protocol.inputs_path, &len) != NULL;
}

/*
 * Takes a member out of the request, and returns its text, percent-encoded.
 * Raises an error for the user if it cannot stand in a path.
 */
static char *
take_member(const char *name, cJSON *params)
{
	cJSON *member = cJSON_GetObjectItemCaseSensitive(params, name);
	const char *text = NULL;

	if (cJSON_IsString(member))
		text = member->valuestring;
	else if (member != NULL && json_is_number(member))
		text = json_print(member);
	if (text == NULL || *text == '\0' || strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the request has no \"%s\", which goes into the server's path", name),
				 errhint("Give it a text or a number: {\"%s\": ...}.", name)));
	json_detach(params, member);
	return grammar_percent_encode(text, "");
}

/*
 * Fills the words of a path with members of the request, which it takes out,
 * and {id} with the Idempotency-Key.
 */
static const char *
fill_words(const RequestSource *source, const char *path, cJSON *params)
{
	const char *word;
	int len;

	while ((word = find_word(path, &len)) != NULL)
	{
		char *name = pnstrdup(word + 1, len);

		path = grammar_fill(path, name, take_member(name, params));
	}
	if (source->idempotency_key != NULL)
		path = grammar_fill(path, "id", source->idempotency_key);
	return path;
}

/* ---------- submissions ---------- */

/*
 * Returns what a request becomes for a server that is no object store.
 */
static Target
plain_target(const RequestSource *source, cJSON *params)
{
	const Protocol *protocol = &source->options->protocol;
	const char *path = binary_is_in(source, params) ? protocol->inputs_path : protocol->path;
	Target target = {protocol->method};

	path = fill_words(source, path, params);
	target.url = fill_path(source->options, path, NULL);
	target.body = body_build(source, params);
	if (target.body.query != NULL)
		target.url =
			psprintf("%s%c%s", target.url, strchr(target.url, '?') ? '&' : '?', target.body.query);
	return target;
}

/*
 * Builds what to send for a job, in the current memory context; it points to the options.  Raises an error for the user
 * if the request and its binaries do not fit together.
 */
HttpRequest *
request_build(const RequestSource *source)
{
	const ServerOptions *options = source->options;
	MemoryContext result = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(result, "genjob request", ALLOCSET_DEFAULT_SIZES);
	HttpRequest *http;
	bool names_model;
	cJSON *params;
	Target target;

	MemoryContextSwitchTo(scratch);
	params = read_params(source, &names_model);
	if (!source->is_literal)
		links_resolve(source, params->child);
	if (options_hands_over(options))
		handover_add_token(source, params);
	target = options->preset->is_store ? s3_target(source, params) : plain_target(source, params);
	MemoryContextSwitchTo(result);
	http = request_begin(options, target.method, pstrdup(target.url), options->timeout);
	if (target.object != NULL)
		http->object = pstrdup(target.object);
	http->keeps_path = options->preset->is_store;
	/* a store's calls may be repeated, and cost nothing */
	http->is_sent_once = !options->preset->is_store;
	http->names_model = names_model;
	take_body(http, &target.body);
	headers_set_all(http, source, &target.body);
	headers_set_list(http, target.headers);
	links_note_secrets(http, source);
	if (options_hands_over(options))
		handover_set_header(http, source);
	if (options->preset->target != NULL)
		awsjson_set_headers(http, options->preset, NULL);
	if (signing_is_due(options))
		signing_sign(http, source);
	else if (options->protocol.kind.auth == AUTH_WEBHOOK)
		signing_sign_webhook(http, source);
	MemoryContextDelete(scratch);
	return http;
}

/*
 * Raises the errors of request_build() without building anything.  Outputs
 * need not be there yet.
 */
void
request_check(const RequestSource *source)
{
	const Protocol *protocol = &source->options->protocol;
	bool names_model;
	cJSON *params;

	binary_check_alone(source);
	params = read_params_raw(source, &names_model);
	if (has_values(source))
		values_check(params);
	if (source->options->preset->is_store)
	{
		s3_check(source, params);
		return;
	}
	(void) fill_words(source, binary_is_in(source, params) ? protocol->inputs_path : protocol->path,
					  params);
	body_check(source, params);
}

/*
 * Returns the outputs of other jobs that must be read for a request, each
 * once, palloc'd; their number in *n.  Raises errors for the user as
 * request_check() does.
 */
Reference *
request_list_references(const RequestSource *source, int *n)
{
	bool names_model;

	return binary_list_references(read_params_raw(source, &names_model), n);
}

static bool
has_reference(const char *json)
{
	return strstr(json, "\"$output\"") != NULL || has_link(json);
}

/*
 * True if a request may refer to outputs of other jobs.  Most do not, and need not be parsed.
 */
bool
request_may_refer(const RequestSource *source)
{
	const char *defaults = source->options->defaults;

	if (source->is_literal)
		return false;
	return has_reference(source->request) || (defaults != NULL && has_reference(defaults)) ||
		   has_values(source);
}

/*
 * Returns the URL of an address: below the server's url, or as an answer gave
 * it.  NULL if no answer gave it.
 */
static char *
address_url(const RequestSource *source, const Remote *remote, const Address *address)
{
	bool is_told = address->path == NULL || strstr(address->path, "{/") != NULL;
	const char *name = address->path != NULL ? address->path : address->place;
	const cJSON *url;

	if (!is_told)
		return fill_path(source->options, address->path, remote->id);
	if (remote->urls == NULL)
		return NULL;
	url = cJSON_GetObjectItemCaseSensitive(json_parse_trusted(remote->urls), name);
	if (!cJSON_IsString(url))
		return NULL;
	return address->path != NULL ? fill_path(source->options, url->valuestring, remote->id)
								 : pstrdup(url->valuestring);
}

/*
 * Builds a further call about a prediction: to poll it, fetch its result, or cancel it.  NULL if the provider has not
 * said where.
 */
HttpRequest *
request_follow(const RequestSource *source, const Remote *remote, const Address *address)
{
	char *url = address_url(source, remote, address);
	HttpRequest *http;

	if (url == NULL)
		return NULL;
	http = request_begin(source->options, address->method, url,
						 Min(source->options->timeout, FOLLOW_TIMEOUT_MS));
	/* the second cancel of what has no name would reach the server's next job */
	http->is_sent_once = strcmp(address->method, "GET") != 0;
	/*
	 * without a body, libcurl would say that it sends a form, which some
	 * servers refuse
	 */
	if (address->body != NULL || strcmp(address->method, "POST") == 0 ||
		strcmp(address->method, "PUT") == 0 || strcmp(address->method, "PATCH") == 0)
	{
		const char *body = address->body ? address->body : "{}";

		headers_set(http, "Content-Type", pstrdup("application/json"), NULL);
		if (source->options->preset->target != NULL)
			awsjson_set_headers(http, source->options->preset, awsjson_take_action(&body));
		http->body = grammar_fill(body, "id", json_escape(remote->id ? remote->id : ""));
		http->body_len = strlen(http->body);
	}
	headers_set_server(http, source);
	links_note_secrets(http, source);
	if (signing_is_due(source->options))
		signing_sign(http, source);
	http->shown_url = url_shown(http->url);
	words_mask(http, http->shown_url, strlen(http->shown_url));
	return http;
}

/*
 * Returns the address of the server's submissions, palloc'd: for a saved
 * answer, whose request is gone.
 */
char *
request_address(const ServerOptions *options)
{
	return fill_path(options, options->protocol.path, NULL);
}

/*
 * Puts an output into the object store whose options and secrets the source
 * has.  Does not copy the data; sha256 is its digest in hexadecimal.
 */
HttpRequest *
request_put_object(const RequestSource *source, const char *key, const char *content_type,
				   const char *data, size_t len, const char *sha256)
{
	const ServerOptions *options = source->options;
	HttpRequest *http = request_begin(options, "PUT", s3_url_of(options, key), options->timeout);

	http->object = s3_name_of(options, key);
	http->keeps_path = true;
	http->body = unconstify(char *, data);
	http->body_len = len;
	http->body_sha256 = sha256;
	http->max_response = Min(http->max_response, MAX_PUT_ANSWER);
	headers_set(http, "Content-Type", pstrdup(content_type), NULL);
	headers_set_server(http, source);
	headers_set_list(http, s3_put_headers(options));
	signing_sign(http, source);
	return http;
}

/*
 * Gets an object of the store whose options and secrets the source has.
 */
HttpRequest *
request_get_object(const RequestSource *source, const char *key)
{
	const ServerOptions *options = source->options;
	HttpRequest *http = request_begin(options, "GET", s3_url_of(options, key), options->timeout);

	http->object = s3_name_of(options, key);
	http->keeps_path = true;
	headers_note_secrets(http, source->secrets);
	headers_set_server(http, source);
	headers_set_list(http, s3_key_headers(options));
	signing_sign(http, source);
	return http;
}

/* ---------- showing ---------- */

/*
 * Appends bytes as text; writes bytes that are not printable UTF-8 as \xNN.
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
 * Returns the request as text in UTF-8, as it goes over the wire, except that
 * secrets are masked and binary bytes are escaped.
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
