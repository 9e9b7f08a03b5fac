/*
 * reporter.c
 *		Writing what became of calls, many in one transaction.
 *
 * A verdict leaves memory only when it is committed: whatever the database says at the moment, it is
 * tried again, and one that fails fails alone.
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/timestamp.h"

#include "process/claimer.h"
#include "base/clock.h"
#include "base/marker.h"
#include "queue/queue.h"
#include "process/reporter.h"
#include "life/steps.h"
#include "queue/trouble.h"

#define REPORT_BATCH 200
#define REPORT_BYTES \
	(4 * 1024 * \
	 1024) /* of outputs and results in a transaction: some 20 ms, in which other answers wait */

#define LARGEST_JSONB 6     /* times its text: [1,1,1] */
#define MAX_ALONE_REFUSED 2 /* jobs in a row, before the rest waits for another try */
#define HURRIED_US \
	(TROUBLE_MIN_MS * INT64CONST(1000)) /* between two tries, of a dispatcher that leaves */

static bool is_hurried = false; /* this dispatcher is about to leave */

static int
count_jobs(Job **jobs)
{
	int n;

	for (n = 0; jobs[n] != NULL; n++)
		;
	return n;
}

/*
 * Notes what is written, for whoever comes after a crash.  Not what is committed: a commit may wait for a standby.
 */
static void
mark(Job **jobs)
{
	marker_end();
	for (; *jobs != NULL; jobs++)
		marker_begin_add((*jobs)->id, (*jobs)->attempt);
}

static void
report_work(void *arg)
{
	mark(arg);
	queue_report(arg, count_jobs(arg), clock_now());
	marker_end();
}

static void
save_work(void *arg)
{
	mark(arg);
	queue_save(arg, count_jobs(arg));
	marker_end();
}

/*
 * Has what could not be written tried again.  Who is about to leave does not put it off.
 */
static void
postpone_report(Job *job)
{
	int64 delay = trouble_backoff_us(job->report_failures++);

	job->report_at = clock_mono() + (is_hurried ? HURRIED_US : delay);
}

