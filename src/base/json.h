/*
 * json.h
 *		cJSON in a PostgreSQL process.
 */
#ifndef GENJOB_JSON_H
#define GENJOB_JSON_H

#include <cJSON.h>

#include "lib/stringinfo.h"

#include "base/jsontext.h"

/* json.c: from text to a tree */
extern cJSON *json_parse(char *text, size_t len, const char **reason);
extern cJSON *json_parse_saved(char *text, size_t len, const char **reason);
extern cJSON *json_parse_answer(char *text, size_t len, const char **reason);
extern bool json_has_long_numbers(const cJSON *json);
extern bool json_is_too_much(const char *reason);
extern cJSON *json_parse_piece(char *text, size_t len, bool *has_half, const char **reason);
extern cJSON *json_parse_trusted(const char *text);

/* jsontree.c: trees, and back to text */
extern bool json_is_empty(const cJSON *node);
extern bool json_is_blank(const cJSON *node);
extern bool json_is_number(const cJSON *node);
extern double json_double(const cJSON *node);
extern cJSON *json_create(int type);
extern cJSON *json_create_string(char *text);
extern cJSON *json_create_number(int number);
extern void json_append(cJSON *parent, cJSON *child);
extern void json_detach(cJSON *parent, cJSON *child);
extern void json_attach(cJSON *parent, const char *key, cJSON *child);
extern cJSON *json_copy(const cJSON *node);
extern cJSON *json_merge(cJSON *base, cJSON *over);
extern cJSON *json_patch(cJSON *base, cJSON *patch);
extern size_t json_length(const cJSON *json);
extern char *json_print(const cJSON *json);
extern char *json_print_exact(const cJSON *json);
extern char *json_print_start(const cJSON *json, size_t max);
extern char *json_escape(const char *text);
extern void json_add_member(StringInfo out, const char *name, const char *json);
extern void json_add_string(StringInfo out, const char *name, const char *text);

#endif /* GENJOB_JSON_H */
