/*
 * steps.c
 *		What a claimed job does next.
 *
 *		claimed -> calling -> reporting -> written and forgotten
 *
 * A job that cannot be sent goes from claimed to reporting at once.  What a verdict means for the row
 * is decided here, and only here: whether it ends the job, and when it is tried again.
 */
#include "postgres.h"

#include <time.h>

#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "job.h"
#include "retry.h"
#include "schedule.h"
#include "steps.h"

/* Attempts that were cut short by genjob's own end before their like is spaced out. */
#define LOST_BEFORE_BACKOFF 3

static void
decide_retry(Job *job, const ServerOptions *options, TimestampTz now)
{
	Verdict *verdict = job->verdict;
	int failures = job->failures + 1;
	int max_attempts = job->max_attempts > 0 ? job->max_attempts : (int) options->max_attempts;

	job->counts = true;
	if (failures >= max_attempts)
	{
		job->new_state = "failed";
		verdict->error =
			psprintf("%s %s", verdict->error,
					 max_attempts == 1
						 ? "The only attempt is used up: raise max_attempts, or run the job again with genjob.retry()."
						 : psprintf("All %d attempts are used up: raise max_attempts, or run the job again with genjob.retry().",
									max_attempts));
		return;
	}
	job->new_state = "queued";
	job->run_at = now + 1000 * retry_delay(options->retry_base, options->retry_max, failures,
										   pg_prng_double(&pg_global_prng_state));
}

/*
 * The calls of a job that ends the server with it would be sent for ever: after a few, wait longer
 * each time, so that other jobs get on.
 */
static void
decide_lost(Job *job, const ServerOptions *options, TimestampTz now)
{
	int lost = job->attempt - job->failures;

	job->new_state = "queued";
	job->run_at = now;
	if (options != NULL && lost > LOST_BEFORE_BACKOFF)
		job->run_at += 1000 * retry_delay(options->retry_base, options->retry_max,
										  lost - LOST_BEFORE_BACKOFF, 0.999);
}

/*
 * What the verdict makes of the row.
 */
static void
decide(Job *job)
{
	const ServerOptions *options = job->server ? &job->server->options : NULL;
	TimestampTz now = GetCurrentTimestamp();

	switch (job->verdict->kind)
	{
		case VERDICT_DONE:
			job->new_state = "succeeded";
			break;
		case VERDICT_RETRY:
			decide_retry(job, options, now);
			break;
		case VERDICT_DEFER:
			job->new_state = "queued";
			/* a server that says "at once" again and again must not be called in a circle */
			job->run_at = now + 1000 * Max(job->verdict->after, options->retry_base);
			schedule_hold(job->queue, job->run_at);
			break;
		case VERDICT_LOST:
			decide_lost(job, options, now);
			break;
		case VERDICT_FAIL:
			job->new_state = "failed";
			job->counts = true;
			break;
	}
}

static void
conclude(Job *job, Verdict *verdict)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	job->verdict = verdict;
	decide(job);
	MemoryContextSwitchTo(caller);
	job_enter(job, JOB_REPORTING);
}

static void
conclude_failure(Job *job, char *error)
{
	Verdict *verdict = MemoryContextAllocZero(job->context, sizeof(Verdict));

	verdict->kind = VERDICT_FAIL;
	verdict->error = error;
	conclude(job, verdict);
}

/*
 * The HTTP request of a job; NULL, and why in *error, when there is none to be made of it.  It was
 * checked at INSERT, but the server's options may have changed since.
 */
static HttpRequest *
build_request(const Job *job, char **error)
{
	RequestSource source = {
		.options = &job->server->options,
		.secrets = &job->secrets,
		.request = job->request,
		.inputs = job->inputs,
		.n_inputs = job->n_inputs,
		.idempotency_key = job->idempotency_key,
	};
	HttpRequest *volatile request = NULL;

	PG_TRY();
	{
		request = request_build(&source);
	}
	PG_CATCH();
	{
		ErrorData *data;

		MemoryContextSwitchTo(job->context);
		data = CopyErrorData();
		FlushErrorState();
		*error = psprintf("%s. %s", data->message, data->hint ? data->hint : "");
	}
	PG_END_TRY();
	return request;
}

