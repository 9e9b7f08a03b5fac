/*
 * steps.c
 *		What a claimed job does next.
 *
 *		claimed -> calling -> reporting -> written and forgotten
 *		              |                ^
 *		              v                |
 *		            saving -> waiting <-> calling
 *
 * The upper row is a server that answers with the result; the lower one a provider that names a
 * prediction, which is saved in the table before anything else is done with it, and then asked about
 * until it has ended (follow.c).  Where it is not known whether a submission arrived, and the provider
 * can be asked, that is between calling and saving, or reporting (lookup.c).  A job that cannot be sent goes from claimed to reporting at once, one
 * that a crash cut off from its prediction from claimed to waiting.
 *
 * What a verdict means for the row is decided in outcome.c.
 */
#include "postgres.h"

#include <time.h>

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/guard.h"
#include "life/job.h"
#include "base/jsonb.h"
#include "base/marker.h"
#include "life/postponed.h"
#include "schedule/schedule.h"
#include "life/steps.h"

/* ms, before a job that waits for another one is looked at again */
static const Backoff look_again = {1000, 60000};

/*
 * Whether the table lacks what a resumed job would need, now that there is this verdict.
 */
static bool
must_be_saved(const Job *job)
{
	bool named = job->remote.id != NULL || job->remote.urls != NULL;

	return !job->is_saved && (named || job->remote.answer != NULL);
}

/*
 * Draws the consequence of a verdict, which lives as long as the job's call, and the job with it.
 */
void
steps_conclude(Job *job, Verdict *verdict)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	job->verdict = verdict;
	if (verdict->kind == VERDICT_FETCH && verdict->answer != NULL && job->remote.answer == NULL)
	{
		job->remote.answer = verdict->answer;
		job->is_saved = false;
	}
	if (lookup_is_due(job))
		lookup_begin(job);
	else if (must_be_saved(job))
	{
		calls_show(job, ACTIVITY_SAVING);
		job_enter(job, JOB_SAVING);
	}
	else if (verdict->kind == VERDICT_WAIT)
		follow_wait(job);
	else if (verdict->kind == VERDICT_FETCH)
	{
		job->ask_failures = 0;
		download_next(job);
	}
	else
	{
		job_stop_waking(job);
		calls_show(job, ACTIVITY_SAVING);
		outcome_decide(job);
		job_enter(job, JOB_REPORTING);
	}
	MemoryContextSwitchTo(caller);
}

/*
 * Takes notice that what a resumed job needs is in the table.
 */
void
steps_saved(Job *job)
{
	job->is_saved = true;
	steps_conclude(job, job->verdict);
}

/*
 * Ends the attempt with an error of our own.
 */
void
steps_fail(Job *job, char *error)
{
	Verdict *verdict = MemoryContextAllocZero(job->context, sizeof(Verdict));

	if (job->verdict != NULL)
		*verdict = *job->verdict;
	verdict->kind = VERDICT_FAIL;
	verdict->error = error;
	steps_conclude(job, verdict);
}

RequestSource
steps_request_source(const Job *job)
{
	RequestSource source = {
		.options = job->options,
		.secrets = &job->secrets,
		.request = job->request,
		.inputs = job->inputs,
		.n_inputs = job->n_inputs,
		.references = job->references,
		.n_references = job->n_references,
		.idempotency_key = job->idempotency_key,
		.now_unix = time(NULL),
	};

	return source;
}

ReplySource
steps_reply_source(const Job *job, const HttpRequest *request)
{
	bool named = job->remote.id != NULL || job->remote.urls != NULL;
	ReplySource source = {
		.server_name = NameStr(job->queue->name),
		.options = job->options,
		.request = request,
		.idempotency_key = job->idempotency_key,
		.remote = named ? &job->remote : NULL,
		.failures = job->ask_failures,
		.forgotten = job->n_forgotten,
		.now_unix = time(NULL),
	};

	return source;
}

/*
 * The HTTP request of a job; NULL, and why in *error, when there is none to be made of it.  It was
 * checked at INSERT, but the server's options may have changed since.
 */
static HttpRequest *
build_request(const Job *job, char **error)
{
	RequestSource source = steps_request_source(job);
	MemoryContext caller = CurrentMemoryContext;
	HttpRequest *volatile request = NULL;

	PG_TRY();
	{
		request = request_build(&source);
	}
	PG_CATCH();
	{
		ErrorData *data = guard_take_error(caller);

		*error = psprintf("%s. %s", data->message, data->hint ? data->hint : "");
	}
	PG_END_TRY();
	return request;
}

/*
 * Lets go of what only the submission needs: its request holds it in its own form, or there is none.
 */
void
steps_forget_input(Job *job)
{
	if (job->input_context == NULL)
		return;
	MemoryContextDelete(job->input_context);
	job->input_context = NULL;
	job->input_share = NULL;
	job->request = NULL;
	job->inputs = NULL;
	job->n_inputs = 0;
	job->references = NULL;
	job->n_references = 0;
}

/*
 * Sends a claimed job.
 */
