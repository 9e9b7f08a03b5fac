/*
 * request.h
 *		From a job's request to the HTTP request that is sent.
 */
#ifndef GENJOB_REQUEST_H
#define GENJOB_REQUEST_H

#include "http/http.h"
#include "server/options.h"
#include "server/grammar.h"

/* Binary inputs of a job; an element is not copied. */
typedef struct Input
{
	const char *data;
	size_t len;
} Input;

struct cJSON;

/* An output of another job that the request refers to, or its result. */
typedef struct Reference
{
	int64 job;
	int ordinal; /* 0: the result, whose data is JSON that ends with a zero byte */
	const char *content_type;
	const char *data; /* not copied; NULL: there is none, or the job's owner may not see it */
	size_t len;
	bool wants_data; /* the request has its bytes: if they are in an object store, they are fetched */
	bool wants_link; /* the request has a link to it, if it is in an object store */
	const char *url; /* where it is, as s3://bucket/key; job is 0 if that is what the request has */
	char *link;      /* presigned; or NULL */
	char *signature; /* in link: a secret; or NULL */
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
	const char *idempotency_key;
	const char *tenant; /* NULL: none, for a preview */
	const char *token;  /* of a hand-over; NULL: it is not to be known */
	int64 job;          /* 0: none, for a preview */
	bool is_literal; /* nothing in the request stands for anything else: it was not written by the job's owner */
	int64 now_unix; /* for what is signed */
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
	char *uploads; /* JSON: of outputs to their object store, that are open (openupload.c); or NULL */
	bool has_verdict; /* in place of the answer there is what saved_write() makes of the job's verdict */
	bool is_unread;  /* all but the id is in the table, and large: it is still to be read */
	bool is_unsent;  /* what it wants of a store is still being fetched, and no call was made */
	bool is_private; /* the server is in a private network */
	bool is_public; /* it is not: whatever its name becomes, nothing that follows may lead into one */
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
