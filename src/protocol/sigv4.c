/*
 * sigv4.c
 *		AWS Signature Version 4, in a header or in a URL.
 *
 * Pure: the clock comes in with the call.  Sources: "Create a signed AWS API
 * request" (AWS General Reference), and for S3 "Authenticating Requests (AWS
 * Signature Version 4)".  S3 takes a path as it is, encoded once; every other
 * service normalizes it, and encodes it once more.
 */
#include "postgres.h"

#include <time.h>

#include "lib/stringinfo.h"

#include "base/digest.h"
#include "http/http.h"
#include "base/bytes.h"
#include "protocol/sigv4.h"

#define ALGORITHM "AWS4-HMAC-SHA256"

/* ---------- dates and names ---------- */

/*
 * Writes a time as signatures have it, in SIGV4_DATE_LEN bytes; the first 8
 * characters are the day.
 */
void
sigv4_date(int64 now_unix, char *date)
{
	time_t now = (time_t) now_unix;
	struct tm parts;

	gmtime_r(&now, &parts);
	strftime(date, SIGV4_DATE_LEN, "%Y%m%dT%H%M%SZ", &parts);
}

/*
 * True if a service takes paths as S3 does, and requires the payload's hash in
 * a header.
 */
bool
sigv4_is_s3(const char *service)
{
	return strcmp(service, "s3") == 0 || strncmp(service, "s3-", 3) == 0 ||
		   strcmp(service, "s3express") == 0;
}

/*
 * True if a header of that name is signed.  Headers that a proxy may change
 * are not.
 */
static bool
is_signed(const char *name)
{
	static const char *const unsigned_ones[] = {
		"Accept", "Accept-Encoding",   "Authorization", "Connection",      "Content-Length",
		"Expect", "Transfer-Encoding", "User-Agent",    "X-Amzn-Trace-Id",
	};
	int i;

	for (i = 0; i < lengthof(unsigned_ones); i++)
	{
		if (pg_strcasecmp(name, unsigned_ones[i]) == 0)
			return false;
	}
	return true;
}

/* ---------- percent-encoding ---------- */

/*
 * Appends text percent-encoded as signatures have it.  decodes: text may be
 * encoded already; each byte is encoded once all the same.
 */
static void
append_encoded(StringInfo to, const char *text, size_t len, bool decodes, bool keeps_slash)
{
	size_t i;

	for (i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (decodes && c == '%' && i + 2 < len && bytes_hex_value(text[i + 1]) >= 0 &&
			bytes_hex_value(text[i + 2]) >= 0)
		{
			c = (unsigned char) (bytes_hex_value(text[i + 1]) * 16 + bytes_hex_value(text[i + 2]));
			i += 2;
		}
		if ((c < 0x80 && isalnum(c)) || (c != '\0' && strchr("-._~", c) != NULL) ||
			(c == '/' && keeps_slash))
			appendStringInfoChar(to, (char) c);
		else
			appendStringInfo(to, "%%%02X", c);
	}
}

/* ---------- the canonical request ---------- */

/*
 * Takes the last segment off a path that begins with a slash.
 */
static void
drop_segment(StringInfo path)
{
	while (path->len > 0 && path->data[path->len - 1] != '/')
		path->len--;
	if (path->len > 0)
		path->len--;
	path->data[path->len] = '\0';
}

/*
 * Appends a path without empty segments, "." and "..".  It ends with a slash
 * only if the path does, as AWS's own clients have it: "/a/b/.." is "/a", while
 * RFC 3986 has "/a/".
 */
static void
append_normalized(StringInfo to, const char *path, size_t len)
{
	const char *end = path + len;
	StringInfoData plain;

	initStringInfo(&plain);
	while (path < end)
	{
		const char *segment = path + (*path == '/');
		const char *slash = memchr(segment, '/', end - segment);
		size_t segment_len = (slash ? slash : end) - segment;
		bool is_dots = segment_len <= 2 && memcmp(segment, "..", segment_len) == 0;

		path = segment + segment_len;
		if (segment_len == 2 && is_dots)
			drop_segment(&plain);
		else if (!is_dots)
		{
			appendStringInfoChar(&plain, '/');
			append_encoded(&plain, segment, segment_len, false, false);
		}
	}
	if (plain.len == 0 || end[-1] == '/')
		appendStringInfoChar(&plain, '/');
	appendBinaryStringInfo(to, plain.data, plain.len);
}

