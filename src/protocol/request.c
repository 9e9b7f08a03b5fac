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
#include "miscadmin.h"
#include "utils/memutils.h"

#include "bytes.h"
#include "header.h"
#include "json.h"
#include "protocol/multipart.h"
#include "protocol/pointer.h"
#include "protocol/request.h"

/* A request that is being built. */
typedef struct Builder
{
	const RequestSource *source;
	const Preset *preset;
	bool *used; /* per input: the request names it */
	HttpRequest *http;
} Builder;

/* ---------- inputs ---------- */

/*
 * Whether node is {"$input": n}; then *ordinal is n, from 1.
 */
static bool
is_input(const Builder *builder, const cJSON *node, int *ordinal)
{
	const cJSON *number =
		cJSON_IsObject(node) ? cJSON_GetObjectItemCaseSensitive(node, "$input") : NULL;
	int n = builder->source->n_inputs;

	if (number == NULL)
		return false;
	if (!cJSON_IsNumber(number) || number->valuedouble != number->valueint ||
		number->valueint < 1 || number->valueint > n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the request refers to input %s, which does not exist", json_print(number)),
				 n == 0 ? errdetail("The job has no inputs.")
						: errdetail_plural("The job has %d input.", "The job has %d inputs.", n, n),
				 errhint("Inputs are numbered from 1 in the order of the column \"inputs\".")));
	*ordinal = number->valueint;
	return true;
}

static void
note_used_inputs(Builder *builder, const cJSON *node)
{
	int ordinal;

	check_stack_depth();
	for (; node != NULL; node = node->next)
	{
		if (is_input(builder, node, &ordinal))
			builder->used[ordinal - 1] = true;
		else
			note_used_inputs(builder, node->child);
	}
}

static int
count_unused_inputs(const Builder *builder)
{
	int n = 0;
	int i;

	for (i = 0; i < builder->source->n_inputs; i++)
		n += !builder->used[i];
	return n;
}

/*
 * Every input is named by the request, or the api has a place for those that are not.
 */
static void
check_inputs(Builder *builder, const cJSON *params)
{
	int unused;
	int i;

	builder->used = palloc0(builder->source->n_inputs + 1);
	note_used_inputs(builder, params);
	unused = count_unused_inputs(builder);
	if (unused == 0 || builder->preset->inputs_at != NULL)
		return;
	for (i = 0; builder->used[i]; i++)
		;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the request does not say where input %d goes", i + 1),
					errdetail("The api \"%s\" takes inputs only where the request names them.",
							  builder->preset->api),
					errhint("Refer to it as {\"$input\": %d} in the request.", i + 1)));
}

static void
make_base64(const Builder *builder, cJSON *node, int ordinal)
{
	const Input *input = &builder->source->inputs[ordinal - 1];

	node->type = cJSON_String;
	node->child = NULL;
	node->valuestring = base64_encode(input->data, input->len);
}

static void
inline_inputs(const Builder *builder, cJSON *node)
{
	int ordinal;

	for (; node != NULL; node = node->next)
	{
		if (is_input(builder, node, &ordinal))
			make_base64(builder, node, ordinal);
		else
			inline_inputs(builder, node->child);
	}
}

static void
place_unused_inputs(const Builder *builder, cJSON *params)
{
	cJSON *array;
	int i;

	if (count_unused_inputs(builder) == 0)
		return;
	array = pointer_first(params, builder->preset->inputs_at);
	if (!cJSON_IsArray(array))
	{
		array = cJSON_CreateArray();
		pointer_set(params, builder->preset->inputs_at, array);
	}
	for (i = 0; i < builder->source->n_inputs; i++)
	{
		cJSON *item;

		if (builder->used[i])
			continue;
		item = cJSON_CreateNull();
		make_base64(builder, item, i + 1);
		cJSON_AddItemToArray(array, item);
	}
}

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

static void
add_secret(HttpRequest *http, char *secret)
{
	http->secrets = lappend(http->secrets, secret);
}

