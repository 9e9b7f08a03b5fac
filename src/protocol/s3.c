/*
 * s3.c
 *		Requests to an object store that speaks S3.
 *
 * A job's request is one of
 *
 *		{"put": "key"}		with one binary; content_type, metadata
 *		{"get": "key"}		range, version_id
 *		{"head": "key"}		version_id
 *		{"delete": "key"}	version_id, bucket
 *		{"copy": "key", "to": "key"}	content_type, metadata
 *		{"list": "prefix"}	delimiter, max, after
 *
 * All of them may be repeated.  What they answer, s3answer.c reads.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/base64.h"
#include "base/clip.h"
#include "http/header.h"
#include "protocol/building.h"
#include "protocol/s3request.h"
#include "protocol/values.h"
#include "protocol/words.h"
#include "server/keytemplate.h"
#include "server/storeplace.h"

#define LIST_MAX 1000 /* keys in an answer, as S3 has it */
#define MAX_METADATA 50
#define MAX_SHOWN 100 /* bytes of a wrong value in an error */

typedef enum S3Verb
{
	S3_PUT,
	S3_GET,
	S3_HEAD,
	S3_DELETE,
	S3_COPY,
	S3_LIST,
	S3_VERBS
} S3Verb;

static const struct
{
	const char *name;
	const char *method;
	const char *also; /* other members that it may have */
} verbs[S3_VERBS] = {
	[S3_PUT] = {"put", "PUT", "content_type, metadata"},
	[S3_GET] = {"get", "GET", "range, version_id"},
	[S3_HEAD] = {"head", "HEAD", "version_id"},
	[S3_DELETE] = {"delete", "DELETE", "version_id, bucket"},
	[S3_COPY] = {"copy", "PUT", "to, content_type, metadata"},
	[S3_LIST] = {"list", "GET", "delimiter, max, after"},
};

/* ---------- names ---------- */

/*
 * Returns the URL of a bucket, without a slash behind it, palloc'd.
 */
static char *
base_url(const ServerOptions *options)
{
	const char *host = strstr(options->url, "://");

	host = host ? host + 3 : options->url;
	if (options->addressing_kind == ADDRESSING_VIRTUAL)
		return psprintf("%.*s%s.%s", (int) (host - options->url), options->url, options->bucket,
						host);
	return psprintf("%s/%s", options->url, options->bucket);
}

/*
 * Returns the URL for calls about the bucket itself, palloc'd.
 */
char *
s3_bucket_url(const ServerOptions *options)
{
	return psprintf("%s%s", base_url(options),
					options->addressing_kind == ADDRESSING_VIRTUAL ? "/" : "");
}

/*
 * Returns the URL of an object, palloc'd.
 */
char *
s3_url_of(const ServerOptions *options, const char *key)
{
	return psprintf("%s/%s", base_url(options), grammar_percent_encode(key, "/"));
}

/*
 * Returns the name of an object as gen_outputs has it, palloc'd.
 */
char *
s3_name_of(const ServerOptions *options, const char *key)
{
	return psprintf("s3://%s/%s", options->bucket, key);
}

/* ---------- reading a job's request ---------- */

/*
 * Returns the verb of a request.  Raises an error for the user if there is
 * none, or more than one.
 */
static S3Verb
read_verb(const cJSON *params)
{
	S3Verb found = S3_VERBS;
	S3Verb verb;

	for (verb = 0; verb < S3_VERBS; verb++)
	{
		if (s3request_member(params, verbs[verb].name) == NULL)
			continue;
		if (found != S3_VERBS)
			s3request_refuse(psprintf("the request has both \"%s\" and \"%s\"", verbs[found].name,
									  verbs[verb].name),
							 "Insert a job for each of them.");
		found = verb;
	}
	if (found == S3_VERBS)
		s3request_refuse(pstrdup(
							 "the request must have one of put, get, head, delete, copy and list"),
						 "Write {\"put\": \"key\"} with an input, {\"get\": \"key\"}, {\"head\": \"key\"}, {\"delete\": \"key\"}, {\"copy\": \"key\", \"to\": \"key\"} or {\"list\": \"prefix\"}.");
	return found;
}

