/*
 * s3request.c
 *		Reads the members of a job's request to an object store.
 *
 * Each function raises an error for the user if a member is not what it must
 * be.
 */
#include "postgres.h"

#include "http/header.h"
#include "protocol/building.h"
#include "protocol/s3request.h"
#include "server/keytemplate.h"

#define MAX_DIGITS 18 /* of a number in a range */

void
s3request_refuse(char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", message), errhint("%s", hint)));
}

/*
 * Returns a member of the request; NULL if it is absent or null.
 */
cJSON *
s3request_member(const cJSON *params, const char *name)
{
	cJSON *member = cJSON_GetObjectItemCaseSensitive(params, name);

	return cJSON_IsNull(member) ? NULL : member;
}

/*
 * Returns a member's text; NULL if it is absent or null.  Raises an error for
 * the user if it is anything else.
 */
const char *
s3request_text(const cJSON *params, const char *name)
{
	const cJSON *member = s3request_member(params, name);

	if (member != NULL && !cJSON_IsString(member))
		s3request_refuse(psprintf("\"%s\" of the request is not a text", name),
						 "Write it as a JSON string.");
	return member ? member->valuestring : NULL;
}

/*
 * Refuses a URL where a key belongs: the store would take it, and have no such
 * object.
 */
void
s3request_refuse_url(const ServerOptions *options, const char *name, const char *key)
{
	char *own = s3_name_of(options, "");
	size_t len = strlen(own);

	if (strncmp(key, own, len) == 0)
		s3request_refuse(psprintf("\"%s\" of the request is a URL", name),
						 psprintf("Leave out \"%s\": the server's option bucket names the bucket.",
								  own));
	if (strncmp(key, "s3://", 5) == 0)
		s3request_refuse(psprintf("\"%s\" of the request is a URL", name),
						 psprintf("Write a key of the bucket \"%s\", or use the server of the other bucket.",
								  options->bucket));
}

/*
 * Returns a member that is a key.  Raises an error for the user if it is none.
 */
const char *
s3request_key(const ServerOptions *options, const cJSON *params, const char *name)
{
	const char *key = s3request_text(params, name);

	if (key == NULL || *key == '\0')
		s3request_refuse(psprintf("\"%s\" of the request has no key", name),
						 "The key of an object is expected, such as \"in/cat.png\".");
	if (strlen(key) > KEY_MAX)
		s3request_refuse(psprintf("the key at \"%s\" has %zu bytes", name, strlen(key)),
						 psprintf("A key has %d bytes at most.", KEY_MAX));
	s3request_refuse_url(options, name, key);
	return key;
}

/*
 * Returns a member that becomes the value of a header, or NULL.  Raises an
 * error for the user if a header cannot have it.
 */
static const char *
header_of(const cJSON *params, const char *name)
{
	const char *value = s3request_text(params, name);

	if (value != NULL && (*value == '\0' || strlen(value) > KEY_MAX || !header_is_value(value)))
		s3request_refuse(psprintf("\"%s\" of the request cannot be sent as a header", name),
						 "It must not be empty, and must not have line breaks or other control characters.");
	return value;
}

/*
 * Returns the member that is a content type, or NULL.  Raises an error for the
 * user if it is none.
 */
const char *
s3request_type(const cJSON *params)
{
	const char *type = header_of(params, "content_type");
	const char *slash = type ? strchr(type, '/') : NULL;

	if (type != NULL && (slash == NULL || slash == type || slash[1] == '\0'))
		s3request_refuse(pstrdup("\"content_type\" of the request is no content type"),
						 "One such as \"image/png\" is expected.");
	return type;
}

/*
 * True if text is "bytes=0-99", "bytes=100-" or "bytes=-100".
 */
static bool
is_range(const char *text)
{
	static const char unit[] = "bytes=";
	const char *first = text + strlen(unit);
	const char *last;
	size_t first_len;
	size_t last_len;

	if (strncmp(text, unit, strlen(unit)) != 0)
		return false;
	first_len = strspn(first, "0123456789");
	if (first[first_len] != '-')
		return false;
	last = first + first_len + 1;
	last_len = strspn(last, "0123456789");
	if (last[last_len] != '\0' || first_len + last_len == 0 || first_len > MAX_DIGITS ||
		last_len > MAX_DIGITS)
		return false;
	return first_len == 0 || last_len == 0 || strtoi64(first, NULL, 10) <= strtoi64(last, NULL, 10);
}

/*
 * Returns the member that is a range, or NULL.  Raises an error for the user
 * if it is none: a store would answer it with the whole object.
 */
const char *
s3request_range(const cJSON *params)
{
	const char *range = header_of(params, "range");

	if (range != NULL && !is_range(range))
		s3request_refuse(pstrdup("\"range\" of the request is no range of bytes"),
						 "Write it as \"bytes=0-99\", \"bytes=100-\" or, for the last bytes, \"bytes=-100\".");
	return range;
}

/*
 * Returns the member that names a version, or NULL.  Raises an error for the
 * user if it is empty: the call would be about the newest version.
 */
const char *
s3request_version(const cJSON *params)
{
	const char *version = s3request_text(params, "version_id");

	if (version != NULL && *version == '\0')
		s3request_refuse(pstrdup("\"version_id\" of the request is empty"),
						 "Leave it out for the newest version.");
	return version;
}
