/*
 * s3answer.h
 *		What an object store answers.
 */
#ifndef GENJOB_S3ANSWER_H
#define GENJOB_S3ANSWER_H

#include "protocol/judge.h"

extern void s3_judge(Judge *judge);
extern char *s3_clean_etag(const char *etag);
extern bool s3_is_missing(const HttpReply *reply);
extern char *s3_read_etag(const HttpReply *reply);
extern char *s3_decode_key(char *key);
extern bool s3_is_of_the_moment(const char *words);
extern const char *s3_advice(const ReplySource *source, const HttpReply *reply, const char *words);

#endif /* GENJOB_S3ANSWER_H */
