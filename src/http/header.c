/*
 * header.c
 *		The syntax of HTTP headers.
 */
#include "postgres.h"

#include "http/header.h"

/*
 * True if name is a "token" of RFC 9110, 5.6.2.
 */
bool
header_is_name(const char *name)
{
	size_t len = strspn(name, "!#$%&'*+-.^_`|~0123456789"
							  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

	return len > 0 && name[len] == '\0';
}

/*
 * True if a value has no control characters but tabs.  libcurl would send a
 * line break as it is, and with it another header.
 */
bool
header_is_value(const char *value)
{
	const unsigned char *p;

	for (p = (const unsigned char *) value; (*p >= ' ' && *p != 0x7f) || *p == '\t'; p++)
		;
	return *p == '\0';
}

/*
 * Reads the header that begins at or behind the byte *at of an answer's headers, and moves *at behind it.  False if
 * there is none.
 */
bool
header_next(const HttpReply *reply, size_t *at, HeaderLine *header)
{
	while (*at < reply->headers->len)
	{
		const char *line = reply->headers->data + *at;
		size_t left = reply->headers->len - *at;
		const char *newline = memchr(line, '\n', left);
		const char *end = newline ? newline : line + left;
		const char *colon = memchr(line, ':', end - line);

		*at += end - line + 1;
		if (colon == NULL)
			continue;
		header->name = line;
		header->name_len = colon - line;
		while (header->name_len > 0 && isspace((unsigned char) line[header->name_len - 1]))
			header->name_len--;
		for (colon++; colon < end && isspace((unsigned char) *colon); colon++)
			;
		for (; end > colon && isspace((unsigned char) end[-1]); end--)
			;
		header->value = colon;
		header->value_len = end - colon;
		return true;
	}
	return false;
}

/*
 * Returns the value of the first header of that name, palloc'd, or NULL.
 */
char *
header_find(const HttpReply *reply, const char *name)
{
	size_t name_len = strlen(name);
	HeaderLine header;
	size_t at = 0;

	while (header_next(reply, &at, &header))
	{
		if (header.name_len == name_len && pg_strncasecmp(header.name, name, name_len) == 0)
			return pnstrdup(header.value, header.value_len);
	}
	return NULL;
}
