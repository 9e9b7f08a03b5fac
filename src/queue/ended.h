/*
 * ended.h
 *		The one door for every way that a row of gen_jobs becomes final.
 */
#ifndef GENJOB_ENDED_H
#define GENJOB_ENDED_H

#include "queue/rowstate.h"

/* An end, in the transaction that writes it. */
typedef struct JobEnd
{
	int64 id;
	RowState from;
	RowState to;        /* succeeded, failed, cancelled; ROW_GONE: the row is deleted */
	const char *server; /* of the row: where it was queued */
} JobEnd;

extern void job_ended(const JobEnd *end);

#endif /* GENJOB_ENDED_H */
