/*
 * header.c
 *		HTTP headers:  the name that is sought on the first line, then those that came.
 */
#include "fuzz.h"

#include "utils/memutils.h"

#include "http/header.h"

static HttpReply *
reply_with(const char *headers, size_t len)
{
	HttpReply *reply = palloc0(sizeof(HttpReply));

	reply->headers = bytes_create(CurrentMemoryContext, MaxAllocSize);
	must_be(bytes_append(reply->headers, headers, len), "headers fit", NULL);
	return reply;
}

FUZZ_HARNESS(header)
{
	char *name = input_take_line(input);
	size_t len;
	char *headers = input_take_bytes(input, &len);
	HttpReply *reply = reply_with(headers, len);
	char *value = header_find(reply, name);

	if (value != NULL)
		must_be(strchr(value, '\n') == NULL, "a header's value is one line", value);
	if (header_is_value(name))
		must_be(strpbrk(name, "\r\n") == NULL, "a value has no line break", name);
	if (header_is_name(name))
		must_be(strpbrk(name, ": \t\r\n") == NULL, "a name is a token", name);
	(void) header_find(reply, "Retry-After");
	(void) header_find(reply, "Content-Type");
}
