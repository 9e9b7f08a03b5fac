/*
 * storecheck.c
 *		What an administrator gets wrong about an object store: the address of
 *		something else, a name that no bucket has, headers that spoil each
 *		upload, keys that were copied with a blank.
 *
 * Only CREATE and ALTER ask, and only about options that they are given:
 * validator.c.  storecheck_put_headers() is for every server: with those
 * headers a store would confirm an object that it does not have.
 */
#include "postgres.h"

#include "commands/defrem.h"

#include "base/json.h"
#include "server/aws.h"
#include "server/storecheck.h"

static void
refuse_option(char *message, char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errmsg("%s", message),
					errhint("%s", hint)));
}

/* ---------- headers ---------- */

/*
 * Returns the name of the first header in a checked JSON object that is one of
 * names; NULL if there is none.  A name that ends with "*" stands for all
 * that begin so.
 */
static const char *
find_header(const char *headers, const char *const *names, int n_names)
{
	const cJSON *header;
	int i;

	for (header = json_parse_trusted(headers)->child; header != NULL; header = header->next)
	{
		for (i = 0; i < n_names; i++)
		{
			const char *star = strchr(names[i], '*');
			bool is_it = star ? pg_strncasecmp(header->string, names[i], star - names[i]) == 0
							  : pg_strcasecmp(header->string, names[i]) == 0;

			if (is_it)
				return star ? header->string : names[i];
		}
	}
	return NULL;
}

static void
refuse_header(const char *option, const char *headers, const char *const *names, int n_names,
			  char *hint)
{
	const char *found = find_header(headers, names, n_names);

	if (found != NULL)
		refuse_option(psprintf("option \"%s\" has the header %s", option, found), hint);
}

#define SIGNED_HINT "genjob signs each request: put keys into a user mapping."

static void
refuse_copies(const char *option, const char *headers)
{
	static const char *const copying[] = {"X-Amz-Copy-Source", "X-Amz-Copy-Source-*"};

	refuse_header(option, headers, copying, lengthof(copying),
				  "With it, a store would copy another object in place of each upload. To copy an object, insert a job {\"copy\": \"key\", \"to\": \"key\"}.");
}

/*
 * Refuses conditions: a call whose answer was lost is repeated, and the store
 * would refuse the repeat because the first one has worked.  Nobody could tell
 * that from somebody else's object.
 */
static void
refuse_conditions(const char *option, const char *headers)
{
	static const char *const conditions[] = {"If-*", "X-Amz-Copy-Source-If-*", "X-Amz-If-*"};
	const char *found = find_header(headers, conditions, lengthof(conditions));

	if (found != NULL)
		refuse_option(psprintf("option \"%s\" has the header %s, a condition", option, found),
					  "If the answer to a call is lost, genjob repeats the call, and the store would refuse the repeat. To overwrite nothing, let the option key have {job}, {ordinal} and {attempt}.");
}

/*
 * Raises an error for the user if the option put_headers, a checked JSON
 * object, has a header that a signature sets, or that makes a copy of an
 * upload.
 */
void
storecheck_put_headers(const char *headers)
{
	static const char *const signing[] = {"Authorization", "X-Amz-Content-Sha256", "X-Amz-Date",
										  "X-Amz-Security-Token"};

	refuse_header("put_headers", headers, signing, lengthof(signing), SIGNED_HINT);
	refuse_copies("put_headers", headers);
}

/*
 * Refuses headers that are right for one object at most.
 */
