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
 * Returns the value of the first header of that name, palloc'd, or NULL.
 */
char *
header_find(const HttpReply *reply, const char *name)
{
	size_t name_len = strlen(name);
	const char *line = reply->headers->data;
	const char *end;

	if (line == NULL) /* none came */
		return NULL;
	end = line + reply->headers->len;
	while (line < end)
	{
		const char *newline = memchr(line, '\n', end - line);
		size_t len = (newline ? newline : end) - line;

		if (len > name_len && line[name_len] == ':' && pg_strncasecmp(line, name, name_len) == 0)
		{
			const char *value = line + name_len + 1;
			const char *value_end = line + len;

			while (value < value_end && isspace((unsigned char) *value))
				value++;
			while (value_end > value && isspace((unsigned char) value_end[-1]))
				value_end--;
			return pnstrdup(value, value_end - value);
		}
		line += len + 1;
	}
	return NULL;
}
