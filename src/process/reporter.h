/*
 * reporter.h
 *		Writing what became of calls.
 */
#ifndef GENJOB_REPORTER_H
#define GENJOB_REPORTER_H

#include "base/clock.h"
#include "life/job.h"

/* How writing a job in another process ended. */
typedef struct Written
{
	WriteOutcome outcome;
	ErrorData *error; /* or NULL */

	/* What the tables refuse */
	bool refuses_result;
	bool refuses_usage;
	bool refuses_errors;
} Written;

extern void reporter_write(void);
extern bool reporter_is_blocked(void);
extern MonoTime reporter_next(void);
extern void reporter_hurry(void);

/* For writers */
extern void reporter_write_apart(JobState state, Job **jobs, int n, Written *written);
extern void reporter_take_written(Job *job, const Written *written);
extern void reporter_take_back(Job *job);

#endif /* GENJOB_REPORTER_H */