static void
settle_save(Job *job)
{
	if (job->step == STEP_CANCEL && job->outcome != REPORT_PENDING)
		cancel_saved(job);
	else if (job->outcome == REPORT_WRITTEN && job->is_spooled)
	{
		/* its prediction is taken up as any other that an earlier dispatcher has left */
		job_destroy(job);
		claimer_expect_orphans();
	}
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

/*
 * The job is queued again: has it claimed when its time has come.
 */
static void
schedule_again(const Job *job)
{
	if (job->expires_at != 0)
		queue_note_expiry(job->expires_at);
	if (job->run_at <= clock_now())
		schedule_add(job->id, job->server_name, job->owner, job->tenant, job->priority, job->run_at,
					 job->expires_at);
	else
		schedule_note_time(&schedule_times.due, job->run_at);
}

static void
settle_report(Job *job)
{
	switch (job->outcome)
	{
		case REPORT_WRITTEN:
			if (strcmp(job->new_state, "queued") == 0)
				schedule_again(job);
			else
				marker_acquit(job->id);
			steps_reported(job);
			if (job->must_cancel)
				cancel_resume(job);
			else
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
 * Whether an error may be about what is written, and not about the table or the server.
 */
static bool
blames_value(const ErrorData *error)
{
	int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category == ERRCODE_DATA_EXCEPTION || category == ERRCODE_PROGRAM_LIMIT_EXCEEDED ||
		   category == ERRCODE_INTERNAL_ERROR;
}

/*
 * One verdict that failed with others or alone is kept, and tried again by itself.  What a column refuses is replaced:
 * but only if it was refused by itself, for the error may be that of a user's trigger.
 */
static void
write_failed(Job *job, const ErrorData *error)
{
	QueueRefusals refusals = {.job = job};
	ErrorData *trouble;

	trouble_show_job(job->state == JOB_SAVING ? TROUBLE_SAVE : TROUBLE_REPORT, job->id,
					 schedule_queue(job->server_name)->stats, error);
	if (blames_value(error) &&
		queue_transact("testing what was refused", queue_test_values, &refusals, &trouble))
	{
		steps_simplify(job, refusals.result, refusals.usage);
		job->begins_errors |= refusals.errors;
	}
	postpone_report(job);
	job_enter(job, job->state); /* behind the others */
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
 * Writes n jobs (and a NULL behind them) in one transaction.  False, and the error, when that fails.
 */
static bool
try_together(const Writing *writing, Job **jobs, int n, ErrorData **error)
{
	bool succeeded = queue_transact(writing->activity, writing->work, jobs, error);
	int i;

	marker_end();
	for (i = 0; i < n && succeeded; i++)
	{
		end_trouble(jobs[i]);
		writing->settle(jobs[i]);
	}
	return succeeded;
}

/*
 * Writes n jobs (and a NULL behind them) in one transaction; where that fails, each in its own, so
 * that one row's fault touches no other.  Unless it is nobody's fault, such as a lock on the table that is not had in
 * time: the rest waits then, and those that were tried go behind it.
 */
static void
write_together(const Writing *writing, Job **jobs, int n)
{
	ErrorData *error;
	int refused = 0; /* in a row, by what befalls all */
	int i;

	if (try_together(writing, jobs, n, &error))
		return;
	for (i = 0; i < n && n > 1 && refused < MAX_ALONE_REFUSED; i++)
	{
		Job *alone[2] = {jobs[i], NULL};

		if (try_together(writing, alone, 1, &error))
			refused = 0;
		else
		{
			refused = trouble_is_of_row(error) ? 0 : refused + 1;
			write_failed(jobs[i], error);
		}
	}
	if (n == 1)
		write_failed(jobs[0], error);
	for (; i < n && n > 1; i++)
		postpone_report(jobs[i]);
}

static size_t
result_bytes(const Job *job)
{
	const Verdict *verdict = job->verdict;

	if (job->result != NULL)
		return VARSIZE_ANY(job->result);
	return verdict->result ? strlen(verdict->result) : 0;
}

/*
 * Whether it is one of those that are written one at a time.
 */
static bool
is_large(const Job *job)
{
	const char *answer = job->remote.answer;

	return result_bytes(job) > QUEUE_LARGE_RESULT / LARGEST_JSONB ||
		   (answer != NULL && strlen(answer) > QUEUE_LARGE_RESULT);
}

static size_t
bytes_to_write(const Job *job)
{
	const Verdict *verdict = job->verdict;
	size_t bytes = result_bytes(job);
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
	int n_large = 0;

	dlist_foreach(iter, job_list(writing->state))
	{
		Job *job = dlist_container(Job, node, iter.cur);

		if (job->report_at > now)
			continue;
		/* one that PostgreSQL may not survive is written alone */
		if (n > 0 && marker_is_suspect(job->id))
			break;
		if (is_large(job) && n_large++ > 0)
			continue;
		batch[n++] = job;
		bytes += bytes_to_write(job);
		if (n == REPORT_BATCH || bytes > REPORT_BYTES || marker_is_suspect(job->id))
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

/*
 * From now on what could not be written is tried again at once and then every HURRIED_US: this dispatcher is about to
 * leave.
 */
void
reporter_hurry(void)
{
	static const JobState states[] = {JOB_SAVING, JOB_REPORTING};
	dlist_iter iter;
	int i;

	if (!is_hurried)
		SetConfigOption("lock_timeout", "1s", PGC_SUSET, PGC_S_OVERRIDE);
	is_hurried = true;
	for (i = 0; i < lengthof(states); i++)
	{
		dlist_foreach(iter, job_list(states[i]))
			dlist_container(Job, node, iter.cur)->report_at = 0;
	}
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
