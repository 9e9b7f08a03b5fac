/*
 * parcels.h
 *		What a dispatcher and its writers send each other.
 */
#ifndef GENJOB_PARCELS_H
#define GENJOB_PARCELS_H

#include "life/job.h"
#include "process/reporter.h"
#include "process/spoolfields.h"
#include "protocol/reply.h"

typedef enum ParcelKind
{
	/* To a writer */
	PARCEL_JUDGE,  /* an answer: a Question */
	PARCEL_SAVE,   /* jobs in the state JOB_SAVING: a JobBatch */
	PARCEL_REPORT, /* the same, in JOB_REPORTING */
	PARCEL_BUILD,  /* a request to build: an Order */
	PARCEL_RESUME, /* an answer that the row has saved: a Recall */

	/* What comes back */
	PARCEL_JUDGED,  /* a Judged */
	PARCEL_WRITTEN, /* a Written for each job */
	PARCEL_BUILT,   /* a Built */
	PARCEL_RESUMED  /* a Recalled */
} ParcelKind;

/* What a writer gets when it is started (bgw_extra). */
typedef struct WriterPost
{
	Oid database;
	int slot;  /* of its dispatcher, in shared memory */
	int index; /* among its dispatcher's writers */
	TimestampTz clock_started_at;
} WriterPost;

/* An answer, and all that it is judged by. */
typedef struct Question
{
	int64 job;
	int32 attempt;
	JobStep step;
	char *places; /* STEP_POLL: of ids in the list of unfinished predictions; else NULL */
	char *lookup; /* STEP_LOOKUP: where it was asked, as JobLookup.address */
	ReplySource source;
	Remote remote;
	HttpReply *reply;
} Question;

/* A job whose row has saved an answer. */
typedef struct Recall
{
	uint64 looks; /* queue_looks() of the dispatcher */
	Question question;
} Recall;

/* What the row of a Recall has saved. */
typedef struct Recalled
{
	bool is_read; /* false: there is no such row any more, or it could not be read */
	Judged judged;
} Recalled;

/* All that the request of a job is built from. */
typedef struct Order
{
	int64 job;
	int32 attempt;
	MappingOptions secrets;
	RequestSource source; /* its secrets are those above */
} Order;

/* The request that was built from an Order. */
typedef struct Built
{
	HttpRequest *http; /* NULL: error says why */
	ErrorData *error;
} Built;

/* Jobs whose verdicts a writer must write. */
typedef struct JobBatch
{
	uint64 looks; /* queue_looks() of the dispatcher */
	int32 n;
	Job **jobs; /* a NULL follows them */
} JobBatch;

extern void parcel_pass_question(SpoolStream *stream, Question *question);
extern void parcel_pass_judged(SpoolStream *stream, Judged *judged);
extern void parcel_pass_recall(SpoolStream *stream, Recall *recall);
extern void parcel_pass_recalled(SpoolStream *stream, Recalled *recalled);
extern void parcel_pass_order(SpoolStream *stream, Order *order);
extern void parcel_pass_built(SpoolStream *stream, Built *built);
extern void parcel_pass_batch(SpoolStream *stream, JobBatch *batch, JobState state);
extern void parcel_pass_written(SpoolStream *stream, Written *written, int n);

#endif /* GENJOB_PARCELS_H */
