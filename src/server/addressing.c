/*
 * addressing.c
 *		Where in a URL the bucket of an object store is: in the path, or in
 *		the name of the host.
 *
 * Names that cannot work are refused when the server is created: as a call,
 * they would only fail by a certificate, or by a host that nobody knows.
 */
#include "postgres.h"

#include "server/addressing.h"
#include "server/aws.h"

#define LABEL_LETTERS "abcdefghijklmnopqrstuvwxyz0123456789-"

static bool
is_label(const char *bucket)
{
	return strspn(bucket, LABEL_LETTERS) == strlen(bucket);
}

static const char *
host_of(const ServerOptions *options)
{
	return strstr(options->url, "://") + strlen("://");
}

static void
refuse_addressing(char *message, char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errmsg("%s", message),
					errhint("%s", hint)));
}

/*
 * Refuses a bucket whose name cannot be part of the name of the host.
 */
static void
check_virtual(const ServerOptions *options)
{
	const char *bucket = options->bucket;
	const char *host = host_of(options);
	size_t host_len = strcspn(host, ":/");
	bool is_address = *host == '[' || strspn(host, "0123456789.") == host_len;

	if (is_address)
		refuse_addressing(pstrdup(
							  "with addressing 'virtual' the url must have the name of a host, and no address"),
						  "Set the option addressing to 'path'.");
	if (strspn(bucket, LABEL_LETTERS ".") != strlen(bucket))
		refuse_addressing(psprintf("the bucket \"%s\" cannot be part of the name of a host", bucket),
						  "Names of hosts have lower-case letters, digits and dashes. Set the option addressing to 'path'.");
	if (!is_label(bucket) && strncmp(options->url, "https:", strlen("https:")) == 0)
		refuse_addressing(psprintf("no certificate is valid for the bucket \"%s\", which has dots, before the name of the host",
								   bucket),
						  "Set the option addressing to 'path', or leave it out.");
}

/*
 * Refuses a url that has the bucket already, as AWS's and R2's pages show it.
 */
static void
check_url(const ServerOptions *options)
{
	const char *bucket = options->bucket;
	const char *host = host_of(options);
	const char *path = host + strcspn(host, "/");
	size_t len = strlen(bucket);
	bool is_in_host = aws_is_host(options->url) && strncmp(host, bucket, len) == 0 &&
					  strncmp(host + len, ".s3", strlen(".s3")) == 0 &&
					  strncmp(host + len, ".s3-website", strlen(".s3-website")) != 0;
	bool is_in_path = *path == '/' && strncmp(path + 1, bucket, len) == 0 &&
					  path[1 + len + strspn(path + 1 + len, "/")] == '\0';

	if (is_in_host || is_in_path)
		refuse_addressing(psprintf("option \"url\" has the bucket \"%s\" already", bucket),
						  psprintf("Leave the bucket out of the url, as in url '%.*s%.*s': the option bucket names it.",
								   (int) (host - options->url), options->url,
								   (int) (path - host - (is_in_host ? len + 1 : 0)),
								   is_in_host ? host + len + 1 : host));
}

/*
 * Refuses a url with a segment "." or "..", encoded or not: browsers take it
 * out of a link, whose signature is then wrong.
 */
static void
check_segments(const char *path)
{
	while (*path != '\0')
	{
		const char *segment = path;
		int dots = 0;

		for (; *path == '.' || pg_strncasecmp(path, "%2e", 3) == 0; dots++)
			path += *path == '.' ? 1 : 3;
		if ((dots == 1 || dots == 2) && (*path == '/' || *path == '\0'))
			refuse_addressing(psprintf("option \"url\" has a folder \"%.*s\"",
									   (int) (path - segment), segment),
							  "Browsers take \".\" and \"..\" out of a path: write the path without them.");
		path += strcspn(path, "/");
		path += *path == '/';
	}
}

/*
 * Returns how a bucket is addressed that the option addressing was not chosen
 * for.  chosen is that of another bucket of the same store.
 */
const char *
addressing_of(const char *url, const char *bucket, const char *chosen)
{
	if (strcmp(chosen, "virtual") == 0)
		return is_label(bucket) ? "virtual" : "path";
	return "path";
}

/*
 * Chooses where the bucket is, if the option addressing is not given, and
 * checks it.  Raises an error for the user if bucket and url do not fit.
 */
void
addressing_complete(ServerOptions *options)
{
	ListCell *cell;

	check_url(options);
	foreach(cell, options->urls)
	{
		const char *host = strstr(lfirst(cell), "://") + strlen("://");

		check_segments(host + strcspn(host, "/"));
	}
	if (options->addressing == NULL)
		options->addressing =
			aws_is_host(options->url) && is_label(options->bucket) ? "virtual" : "path";
	else if (strcmp(options->addressing, "virtual") == 0)
		check_virtual(options);
}