static void
set_authorization(HttpRequest *http, const char *auth, char *api_key)
{
	if (api_key == NULL || strcmp(auth, "none") == 0)
		return;
	add_secret(http, api_key);
	if (strcmp(auth, "bearer") == 0)
		set_header(http, "Authorization", psprintf("Bearer %s", api_key), "Bearer ***");
	else if (strcmp(auth, "basic") == 0)
	{
		char *encoded = base64_encode(api_key, strlen(api_key));
		char *colon = strchr(api_key, ':');

		add_secret(http, encoded);
		if (colon != NULL)
			add_secret(http, pstrdup(colon + 1));
		set_header(http, "Authorization", psprintf("Basic %s", encoded), "Basic ***");
	}
	else
		set_header(http, auth + strlen("header:"), api_key, "***");
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

static void
set_headers(Builder *builder, const char *content_type)
{
	const RequestSource *source = builder->source;
	HttpRequest *http = builder->http;

	set_header(http, "Content-Type", pstrdup(content_type), NULL);
	set_header(http, "Accept", pstrdup(builder->preset->any_answer ? "*/*" : "application/json"),
			   NULL);
	set_header(http, "Idempotency-Key", pstrdup(source->idempotency_key), NULL);
	set_authorization(http, source->options->auth, source->secrets->api_key);
	set_headers_from(http, source->options->headers, false);
	set_headers_from(http, source->secrets->headers, true);
}

/* ---------- bodies ---------- */

static void
build_json(Builder *builder, cJSON *params, MemoryContext result)
{
	inline_inputs(builder, params);
	place_unused_inputs(builder, params);
	MemoryContextSwitchTo(result);
	builder->http->body = json_print(params);
	builder->http->body_len = strlen(builder->http->body);
	set_headers(builder, "application/json");
}

static void
add_input_part(const Builder *builder, Multipart *body, const char *name, int ordinal)
{
	const Input *input = &builder->source->inputs[ordinal - 1];

	multipart_add_file(body, name, ordinal, input->data, input->len);
}

static void
add_value_part(const Builder *builder, Multipart *body, const char *name, const cJSON *value)
{
	int ordinal;

	if (is_input(builder, value, &ordinal))
		add_input_part(builder, body, name, ordinal);
	else if (cJSON_IsString(value))
		multipart_add_field(body, name, value->valuestring);
	else
		multipart_add_field(body, name, json_print(value));
}

/*
 * A member of the request as form data: an input as a file, a string as it is, anything else as JSON;
 * an array with inputs as parts of the name "name[]".  null is left out.
 */
static void
add_member_part(const Builder *builder, Multipart *body, const cJSON *member)
{
	const cJSON *element = cJSON_IsArray(member) ? member->child : NULL;
	bool has_input = false;
	int ordinal;

	for (; element != NULL; element = element->next)
		has_input |= is_input(builder, element, &ordinal);
	if (has_input)
	{
		cJSON_ArrayForEach(element, member)
			add_value_part(builder, body, psprintf("%s[]", member->string), element);
	}
	else if (!cJSON_IsNull(member))
		add_value_part(builder, body, member->string, member);
}

static void
build_multipart(Builder *builder, cJSON *params, MemoryContext result)
{
	const RequestSource *source = builder->source;
	char *boundary = psprintf("genjob-%s", source->idempotency_key);
	const char *field = builder->preset->inputs_at;
	const cJSON *member;
	Multipart body;
	int i;

	MemoryContextSwitchTo(result);
	multipart_begin(&body, boundary);
	for (member = params->child; member != NULL; member = member->next)
		add_member_part(builder, &body, member);
	if (count_unused_inputs(builder) > 1)
		field = psprintf("%s[]", field);
	for (i = 0; i < source->n_inputs; i++)
	{
		if (!builder->used[i])
			add_input_part(builder, &body, field, i + 1);
	}
	multipart_end(&body);
	builder->http->body = body.text.data;
	builder->http->body_len = body.text.len;
	boundary = psprintf("multipart/form-data; boundary=%s", boundary);
	set_headers(builder, boundary);
	/* a Content-Type of the server's option is for JSON: without its boundary a form cannot be read */
	set_header(builder->http, "Content-Type", boundary, NULL);
}

/*
 * The request's members: the server's defaults under the job's, and the model where there is none.
 */
static cJSON *
read_params(const RequestSource *source)
{
	const ServerOptions *options = source->options;
	cJSON *params = json_parse_trusted(source->request);

	if (options->defaults != NULL)
		params = json_merge(json_parse_trusted(options->defaults), params);
	/* replication brings in what INSERT would refuse */
	if (!cJSON_IsObject(params))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("request is not a JSON object")));
	if (options->model != NULL && pointer_first(params, options->preset->model_at) == NULL)
		pointer_set(params, options->preset->model_at, cJSON_CreateString(options->model));
	return params;
}

