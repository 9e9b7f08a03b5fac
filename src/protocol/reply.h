/*
 * reply.h
 *		What an HTTP reply means for the job.
 */
#ifndef GENJOB_REPLY_H
#define GENJOB_REPLY_H

#include "http/http.h"
#include "server/options.h"
#include "protocol/request.h"
#include "protocol/stuck.h"

/* What to do with the job. */
typedef enum VerdictKind
{
	VERDICT_DONE,     /* it has succeeded */
	VERDICT_WAIT,     /* the provider works on it, or the poll failed: poll again */
	VERDICT_FETCH,    /* the answer is there, its downloads are not */
	VERDICT_RETRY,    /* submit again after a back-off; this uses up an attempt */
	VERDICT_DEFER,    /* the server takes nothing now: wait, as its other jobs, until it does */
	VERDICT_POSTPONE, /* it was not submitted: put it back, and try again later */
	VERDICT_LOST,     /* genjob ended during the call: submit again; repeats use up attempts */
	VERDICT_FAIL      /* another attempt would end the same */
} VerdictKind;

/* A binary that the answer contained, or that is to be downloaded. */
typedef struct Output
{
	const char *content_type;
	const char *data; /* NULL: to be downloaded, or only in an object store */
	size_t len;
	char *url;

	/* If it is in an object store, whether or not data is still here */
	char *object;  /* as s3://bucket/key; NULL: it is not there */
	char *etag;    /* or NULL: the store gave none */
	char *store;   /* name of the store's server */
	Oid store_oid; /* that server; InvalidOid: not known */
	char *sha256;  /* hexadecimal; NULL: it is not known yet */

	/* If it is to be downloaded */
	char *original;           /* JSON: what the answer has in its place; or NULL */
	const struct cJSON *node; /* its reference, while there is a tree */
	int reference;            /* number of its reference in the verdict's result, from 1; 0: none */
	char *fault; /* why it could not be downloaded, or decoded, as a sentence; or NULL */
} Output;

/* True if an output has come, or is in an object store. */
#define OUTPUT_IS_THERE(output) ((output)->data != NULL || (output)->object != NULL)

/*
 * All that a reply can mean.  Text is valid UTF-8 without secrets.
 */
typedef struct Verdict
{
	VerdictKind kind;
	int64 after;     /* ms to wait, as the server asks, or for VERDICT_POSTPONE; -1: as usual */
	StuckKind stuck; /* why waiting alone does not mend the refusal; or STUCK_NOT */
	bool of_job;     /* a refusal may be about this job alone */
	bool unknown;    /* the call may have been accepted, although no answer says so */
	bool forgotten;  /* VERDICT_WAIT: the provider says that it does not know the prediction */
	bool absent;     /* VERDICT_WAIT: the answer says nothing about the prediction */
	bool has_answer; /* VERDICT_WAIT: the prediction has succeeded, and only its answer is missing */
	int http_status; /* 0: none */
	char *error; /* a sentence; NULL when nothing went wrong; VERDICT_FETCH: fails the job once all is fetched */
	char *note;         /* what a success lacks or warns of, as a sentence; or NULL */
	char *body;         /* what a refusal said, as it came, cut; NULL: nothing, or no text */
	char *remote_state; /* what the provider calls the state of the prediction, cut; or NULL */
	double progress;    /* from 0 to 1; -1: not known */

	char *result;  /* JSON, or NULL */
	char *usage;   /* JSON, or NULL */
	List *outputs; /* of Output */
	char *answer;  /* VERDICT_FETCH: the answer with its outputs, to be saved; or NULL */
} Verdict;

/* What a reply is judged by. */
typedef struct ReplySource
{
	const char *server_name;
	const ServerOptions *options;
	const HttpRequest *request;
	const char *idempotency_key;
	const Remote *remote; /* of a prediction that is known; else NULL */
	int failures;         /* to poll it, in a row */
	int forgotten;        /* answers in a row that the provider does not know it */
	int64 age;            /* ms since it was submitted */
	int64 now_unix;       /* for Retry-After with a date */
} ReplySource;

extern Verdict *reply_judge(const ReplySource *source, HttpReply *reply, Remote *remote);
extern Verdict *reply_judge_poll(const ReplySource *source, HttpReply *reply, Remote *remote);
extern Verdict *reply_judge_unended(const ReplySource *source, HttpReply *reply,
									const char *places);
extern Verdict *reply_judge_result(const ReplySource *source, HttpReply *reply);
extern Verdict *reply_judge_saved(const ReplySource *source, const char *answer, bool *is_verdict);
extern Verdict *reply_judge_download(const ReplySource *source, HttpReply *reply, Output *output,
									 char **redirect);
extern char *reply_describe_too_large(const ReplySource *source);
extern double reply_read_progress(HttpReply *reply, const char *place);
extern Verdict *reply_unjudged(const ReplySource *source, HttpReply *reply, const char *why);
extern Verdict *reply_lost(void);

#endif /* GENJOB_REPLY_H */
