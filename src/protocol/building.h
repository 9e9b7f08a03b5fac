/*
 * building.h
 *		For the files that build a request.
 */
#ifndef GENJOB_BUILDING_H
#define GENJOB_BUILDING_H

#include "protocol/binary.h"
#include "protocol/body.h"

/* What a job's request becomes, before headers and signature; palloc'd. */
typedef struct Target
{
	const char *method;
	char *url;
	List *headers; /* of HttpHeader, besides those of every call */
	char *object;  /* as in HttpRequest */
	Body body;
} Target;

/* request.c */
extern HttpRequest *request_begin(const ServerOptions *options, const char *method, char *url,
								  int64 timeout);

/* headers.c */
extern void headers_set(HttpRequest *http, const char *name, char *value, const char *shown);
extern void headers_add_secret(HttpRequest *http, char *secret);
extern void headers_note_secrets(HttpRequest *http, const MappingOptions *secrets);
extern void headers_set_list(HttpRequest *http, const List *headers);
extern void headers_set_server(HttpRequest *http, const RequestSource *source);
extern void headers_set_all(HttpRequest *http, const RequestSource *source, const Body *body);

/* signing.c */
extern bool signing_is_due(const ServerOptions *options);
extern void signing_sign(HttpRequest *http, const RequestSource *source);
extern char *signing_presign(const RequestSource *source, const char *method, const char *url,
							 const char *content_type, int expires, char **signature);

/* handover.c */
extern void handover_add_token(const RequestSource *source, cJSON *params);
extern void handover_set_header(HttpRequest *http, const RequestSource *source);

/* webhook.c */
extern void signing_sign_webhook(HttpRequest *http, const RequestSource *source);

/* s3.c: object stores */
extern void s3_check(const RequestSource *source, cJSON *params);
extern Target s3_target(const RequestSource *source, cJSON *params);
extern char *s3_bucket_url(const ServerOptions *options);
extern char *s3_past_object(const RequestSource *source);
extern char *s3_url_of(const ServerOptions *options, const char *key);
extern List *s3_put_headers(const ServerOptions *options);
extern List *s3_key_headers(const ServerOptions *options);
extern char *s3_name_of(const ServerOptions *options, const char *key);

#endif /* GENJOB_BUILDING_H */
