/*
 * json.c
 *		Writing JSON text, and base64, straight into evbuffers.
 *
 * Answers are written rather than built as trees: it is quicker, and a picture
 * of some megabytes is not copied about.
 */
#include "standin.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <event2/keyvalq_struct.h>
#include <openssl/evp.h>

/* How many bytes the UTF-8 character at "text" has; 0 when it is none. */
size_t
utf8_bytes(const unsigned char *text, size_t len)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = text[0] < 0x80 ? 1 : text[0] >= 0xF0 ? 4 : text[0] >= 0xE0 ? 3 : 2;
	uint32_t point = text[0] & (0x7F >> n);

	if (n == 1)
		return 1;
	if (text[0] < 0xC2 || text[0] > 0xF4 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
	{
		if ((text[i] & 0xC0) != 0x80)
			return 0;
		point = point << 6 | (text[i] & 0x3F);
	}
	if (point < least[n] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
		return 0;
	return n;
}

static void
json_add_escape(struct evbuffer *out, unsigned char c)
{
	if (c == '"' || c == '\\')
		evbuffer_add_printf(out, "\\%c", c);
	else if (c == '\n')
		evbuffer_add(out, "\\n", 2);
	else
		evbuffer_add_printf(out, "\\u%04x", c);
}

/* Adds a JSON string; bytes that are not UTF-8, and NUL, become U+FFFD. */
void
json_add_text(struct evbuffer *out, const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *) text;
	size_t done = 0;
	size_t i = 0;

	evbuffer_add(out, "\"", 1);
	while (i < len)
	{
		size_t n = utf8_bytes(s + i, len - i);

		if (n > 0 && s[i] >= 0x20 && s[i] != '"' && s[i] != '\\')
		{
			i += n;
			continue;
		}
		evbuffer_add(out, s + done, i - done);
		if (n == 0 || s[i] == '\0')
			evbuffer_add(out, "\xEF\xBF\xBD", 3);
		else
			json_add_escape(out, s[i]);
		done = ++i;
	}
	evbuffer_add(out, s + done, i - done);
	evbuffer_add(out, "\"", 1);
}

/* Adds a JSON string, or null for NULL. */
void
json_add_string(struct evbuffer *out, const char *string)
{
	if (string == NULL)
		evbuffer_add(out, "null", 4);
	else
		json_add_text(out, string, strlen(string));
}

/* Adds the base64 of "data", without quotes. */
void
json_add_base64(struct evbuffer *out, const void *data, size_t len)
{
	size_t size = (len + 2) / 3 * 4;
	struct evbuffer_iovec space;

	/* one byte more: EVP_EncodeBlock ends its text with a NUL */
	if (len == 0 || evbuffer_reserve_space(out, size + 1, &space, 1) != 1)
		return;
	EVP_EncodeBlock(space.iov_base, data, (int) len);
	space.iov_len = size;
	evbuffer_commit_space(out, &space, 1);
}

/*
 * The bytes that base64 "text" stands for (a "data:...;base64," before it is
 * skipped), to be freed by the caller; NULL when it is empty or not base64.
 */
unsigned char *
base64_decode(const char *text, size_t *len)
{
	const char *comma = strncmp(text, "data:", 5) == 0 ? strchr(text, ',') : NULL;
	const char *start = comma ? comma + 1 : text;
	size_t size = strlen(start);
	unsigned char *bytes;
	int n;

	if (size == 0 || size % 4 != 0)
		return NULL;
	bytes = malloc(size / 4 * 3);
	n = bytes ? EVP_DecodeBlock(bytes, (const unsigned char *) start, (int) size) : -1;
	if (n < 0)
	{
		free(bytes);
		return NULL;
	}
	*len = n - (start[size - 1] == '=') - (start[size - 2] == '=');
	return bytes;
}

/* The next header after "header" that has the same name; NULL when there is none. */
static const struct evkeyval *
header_next_same(const struct evkeyval *header)
{
	const struct evkeyval *next = TAILQ_NEXT(header, next);

	while (next && strcasecmp(next->key, header->key) != 0)
		next = TAILQ_NEXT(next, next);
	return next;
}

/* Is this the first header of the list that has its name? */
static bool
header_is_first(const struct evkeyvalq *headers, const struct evkeyval *header)
{
	const struct evkeyval *earlier = TAILQ_FIRST(headers);

	while (strcasecmp(earlier->key, header->key) != 0)
		earlier = TAILQ_NEXT(earlier, next);
	return earlier == header;
}

static void
json_add_lower_case(struct evbuffer *out, const char *name)
{
	char lower[256];
	size_t len = strnlen(name, sizeof(lower));

	for (size_t i = 0; i < len; i++)
		lower[i] = (char) tolower((unsigned char) name[i]);
	json_add_text(out, lower, len);
}

/* Adds the values of all headers named as "header" is, as one string, joined by commas. */
static void
json_add_header_values(struct evbuffer *out, const struct evkeyval *header)
{
	struct evbuffer *joined;

	if (header_next_same(header) == NULL)
	{
		json_add_string(out, header->value);
		return;
	}
	joined = evbuffer_new();
	for (const char *separator = ""; header; header = header_next_same(header), separator = ", ")
		evbuffer_add_printf(joined, "%s%s", separator, header->value);
	json_add_text(out, (char *) evbuffer_pullup(joined, -1), evbuffer_get_length(joined));
	evbuffer_free(joined);
}

/* Adds the request's headers as an object: names in lower case, each once. */
void
json_add_headers(struct evbuffer *out, struct evhttp_request *req)
{
	const struct evkeyvalq *headers = evhttp_request_get_input_headers(req);
	const struct evkeyval *header;
	const char *separator = "{";

	TAILQ_FOREACH(header, headers, next)
	{
		if (!header_is_first(headers, header))
			continue;
		evbuffer_add(out, separator, 1);
		json_add_lower_case(out, header->key);
		evbuffer_add(out, ":", 1);
		json_add_header_values(out, header);
		separator = ",";
	}
	evbuffer_add_printf(out, "%s}", TAILQ_EMPTY(headers) ? "{" : "");
}