/*
 * What to send for a job, in the current memory context; it goes on pointing to the options.  Errors
 * for the user where the request and its inputs do not fit together.
 */
HttpRequest *
request_build(const RequestSource *source)
{
	const ServerOptions *options = source->options;
	HttpRequest *http = palloc0(sizeof(HttpRequest));
	Builder builder = {source, options->preset, NULL, http};
	bool with_inputs = source->n_inputs > 0;
	BodyKind kind = with_inputs ? options->preset->inputs_body : options->preset->body;
	MemoryContext result = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(result, "genjob request", ALLOCSET_DEFAULT_SIZES);
	cJSON *params;

	http->method = "POST";
	http->url = psprintf("%s%s", options->url, with_inputs ? options->inputs_path : options->path);
	http->timeout = options->timeout;
	http->connect_timeout = options->connect_timeout;
	http->max_response = options->max_response;
	http->ca_file = options->ca_file;

	MemoryContextSwitchTo(scratch);
	params = read_params(source);
	check_inputs(&builder, params);
	if (kind == BODY_MULTIPART)
		build_multipart(&builder, params, result);
	else
		build_json(&builder, params, result);
	MemoryContextSwitchTo(result);
	MemoryContextDelete(scratch);
	return http;
}

/*
 * Raises the error that request_build() would, without building anything.
 */
void
request_check(const RequestSource *source)
{
	Builder builder = {source, source->options->preset, NULL, NULL};

	check_inputs(&builder, read_params(source));
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
	appendStringInfo(&text, "%s %s\n", http->method, http->url);
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

/* ---------- options ---------- */

/*
 * NULL when text is a JSON object; else a sentence that says what is wrong.
 */
const char *
request_check_object(const char *text)
{
	const char *reason = NULL;
	cJSON *json = json_parse(pstrdup(text), strlen(text), &reason);

	if (json == NULL)
		return psprintf("A JSON object is expected; this is %s.", reason);
	return cJSON_IsObject(json) ? NULL
								: "A JSON object is expected, such as {\"name\": \"value\"}.";
}

/*
 * NULL when a header of that name can be set; else a sentence that says why not.
 */
const char *
request_check_header_name(const char *name)
{
	static const char *const reserved[] = {
		"Content-Length", "Transfer-Encoding", "Connection", "Expect", "Idempotency-Key",
	};
	int i;

	for (i = 0; i < lengthof(reserved); i++)
	{
		if (pg_strcasecmp(name, reserved[i]) == 0)
			return psprintf("The header %s is set by genjob itself.", reserved[i]);
	}
	return NULL;
}

/*
 * As request_check_object(), for an object of header names and values.
 */
const char *
request_check_headers(const char *text)
{
	const char *reason = request_check_object(text);
	const cJSON *header;

	if (reason != NULL)
		return reason;
	for (header = json_parse_trusted(text)->child; header != NULL && reason == NULL;
		 header = header->next)
	{
		if (!header_is_name(header->string) || !cJSON_IsString(header) ||
			!header_is_value(header->valuestring))
			return "A JSON object of header names and string values is expected, such as {\"X-Team\": \"art\"}; a value must have no line breaks.";
		reason = request_check_header_name(header->string);
	}
	return reason;
}
