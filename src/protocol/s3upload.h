/*
 * s3upload.h
 *		Objects that are uploaded in parts: the requests, and what a store answers.
 */
#ifndef GENJOB_S3UPLOAD_H
#define GENJOB_S3UPLOAD_H

#include "protocol/reply.h"
#include "protocol/request.h"

#define S3_MAX_PARTS 10000 /* of an upload, as S3 has it */

/* An upload that a store knows by its id. */
typedef struct S3Upload
{
	const char *key;
	const char *id;
} S3Upload;

/* A part that a store has. */
typedef struct S3Part
{
	int number; /* from 1 */
	int64 bytes;
	char *etag; /* without quotation marks */
} S3Part;

/* An open upload, from a list. */
typedef struct S3Open
{
	char *key;
	char *id;
	int64 begun_unix; /* 0: not known */
} S3Open;

extern HttpRequest *s3upload_begin(const RequestSource *source, const char *key,
								   const char *content_type);
extern HttpRequest *s3upload_put_part(const RequestSource *source, const S3Upload *upload,
									  int number, const char *data, size_t len, const char *sha256);
extern HttpRequest *s3upload_complete(const RequestSource *source, const S3Upload *upload,
									  const S3Part *parts, int n);
extern HttpRequest *s3upload_abort(const RequestSource *source, const S3Upload *upload);
extern HttpRequest *s3upload_list_parts(const RequestSource *source, const S3Upload *upload,
										int after);
extern HttpRequest *s3upload_list(const RequestSource *source, const char *prefix,
								  const S3Upload *after);
extern HttpRequest *s3upload_head(const RequestSource *source, const char *key);

extern char *s3upload_read_id(const HttpReply *reply);
extern char *s3upload_read_code(const HttpReply *reply);
extern bool s3upload_read_completed(const HttpReply *reply, char **etag);
extern List *s3upload_read_parts(const HttpReply *reply, int *after);
extern List *s3upload_read_open(const HttpReply *reply, S3Upload *after);
extern int64 s3upload_read_age(const HttpReply *reply);
extern int64 s3upload_read_length(const HttpReply *reply);

#endif /* GENJOB_S3UPLOAD_H */
