/*
 * outcome.c
 *		What a verdict that ends an attempt means for the row: its new state,
 *		and when the job is retried.  Only this file decides that.
 *
 * An attempt that failed by itself counts.  An attempt that the server refused
 * because it takes no calls now does not count: that is no job's fault, and
 * the limits delay the server's other jobs, too.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/jsonb.h"
#include "base/status.h"
#include "base/trace.h"
#include "life/cuts.h"
#include "life/outcome.h"
#include "life/same.h"
#include "life/verdict.h"
#include "protocol/missing.h"
#include "schedule/schedule.h"

#define MAX_AT_WORK_MS 30000 /* longest wait between two calls while an earlier one is at work */

/*
 * Returns true if a failed attempt is not the job's fault.  A fallback that
 * cannot be reached never costs an attempt.
 */
static bool
is_spared(const Job *job)
{
	bool is_away = strcmp(NameStr(job->queue->name), job->server_name) != 0;

	return limits_spare_attempt(&job->place, job->call_outcome) ||
		   (is_away && job->call_outcome == CALL_UNREACHABLE);
}

/*
 * Fails a verdict that would repeat a call which may have been accepted, if
 * the option on_unknown says so, or after max_unknown repeats.  Returns true
 * if it did; else counts the repeat.  A loss (genjob ended) has another limit:
 * see decide_lost().
 */
bool
outcome_apply_on_unknown(Job *job, Verdict *verdict)
{
	const ServerOptions *options = job->options;
	const char *repeats = "";

	if (!verdict->unknown || options == NULL)
		return false;
	if (options->on_unknown == ON_UNKNOWN_RETRY &&
		(job->unknown_ends < options->max_unknown || verdict->kind == VERDICT_LOST))
	{
		job->unknown_ends++;
		if (job->queue->stats != NULL)
			job->queue->stats->unknown_ends++;
		return false;
	}
	if (job->unknown_ends > 0)
		repeats = psprintf(" genjob sent it %d times, and you may have paid each time.",
						   job->unknown_ends + 1);
	verdict->kind = VERDICT_FAIL;
	verdict->error =
		psprintf("%s The call may have been accepted, and money spent: look for it at the provider before you call genjob.retry().%s Its lists of requests show it by its time or by the Idempotency-Key %s. If it is not there, genjob.retry() sends it again; if it is, take its answer from there.",
				 verdict->error, repeats, job->idempotency_key ? job->idempotency_key : "");
	return true;
}

/*
 * Notes that a job is delayed without counting an attempt.  Returns true once this has lasted most_ms.
 */
static bool
is_put_off_for(Job *job, int64 most_ms, TimestampTz now)
{
	if (job->put_off_since == 0)
		job->put_off_since = now;
	return now - job->put_off_since >= most_ms * 1000;
}

static void
decide_failed(Job *job)
{
	job->report.new_state = ROW_FAILED;
	job->report.counts = true;
}

/*
 * Counts a failed attempt.  After the last one, the job has failed.
 */
static void
count_failure(Job *job, const ServerOptions *options)
{
	Verdict *verdict = job->verdict;
	int max_attempts = job->max_attempts > 0 ? job->max_attempts : (int) options->max_attempts;

	job->report.counts = true;
	job->report.new_state = ROW_QUEUED;
	if (job->failures + 1 < max_attempts)
		return;
	job->report.new_state = ROW_FAILED;
	verdict->error =
		psprintf("%s %s", verdict->error,
				 max_attempts == 1
					 ? "The only attempt is used up: raise max_attempts, or run the job again with genjob.retry()."
					 : psprintf("All %d attempts are used up: raise max_attempts, or run the job again with genjob.retry().",
								max_attempts));
}

/*
 * Retries a failed job after a back-off, or later if the server says so.
 */
static void
decide_retry(Job *job, const ServerOptions *options, TimestampTz now)
{
	Backoff backoff = {options->retry_base, options->retry_max};
	double random = pg_prng_double(&pg_global_prng_state);
	int64 delay = options->schedule != NULL
					  ? backoff_scheduled(options->schedule, job->failures, random)
					  : backoff_spread(&backoff, job->failures, random);

	if (is_spared(job))
	{
		job->report.new_state = ROW_QUEUED;
		job->report.run_at = now;
		return;
	}
	count_failure(job, options);
	if (job->report.new_state == ROW_FAILED)
		return;
	job->report.run_at = now + 1000 * Max(delay, job->verdict->after);
}

/*
 * Retries a job that the server deferred.  It is due at once, but waits until the server takes calls again.
 */
