/*
 * reporter.c
 *		Writing what became of calls, many in one transaction.
 *
 * A verdict stays in memory until it is committed.  If the database refuses
 * it, the reporter tries again.  A verdict that cannot be written affects no
 * other.
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/timestamp.h"

#include "process/claimer.h"
#include "base/clock.h"
#include "base/marker.h"
#include "queue/dependency.h"
#include "queue/queue.h"
#include "process/reporter.h"
#include "life/life.h"
#include "life/outcome.h"
#include "process/writers.h"
#include "queue/trouble.h"

#define REPORT_BATCH 200

/*
 * How long writing takes, in bytes of pictures: a million of them take some 8
 * ms, and other answers wait meanwhile.  A byte of JSON takes as long as
 * JSON_WEIGHT of them.
 */
#define JSON_WEIGHT 8
#define HEAVY (512 * 1024)        /* a job above this goes to a writer */
#define BATCH (1536 * 1024)       /* of a transaction in this process */
#define BATCH_ALONE (4096 * 1024) /* the same, if there are no writers */

#define LARGEST_JSONB 6     /* times the size of its text: [1,1,1] */
#define MAX_ALONE_REFUSED 2 /* jobs in a row, before the rest waits for another try */
#define HURRIED_US \
	(TROUBLE_MIN_MS * INT64CONST(1000)) /* between two tries of a dispatcher that is about to end */

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
 * Marks the jobs that are being written, for the process after a crash.  The
 * mark does not cover the commit, which may wait for a standby.
 */
static void
mark_jobs(Job **jobs)
{
	marker_end();
	for (; *jobs != NULL; jobs++)
		marker_begin_add((*jobs)->id, (*jobs)->attempt);
}

static void
report_work(void *arg)
{
	mark_jobs(arg);
	queue_report(arg, count_jobs(arg), clock_now());
	marker_end();
}

static void
save_work(void *arg)
{
	mark_jobs(arg);
	queue_save(arg, count_jobs(arg));
	marker_end();
}

/*
 * Retries what could not be written.  A dispatcher that is about to leave does not back off.
 */
static void
postpone_report(Job *job)
{
	int64 delay = trouble_backoff_us(job->write.failures++);

	job->write.again_at = clock_mono() + (is_hurried ? HURRIED_US : delay);
}

static void
finish_save(Job *job)
{
	if (job->write.outcome == WRITE_PENDING)
		postpone_report(job);
	else if (job->write.outcome == WRITE_DONE && job->write.is_spooled && job->step != STEP_CANCEL)
	{
		/*
		 * take its prediction up like any other that an earlier dispatcher
		 * left
		 */
		job_destroy(job);
		claimer_expect_orphans();
	}
	else
		life_saved(job);
}

/*
 * Schedules a job that is queued again.
 */
static void
schedule_again(const Job *job)
{
	if (job->expires_at != 0)
		queue_note_expiry(job->expires_at);
	if (job->verdict->kind == VERDICT_POSTPONE && job->wants_memory > 0)
		schedule_put_off_for_memory(job->id, clock_mono() + 1000 * job->verdict->after,
									job->wants_memory);
	else if (job->report.run_at <= clock_now())
		schedule_add(job->id, job->server_name, job->owner, job->tenant, job->priority,
					 job->report.run_at, job->expires_at);
	else
		schedule_note_time(&schedule_times.due, job->report.run_at);
}

/*
 * A job that has ended starts without a count of crashes if it is retried.
 */
static void
forget_crashes(const Job *job)
{
	marker_acquit(job->id);
	marker_forget_cuts(job->id, job->attempt, -1);
}

static void
finish_report(Job *job)
{
	switch (job->write.outcome)
	{
		case WRITE_DONE:
			if (job->report.new_state == ROW_QUEUED)
				schedule_again(job);
			else
				forget_crashes(job);
			outcome_reported(job);
			if (job->report.must_cancel)
				life_cancel_reported(job);
			else
				job_destroy(job);
			break;
		case WRITE_FENCED:
			job_destroy(job);
			break;
		case WRITE_PENDING:
			postpone_report(job);
			break;
	}
}

/*
 * True if an error may be about the values, and not about the table or the server.
 */
