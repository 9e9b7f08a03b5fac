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

#endif /* GENJOB_HEADER_H */