void
steps_submit(Job *job)
{
	char *error = NULL;
	HttpRequest *http;

	calls_prepare(job);
	MemoryContextSwitchTo(job->call_context);
	http = build_request(job, &error);
	if (http == NULL)
	{
		steps_fail(job, MemoryContextStrdup(job->context, error));
		return;
	}
	steps_forget_input(job);
	calls_hold_request(job);
	if (job->activity == NULL)
		job->activity =
			shmem_activity_add(job->owner, job->id, job->attempt, NameStr(job->queue->name));
	job_enter(job, JOB_CALLING);
	if (calls_begin(job, STEP_SUBMIT, http))
		progress_submitted(job);
	else
	{
		Verdict *verdict = palloc0(sizeof(Verdict));

		verdict->kind = VERDICT_RETRY;
		verdict->error = pstrdup("no memory was left to call the server. Lower max_in_flight.");
		steps_conclude(job, verdict);
	}
}

static void
judge_saved(void *arg)
{
	Job *job = arg;
	ReplySource source = steps_reply_source(job, NULL);

	job->verdict = reply_judge_saved(&source, job->remote.answer);
}

/*
 * Goes on with the downloads of an answer that is in the table, where others than genjob may have written.
 */
static void
resume_answer(Job *job)
{
	char *error;

	if (guard_run(judge_saved, job, &error))
	{
		steps_conclude(job, job->verdict);
		return;
	}
	job->verdict = palloc0(sizeof(Verdict));
	job->verdict->result = job->remote.answer;
	steps_fail(job,
			   psprintf("the answer of server \"%s\" that was kept in the column remote could not be read: %s. It is in the column result now: look there before genjob.retry().",
						NameStr(job->queue->name), error));
}

/*
 * Puts a job off that refers to what another one has not brought yet: no failure of its own.  It is looked
 * at again after 1, 2, 4 ... 60 s.
 */
static void
postpone(Job *job)
{
	Verdict *verdict = palloc0(sizeof(Verdict));

	verdict->kind = VERDICT_POSTPONE;
	verdict->after = backoff_delay(&look_again, postponed_count(job->id));
	verdict->error = job->waits_for;
	steps_conclude(job, verdict);
}

/*
 * Has a claimed job queued again whose call has not begun, and will not: it was no attempt.
 */
void
steps_give_back(Job *job)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	Verdict *verdict = palloc0(sizeof(Verdict));

	verdict->kind = VERDICT_POSTPONE;
	steps_conclude(job, verdict);
	MemoryContextSwitchTo(caller);
}

/*
 * Ends a job that cannot be gone on with, but whose call has brought something already.
 */
static void
fail_resumed(Job *job)
{
	char *error;

	job->verdict = palloc0(sizeof(Verdict));
	job->verdict->result = job->remote.answer;
	if (job->remote.answer != NULL)
		error =
			psprintf("%s The answer that had come is in the column result: look there before genjob.retry().",
					 job->complaint);
	else
		error =
			psprintf("%s The prediction %s may still run, and be paid for: look for it at the provider before genjob.retry().",
					 job->complaint, job->remote.id ? job->remote.id : "");
	steps_fail(job, error);
}

/*
 * Takes up a job whose attempt was cut short by the end of genjob: from its prediction, if the provider
 * had named one, from its answer, if that had come, or from the beginning.
 */
static void
resume(Job *job)
{
	bool named = job->remote.id != NULL || job->remote.urls != NULL;

	job->is_saved = true;
	if (!named && job->remote.answer == NULL)
		steps_conclude(job, reply_lost());
	else if (job->complaint != NULL)
		fail_resumed(job);
	else
	{
		job->activity =
			shmem_activity_add(job->owner, job->id, job->attempt, NameStr(job->queue->name));
		if (job->remote.answer != NULL)
			resume_answer(job);
		else
		{
			Verdict *verdict = palloc0(sizeof(Verdict));

			verdict->kind = VERDICT_WAIT;
			steps_conclude(job, verdict);
		}
	}
}

/*
 * Moves a job on that was just claimed: its call begins, or its row was an orphan and is taken up.
 */
void
steps_start(Job *job)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	marker_begin(job->id, job->attempt);
	if (job->waits_for == NULL)
		postponed_forget(job->id);
	if (job->stored_at != NULL)
		cancel_resume(job);
	else if (job->request == NULL)
		resume(job);
	else if (job->complaint != NULL)
		steps_fail(job, job->complaint);
	else if (job->waits_for != NULL)
		postpone(job);
	else if (lookup_comes_first(job))
		lookup_begin(job);
	else
		steps_submit(job);
	marker_end();
	MemoryContextSwitchTo(caller);
}

/*
 * Takes notice that the job's verdict is in the table.
 */
void
steps_reported(Job *job)
{
	TimestampTz now = clock_now();
	ServerStats *stats = job->queue->stats;
	bool goes_on = strcmp(job->new_state, "queued") == 0;

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
 * Makes a verdict whose result or usage the table refuses (a number that numeric cannot hold, more than jsonb can) one
 * that it takes: the answer becomes an output, as it came.
 */
void
steps_simplify(Job *job, bool result, bool usage)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	Verdict *verdict = job->verdict;

	if (job->state == JOB_SAVING)
	{
		/* the name of a prediction must get into the table, whatever else does not */
		if (usage)
			job->remote.usage = NULL;
		if (result)
			job->remote.answer = verdict->answer = NULL;
	}
	else
	{
		if (usage)
			verdict->usage = NULL;
		if (result && (verdict->result != NULL || job->result != NULL))
		{
			Output *output = palloc0(sizeof(Output));

			output->content_type = "application/json";
			output->data = verdict->result ? verdict->result : jsonb_print_utf8(job->result);
			output->len = strlen(output->data);
			verdict->outputs = lappend(verdict->outputs, output);
			verdict->result = NULL;
			job->result = NULL;
		}
	}
	MemoryContextSwitchTo(caller);
}