static bool
blames_value(const ErrorData *error)
{
	int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category == ERRCODE_DATA_EXCEPTION || category == ERRCODE_PROGRAM_LIMIT_EXCEEDED ||
		   category == ERRCODE_INTERNAL_ERROR;
}

/*
 * Tests the values that could not be written.  A value is replaced only if the column refuses it by itself, because the
 * error may be that of a user's trigger.
 */
static void
test_refused(Job *job, const ErrorData *error, Written *written)
{
	QueueRefusals refusals = {.job = job};
	ErrorData *trouble;

	if (!blames_value(error) ||
		!queue_transact("testing what was refused", queue_test_values, &refusals, &trouble))
		return;
	written->refuses_result = refusals.result;
	written->refuses_usage = refusals.usage;
	written->refuses_errors = refusals.errors;
}

/*
 * Keeps a verdict that could not be written, to retry it without the values
 * that the tables refuse.
 */
static void
keep_verdict(Job *job, const Written *written)
{
	trouble_show_job(job->state == JOB_SAVING ? TROUBLE_SAVE : TROUBLE_REPORT, job->id,
					 schedule_queue(job->server_name)->stats, written->error);
	if (written->refuses_result || written->refuses_usage)
		outcome_simplify(job, written->refuses_result, written->refuses_usage);
	job->write.begins_errors |= written->refuses_errors;
	postpone_report(job);
	job_requeue(job);
}

static void
write_failed(Job *job, ErrorData *error)
{
	Written written = {WRITE_PENDING, error};

	test_refused(job, error, &written);
	keep_verdict(job, &written);
}

/* What is written of the jobs of a state, and what follows. */
typedef struct Writing
{
	JobState state;
	const char *activity;
	QueueWork work;
	void (*finish)(Job *job);
} Writing;

static const Writing saving = {JOB_SAVING, "saving predictions", save_work, finish_save};
static const Writing reporting = {JOB_REPORTING, "reporting results", report_work, finish_report};

/*
 * Ends the trouble of a job: it was written, or never will be.
 */
static void
end_trouble(const Job *job)
{
	ServerStats *stats;

	if (job->write.failures == 0 || job->write.outcome == WRITE_PENDING)
		return;
	stats = schedule_queue(job->server_name)->stats;
	if (stats != NULL)
		stats_end_trouble(stats, job->id);
}

/*
 * Writes n jobs (a NULL follows them) in one transaction.  False, and *error,
 * if that fails.
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
		writing->finish(jobs[i]);
	}
	return succeeded;
}

/*
 * Writes n jobs (a NULL follows them) in one transaction.  If that fails,
 * writes each in its own, so that one row's error affects no other.  If no row
 * is the cause (say, a lock on the table was not granted in time), the rest
 * waits, and the jobs that were tried go behind it.
 */
static void
write_together(const Writing *writing, Job **jobs, int n)
{
	ErrorData *error;
	int refused = 0; /* in a row, for a reason that is not of one row */
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

	if (job->report.result != NULL)
		return VARSIZE_ANY(job->report.result);
	return verdict->result ? strlen(verdict->result) : 0;
}

/*
 * True if a job is so large that a transaction may write only one such job.
 */
static bool
is_large(const Job *job)
{
	return result_bytes(job) > QUEUE_LARGE_RESULT / LARGEST_JSONB ||
		   (job->state == JOB_SAVING && queue_saved_size(job) > QUEUE_LARGE_RESULT);
}

static size_t
weight_of(const Job *job)
{
	const Verdict *verdict = job->verdict;
	size_t weight = JSON_WEIGHT * result_bytes(job);
	ListCell *cell;

	if (job->state == JOB_SAVING)
		return weight + JSON_WEIGHT * queue_saved_size(job);
	foreach(cell, verdict->outputs)
		weight += ((Output *) lfirst(cell))->object ? 0 : ((Output *) lfirst(cell))->len;
	return weight;
}

