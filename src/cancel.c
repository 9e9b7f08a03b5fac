/*
 * cancel.c
 *		Ending a job that was cancelled or deleted, also at its provider.
 *
 * The row is what it is already; what is left is to cut the job's call, to tell the provider, and to have the
 * row say whether it has heard.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "guard.h"
#include "job.h"
#include "schedule.h"
#include "steps.h"

/*
 * Calls the next of the protocol's addresses that end a prediction; when there are none left, the
 * row is told.
 */
static void
call_next_cancel(void *arg)
{
	Job *job = arg;

	while (job->cancels != NULL)
	{
		Building building = {job, job->cancels};

		calls_prepare(job);
		MemoryContextSwitchTo(job->call_context);
		job->cancels = NULL; /* an error below ends it */
		calls_build(&building);
		job->cancels = building.rest;
		if (building.is_trusted && calls_begin(job, STEP_CANCEL, building.http))
			return;
	}
	job->transfer = NULL;
}

/*
 * What the row of a cancelled job says of its prediction.
 */
static char *
describe_cancel(const Job *job)
{
	if (job->options->protocol.cancel == NULL)
		return psprintf("The server \"%s\" has no call to cancel a prediction: what it has begun goes on, and may be paid for.",
						NameStr(job->queue->name));
	if (job->cancel_confirmed)
		return psprintf("The server \"%s\" confirmed it.", NameStr(job->queue->name));
	return psprintf("The server \"%s\" did not confirm it: what it has begun may go on, and be paid for.",
					NameStr(job->queue->name));
}

static void
note_cancel(void *arg)
{
	Job *job = arg;

	MemoryContextSwitchTo(job->context);
	job->step = STEP_CANCEL;
	job->verdict = palloc0(sizeof(Verdict));
	job->verdict->error = describe_cancel(job);
	job_enter(job, JOB_SAVING);
}

/*
 * Runs within a claim's transaction too, whose failure would leave the job where nothing moves it on: so
 * no error gets out.
 */
static void
cancel_next(Job *job)
{
	char *error;

	MemoryContextSwitchTo(job->context);
	if (!guard_run(call_next_cancel, job, &error))
		job->transfer = NULL;
	if (job->transfer != NULL || guard_run(note_cancel, job, &error))
		return;
	MemoryContextSwitchTo(MemoryContextGetParent(job->context));
	job_destroy(job);
}

/*
 * Ends a job whose row was cancelled or deleted: its calls are cut, and the provider is told where it
 * can be.
 */
void
cancel_begin(Job *job)
{
	const Protocol *protocol = job->options ? &job->options->protocol : NULL;
	const char *cancels = protocol ? protocol->cancel : NULL;
	bool is_submitting = job->state == JOB_CALLING && job->step == STEP_SUBMIT;
	/* its name is the one that we gave it, if it has arrived */
	bool is_named_by_us = job->step == STEP_LOOKUP || (is_submitting && protocol->lookup != NULL);
	bool can_be_told =
		follow_can_be_asked(job) || is_named_by_us ||
		(is_submitting && strcmp(protocol->reply, "poll") != 0 && job->options->max_in_flight == 1);
	MemoryContext caller;

	follow_forget_question(job);
	if (protocol == NULL || !can_be_told || (cancels == NULL && !follow_can_be_asked(job)) ||
		job->state == JOB_CLAIMED || job->state == JOB_REPORTING)
	{
		job_destroy(job);
		return;
	}
	caller = MemoryContextSwitchTo(job->context);
	if (job->transfer != NULL)
		job->remote.is_public |= http_peer_is_public(job->transfer);
	job_end_calls(job);
	job_forget_id(job);
	if (job->activity != NULL)
		shmem_activity_remove(job->activity);
	job->activity = NULL;
	job->cancels = cancels;
	if (is_named_by_us)
		job->remote.id = job->idempotency_key;
	job_enter(job, JOB_CANCELLING);
	cancel_next(job);
	MemoryContextSwitchTo(caller);
}

/*
 * Takes notice that one of those calls has ended.
 */
void
cancel_answered(Job *job, HttpReply *reply)
{
	job->cancel_confirmed |= reply->error == HTTP_OK && reply->status >= 200 && reply->status < 300;
	cancel_next(job);
}
