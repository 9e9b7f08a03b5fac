/*
 * request.h
 *		From a job's request to the HTTP request that is sent.
 */
#ifndef GENJOB_REQUEST_H
#define GENJOB_REQUEST_H

#include "http/http.h"
#include "server/options.h"
#include "server/grammar.h"

/* A binary input of a job; data is not copied. */
typedef struct Input
{
	const char *data;
	size_t len;
} Input;

struct cJSON;

/*
 * What the request refers to: an output or the result of another job, or an
 * object.
 */
typedef struct Reference
{
	int64 job;
	int ordinal; /* 0: the result, whose data is JSON that ends with a zero byte */
	const char *content_type;
	const char *data; /* not copied; NULL: there is none, or the job's owner may not see it */
	size_t len;
	bool wants_data; /* the request has its bytes: if they are in an object store, they are fetched */
	bool wants_link; /* the request has a link to it, if it is in an object store */
	const char *url; /* s3://bucket/key; if the request itself names the object, job is 0 */
	char *link;      /* presigned, and a secret; or NULL */
} Reference;

/*
 * All that a request is built from.  Text is UTF-8.
 */
typedef struct RequestSource
{
	const ServerOptions *options;
	const MappingOptions *secrets;
	const char *request; /* JSON object, trusted */
	const Input *inputs;
	int n_inputs;
	Reference *references; /* as request_list_references() gave them, with their data */
	int n_references;
	List *link_secrets; /* of char *: what nobody may learn from the links; outlasts references */
	const char *idempotency_key;
	const char *tenant; /* NULL: none, for a preview */
	const char *token;  /* of a hand-over; NULL: do not show it */
	int64 job;          /* 0: none, for a preview */
	bool is_literal;    /* the request has no references: the job's owner did not write it */
	const char
		*sent_bucket; /* of an object to delete, if an output of the owner's went there; or NULL */
	int64 now_unix;   /* for what is signed */
} RequestSource;

/*
 * What is known of a prediction that a provider works on.
 */
typedef struct Remote
{
	char *id;     /* or NULL */
	char *urls;   /* JSON: for each "@place" of the protocol the URL that an answer gave; or NULL */
	char *answer; /* JSON: an answer that has come, while its outputs are downloaded; or NULL */
	char *usage;  /* JSON: what earlier answers said was used; or NULL */
	char *note;   /* what the answer to the submission warned of; or NULL */
	char *token_digest; /* of a hand-over: the SHA-256 of its token, in hexadecimal; or NULL */
	char *uploads;    /* JSON: open uploads of outputs to an object store (openupload.c); or NULL */
	bool has_verdict; /* the row has a verdict, by saved_write(), in place of the answer */
	bool is_unread;   /* only the id is set: the rest is large, and still to be read */
	bool is_unsent;   /* objects that it needs are still being fetched; no call was made */
	bool is_private;  /* the server is in a private network */
	bool is_public;   /* the server is not: even if its address changes, no URL may lead into one */
} Remote;

extern HttpRequest *request_build(const RequestSource *source);
extern HttpRequest *request_follow(const RequestSource *source, const Remote *remote,
								   const Address *address);
extern HttpRequest *request_download(const RequestSource *source, const char *url,
									 bool server_is_private, size_t room);
extern void request_pour(HttpRequest *http);
extern char *request_address(const ServerOptions *options);
extern HttpRequest *request_put_object(const RequestSource *source, const char *key,
									   const char *content_type, const char *data, size_t len,
									   const char *sha256);
extern HttpRequest *request_get_object(const RequestSource *source, const char *key);
extern void request_check(const RequestSource *source);
extern bool request_has_words(const ServerOptions *options);
extern bool request_may_refer(const RequestSource *source);
extern Reference *request_list_references(const RequestSource *source, int *n);
extern char *request_describe(const HttpRequest *http);

#endif /* GENJOB_REQUEST_H */
