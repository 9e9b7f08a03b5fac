/*
 * json.h
 *		cJSON at home in a PostgreSQL process.
 */
#ifndef GENJOB_JSON_H
#define GENJOB_JSON_H

#include <cJSON.h>

extern void json_sanitize_text(char *text, size_t len);
extern cJSON *json_parse(char *text, size_t len, const char **reason);
extern cJSON *json_parse_trusted(const char *text);
extern bool json_is_number(const cJSON *node);
extern char *json_print(const cJSON *json);
extern char *json_escape(const char *text);
extern cJSON *json_merge(const cJSON *base, const cJSON *over);
extern void json_attach(cJSON *parent, const char *key, cJSON *child);

#endif /* GENJOB_JSON_H */
