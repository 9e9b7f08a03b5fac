/*
 * body.c
 *		The body of a request, in each of its forms.
 *
 * A binary becomes base64 or a data: URL (json), a file (multipart), or the
 * body itself (raw).
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "base/base64.h"
#include "protocol/awsjson.h"
#include "protocol/binary.h"
#include "protocol/body.h"
#include "protocol/multipart.h"
#include "server/pointer.h"

#define MAX_PLACED (512 * 1024 * 1024) /* bytes of binaries in a body, repeats counted */

/* A body that is being built. */
typedef struct Builder
{
	const RequestSource *source;
	const Protocol *protocol;
	bool *used;    /* per input: the request names it */
	size_t placed; /* bytes of binaries in the body so far */
} Builder;

/* ---------- inputs that the request does not name ---------- */

static void
note_used_inputs(Builder *builder, const cJSON *node)
{
	int ordinal;

	check_stack_depth();
	for (; node != NULL; node = node->next)
	{
		if (binary_is_input(builder->source, node, &ordinal))
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

static int
first_unused_input(const Builder *builder)
{
	int i;

	for (i = 0; builder->used[i]; i++)
		;
	return i + 1;
}

/*
 * Returns a content type as "data:" URLs have it.  All servers accept the
 * oldest name of WAV; some (fal) accept no other.
 */
static const char *
data_url_type(const char *content_type)
{
	return strcmp(content_type, "audio/wav") == 0 ? "audio/x-wav" : content_type;
}

/*
 * Counts a binary that goes into the body, and raises an error if there are
 * too many bytes: a request may name a binary of a few megabytes a thousand
 * times.
 */
static void
count_binary(Builder *builder, const Binary *binary)
{
	builder->placed += binary->len;
	if (builder->placed > MAX_PLACED)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the binaries of the request are larger than %d MB together, each counted as often as the request names it",
						MAX_PLACED / (1024 * 1024)),
				 errhint("Split the request into several jobs.")));
}

/* ---------- json ---------- */

/*
 * Turns node into the binary, as base64 or as a data: URL.
 */
static void
make_base64(Builder *builder, cJSON *node, const Binary *binary, bool is_bare)
{
	char *encoded;

	count_binary(builder, binary);
	encoded = base64_encode(binary->data, binary->len);
	node->type = cJSON_String;
	node->child = NULL;
	node->valuestring = encoded;
	if (is_bare || builder->protocol->kind.inputs_as != INPUTS_DATA_URL)
		return;
	node->valuestring = psprintf("data:%s;base64,%s", data_url_type(binary->content_type), encoded);
	pfree(encoded);
}

static void
inline_binaries(Builder *builder, cJSON *parent)
{
	Binary binary;
	cJSON *node;

	for (node = parent->child; node != NULL; node = node->next)
	{
		if (binary_find(builder->source, node, &binary))
			make_base64(builder, node, &binary,
						binary_is_bare_place(builder->source, parent, node));
		else
			inline_binaries(builder, node);
	}
}

static void
place_unused_inputs(Builder *builder, cJSON *params)
{
	cJSON *array;
	int i;

	if (count_unused_inputs(builder) == 0)
		return;
	array = pointer_first(params, builder->protocol->inputs_at);
	if (!cJSON_IsArray(array))
	{
		array = json_create(cJSON_Array);
		pointer_set(params, builder->protocol->inputs_at, array);
	}
	for (i = 0; i < builder->source->n_inputs; i++)
	{
		Binary binary;
		cJSON *item;

		if (builder->used[i])
			continue;
		binary = binary_of_input(builder->source, i + 1);
		item = json_create(cJSON_NULL);
		make_base64(builder, item, &binary, false);
		json_append(array, item);
	}
}

static void
build_json(Builder *builder, cJSON *params, Body *body)
{
	Binary binary;

	if (binary_find(builder->source, params, &binary))
		make_base64(builder, params, &binary, false);
	else
		inline_binaries(builder, params);
	place_unused_inputs(builder, params);
	if (builder->source->options->preset->target != NULL)
		awsjson_fill(builder->source, params);
	body->data = json_print(params);
	body->len = strlen(body->data);
	body->content_type = "application/json";
}

/* ---------- multipart ---------- */