static void
decide_defer(Job *job, const ServerOptions *options, TimestampTz now)
{
	int64 delay = 0;

	job->report.new_state = ROW_QUEUED;
	if (job->verdict->after > 0)
	{
		/* a server that always says "at once" must not be called in a loop */
		delay = Max(job->verdict->after, options->retry_base);
		if (!limits_hold(&job->place, clock_mono() + 1000 * delay, job->verdict->http_status == 429))
			delay = options->retry_base;
	}
	else if (!limits_are_paused(&job->place))
		delay = options->retry_base;
	job->report.run_at = now + 1000 * delay;
}

/*
 * Delays a job whose refusal needs more than waiting.  One such job of a
 * server is tried every limits_stuck_pause() ms.  After the option max_wait
 * the job fails.
 */
static void
decide_stuck(Job *job, const ServerOptions *options, TimestampTz now)
{
	job->report.new_state = ROW_QUEUED;
	job->report.run_at =
		now + (limits_are_paused(&job->place) ? 0 : 1000 * limits_stuck_pause(options));
	if (!is_put_off_for(job, options->max_wait, now))
		return;
	decide_failed(job);
	job->verdict->error =
		psprintf("%s Such refusals have delayed the job for as long as the option max_wait allows. Fix the cause at the provider, then run genjob.retry().",
				 job->verdict->error);
}

/*
 * An earlier call under the same key is still at work (409).  Repeats it with
 * that key until the answer is there, for the option timeout.
 */
static void
decide_at_work(Job *job, const ServerOptions *options, TimestampTz now)
{
	int64 elapsed;
	int64 delay;

	job->report.new_state = ROW_QUEUED;
	if (is_put_off_for(job, options->timeout, now))
	{
		count_failure(job, options);
		job->put_off_since = 0;
	}
	elapsed = job->put_off_since != 0 ? (now - job->put_off_since) / 1000 : 0;
	delay = Max(options->retry_base, Min(elapsed / 4, MAX_AT_WORK_MS));
	job->report.run_at = now + 1000 * Max(delay, job->verdict->after);
}

/*
 * A job whose call crashes PostgreSQL, or uses up its memory, would be sent
 * again after every restart.  After FREE_LOSSES losses in a row, each further
 * loss counts as a failure.
 */
static void
decide_lost(Job *job, const ServerOptions *options, TimestampTz now)
{
	int counted = job->losses + 1 - FREE_LOSSES;
	Backoff backoff;

	job->report.new_state = ROW_QUEUED;
	job->report.run_at = now;
	if (options == NULL || counted <= 0)
		return;
	count_failure(job, options);
	if (job->report.new_state == ROW_FAILED)
		return;
	backoff = (Backoff){options->retry_base, options->retry_max};
	job->report.run_at += 1000 * backoff_delay(&backoff, counted - 1);
}

/*
 * If we polled again only because a download failed, and got nothing new, keeps the earlier answer.
 */
static void
keep_old_answer(Job *job)
{
	Verdict *verdict = job->verdict;
	char *missing;

	if (job->download.old_answer == NULL || verdict->outputs != NIL)
		return;
	verdict->result = job->download.old_answer->result;
	verdict->usage = job->download.old_answer->usage;
	verdict->outputs = job->download.old_answer->outputs;
	missing = missing_describe(verdict);
	if (missing != NULL)
		verdict->error = psprintf("%s %s", verdict->error, missing);
}

/*
 * Returns true if an earlier attempt's call may still have been accepted: this
 * attempt reused its Idempotency-Key and got no answer, or an answer from
 * something that never looked at the key.
 */
static bool
doubts_earlier_call(const Job *job)
{
	int status = job->verdict->http_status;
	bool is_answered = status != 0 && !status_leaves_doubt(status);

	return job->key_is_kept && job->verdict->kind != VERDICT_DONE && !is_answered &&
		   !verdict_names_prediction(job);
}

/*
 * Gives the next attempt a new key, because nobody knows the body of the earlier call that may have been accepted.
 */
static void
drop_key(Verdict *verdict)
{
	verdict->unknown = false;
	verdict->error =
		psprintf("%s The options of the server have changed, so genjob cannot send the same body again. It sends a new call; you may pay for both.",
				 verdict->error);
}

static void
trace_decision(const Job *job, TimestampTz now)
{
	if (job->report.new_state != ROW_QUEUED)
		trace("job " INT64_FORMAT " attempt %d: becomes %s%s", job->id, job->attempt,
			  rowstate_name(job->report.new_state), trace_reason(job->verdict->error));
	else
		trace("job " INT64_FORMAT " attempt %d: tried again in " INT64_FORMAT " ms, failures: %d%s",
			  job->id, job->attempt, Max(job->report.run_at - now, 0) / 1000,
			  job->failures + job->report.counts, trace_reason(job->verdict->error));
}