static void
check_put_headers(const char *headers)
{
	static const char *const signing[] = {"Date",
										  "X-Amz-Algorithm",
										  "X-Amz-Credential",
										  "X-Amz-Expires",
										  "X-Amz-Signature",
										  "X-Amz-SignedHeaders"};
	static const char *const of_one_object[] = {"Content-Digest",
												"Content-MD5",
												"Content-Range",
												"Digest",
												"Range",
												"Repr-Digest",
												"X-Amz-Checksum-*",
												"X-Amz-Decoded-Content-Length",
												"X-Amz-Metadata-Directive",
												"X-Amz-Mp-Object-Size",
												"X-Amz-Sdk-Checksum-Algorithm",
												"X-Amz-Trailer",
												"X-Amz-Write-Offset-Bytes"};
	static const char *const keys[] = {"X-Amz-Server-Side-Encryption-Customer-Key"};
	static const char *const algorithms[] = {"X-Amz-Server-Side-Encryption-Customer-Algorithm"};

	refuse_header("put_headers", headers, signing, lengthof(signing), SIGNED_HINT);
	refuse_conditions("put_headers", headers);
	refuse_header("put_headers", headers, of_one_object, lengthof(of_one_object),
				  "The headers of this option go with each object, and this one depends on the object. Leave it out: genjob sends the digest of each object.");
	if ((find_header(headers, keys, 1) != NULL) != (find_header(headers, algorithms, 1) != NULL))
		refuse_option(pstrdup(
						  "option \"put_headers\" has half of what encryption with a key of yours needs"),
					  "X-Amz-Server-Side-Encryption-Customer-Algorithm and -Key belong together; AWS wants -Key-MD5, too.");
}

/*
 * Refuses headers of each call that would take the place of genjob's own, or do nothing.
 */
static void
check_headers(const char *headers)
{
	static const char *const own[] = {"Authorization", "Date", "Range", "X-Amz-Content-Sha256",
									  "X-Amz-Date"};

	refuse_header("headers", headers, own, lengthof(own),
				  "genjob sets it itself: keys to sign with belong into a user mapping, a range into the request of a job.");
	refuse_copies("headers", headers);
	refuse_conditions("headers", headers);
}

/* ---------- addresses ---------- */