typedef struct Parameter
{
	char *name;
	char *value;
} Parameter;

static int
compare_parameters(const ListCell *left, const ListCell *right)
{
	const Parameter *a = lfirst(left);
	const Parameter *b = lfirst(right);
	int order = strcmp(a->name, b->name);

	return order != 0 ? order : strcmp(a->value, b->value);
}

static char *
encode_text(const char *text, size_t len, bool decodes)
{
	StringInfoData plain;

	initStringInfo(&plain);
	append_encoded(&plain, text, len, decodes, false);
	return plain.data;
}

static List *
add_parameter(List *parameters, const char *name, const char *value)
{
	Parameter *parameter = palloc(sizeof(Parameter));

	parameter->name = encode_text(name, strlen(name), false);
	parameter->value = encode_text(value, strlen(value), false);
	return lappend(parameters, parameter);
}

/*
 * Returns part of a query with each byte encoded once, palloc'd.  A plus sign
 * is a blank, as servers read it.
 */
static char *
encoded_part(const char *text, size_t len)
{
	char *part = pnstrdup(text, len);
	char *p;

	for (p = part; *p != '\0'; p++)
	{
		if (*p == '+')
			*p = ' ';
	}
	return encode_text(part, len, true);
}

/*
 * Returns the parameters of a query, each encoded once.
 */
static List *
read_query(const char *query)
{
	List *parameters = NIL;

	while (*query != '\0')
	{
		size_t len = strcspn(query, "&");
		size_t name_len = Min(strcspn(query, "="), len);
		Parameter *parameter;

		if (len > 0)
		{
			parameter = palloc(sizeof(Parameter));
			parameter->name = encoded_part(query, name_len);
			parameter->value =
				name_len < len ? encoded_part(query + name_len + 1, len - name_len - 1) : "";
			parameters = lappend(parameters, parameter);
		}
		query += len + (query[len] == '&');
	}
	return parameters;
}

static List *
parameters_of(const char *url)
{
	const char *query = strchr(url, '?');

	return query ? read_query(query + 1) : NIL;
}

/*
 * Appends parameters as a query.
 */
static void
append_query(StringInfo to, const List *parameters)
{
	ListCell *cell;

	foreach(cell, parameters)
	{
		const Parameter *parameter = lfirst(cell);

		appendStringInfo(to, "%s%s=%s", foreach_current_index(cell) > 0 ? "&" : "", parameter->name,
						 parameter->value);
	}
}

/* A header with its name in lower case, and its value trimmed. */
typedef struct SignedHeader
{
	char *name;
	char *value;
	int place; /* in the list: headers of one name stay in their order */
} SignedHeader;

static int
compare_headers(const ListCell *left, const ListCell *right)
{
	const SignedHeader *a = lfirst(left);
	const SignedHeader *b = lfirst(right);
	int order = strcmp(a->name, b->name);

	return order != 0 ? order : a->place - b->place;
}

/*
 * Returns a value with one space for each run of blanks, and none at its ends.
 */
static char *
trim_value(const char *value)
{
	StringInfoData text;

	initStringInfo(&text);
	for (; *value != '\0'; value++)
	{
		if (*value != ' ' && *value != '\t')
			appendStringInfoChar(&text, *value);
		else if (text.len > 0 && text.data[text.len - 1] != ' ')
			appendStringInfoChar(&text, ' ');
	}
	if (text.len > 0 && text.data[text.len - 1] == ' ')
		text.data[--text.len] = '\0';
	return text.data;
}