static void
send(Job *job)
{
	char *error = NULL;

	job->http = build_request(job, &error);
	if (job->http == NULL)
	{
		conclude_failure(job, error);
		return;
	}
	job->activity = shmem_activity_add(job->owner, job->id, job->attempt, job->server_name);
	job->transfer = http_start(job->http, job->activity ? &job->activity->meter : &job->meter,
							   job->context, job);
	job_enter(job, JOB_CALLING);
	if (job->transfer == NULL)
	{
		Verdict *verdict = MemoryContextAllocZero(job->context, sizeof(Verdict));

		verdict->kind = VERDICT_RETRY;
		verdict->error =
			MemoryContextStrdup(job->context,
								"no memory was left to call the server. Lower max_in_flight.");
		conclude(job, verdict);
	}
}

/*
 * Moves a job on that was just claimed: its call begins, or its row was an orphan and says so.
 */
void
steps_start(Job *job)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	if (job->request == NULL)
		conclude(job, reply_lost(job->server ? &job->server->options : NULL));
	else if (job->complaint != NULL)
		conclude_failure(job, job->complaint);
	else
		send(job);
	MemoryContextSwitchTo(caller);
}

/*
 * As reply_judge(), but an error (memory may be short) ends neither the process nor, with it, the calls
 * of other jobs.
 */
static Verdict *
judge(const Job *job, const ReplySource *source, HttpReply *reply)
{
	Verdict *volatile verdict = NULL;

	PG_TRY();
	{
		verdict = reply_judge(source, reply);
	}
	PG_CATCH();
	{
		ErrorData *data;

		MemoryContextSwitchTo(job->context);
		data = CopyErrorData();
		FlushErrorState();
		verdict = reply_unjudged(source, reply, data->message);
	}
	PG_END_TRY();
	return verdict;
}

/*
 * Moves a job on whose call has ended.
 */
void
steps_answered(Job *job, HttpReply *reply)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	ReplySource source = {
		.server_name = job->server_name,
		.options = &job->server->options,
		.request = job->http,
		.now_unix = time(NULL),
	};

	conclude(job, judge(job, &source, reply));
	if (job->activity != NULL)
		shmem_activity_remove(job->activity);
	job->activity = NULL;
	MemoryContextSwitchTo(caller);
}

/*
 * Takes notice that the job's verdict is in the table.
 */
void
steps_reported(Job *job, TimestampTz now)
{
	ServerStats *stats = job->queue->stats;
	bool goes_on = strcmp(job->new_state, "queued") == 0;

	if (goes_on && job->run_at <= now)
		schedule_add(job->id, job->server_name, job->priority, job->run_at);
	else if (goes_on)
		schedule_note_time(&schedule_times.due, job->run_at);
	if (stats == NULL)
		return;
	if (goes_on)
		stats->retried++;
	else if (job->verdict->kind == VERDICT_DONE)
		stats->succeeded++;
	else
		stats->failed++;
	if (!goes_on && job->started_at != 0)
		stats_count_end(stats, (now - job->started_at) / (double) USECS_PER_SEC, now);
}

/*
 * Makes a verdict that the table refuses (a number that numeric cannot hold, more than jsonb can) one
 * that it takes: the answer becomes an output, as it came.
 */
void
steps_simplify(Job *job)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	Verdict *verdict = job->verdict;
	Output *output = palloc(sizeof(Output));

	if (verdict->result != NULL)
	{
		output->content_type = "application/json";
		output->data = verdict->result;
		output->len = strlen(verdict->result);
		verdict->outputs = lappend(verdict->outputs, output);
		verdict->result = NULL;
	}
	verdict->usage = NULL;
	MemoryContextSwitchTo(caller);
}