/*
 * Decides what the final verdict of an attempt makes of the row.
 */
void
outcome_decide(Job *job)
{
	const ServerOptions *options = job->options;
	Verdict *verdict = job->verdict;
	TimestampTz now = clock_now();
	bool is_at_work =
		verdict->kind == VERDICT_RETRY && verdict->http_status == 409 && job->key_is_kept;

	/* a gateway that reached nothing for several jobs in a row passed on none */
	if (job->call_outcome == CALL_UNREACHABLE && limits_are_paused(&job->place))
		verdict->unknown = false;
	if (verdict->kind == VERDICT_RETRY || verdict->kind == VERDICT_LOST)
		(void) outcome_apply_on_unknown(job, verdict);
	if (verdict->kind == VERDICT_LOST && verdict->unknown && !same_take_up(job))
		drop_key(verdict);
	if (verdict->stuck == STUCK_NOT && !is_at_work && verdict->kind != VERDICT_POSTPONE &&
		verdict->kind != VERDICT_LOST)
		job->put_off_since = 0;
	switch (verdict->kind)
	{
		case VERDICT_DONE:
			job->report.new_state = ROW_SUCCEEDED;
			verdict->error = verdict->note ? verdict->note : job->remote.note;
			limits_note_result(&job->place, clock_mono());
			break;
		case VERDICT_RETRY:
			if (is_at_work)
				decide_at_work(job, options, now);
			else
				decide_retry(job, options, now);
			break;
		case VERDICT_DEFER:
			if (verdict->stuck != STUCK_NOT)
				decide_stuck(job, options, now);
			else
				decide_defer(job, options, now);
			break;
		case VERDICT_POSTPONE:
			job->report.new_state = ROW_QUEUED;
			job->report.run_at = now + (job->wants_memory > 0 ? 0 : 1000 * verdict->after);
			limits_give_back(&job->place);
			break;
		case VERDICT_LOST:
			decide_lost(job, options, now);
			break;
		case VERDICT_FAIL:
		case VERDICT_WAIT:
		case VERDICT_FETCH:
			decide_failed(job);
			keep_old_answer(job);
			break;
	}
	if (verdict->unknown && job->report.new_state == ROW_QUEUED)
		verdict->error =
			psprintf("%s The call may have been accepted. genjob repeats it, and you may pay twice.",
					 verdict->error);
	verdict->unknown |= doubts_earlier_call(job);
	missing_restore(verdict);
	Assert(job->report.new_state != ROW_WAITING);
	trace_decision(job, now);
}

/*
 * Notes that the job's verdict is in the table.
 */
void
outcome_reported(Job *job)
{
	TimestampTz now = clock_now();
	ServerStats *stats = job->queue->stats;
	bool goes_on = job->report.new_state == ROW_QUEUED;

	trace("job " INT64_FORMAT " attempt %d: written, %s", job->id, job->attempt,
		  rowstate_name(job->report.new_state));
	if (stats == NULL)
		return;
	if (goes_on)
		stats->retried += job->verdict->kind != VERDICT_POSTPONE;
	else if (job->verdict->kind == VERDICT_DONE)
		stats->succeeded++;
	else
		stats->failed++;
	if (!goes_on && job->started_at != 0)
		stats_count_end(stats, (clock_mono() - job->began_at) / (double) USECS_PER_SEC, now);
}

/*
 * Changes a verdict whose result or usage the table refuses (a number too
 * large for numeric, a text too large for jsonb).  The result becomes an
 * output, as it came; usage is dropped.
 */
void
outcome_simplify(Job *job, bool result, bool usage)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	Verdict *verdict = job->verdict;

	if (job->state == JOB_SAVING)
	{
		/* the prediction's name must get into the table, even alone */
		if (usage)
			job->remote.usage = NULL;
		if (result)
		{
			job->remote.answer = verdict->answer = NULL;
			job->remote.has_verdict = false;
		}
	}
	else
	{
		if (usage)
			verdict->usage = NULL;
		if (result && (verdict->result != NULL || job->report.result != NULL))
		{
			Output *output = palloc0(sizeof(Output));

			output->content_type = "application/json";
			output->data = verdict->result ? verdict->result : jsonb_print_utf8(job->report.result);
			output->len = strlen(output->data);
			verdict->outputs = lappend(verdict->outputs, output);
			verdict->result = NULL;
			job->report.result = NULL;
		}
	}
	MemoryContextSwitchTo(caller);
}
