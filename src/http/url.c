/*
 * url.c
 *		URLs: a server's own, and those that its answers give.
 *
 * libcurl's own parser takes them apart.  With two parsers, a URL could pass a
 * check with one host and connect to another.
 */
#include "postgres.h"

#include <curl/curl.h>

#include "lib/stringinfo.h"

#include "http/url.h"

/*
 * Copies a string of libcurl's to palloc'd memory, and frees value and parts,
 * also when memory is short.  NULL stays NULL.
 */
static char *
take_from_curl(CURLU *parts, char *value)
{
	size_t size = value ? strlen(value) + 1 : 0;
	char *copy = value ? palloc_extended(size, MCXT_ALLOC_NO_OOM) : NULL;
	bool failed = value != NULL && copy == NULL;

	if (copy != NULL)
		memcpy(copy, value, size);
	curl_free(value);
	curl_url_cleanup(parts);
	if (failed)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
						errdetail("Failed while reading a URL.")));
	return copy;
}

static const char *
check_url_parts(CURLU *parts)
{
	char *value = NULL;

	if (curl_url_get(parts, CURLUPART_SCHEME, &value, 0) != CURLUE_OK ||
		(strcmp(value, "http") != 0 && strcmp(value, "https") != 0))
	{
		curl_free(value);
		return "It must begin with http:// or https://.";
	}
	curl_free(value);
	if (curl_url_get(parts, CURLUPART_USER, &value, 0) == CURLUE_OK)
	{
		curl_free(value);
		return "It must not contain a user or a password: those belong in a user mapping.";
	}
	if (curl_url_get(parts, CURLUPART_QUERY, &value, 0) == CURLUE_OK ||
		curl_url_get(parts, CURLUPART_FRAGMENT, &value, 0) == CURLUE_OK)
	{
		curl_free(value);
		return "It must end before any \"?\" or \"#\": put a query into the option \"path\".";
	}
	return NULL;
}

/*
 * Returns NULL if url can be a server's base address; else a sentence that says what is wrong.
 */
const char *
url_check(const char *url)
{
	CURLU *parts;
	const char *problem;
	const char *p;

	for (p = url; *p > ' ' && *p < 0x7f; p++)
		;
	if (*p != '\0')
		return "It must not contain white space, control characters or characters outside ASCII.";
	parts = curl_url();
	if (parts == NULL)
		return "Out of memory.";
	/* libcurl accepts one slash, and three, for two */
	if (strstr(url, "://") == NULL ||
		curl_url_set(parts, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		problem =
			"An address is expected, such as \"http://127.0.0.1:8188\" or \"https://api.example.com\".";
	else
		problem = check_url_parts(parts);
	curl_url_cleanup(parts);
	return problem;
}

/*
 * Returns url with all bytes percent-encoded that no URL may have: libcurl
 * leaves some as they are where a host has no path.  NULL stays NULL.
 */
static char *
encode_rest(const char *url)
{
	StringInfoData encoded;

	if (url == NULL)
		return NULL;
	initStringInfo(&encoded);
	for (; *url != '\0'; url++)
	{
		if ((unsigned char) *url <= ' ' || (unsigned char) *url >= 0x7f)
			appendStringInfo(&encoded, "%%%02X", (unsigned char) *url);
		else
			appendStringInfoChar(&encoded, *url);
	}
	return encoded.data;
}

/*
 * Returns url resolved against base, palloc'd, in ASCII: a host of other
 * letters becomes punycode.  Without a fragment, which is not sent.  NULL if
 * it is not http or https, or its host is not valid.
 */
char *
url_resolve(const char *base, const char *url)
{
	char *sent = pnstrdup(url, strcspn(url, "#"));
	CURLU *parts = curl_url();
	char *whole = NULL;

	if (parts == NULL || curl_url_set(parts, CURLUPART_URL, base, 0) != CURLUE_OK ||
		curl_url_set(parts, CURLUPART_URL, sent, CURLU_URLENCODE) != CURLUE_OK ||
		curl_url_get(parts, CURLUPART_URL, &whole, CURLU_PUNYCODE) != CURLUE_OK ||
		(strncmp(whole, "http://", 7) != 0 && strncmp(whole, "https://", 8) != 0))
	{
		curl_free(whole);
		whole = NULL;
	}
	return encode_rest(take_from_curl(parts, whole));
}

/*
 * Returns url as people may see it, palloc'd: without a password, and with its query masked.  Either may be a secret.
 */
char *
url_shown(const char *url)
{
	CURLU *parts = curl_url();
	char *whole = NULL;
	char *shown;
	char *query = NULL;

	if (parts != NULL && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK)
	{
		bool has_query = curl_url_get(parts, CURLUPART_QUERY, &query, 0) == CURLUE_OK;

		curl_url_set(parts, CURLUPART_USER, NULL, 0);
		curl_url_set(parts, CURLUPART_PASSWORD, NULL, 0);
		curl_url_set(parts, CURLUPART_FRAGMENT, NULL, 0);
		if (has_query)
			curl_url_set(parts, CURLUPART_QUERY, "***", 0);
		(void) curl_url_get(parts, CURLUPART_URL, &whole, 0);
	}
	curl_free(query);
	shown = take_from_curl(parts, whole);
	return shown ? shown : pnstrdup(url, strcspn(url, "?#@"));
}

static char *
url_part(const char *url, CURLUPart part, unsigned int flags)
{
	CURLU *parts = curl_url();
	char *value = NULL;

	if (parts != NULL && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK)
		(void) curl_url_get(parts, part, &value, flags);
	return take_from_curl(parts, value);
}

/*
 * Returns the host of a URL as in the header Host: lower case, with the port if there is one.  palloc'd; NULL if there
 * is no host.
 */
char *
url_host(const char *url)
{
	char *host = url_part(url, CURLUPART_HOST, 0);
	char *port = url_part(url, CURLUPART_PORT, CURLU_NO_DEFAULT_PORT);
	char *p;

	for (p = host; p != NULL && *p != '\0'; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	return host != NULL && port != NULL ? psprintf("%s:%s", host, port) : host;
}

/*
 * True if two URLs have the same scheme, host and port.
 */
bool
url_is_same_origin(const char *url, const char *other)
{
	static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
	int i;

	for (i = 0; i < lengthof(parts); i++)
	{
		char *left = url_part(url, parts[i], CURLU_DEFAULT_PORT);
		char *right = url_part(other, parts[i], CURLU_DEFAULT_PORT);

		if (left == NULL || right == NULL || pg_strcasecmp(left, right) != 0)
			return false;
	}
	return true;
}

/*
 * True if a URL's host is one of hosts, separated by spaces or commas; "*.example.com" is every host below example.com.
 */
bool
url_host_is_allowed(const char *url, const char *hosts)
{
	char *host = url_part(url, CURLUPART_HOST, 0);
	const char *p = hosts;

	while (host != NULL && p != NULL && *p != '\0')
	{
		size_t len = strcspn(p, " ,");
		size_t host_len = strlen(host);

		if (len == host_len && pg_strncasecmp(p, host, len) == 0)
			return true;
		if (len > 2 && p[0] == '*' && host_len > len - 1 &&
			pg_strncasecmp(p + 1, host + host_len - (len - 1), len - 1) == 0)
			return true;
		p += len;
		p += strspn(p, " ,");
	}
	return false;
}
