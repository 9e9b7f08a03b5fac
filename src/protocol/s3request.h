/*
 * s3request.h
 *		The members of a job's request to an object store.
 */
#ifndef GENJOB_S3REQUEST_H
#define GENJOB_S3REQUEST_H

#include "base/compat.h"
#include "base/json.h"
#include "server/options.h"

pg_noreturn extern void s3request_refuse(char *message, const char *hint);
extern cJSON *s3request_member(const cJSON *params, const char *name);
extern const char *s3request_text(const cJSON *params, const char *name);
extern void s3request_refuse_url(const ServerOptions *options, const char *name, const char *key);
extern const char *s3request_key(const ServerOptions *options, const cJSON *params,
								 const char *name);
extern const char *s3request_type(const cJSON *params);
extern const char *s3request_range(const cJSON *params);
extern const char *s3request_version(const cJSON *params);

#endif /* GENJOB_S3REQUEST_H */
