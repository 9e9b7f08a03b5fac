/*
 * header.h
 *		The syntax of HTTP headers.
 */
#ifndef GENJOB_HEADER_H
#define GENJOB_HEADER_H

#include "http/http.h"

extern bool header_is_name(const char *name);
extern bool header_is_value(const char *value);
extern char *header_find(const HttpReply *reply, const char *name);

/* A header of an answer; the texts do not end with NUL. */
typedef struct HeaderLine
{
	const char *name;
	size_t name_len;
	const char *value; /* without blanks around it */
	size_t value_len;
} HeaderLine;

extern bool header_next(const HttpReply *reply, size_t *at, HeaderLine *header);

#endif /* GENJOB_HEADER_H */
