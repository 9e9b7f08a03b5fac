/*
 * reporter.c
 *		Writing what became of calls, many in one transaction.
 *
 * A verdict leaves memory only when it is committed: whatever the database says at the moment, it is
 * tried again, and one that fails fails alone.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "queue/queue.h"
#include "reporter.h"
#include "steps.h"
#include "trouble.h"

#define REPORT_BATCH 200
#define REPORT_BYTES (64 * 1024 * 1024) /* of outputs in a transaction, if it has more than one */

static void
report_work(void *arg)
{
	Job **jobs = arg;
	int n;

	for (n = 0; jobs[n] != NULL; n++)
		;
	queue_report(jobs, n, GetCurrentTimestamp());
}

static void
postpone_report(Job *job)
{
	job->report_at = GetCurrentTimestamp() + trouble_backoff_us(job->report_failures++);
}

static void
settle_report(Job *job)
{
	switch (job->outcome)
	{
		case REPORT_WRITTEN:
			steps_reported(job, GetCurrentTimestamp());
			job_destroy(job);
			break;
		case REPORT_FENCED:
			job_destroy(job);
			break;
		case REPORT_PENDING:
			postpone_report(job);
			break;
	}
}

/*
 * One verdict that failed with others or alone is kept, and tried again by itself; one that the table
 * cannot hold is simplified.
 */
static void
report_failed(Job *job, const ErrorData *error)
{
	int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	trouble_show(psprintf("write the result of job " INT64_FORMAT, job->id), error);
	if (category == ERRCODE_DATA_EXCEPTION || category == ERRCODE_PROGRAM_LIMIT_EXCEEDED ||
		category == ERRCODE_INTERNAL_ERROR)
		steps_simplify(job);
	postpone_report(job);
}

/*
 * Writes the verdicts of n jobs (and a NULL behind them) in one transaction; where that fails, each in
 * its own, so that one row's fault touches no other.  False if any was not written.
 */
static bool
report_together(Job **jobs, int n)
{
	ErrorData *error;
	bool succeeded = true;
	int i;

	if (queue_transact("reporting results", report_work, jobs, &error))
	{
		for (i = 0; i < n; i++)
			settle_report(jobs[i]);
		return true;
	}
	if (n == 1)
	{
		report_failed(jobs[0], error);
		return false;
	}
	for (i = 0; i < n; i++)
	{
		Job *alone[2] = {jobs[i], NULL};

		succeeded &= report_together(alone, 1);
	}
	return succeeded;
}

static size_t
output_bytes(const Job *job)
{
	size_t bytes = 0;
	ListCell *cell;

	foreach(cell, job->verdict->outputs)
		bytes += ((Output *) lfirst(cell))->len;
	return bytes;
}

/*
 * Writes the verdicts that are due, as many as fit into one transaction.
 */
void
reporter_write(void)
{
	Job *batch[REPORT_BATCH + 1];
	dlist_iter iter;
	TimestampTz now = GetCurrentTimestamp();
	size_t bytes = 0;
	int n = 0;

	dlist_foreach(iter, job_list(JOB_REPORTING))
	{
		Job *job = dlist_container(Job, node, iter.cur);

		if (job->report_at > now)
			continue;
		batch[n++] = job;
		bytes += output_bytes(job);
		if (n == REPORT_BATCH || bytes > REPORT_BYTES)
			break;
	}
	batch[n] = NULL;
	if (n > 0)
		report_together(batch, n);
}

/*
 * When the next verdict is to be written; 0: there is none.
 */
TimestampTz
reporter_next(void)
{
	TimestampTz next = 0;
	dlist_iter iter;

	dlist_foreach(iter, job_list(JOB_REPORTING))
	{
		Job *job = dlist_container(Job, node, iter.cur);

		schedule_note_time(&next, Max(job->report_at, 1));
	}
	return next;
}