static bool
ends_with(const char *text, const char *end)
{
	size_t len = strlen(text);
	size_t end_len = strlen(end);

	return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/*
 * True if a host, in lower case, is one before which stores put the name of a
 * bucket.  Anybody's host may have the name of a bucket by chance.
 */
static bool
is_host_of_store(const char *host)
{
	static const char *const starts[] = {"s3.", "s3-", "oss-", "storage."};
	static const char *const ends[] = {".digitaloceanspaces.com", ".r2.cloudflarestorage.com",
									   ".linodeobjects.com", ".vultrobjects.com",
									   ".your-objectstorage.com"};
	int i;

	for (i = 0; i < lengthof(starts); i++)
	{
		if (strncmp(host, starts[i], strlen(starts[i])) == 0)
			return true;
	}
	for (i = 0; i < lengthof(ends); i++)
	{
		if (ends_with(host, ends[i]))
			return true;
	}
	return false;
}

static bool
is_host_of_pages(const char *host)
{
	return ends_with(host, "console.aws.amazon.com") || strstr(host, "s3-website") != NULL;
}

/*
 * True if a segment of a path is the bucket.
 */
static bool
has_segment(const char *path, const char *bucket)
{
	size_t bucket_len = strlen(bucket);

	while (*(path += strspn(path, "/")) != '\0')
	{
		size_t len = strcspn(path, "/");

		if (len == bucket_len && strncmp(path, bucket, len) == 0)
			return true;
		path += len;
	}
	return false;
}

static void
refuse_own_bucket(const char *url, const char *bucket, const char *host, size_t host_len)
{
	refuse_option(psprintf("option \"url\" has the bucket \"%s\" already", bucket),
				  psprintf("Leave the bucket out of the url, as in url '%.*s%.*s': the option bucket names it, and the option key has the folders.",
						   (int) (strstr(url, "://") + 3 - url), url, (int) host_len, host));
}

static void
check_url(const char *url, const char *bucket)
{
	const char *start = strstr(url, "://") + 3;
	size_t len = strcspn(start, "/");
	size_t bucket_len = strlen(bucket);
	char *host = pnstrdup(start, strcspn(start, ":/"));
	char *p;

	for (p = host; *p != '\0'; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	if (is_host_of_pages(host))
		refuse_option(psprintf("option \"url\" is the address of pages, not of an object store: \"%s\"",
							   host),
					  "Programs use another address, as in url 'https://s3.eu-central-1.amazonaws.com'.");
	if (pg_strncasecmp(host, bucket, bucket_len) == 0 && host[bucket_len] == '.' &&
		is_host_of_store(host + bucket_len + 1))
		refuse_own_bucket(url, bucket, start + bucket_len + 1, len - bucket_len - 1);
	if (has_segment(start + len, bucket))
		refuse_own_bucket(url, bucket, start, len);
}

/* ---------- buckets ---------- */

/*
 * Refuses a name that AWS gives to no bucket.  Buckets from AWS's first years,
 * all of them in us-east-1, may have any name.
 */
static void
check_aws_bucket(const ServerOptions *options)
{
	const char *bucket = options->bucket;
	const char *region = options->protocol.region;
	size_t len = strlen(bucket);
	bool is_address = strspn(bucket, "0123456789.") == len;
	const char *dot;
	int n_dots = 0;

	if (!aws_is_host(options->url) || region == NULL || strcmp(region, "us-east-1") == 0)
		return;
	for (dot = strchr(bucket, '.'); dot != NULL; dot = strchr(dot + 1, '.'))
		n_dots++;
	if (strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789.-") == len &&
		strchr(".-", bucket[len - 1]) == NULL && strstr(bucket, "..") == NULL &&
		strstr(bucket, ".-") == NULL && strstr(bucket, "-.") == NULL &&
		!(is_address && n_dots == 3))
		return;
	refuse_option(psprintf("invalid value for option \"bucket\": \"%s\"", bucket),
				  "AWS has no bucket with such a name in this region: it has lower-case letters, digits, dashes and single dots, begins and ends with a letter or a digit, and is no IP address.");
}

/* ---------- all ---------- */

static const char *
find_given(const List *defs, const char *name)
{
	ListCell *cell;

	foreach(cell, defs)
	{
		DefElem *def = lfirst_node(DefElem, cell);

		if (strcmp(def->defname, name) == 0)
			return defGetString(def);
	}
	return NULL;
}

/*
 * True if storecheck_refuse() looks at an option.
 */
bool
storecheck_concerns(const char *option)
{
	static const char *const names[] = {"api",    "bucket",  "headers", "method", "put_headers",
										"region", "service", "store",   "url"};
	int i;

	for (i = 0; i < lengthof(names); i++)
	{
		if (strcmp(names[i], option) == 0)
			return true;
	}
	return false;
}

/*
 * Raises an error for the user if options that an object store is given, or
 * the option that names one, cannot work.  *options was read from defs.
 */
void
storecheck_refuse(const List *defs, const ServerOptions *options)
{
	const char *service = options->protocol.service;
	char *host_region;
	char *host_service;
	ListCell *cell;

	if (options->store != NULL && strstr(options->store, "://") != NULL)
		refuse_option(psprintf("invalid value for option \"store\": \"%s\"", options->store),
					  "The name of a server with api 's3' is expected, as in store 'pictures'.");
	if (!options->preset->is_store)
		return;
	(void) aws_read_host(options->url, &host_region, &host_service);
	foreach(cell, options->urls)
		check_url(lfirst(cell), options->bucket);
	if (find_given(defs, "method") != NULL)
		refuse_option(pstrdup("an object store has no option \"method\""),
					  "The request of a job says what to do, as in {\"get\": \"in/cat.png\"}.");
	if (service == NULL || strncmp(service, "s3", 2) == 0)
		service = host_service;
	if (service != NULL && strncmp(service, "s3", 2) != 0)
		refuse_option(psprintf("an object store does not belong to the service \"%s\"", service),
					  "Requests to it are signed for s3: leave out the option service, and give the url of the store, as in url 'https://s3.eu-central-1.amazonaws.com'.");
	check_aws_bucket(options);
	if (options->put_headers != NULL)
		check_put_headers(options->put_headers);
	if (find_given(defs, "headers") != NULL)
		check_headers(find_given(defs, "headers"));
}

/*
 * Raises an error for the user if a key to sign with begins or ends with a
 * blank, or if the headers make copies of uploads.  Does not repeat a value.
 */
void
storecheck_refuse_mapping(const List *defs)
{
	static const char *const names[] = {"access_key_id", "secret_access_key", "session_token"};
	const char *headers = find_given(defs, "headers");
	int i;

	if (headers != NULL)
		refuse_copies("headers", headers);
	for (i = 0; i < lengthof(names); i++)
	{
		const char *value = find_given(defs, names[i]);
		size_t len = value ? strlen(value) : 0;

		if (len > 0 &&
			(isspace((unsigned char) value[0]) || isspace((unsigned char) value[len - 1])))
			refuse_option(psprintf("option \"%s\" begins or ends with a blank", names[i]),
						  "No key does: copy it again, without the blank.");
	}
}
