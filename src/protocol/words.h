/*
 * words.h
 *		What a server itself says about a failure.
 */
#ifndef GENJOB_WORDS_H
#define GENJOB_WORDS_H

#include "http/http.h"
#include "base/json.h"

extern void words_mask(const HttpRequest *request, char *text, size_t len);
extern void words_mask_reply(const HttpRequest *request, HttpReply *reply);
extern void words_mask_plain(const HttpRequest *request, char *text, size_t len);
extern void words_mask_json(const HttpRequest *request, cJSON *json);
extern void words_mask_rest(const HttpRequest *request, cJSON *json);
extern char *words_clip(const char *text, size_t len);
extern char *words_of_bytes(const HttpRequest *request, const char *bytes, size_t len);
extern char *words_copy_body(const HttpRequest *request, const HttpReply *reply);
extern char *words_of_body(const HttpRequest *request, HttpReply *reply, const char *places,
						   const char *id, cJSON **json);

#endif /* GENJOB_WORDS_H */
