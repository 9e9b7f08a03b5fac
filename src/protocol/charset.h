/*
 * charset.h
 *		Text that is not UTF-8.
 */
#ifndef GENJOB_CHARSET_H
#define GENJOB_CHARSET_H

#include "http/http.h"

extern char *charset_to_utf8(const HttpReply *reply, size_t *len);

#endif /* GENJOB_CHARSET_H */
