/*
 * request.h
 *		From a job's request to the HTTP request that is sent.
 */
#ifndef GENJOB_REQUEST_H
#define GENJOB_REQUEST_H

#include "http.h"
#include "options.h"

/* Binary inputs of a job; an element is not copied. */
typedef struct Input
{
	const char *data;
	size_t len;
} Input;

/*
 * All that a request is made of.  Text is UTF-8.
 */
typedef struct RequestSource
{
	const ServerOptions *options;
	const MappingOptions *secrets;
	const char *request; /* JSON object, trusted */
	const Input *inputs;
	int n_inputs;
	const char *idempotency_key;
} RequestSource;

extern HttpRequest *request_build(const RequestSource *source);
extern void request_check(const RequestSource *source);
extern char *request_describe(const HttpRequest *http);

extern const char *request_check_object(const char *text);
extern const char *request_check_headers(const char *text);
extern const char *request_check_header_name(const char *name);

#endif /* GENJOB_REQUEST_H */
