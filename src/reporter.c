/*
 * reporter.c
 *		Writing what became of calls, many in one transaction.
 *
 * A verdict leaves memory only when it is committed: whatever the database says at the moment, it is
 * tried again, and one that fails fails alone.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "clock.h"
#include "queue/queue.h"
#include "reporter.h"
#include "steps.h"
#include "trouble.h"

#define REPORT_BATCH 200
#define REPORT_BYTES \
	(4 * 1024 * \
	 1024) /* of outputs and results in a transaction: some 20 ms, in which other answers wait */

static int
count_jobs(Job **jobs)
{
	int n;

	for (n = 0; jobs[n] != NULL; n++)
		;
	return n;
}

static void
report_work(void *arg)
{
	queue_report(arg, count_jobs(arg), clock_now());
}

static void
save_work(void *arg)
{
	queue_save(arg, count_jobs(arg));
}

static void
postpone_report(Job *job)
{
	job->report_at = clock_mono() + trouble_backoff_us(job->report_failures++);
}

static void
settle_save(Job *job)
{
	if (job->step == STEP_CANCEL && job->outcome != REPORT_PENDING)
		job_destroy(job);
	else if (job->outcome == REPORT_WRITTEN)
	{
		job->report_at = job->report_failures = 0;
		steps_saved(job);
	}
	else if (job->outcome == REPORT_FENCED)
		cancel_begin(job);
	else
		postpone_report(job);
}

static void
settle_report(Job *job)
{
	switch (job->outcome)
	{
		case REPORT_WRITTEN:
			steps_reported(job);
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
write_failed(Job *job, const ErrorData *error)
{
	int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	trouble_show_job(job->state == JOB_SAVING ? TROUBLE_SAVE : TROUBLE_REPORT, job->id,
					 schedule_queue(job->server_name)->stats, error);
	if (category == ERRCODE_DATA_EXCEPTION || category == ERRCODE_PROGRAM_LIMIT_EXCEEDED ||
		category == ERRCODE_INTERNAL_ERROR)
		steps_simplify(job);
	postpone_report(job);
}

/* What is written of the jobs of a state, and what follows. */
typedef struct Writing
{
	JobState state;
	const char *activity;
	QueueWork work;
	void (*settle)(Job *job);
} Writing;

static const Writing saving = {JOB_SAVING, "saving predictions", save_work, settle_save};
static const Writing reporting = {JOB_REPORTING, "reporting results", report_work, settle_report};

/*
 * What was to be written of a job is, or will never be.
 */
static void
end_trouble(const Job *job)
{
	ServerStats *stats;

	if (job->report_failures == 0 || job->outcome == REPORT_PENDING)
		return;
	stats = schedule_queue(job->server_name)->stats;
	if (stats != NULL)
		stats_end_trouble(stats, job->id);
}

/*
 * Writes n jobs (and a NULL behind them) in one transaction; where that fails, each in its own, so
 * that one row's fault touches no other.
 */
static void
write_together(const Writing *writing, Job **jobs, int n)
{
	ErrorData *error;
	int i;

	if (queue_transact(writing->activity, writing->work, jobs, &error))
	{
		for (i = 0; i < n; i++)
		{
			end_trouble(jobs[i]);
			writing->settle(jobs[i]);
		}
		return;
	}
	if (n == 1)
	{
		write_failed(jobs[0], error);
		return;
	}
	for (i = 0; i < n; i++)
	{
		Job *alone[2] = {jobs[i], NULL};

		write_together(writing, alone, 1);
	}
}

static size_t
bytes_to_write(const Job *job)
{
	const Verdict *verdict = job->verdict;
	size_t bytes = verdict->result ? strlen(verdict->result) : 0;
	ListCell *cell;

	bytes += verdict->answer ? strlen(verdict->answer) : 0;
	foreach(cell, verdict->outputs)
		bytes += ((Output *) lfirst(cell))->len;
	return bytes;
}

static void
write_due(const Writing *writing)
{
	Job *batch[REPORT_BATCH + 1];
	dlist_iter iter;
	MonoTime now = clock_mono();
	size_t bytes = 0;
	int n = 0;

	dlist_foreach(iter, job_list(writing->state))
	{
		Job *job = dlist_container(Job, node, iter.cur);

		if (job->report_at > now)
			continue;
		batch[n++] = job;
		bytes += bytes_to_write(job);
		if (n == REPORT_BATCH || bytes > REPORT_BYTES)
			break;
	}
	batch[n] = NULL;
	if (n > 0)
		write_together(writing, batch, n);
}

/*
 * Writes what is due, as much as fits into one transaction each: the names of predictions first, for
 * whoever knows a name need not pay again.
 */
void
reporter_write(void)
{
	write_due(&saving);
	write_due(&reporting);
}

static MonoTime
next_of(JobState state)
{
	MonoTime next = 0;
	dlist_iter iter;

	dlist_foreach(iter, job_list(state))
	{
		Job *job = dlist_container(Job, node, iter.cur);

		schedule_note_time(&next, Max(job->report_at, 1));
	}
	return next;
}

static bool
has_failed_in(JobState state)
{
	dlist_iter iter;

	dlist_foreach(iter, job_list(state))
	{
		if (dlist_container(Job, node, iter.cur)->report_failures > 0)
			return true;
	}
	return false;
}

/*
 * Whether there is something that the tables did not take.
 */
bool
reporter_is_blocked(void)
{
	return has_failed_in(JOB_SAVING) || has_failed_in(JOB_REPORTING);
}

/*
 * When something is to be written next; 0: there is nothing.
 */
MonoTime
reporter_next(void)
{
	MonoTime saves = next_of(JOB_SAVING);
	MonoTime reports = next_of(JOB_REPORTING);

	if (saves == 0 || reports == 0)
		return Max(saves, reports);
	return Min(saves, reports);
}