static bool
is_listed(const char *list, const char *name)
{
	size_t name_len = strlen(name);

	while (*list != '\0')
	{
		size_t len = strcspn(list, ",");

		if (len == name_len && strncmp(list, name, len) == 0)
			return true;
		list += len;
		list += strspn(list, ", ");
	}
	return false;
}

/*
 * Raises an error for the user if the request has a member, or a binary, that
 * the verb does not take.
 */
static void
check_members(const RequestSource *source, const cJSON *params, S3Verb verb)
{
	const cJSON *member;
	bool takes_binary = verb == S3_PUT;

	for (member = params->child; member != NULL; member = member->next)
	{
		if (strcmp(member->string, verbs[verb].name) == 0 || cJSON_IsNull(member) ||
			is_listed(verbs[verb].also, member->string) ||
			(takes_binary && binary_is_named(source, member)))
			continue;
		if (takes_binary && strcmp(member->string, "body") == 0)
			s3request_refuse(pstrdup("\"body\" of the request is no binary"),
							 "Write it as {\"$input\": 1}, {\"$output\": [job, ordinal]} or {\"$url\": \"s3://bucket/key\"}.");
		s3request_refuse(psprintf("the request has \"%s\", which %s does not take",
								  clip_line(member->string, strlen(member->string), MAX_SHOWN),
								  verbs[verb].name),
						 psprintf("Beside \"%s\" it may have: %s.", verbs[verb].name,
								  verbs[verb].also));
	}
	if (!takes_binary && binary_is_in(source, params))
		s3request_refuse(psprintf("the request has a binary, which %s does not take",
								  verbs[verb].name),
						 "Inputs go with {\"put\": \"key\"}.");
}

/* ---------- buckets of the past ---------- */

/*
 * Returns "s3://bucket/key", palloc'd, if the request deletes an object of
 * another bucket than the server has now; else NULL.
 */
char *
s3_past_object(const RequestSource *source)
{
	const cJSON *params = json_parse_trusted(source->request);
	const cJSON *key = s3request_member(params, verbs[S3_DELETE].name);
	const cJSON *bucket = s3request_member(params, "bucket");

	if (!cJSON_IsString(key) || !cJSON_IsString(bucket) ||
		strcmp(bucket->valuestring, source->options->bucket) == 0)
		return NULL;
	return psprintf("s3://%s/%s", bucket->valuestring, key->valuestring);
}

/*
 * Returns the options for a request: those of the server, or for the bucket
 * that it names and that the server had before.  Raises an error for the user
 * if it is not known that the server had it: the keys may open buckets that
 * its users must not reach.
 */
static const ServerOptions *
options_for(const RequestSource *source, const cJSON *params)
{
	const ServerOptions *options = source->options;
	const char *bucket = s3request_text(params, "bucket");

	if (bucket == NULL || strcmp(bucket, options->bucket) == 0)
		return options;
	if (source->sent_bucket == NULL || strcmp(bucket, source->sent_bucket) != 0)
		s3request_refuse(psprintf("\"bucket\" of the request is not the bucket of the server, \"%s\"",
								  options->bucket),
						 "Another one is only for an object that genjob has put there as an output. Use the server of the other bucket.");
	return storeplace_bucket(options, bucket);
}

/* ---------- headers ---------- */

static void
add_header(Target *target, const char *name, const char *value)
{
	HttpHeader *header = palloc0(sizeof(HttpHeader));

	header->name = name;
	header->value = pstrdup(value);
	target->headers = lappend(target->headers, header);
}

/*
 * Returns text as the value of a header that names metadata.  Headers are
 * ASCII; other text goes as RFC 2047 says, which stores return as it is.
 */
static char *
metadata_value(char *text)
{
	const char *p;

	for (p = text; *p != '\0'; p++)
	{
		if ((unsigned char) *p >= 0x80)
			return psprintf("=?UTF-8?B?%s?=", base64_encode(text, strlen(text)));
	}
	return text;
}

