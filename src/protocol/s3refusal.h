/*
 * s3refusal.h
 *		What an object store's refusal means.
 */
#ifndef GENJOB_S3REFUSAL_H
#define GENJOB_S3REFUSAL_H

#include "protocol/reply.h"

extern bool s3_is_of_all_calls(const HttpReply *reply);
extern bool s3_is_missing(const HttpReply *reply);
extern bool s3_is_of_the_moment(const char *words);
extern bool s3_is_for_good(const char *words);
extern const char *s3_advice(const ReplySource *source, const HttpReply *reply, const char *words);

#endif /* GENJOB_S3REFUSAL_H */
