/*
 * sigv4.h
 *		AWS Signature Version 4.
 */
#ifndef GENJOB_SIGV4_H
#define GENJOB_SIGV4_H

#include "nodes/pg_list.h"

#define SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"
#define SIGV4_DATE_LEN 17                   /* "20150830T123600Z", and a NUL */
#define SIGV4_MAX_EXPIRY (7 * 24 * 60 * 60) /* s, of a presigned URL */

/* Who signs, and for what. */
typedef struct SigV4Scope
{
	const char *access_key_id;
	const char *secret_access_key;
	const char *session_token; /* or NULL */
	const char *region;
	const char *service;
} SigV4Scope;

/* What is signed. The caller must send exactly this. */
typedef struct SigV4Call
{
	const char *method;
	const char *url;          /* absolute; its path and query may be percent-encoded or not */
	List *headers;            /* of HttpHeader: the headers to sign; "Host" must be one */
	const char *payload_hash; /* SHA-256 in hexadecimal, or SIGV4_UNSIGNED */
	int64 now_unix;
} SigV4Call;

extern void sigv4_date(int64 now_unix, char *date);
extern bool sigv4_is_s3(const char *service);
extern char *sigv4_url(const char *service, const char *url);
extern char *sigv4_canonical_request(const SigV4Scope *scope, const SigV4Call *call);
extern char *sigv4_authorization(const SigV4Scope *scope, const SigV4Call *call, char **signature);
extern char *sigv4_presign(const SigV4Scope *scope, const SigV4Call *call, int expires,
						   char **signature);

#endif /* GENJOB_SIGV4_H */