static void
add_binary_part(Builder *builder, Multipart *form, const char *field, const Binary *binary)
{
	count_binary(builder, binary);
	multipart_add_file(form, field, binary->name, binary->content_type, binary->data, binary->len);
}

static void
add_value_part(Builder *builder, Multipart *form, const char *name, const cJSON *value)
{
	Binary binary;

	if (binary_find(builder->source, value, &binary))
		add_binary_part(builder, form, name, &binary);
	else if (cJSON_IsString(value))
		multipart_add_field(form, name, value->valuestring);
	else
		multipart_add_field(form, name, json_print(value));
}

/*
 * Adds a member of the request as form data: a binary as a file, a string as it is, anything else as JSON; an array
 * with binaries as parts of the name "name[]".  null is left out.
 */
static void
add_member_part(Builder *builder, Multipart *form, const cJSON *member)
{
	const cJSON *element = cJSON_IsArray(member) ? member->child : NULL;
	bool has_binary = false;

	for (; element != NULL; element = element->next)
		has_binary |= binary_is_named(builder->source, element);
	if (has_binary)
	{
		cJSON_ArrayForEach(element, member)
			add_value_part(builder, form, psprintf("%s[]", member->string), element);
	}
	else if (!cJSON_IsNull(member))
		add_value_part(builder, form, member->string, member);
}

static void
build_multipart(Builder *builder, cJSON *params, Body *body)
{
	const RequestSource *source = builder->source;
	char *boundary = psprintf("genjob-%s", source->idempotency_key);
	const char *field = builder->protocol->inputs_at;
	const cJSON *member;
	Multipart form;
	int i;

	multipart_begin(&form, boundary);
	for (member = params->child; member != NULL; member = member->next)
		add_member_part(builder, &form, member);
	if (count_unused_inputs(builder) > 1)
		field = psprintf("%s[]", field);
	for (i = 0; i < source->n_inputs; i++)
	{
		Binary binary = binary_of_input(builder->source, i + 1);

		if (!builder->used[i])
			add_binary_part(builder, &form, field, &binary);
	}
	multipart_end(&form);
	body->data = form.text.data;
	body->len = form.text.len;
	body->content_type = psprintf("multipart/form-data; boundary=%s", boundary);
	/*
	 * the option headers sets a Content-Type for JSON; a form needs its own,
	 * with the boundary
	 */
	body->type_is_fixed = true;
}

/* ---------- raw ---------- */

static int
count_binaries(const Builder *builder, const cJSON *node)
{
	int n = 0;

	check_stack_depth();
	for (; node != NULL; node = node->next)
		n += binary_is_named(builder->source, node) ? 1 : count_binaries(builder, node->child);
	return n;
}

/*
 * Returns the node of the one binary that is the body; NULL if the body is the
 * input that the request does not name.  Raises an error for the user if there
 * is not exactly one binary.
 */
static cJSON *
find_raw_node(const Builder *builder, cJSON *params)
{
	const char *place = builder->protocol->inputs_at;
	int n_named = count_binaries(builder, params->child);
	int n = n_named + count_unused_inputs(builder);
	cJSON *node = NULL;

	if (n != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 n == 0
					 ? errmsg("the request has no binary to be sent as its body")
					 : errmsg("the request has %d binaries, of which only one can be its body", n),
				 errdetail("The server takes a body of the kind \"raw\": one binary."),
				 errhint("Give it one input, or refer to one output as "
						 "{\"$output\": [job, ordinal]}.")));
	if (n_named == 0)
		return NULL;
	if (place != NULL)
		node = pointer_first(params, place);
	else
	{
		for (node = params->child; node != NULL && !binary_is_named(builder->source, node);
			 node = node->next)
			;
	}
	if (node == NULL || !binary_is_named(builder->source, node))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 place != NULL ? errmsg("the request must have its binary at %s", place)
							   : errmsg("the request must have its binary as a top-level member"),
				 errdetail("The server takes a body of the kind \"raw\": one binary."),
				 errhint("Write it as {\"name\": {\"$input\": 1}}, or set the server's option "
						 "inputs_at to its place.")));
	return node;
}

static void
add_parameter(StringInfo query, const char *name, const cJSON *value)
{
	const char *text = cJSON_IsString(value) ? value->valuestring : json_print(value);

	if (query->len > 0)
		appendStringInfoChar(query, '&');
	appendStringInfo(query, "%s=%s", grammar_percent_encode(name, ""),
					 grammar_percent_encode(text, ""));
}