static void
add_metadata(Target *target, const cJSON *params)
{
	const cJSON *metadata = s3request_member(params, "metadata");
	const cJSON *member;
	int n = 0;

	if (metadata == NULL)
		return;
	if (!cJSON_IsObject(metadata))
		s3request_refuse(pstrdup("\"metadata\" of the request is not an object"),
						 "Write it as {\"name\": \"text\"}.");
	for (member = metadata->child; member != NULL; member = member->next)
	{
		if (!header_is_name(member->string) || strlen(member->string) > MAX_SHOWN ||
			!cJSON_IsString(member) || !header_is_value(member->valuestring) || ++n > MAX_METADATA)
			s3request_refuse(pstrdup("\"metadata\" of the request cannot be sent as headers"),
							 psprintf("At most %d names of letters, digits and dashes are expected, each with a text without line breaks.",
									  MAX_METADATA));
		add_header(target, psprintf("x-amz-meta-%s", member->string),
				   metadata_value(member->valuestring));
	}
}

/*
 * Adds the headers of the option put_headers, which go with each object that
 * is written.
 */
static void
add_put_headers(Target *target, const ServerOptions *options)
{
	const cJSON *header;

	if (options->put_headers == NULL)
		return;
	for (header = json_parse_trusted(options->put_headers)->child; header != NULL;
		 header = header->next)
		add_header(target, pstrdup(header->string), header->valuestring);
}

/*
 * Returns the headers of the option put_headers, as a list of HttpHeader.
 */
List *
s3_put_headers(const ServerOptions *options)
{
	Target target = {NULL};

	add_put_headers(&target, options);
	return target.headers;
}

/*
 * Adds the key with which the store encrypts objects, if the option
 * put_headers has it.  The key must go with all calls that read an object, and
 * with each part.  prefix: "", or "copy-source-" for the object that is
 * copied.
 */
static void
add_key_headers(Target *target, const ServerOptions *options, const char *prefix)
{
	static const char start[] = "x-amz-";
	static const char key[] = "server-side-encryption-customer-";
	ListCell *cell;

	foreach(cell, s3_put_headers(options))
	{
		const HttpHeader *header = lfirst(cell);

		if (pg_strncasecmp(header->name, start, strlen(start)) == 0 &&
			pg_strncasecmp(header->name + strlen(start), key, strlen(key)) == 0)
			add_header(target, psprintf("%s%s%s", start, prefix, header->name + strlen(start)),
					   header->value);
	}
}

/*
 * Returns the headers of add_key_headers(), as a list of HttpHeader.
 */
List *
s3_key_headers(const ServerOptions *options)
{
	Target target = {NULL};

	add_key_headers(&target, options, "");
	return target.headers;
}

/* ---------- queries ---------- */

static void
add_parameter(StringInfo url, const char *name, const char *value)
{
	if (value != NULL)
		appendStringInfo(url, "%c%s=%s", strchr(url->data, '?') ? '&' : '?', name,
						 grammar_percent_encode(value, ""));
}

/*
 * Returns how many keys a list may have.
 */
static char *
read_max(const cJSON *params)
{
	const cJSON *max = s3request_member(params, "max");
	double n = max ? json_double(max) : LIST_MAX;

	if (max != NULL && (!json_is_number(max) || n < 1 || n > LIST_MAX || n != (int) n))
		s3request_refuse(pstrdup("\"max\" of the request is not a number of keys"),
						 psprintf("A whole number from 1 to %d is expected.", LIST_MAX));
	return psprintf("%d", (int) n);
}

static char *
list_url(const ServerOptions *options, const cJSON *params)
{
	const char *prefix = s3request_text(params, "list");
	StringInfoData url;

	s3request_refuse_url(options, "list", prefix);
	initStringInfo(&url);
	appendStringInfoString(&url, s3_bucket_url(options));
	add_parameter(&url, "list-type", "2");
	add_parameter(&url, "encoding-type", "url");
	add_parameter(&url, "prefix", *prefix != '\0' ? prefix : NULL);
	add_parameter(&url, "delimiter", s3request_text(params, "delimiter"));
	add_parameter(&url, "max-keys", read_max(params));
	add_parameter(&url, "continuation-token", s3request_text(params, "after"));
	return url.data;
}