static List *
sorted_headers(const List *headers)
{
	List *sorted = NIL;
	ListCell *cell;

	foreach(cell, headers)
	{
		const HttpHeader *header = lfirst(cell);
		SignedHeader *one;
		char *p;

		if (!is_signed(header->name))
			continue;
		one = palloc(sizeof(SignedHeader));
		one->name = pstrdup(header->name);
		for (p = one->name; *p != '\0'; p++)
			*p = pg_ascii_tolower((unsigned char) *p);
		one->value = trim_value(header->value);
		one->place = foreach_current_index(cell);
		sorted = lappend(sorted, one);
	}
	list_sort(sorted, compare_headers);
	return sorted;
}

/*
 * Appends the headers that are signed, one a line, to to; appends their names,
 * separated by semicolons, to names.
 */
static void
append_headers(StringInfo to, StringInfo names, const List *headers)
{
	const SignedHeader *before = NULL;
	ListCell *cell;

	foreach(cell, sorted_headers(headers))
	{
		const SignedHeader *header = lfirst(cell);
		bool is_same = before != NULL && strcmp(before->name, header->name) == 0;

		if (is_same)
			appendStringInfo(to, ",%s", header->value);
		else
		{
			appendStringInfo(to, "%s%s:%s", before ? "\n" : "", header->name, header->value);
			appendStringInfo(names, "%s%s", before ? ";" : "", header->name);
		}
		before = header;
	}
	appendStringInfoChar(to, '\n');
}

static const char *
path_of(const char *url)
{
	const char *host = strstr(url, "://");

	host = host ? host + 3 : url;
	return host + strcspn(host, "/?");
}

/*
 * Returns the canonical request, with parameters in place of the URL's own.
 * Appends the names of the signed headers to names.
 */
static char *
build_canonical(const SigV4Scope *scope, const SigV4Call *call, List *parameters, StringInfo names)
{
	const char *path = path_of(call->url);
	size_t path_len = strcspn(path, "?");
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "%s\n", call->method);
	if (!sigv4_is_s3(scope->service))
		append_normalized(&text, path, path_len);
	else if (path_len > 0)
		append_encoded(&text, path, path_len, true, true);
	else
		appendStringInfoChar(&text, '/');
	appendStringInfoChar(&text, '\n');
	list_sort(parameters, compare_parameters);
	append_query(&text, parameters);
	appendStringInfoChar(&text, '\n');
	append_headers(&text, names, call->headers);
	appendStringInfo(&text, "\n%s\n%s", names->data, call->payload_hash);
	return text.data;
}

/*
 * Appends a path whose escapes (%7e) have capitals (%7E): newer versions of
 * libcurl send them so, whatever they got.
 */
static void
append_capital_escapes(StringInfo to, const char *path, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
	{
		bool is_escape = len - i > 2 && path[i] == '%' && isxdigit((unsigned char) path[i + 1]) &&
						 isxdigit((unsigned char) path[i + 2]);

		appendStringInfoChar(to, path[i]);
		if (!is_escape)
			continue;
		appendStringInfoChar(to, pg_ascii_toupper((unsigned char) path[++i]));
		appendStringInfoChar(to, pg_ascii_toupper((unsigned char) path[++i]));
	}
}

/*
 * Returns the URL to send for url, palloc'd: its query, and the path for S3,
 * encoded as they are signed.  So a server that does not decode what it got
 * before it checks the signature finds the same one.
 */
char *
sigv4_url(const char *service, const char *url)
{
	const char *path = path_of(url);
	size_t path_len = strcspn(path, "?");
	StringInfoData text;

	initStringInfo(&text);
	appendBinaryStringInfo(&text, url, (int) (path - url));
	if (sigv4_is_s3(service))
		append_encoded(&text, path, path_len, true, true);
	else
		append_capital_escapes(&text, path, path_len);
	if (parameters_of(url) != NIL)
	{
		appendStringInfoChar(&text, '?');
		append_query(&text, parameters_of(url));
	}
	return text.data;
}

/*
 * Returns the text from which a call's signature is computed, palloc'd: for
 * tests, and to compare with the text in a server's refusal.
 */
