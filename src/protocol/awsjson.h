/*
 * awsjson.h
 *		AWS's JSON protocol: SQS, Step Functions.
 */
#ifndef GENJOB_AWSJSON_H
#define GENJOB_AWSJSON_H

#include "base/json.h"
#include "protocol/request.h"

/* Requests */
extern void awsjson_set_headers(HttpRequest *http, const Preset *preset, const char *action);
extern char *awsjson_take_action(const char **body);
extern void awsjson_fill(const RequestSource *source, cJSON *params);

/* Answers */
extern char *awsjson_header_type(const ServerOptions *options, const HttpReply *reply);
extern char *awsjson_error_type(const ServerOptions *options, const HttpReply *reply);
extern bool awsjson_types_count(const ServerOptions *options);
extern void awsjson_read_status(const ServerOptions *options, HttpReply *reply);
extern const char *awsjson_advice(const char *type, const char *words);
extern char *awsjson_known_id(const ServerOptions *options, const HttpReply *reply);
extern cJSON *awsjson_answer(const ServerOptions *options, cJSON *json);

#endif /* GENJOB_AWSJSON_H */
