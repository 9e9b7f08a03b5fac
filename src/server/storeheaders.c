/*
 * storeheaders.c
 *		Which headers an administrator may add to the calls of an object store.
 *
 * genjob repeats a call whose answer was lost, with the same headers, and
 * sends the same headers with each object.  So it takes no condition: the
 * store would refuse the repeat because the first call has worked, and nobody
 * could tell that from somebody else's object.  Nor does it take what is true
 * of one object only.
 */
#include "postgres.h"

#include "base/json.h"
#include "server/aws.h"
#include "server/storeheaders.h"

/* A name that ends with "-" stands for all that begin with it. */
static const char *const conditions[] = {"If-", "X-Amz-Copy-Source-If-", "X-Amz-If-", NULL};
static const char *const of_one_object[] = {"Range",
											"Content-MD5",
											"Content-Range",
											"Digest",
											"Content-Digest",
											"Repr-Digest",
											"X-Amz-Checksum-",
											"X-Amz-Sdk-Checksum-Algorithm",
											"X-Amz-Trailer",
											"X-Amz-Decoded-Content-Length",
											"X-Amz-Copy-Source",
											"X-Amz-Copy-Source-Range",
											"X-Amz-Metadata-Directive",
											"X-Amz-Mp-Object-Size",
											"X-Amz-Write-Offset-Bytes",
											NULL};

static bool
is_named(const char *header, const char *const *names)
{
	for (; *names != NULL; names++)
	{
		size_t len = strlen(*names);

		if ((*names)[len - 1] == '-' ? pg_strncasecmp(header, *names, len) == 0
									 : pg_strcasecmp(header, *names) == 0)
			return true;
	}
	return false;
}

/*
 * Returns the first header of a checked JSON object, or NULL, that is one of
 * names; NULL if none is.
 */
static const char *
find_header(const char *headers, const char *const *names)
{
	const cJSON *header;

	if (headers == NULL)
		return NULL;
	for (header = json_parse_trusted(headers)->child; header != NULL; header = header->next)
	{
		if (is_named(header->string, names))
			return header->string;
	}
	return NULL;
}

static void
refuse_header(const char *option, const char *header, const char *what, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					errmsg("option \"%s\" has the header %s%s", option, header, what),
					errhint("%s", hint)));
}

static void
check_headers(const char *option, const char *headers)
{
	const char *header = find_header(headers, conditions);

	if (header != NULL)
		refuse_header(option, header, ", a condition",
					  "If the answer to a call is lost, genjob repeats the call, and the store would refuse the repeat. To overwrite nothing, let the option key have {job}, {ordinal} and {attempt}.");
	header = find_header(headers, of_one_object);
	if (header != NULL)
		refuse_header(option, header, ", which no two objects have in common",
					  "genjob signs the digest of each object, and says by itself what is true of one call only.");
}

/*
 * Raises an error for the user if the options of an object store have a header
 * that cannot go with all of its calls.
 */
void
storeheaders_check(const ServerOptions *options)
{
	const char *put = options->put_headers;
	const char *signing = put ? aws_find_signing_header(put) : NULL;

	if (signing != NULL)
		refuse_header("put_headers", signing, "",
					  "genjob signs each request: put keys into a user mapping.");
	check_headers("put_headers", put);
	check_headers("headers", options->headers);
}
