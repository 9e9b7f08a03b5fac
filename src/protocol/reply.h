/*
 * reply.h
 *		From an HTTP reply to what it means for the job.
 */
#ifndef GENJOB_REPLY_H
#define GENJOB_REPLY_H

#include "http.h"
#include "options.h"

/* What to do with the job. */
typedef enum VerdictKind
{
	VERDICT_DONE,  /* it has succeeded */
	VERDICT_RETRY, /* try again after a back-off; the only kind that uses up an attempt */
	VERDICT_DEFER, /* the server said when: try again then; holds back its other jobs too */
	VERDICT_LOST,  /* genjob itself ended during the call: try again */
	VERDICT_FAIL   /* another attempt would end the same */
} VerdictKind;

/* A binary that the answer contained. */
typedef struct Output
{
	const char *content_type; /* a constant */
	const char *data;
	size_t len;
} Output;

/*
 * All that a reply can come to.  Text is valid UTF-8 without secrets.
 */
typedef struct Verdict
{
	VerdictKind kind;
	int64 after;     /* ms; VERDICT_DEFER only */
	bool unknown;    /* the call may have been accepted, although no answer says so */
	int http_status; /* 0: none */
	char *error;     /* a sentence; NULL when VERDICT_DONE */

	char *result;  /* JSON, or NULL */
	char *usage;   /* JSON, or NULL */
	List *outputs; /* of Output */
} Verdict;

/* What a reply is judged by. */
typedef struct ReplySource
{
	const char *server_name;
	const ServerOptions *options;
	const HttpRequest *request;
	int64 now_unix; /* for Retry-After with a date */
} ReplySource;

extern Verdict *reply_judge(const ReplySource *source, HttpReply *reply);
extern Verdict *reply_unjudged(const ReplySource *source, HttpReply *reply, const char *why);
extern Verdict *reply_lost(const ServerOptions *options);

#endif /* GENJOB_REPLY_H */