/* ---------- targets ---------- */

/*
 * Reads what to write: the one binary that the request names, or its input.
 */
static void
read_put(const RequestSource *source, cJSON *params, Target *target)
{
	static const char *const own[] = {"put", "content_type", "metadata"};
	const char *type = s3request_type(params);
	int i;

	add_put_headers(target, source->options);
	add_metadata(target, params);
	for (i = 0; i < lengthof(own); i++)
	{
		cJSON *member = s3request_member(params, own[i]);

		if (member != NULL)
			json_detach(params, member);
	}
	target->body = body_build(source, params);
	if (type != NULL)
		target->body.content_type = pstrdup(type);
	target->body.type_is_fixed = true;
}

static void
read_copy(const RequestSource *source, const cJSON *params, Target *target)
{
	const char *type = s3request_type(params);

	add_put_headers(target, source->options);
	add_metadata(target, params);
	add_header(target, "X-Amz-Copy-Source",
			   psprintf("/%s/%s", source->options->bucket,
						grammar_percent_encode(s3request_key(source->options, params, "copy"),
											   "/")));
	add_key_headers(target, source->options, "copy-source-");
	if (type != NULL)
		target->body.content_type = pstrdup(type);
	if (type != NULL || s3request_member(params, "metadata") != NULL)
		add_header(target, "X-Amz-Metadata-Directive", "REPLACE");
}

/*
 * Returns what a job's request becomes, in the current memory context; a
 * binary stays where it is.  Raises an error for the user if the request is
 * none of those at the top of this file.
 */
Target
s3_target(const RequestSource *source, cJSON *params)
{
	const ServerOptions *options = options_for(source, params);
	S3Verb verb = read_verb(params);
	Target target = {verbs[verb].method};
	StringInfoData url;
	const char *key;

	check_members(source, params, verb);
	if (verb == S3_LIST)
	{
		target.url = list_url(options, params);
		return target;
	}
	key = pstrdup(s3request_key(options, params, verb == S3_COPY ? "to" : verbs[verb].name));
	initStringInfo(&url);
	appendStringInfoString(&url, s3_url_of(options, key));
	if (verb != S3_PUT && verb != S3_COPY)
		add_parameter(&url, "versionId", s3request_version(params));
	if (verb == S3_GET && s3request_range(params) != NULL)
		add_header(&target, "Range", s3request_range(params));
	if (verb == S3_GET || verb == S3_HEAD)
		add_key_headers(&target, options, "");
	target.url = url.data;
	target.object = s3_name_of(options, key);
	if (verb == S3_PUT)
		read_put(source, params, &target);
	else if (verb == S3_COPY)
		read_copy(source, params, &target);
	return target;
}

/*
 * Takes out the members whose values are not known yet, so that nobody checks
 * them.  A key becomes any key.
 */
static void
set_unknown(cJSON *params, S3Verb verb)
{
	cJSON *member;
	cJSON *next;

	for (member = params->child; member != NULL; member = next)
	{
		bool is_key =
			strcmp(member->string, verbs[verb].name) == 0 || strcmp(member->string, "to") == 0;

		next = member->next;
		if (!cJSON_IsString(member) || strstr(member->valuestring, VALUES_UNKNOWN) == NULL)
			continue;
		if (is_key)
			member->valuestring = pstrdup("key");
		else
			json_detach(params, member);
	}
}

/*
 * Raises the errors of s3_target().  Binaries need not be there yet.
 */
void
s3_check(const RequestSource *source, cJSON *params)
{
	Target target = {NULL};
	S3Verb verb = read_verb(params);

	check_members(source, params, verb);
	set_unknown(params, verb);
	(void) s3request_type(params);
	(void) s3request_range(params);
	(void) s3request_version(params);
	(void) s3request_text(params, "bucket");
	add_metadata(&target, params);
	if (verb == S3_LIST)
		(void) list_url(source->options, params);
	else
		(void) s3request_key(source->options, params, verbs[verb].name);
	if (verb == S3_COPY)
		(void) s3request_key(source->options, params, "to");
	if (verb == S3_PUT)
		body_check(source, params);
}
