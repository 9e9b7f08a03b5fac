/*
 * shape.c
 *		The options that determine the body of a request, saved as text.
 *
 * A call that reuses its Idempotency-Key must send the same body, even if the
 * options changed.  So we save those options with the key, and apply them over
 * the present ones.
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "base/json.h"
#include "server/shape.h"

/* The options that determine a body. */
static const struct
{
	const char *name;
	size_t offset; /* in ServerOptions, of a string or NULL */
} fields[] = {
	{"method", offsetof(ServerOptions, protocol.method)},
	{"path", offsetof(ServerOptions, protocol.path)},
	{"body", offsetof(ServerOptions, protocol.body)},
	{"wrap", offsetof(ServerOptions, protocol.wrap)},
	{"model_at", offsetof(ServerOptions, protocol.model_at)},
	{"inputs_path", offsetof(ServerOptions, protocol.inputs_path)},
	{"inputs_body", offsetof(ServerOptions, protocol.inputs_body)},
	{"inputs_as", offsetof(ServerOptions, protocol.inputs_as)},
	{"inputs_at", offsetof(ServerOptions, protocol.inputs_at)},
	{"model", offsetof(ServerOptions, model)},
	{"defaults", offsetof(ServerOptions, defaults)},
};

static const char **
field_of(ServerOptions *options, int i)
{
	return (const char **) ((char *) options + fields[i].offset);
}

static void
attach_text(cJSON *json, const char *name, const char *text)
{
	if (text != NULL)
		json_attach(json, name, json_create_string(pstrdup(text)));
}

/*
 * Returns the options that determine a body, as JSON, palloc'd, with the name
 * of the server, and the body's digest unless sha256 is NULL.
 */
char *
shape_print(const char *server, const ServerOptions *options, const char *sha256)
{
	cJSON *json = json_create(cJSON_Object);
	int i;

	attach_text(json, "server", server);
	attach_text(json, "api", options->preset->api);
	for (i = 0; i < lengthof(fields); i++)
		attach_text(json, fields[i].name, *field_of(unconstify(ServerOptions *, options), i));
	attach_text(json, "sha256", sha256);
	return json_print(json);
}

/*
 * Returns a hash of the options that determine a body.
 */
uint32
shape_digest(const char *server, const ServerOptions *options)
{
	char *text = shape_print(server, options, NULL);
	uint32 digest = hash_bytes((const unsigned char *) text, (int) strlen(text));

	pfree(text);
	return digest;
}

static char *
text_of(const cJSON *json, const char *name)
{
	const cJSON *member = cJSON_GetObjectItemCaseSensitive(json, name);

	return cJSON_IsString(member) ? pstrdup(member->valuestring) : NULL;
}

/*
 * Returns a copy of options that makes the body that text describes, in the
 * current memory context.  Returns options itself if text is about another
 * server, NULL if text has another api.  *sha256 is the digest of the body, or
 * NULL.
 */
const ServerOptions *
shape_apply(const char *text, const char *server, const ServerOptions *options, char **sha256)
{
	const char *reason;
	char *copy = pstrdup(text);
	cJSON *json = json_parse(copy, strlen(copy), &reason);
	char *name = json ? text_of(json, "server") : NULL;
	char *api = json ? text_of(json, "api") : NULL;
	ServerOptions *shaped;
	int i;

	*sha256 = NULL;
	if (name == NULL || api == NULL || strcmp(name, server) != 0)
		return options;
	if (strcmp(api, options->preset->api) != 0)
		return NULL;
	*sha256 = text_of(json, "sha256");
	shaped = palloc(sizeof(ServerOptions));
	*shaped = *options;
	for (i = 0; i < lengthof(fields); i++)
		*field_of(shaped, i) = text_of(json, fields[i].name);
	return shaped;
}