/*
 * Returns the members of the request as parameters of a URL: a string as it
 * is, anything else as JSON, an array as one parameter for each element.
 * Leaves out null and empty objects.
 */
static char *
query_of(const cJSON *params)
{
	StringInfoData query;
	const cJSON *member;
	const cJSON *element;

	initStringInfo(&query);
	cJSON_ArrayForEach(member, params)
	{
		if (cJSON_IsArray(member))
		{
			cJSON_ArrayForEach(element, member) add_parameter(&query, member->string, element);
		}
		else if (!cJSON_IsNull(member) && !(cJSON_IsObject(member) && member->child == NULL))
			add_parameter(&query, member->string, member);
	}
	return query.len > 0 ? query.data : NULL;
}

/*
 * Takes the node out of the request, wherever it stands.
 */
static bool
detach_node(cJSON *parent, const cJSON *node)
{
	cJSON *child;

	for (child = parent->child; child != NULL; child = child->next)
	{
		if (child == node)
		{
			json_detach(parent, child);
			return true;
		}
		if (detach_node(child, node))
			return true;
	}
	return false;
}

static void
build_raw(const Builder *builder, cJSON *params, Body *body)
{
	cJSON *node = find_raw_node(builder, params);
	Binary binary;

	if (node == NULL)
		binary = binary_of_input(builder->source, first_unused_input(builder));
	else
	{
		(void) binary_find(builder->source, node, &binary);
		(void) detach_node(params, node);
	}
	body->data = binary.data;
	body->len = binary.len;
	body->content_type = binary.content_type;
	body->query = query_of(params);
}

/* ---------- any ---------- */

static BodyKind
kind_of(const RequestSource *source, const cJSON *params)
{
	const ProtocolKinds *kind = &source->options->protocol.kind;

	if (kind->method >= METHOD_GET)
		return BODY_IN_URL;
	return binary_is_in(source, params) ? kind->inputs_body : kind->body;
}

/*
 * Notes in builder->used which inputs the request names.  Raises an error for
 * the user if the body cannot have the binaries, or an input has no place.
 */
static void
check_inputs(Builder *builder, cJSON *params, BodyKind kind)
{
	int ordinal;

	builder->used = palloc0(builder->source->n_inputs + 1);
	note_used_inputs(builder, params);
	if (kind == BODY_IN_URL && binary_is_in(builder->source, params))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a request with method %s has no body, so it cannot carry a binary",
							   builder->protocol->method),
						errhint("Leave out the inputs, or set the server's option method.")));
	if (kind == BODY_RAW)
	{
		(void) find_raw_node(builder, params);
		return;
	}
	if (count_unused_inputs(builder) == 0 || builder->protocol->inputs_at != NULL)
		return;
	ordinal = first_unused_input(builder);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the request does not say where input %d goes", ordinal),
					errdetail("The api \"%s\" takes inputs only where the request names them.",
							  builder->source->options->preset->api),
					errhint("Refer to it as {\"$input\": %d} in the request.", ordinal)));
}

/*
 * Raises the errors of body_build() that do not depend on the bytes of
 * binaries.
 */
void
body_check(const RequestSource *source, cJSON *params)
{
	Builder builder = {source, &source->options->protocol, NULL};
	int n_references;

	if (!source->is_literal)
		(void) binary_list_references(params, &n_references);
	check_inputs(&builder, params, kind_of(source, params));
}

/*
 * Builds the body in the current memory context; overwrites params.  A raw
 * body points into the source.  Raises an error for the user if the request
 * and its binaries do not fit together.
 */
Body
body_build(const RequestSource *source, cJSON *params)
{
	Builder builder = {source, &source->options->protocol, NULL};
	BodyKind kind = kind_of(source, params);
	Body body = {NULL};

	check_inputs(&builder, params, kind);
	switch (kind)
	{
		case BODY_JSON:
			build_json(&builder, params, &body);
			break;
		case BODY_MULTIPART:
			build_multipart(&builder, params, &body);
			break;
		case BODY_RAW:
			build_raw(&builder, params, &body);
			break;
		case BODY_IN_URL:
			body.query = query_of(params);
			break;
	}
	return body;
}
