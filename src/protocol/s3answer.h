/*
 * s3answer.h
 *		What an object store answers.
 */
#ifndef GENJOB_S3ANSWER_H
#define GENJOB_S3ANSWER_H

#include "protocol/judge.h"

extern void s3_judge(Judge *judge);
extern char *s3_clean_etag(const char *etag);
extern char *s3_read_etag(const HttpReply *reply);
extern bool s3_keys_are_encoded(const HttpReply *reply);
extern char *s3_decode_key(char *key);

#endif /* GENJOB_S3ANSWER_H */
