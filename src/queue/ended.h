/*
 * ended.h
 *		The one door for every way that a row of gen_jobs becomes final, and what follows an end.
 */
#ifndef GENJOB_ENDED_H
#define GENJOB_ENDED_H

#include "base/clock.h"
#include "life/rowstate.h"
#include "server/server.h"

/* What may follow an end, as bits */
typedef enum FollowUp
{
	FOLLOW_NOTIFY = 1,    /* notify the channel of the server's option notify */
	FOLLOW_HAND_OVER = 2, /* give the job to the server of on_success or on_failure */
	FOLLOW_ON_DONE = 4    /* call the job's own on_done */
} FollowUp;

#define FOLLOW_ALL (FOLLOW_NOTIFY | FOLLOW_HAND_OVER | FOLLOW_ON_DONE)

/* An end, in the transaction that writes it. */
typedef struct JobEnd
{
	int64 id;
	RowState from;
	RowState to;        /* succeeded, failed, cancelled; ROW_GONE: the row is deleted */
	const char *server; /* of the row: where it was queued */
	bool has_on_done;   /* the row's on_done is not null */
	int http_status;    /* of the answer that ended it; 0: none */
	bool is_of_session; /* a trigger writes it; follow_up leaves the rest to the dispatcher */
} JobEnd;

extern void job_ended(const JobEnd *end);
extern int ended_follow_ups(const char *server, RowState to, bool has_on_done);
extern Datum ended_words(int follow_ups);

/* For the dispatcher, in queue_transact() */
extern void ended_begin(void);
extern void ended_follow(void);
extern void ended_transaction_failed(const ErrorData *error);

/* For the dispatcher; ended_catch_up() runs transactions of its own */
extern void ended_expect(MonoTime at);
extern MonoTime ended_next(void);
extern void ended_catch_up(void);

/* The trigger of gen_jobs must check a job as if its owner had inserted it */
extern bool ended_is_handing_over;

#endif /* GENJOB_ENDED_H */