char *
sigv4_canonical_request(const SigV4Scope *scope, const SigV4Call *call)
{
	StringInfoData names;

	initStringInfo(&names);
	return build_canonical(scope, call, parameters_of(call->url), &names);
}

/* ---------- the signature ---------- */

static void
chain_key(uint8 *key, const char *text)
{
	uint8 next[DIGEST_BYTES];

	digest_hmac(key, DIGEST_BYTES, text, strlen(text), next);
	memcpy(key, next, DIGEST_BYTES);
}

/*
 * Returns the signature of a canonical request, palloc'd.
 */
static char *
sign_canonical(const SigV4Scope *scope, const char *date, const char *canonical)
{
	char *day = pnstrdup(date, 8);
	char *secret = psprintf("AWS4%s", scope->secret_access_key);
	char *to_sign = psprintf(ALGORITHM "\n%s\n%s/%s/%s/aws4_request\n%s", date, day, scope->region,
							 scope->service, digest_sha256_hex(canonical, strlen(canonical)));
	uint8 key[DIGEST_BYTES];

	digest_hmac(secret, strlen(secret), day, strlen(day), key);
	chain_key(key, scope->region);
	chain_key(key, scope->service);
	chain_key(key, "aws4_request");
	chain_key(key, to_sign);
	pfree(secret);
	return digest_hex(key);
}

static char *
credential_of(const SigV4Scope *scope, const char *date)
{
	return psprintf("%s/%.8s/%s/%s/aws4_request", scope->access_key_id, date, scope->region,
					scope->service);
}

/*
 * Returns the value of the header Authorization, palloc'd, and in *signature
 * the signature in it.  The call's headers must have X-Amz-Date with the same
 * time and, for a session, its token.
 */
char *
sigv4_authorization(const SigV4Scope *scope, const SigV4Call *call, char **signature)
{
	char date[SIGV4_DATE_LEN];
	StringInfoData names;
	char *canonical;

	sigv4_date(call->now_unix, date);
	initStringInfo(&names);
	canonical = build_canonical(scope, call, parameters_of(call->url), &names);
	*signature = sign_canonical(scope, date, canonical);
	return psprintf(ALGORITHM " Credential=%s, SignedHeaders=%s, Signature=%s",
					credential_of(scope, date), names.data, *signature);
}

static char *
names_of(const List *headers)
{
	StringInfoData lines;
	StringInfoData names;

	initStringInfo(&lines);
	initStringInfo(&names);
	append_headers(&lines, &names, headers);
	return names.data;
}

/*
 * Returns a URL with which anyone can make the call for that many seconds,
 * palloc'd, and in *signature the signature in it.  Whoever uses the URL must
 * send the same headers.
 */
char *
sigv4_presign(const SigV4Scope *scope, const SigV4Call *call, int expires, char **signature)
{
	char date[SIGV4_DATE_LEN];
	List *parameters = parameters_of(call->url);
	StringInfoData names;
	StringInfoData url;

	sigv4_date(call->now_unix, date);
	parameters = add_parameter(parameters, "X-Amz-Algorithm", ALGORITHM);
	parameters = add_parameter(parameters, "X-Amz-Credential", credential_of(scope, date));
	parameters = add_parameter(parameters, "X-Amz-Date", date);
	parameters = add_parameter(parameters, "X-Amz-Expires", psprintf("%d", expires));
	if (scope->session_token != NULL)
		parameters = add_parameter(parameters, "X-Amz-Security-Token", scope->session_token);
	parameters = add_parameter(parameters, "X-Amz-SignedHeaders", names_of(call->headers));
	initStringInfo(&names);
	*signature = sign_canonical(scope, date, build_canonical(scope, call, parameters, &names));
	initStringInfo(&url);
	appendBinaryStringInfo(&url, call->url, (int) strcspn(call->url, "?"));
	appendStringInfoChar(&url, '?');
	append_query(&url, parameters);
	appendStringInfo(&url, "&X-Amz-Signature=%s", *signature);
	return url.data;
}
