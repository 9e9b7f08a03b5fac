/*
 * replies.h
 *		Replies as http.c gives them, made by hand.
 */
#ifndef REPLIES_H
#define REPLIES_H

#include "http/http.h"

extern Bytes *replies_bytes(const char *data, size_t len);
extern HttpReply *replies_make(int status, const char *headers, const char *body);

#endif /* REPLIES_H */