static void
write_due_verdicts(const Writing *writing)
{
	Job *batch[REPORT_BATCH + 1];
	dlist_iter iter;
	MonoTime now = clock_mono();
	size_t most = writers_can_be_had() ? BATCH : BATCH_ALONE;
	size_t all = 0;
	int n = 0;
	int n_large = 0;

	dlist_foreach(iter, job_list(writing->state))
	{
		Job *job = dlist_container(Job, node, iter.cur);
		bool is_suspect = marker_is_suspect(job->id);
		size_t weight;

		if (job->write.again_at > now || job->write.is_out)
			continue;
		weight = weight_of(job);
		if (weight > HEAVY && writers_take_job(job, weight, is_suspect, is_large(job)))
			continue;
		/* a job that may crash PostgreSQL is written alone */
		if (n > 0 && is_suspect)
			break;
		if (is_large(job) && n_large++ > 0)
			continue;
		batch[n++] = job;
		all += weight;
		if (n == REPORT_BATCH || all > most || is_suspect)
			break;
	}
	batch[n] = NULL;
	if (n > 0)
		write_together(writing, batch, n);
}

/*
 * Writes what is due, as much as fits into one transaction each: the names of predictions first, because whoever knows
 * a name need not pay again.
 */
void
reporter_write(void)
{
	write_due_verdicts(&saving);
	write_due_verdicts(&reporting);
}

/* ---------- writers ---------- */

/*
 * Writes n jobs of a state (a NULL follows them), in a writer: in one
 * transaction or, if that fails, each in its own.  Notes the outcome of each
 * in written.
 */
void
reporter_write_apart(JobState state, Job **jobs, int n, Written *written)
{
	const Writing *writing = state == JOB_SAVING ? &saving : &reporting;
	ErrorData *error;
	bool succeeded = queue_transact(writing->activity, writing->work, jobs, &error);
	int i;

	marker_end();
	for (i = 0; i < n; i++)
	{
		Job *alone[2] = {jobs[i], NULL};

		if (!succeeded && n > 1)
		{
			reporter_write_apart(state, alone, 1, &written[i]);
			continue;
		}
		written[i] = (Written){succeeded ? jobs[i]->write.outcome : WRITE_PENDING};
		if (succeeded)
			continue;
		written[i].error = error;
		test_refused(jobs[i], error, &written[i]);
	}
}

/*
 * Continues with a job that a writer has written.
 */
void
reporter_take_written(Job *job, const Written *written)
{
	job->write.is_out = false;
	job->write.outcome = written->outcome;
	if (written->error != NULL)
	{
		keep_verdict(job, written);
		return;
	}
	end_trouble(job);
	/* a writer follows no dependencies: it would not see what this process does at the same time */
	if (job->state == JOB_REPORTING && written->outcome == WRITE_DONE)
		dependency_note_news(job->id, false, job->report.new_state != ROW_QUEUED);
	if (job->state == JOB_SAVING)
		finish_save(job);
	else
		finish_report(job);
}

/*
 * Writes a job in this process, because no writer could.
 */
void
reporter_take_back(Job *job)
{
	job->write.is_out = false;
	job->write.stays_here = true;
}

/*
 * Makes retries immediate and then every HURRIED_US, because this dispatcher is about to leave.
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
			dlist_container(Job, node, iter.cur)->write.again_at = 0;
	}
}

static MonoTime
next_write_of(JobState state)
{
	MonoTime next = 0;
	dlist_iter iter;

	dlist_foreach(iter, job_list(state))
	{
		Job *job = dlist_container(Job, node, iter.cur);

		if (!job->write.is_out)
			schedule_note_time(&next, Max(job->write.again_at, 1));
	}
	return next;
}

static bool
has_failed_in(JobState state)
{
	dlist_iter iter;

	dlist_foreach(iter, job_list(state))
	{
		if (dlist_container(Job, node, iter.cur)->write.failures > 0)
			return true;
	}
	return false;
}

/*
 * True if the tables refused something.
 */
bool
reporter_is_blocked(void)
{
	return has_failed_in(JOB_SAVING) || has_failed_in(JOB_REPORTING);
}

/*
 * Returns when something must be written; 0: never.
 */
MonoTime
reporter_next(void)
{
	MonoTime saves = next_write_of(JOB_SAVING);
	MonoTime reports = next_write_of(JOB_REPORTING);

	if (saves == 0 || reports == 0)
		return Max(saves, reports);
	return Min(saves, reports);
}
