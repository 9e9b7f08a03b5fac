/*
 * cancel.c
 *		The step that tells a provider to cancel a prediction: its job was
 *		cancelled or deleted, or its time is up.
 *
 *		begin -> (mark the row) -> line -> call -> (back off -> line ...) -> note on the row
 *
 * The row is final already.  While its column remote is not null, the provider
 * must still be told; the next dispatcher goes on where this one ends
 * (queue/cancels.c).  The final note clears remote.  Each server gets a few
 * calls at a time, within its rate, its holds and its breaker.  A failed call
 * is repeated for an hour.  If no row names the prediction (its job was
 * deleted), only this process can tell the provider.
 */
#include "postgres.h"

#include <time.h>

#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/guard.h"
#include "base/json.h"
#include "base/status.h"
#include "life/calls.h"
#include "life/cuts.h"
#include "life/cancel.h"
#include "life/cancelline.h"
#include "life/pour.h"
#include "life/step.h"
#include "life/upload.h"
#include "protocol/delay.h"
#include "protocol/words.h"
#include "schedule/schedule.h"

#define MAX_HOLD_MS INT64CONST(600000) /* the longest wait that a server may ask for */
#define FAILURES_BEFORE_NOTE 3         /* in a row; then a note on the row says so */
#define GIVE_UP_US (60 * USECS_PER_MINUTE)

static const Backoff call_again = {1000, 60000}; /* ms */

/* ---------- the row ---------- */

/*
 * Returns the note for the row while the provider is still being told to cancel.
 */
char *
cancel_describe_delay(const Job *job)
{
	return psprintf("The server \"%s\" did not confirm it yet: its work may continue and cost money.",
					NameStr(job->queue->name));
}

/*
 * Returns the final note for the row of a prediction that was to be cancelled.
 */
static char *
describe_cancel(const Job *job)
{
	const char *name = NameStr(job->queue->name);

	if (job->options == NULL || job->complaint != NULL)
		return psprintf("The server \"%s\" cannot be used any longer, and got no call to cancel: its work may continue and cost money.",
						name);
	if (job->options->protocol.cancel == NULL)
		return psprintf("The server \"%s\" has no call to cancel a prediction: its work continues and may cost money.",
						name);
	if (job->cancel.is_confirmed)
		return psprintf("The server \"%s\" confirmed it.", name);
	return psprintf("The server \"%s\" did not confirm it: its work may continue and cost money.",
					name);
}

/*
 * Saves the mark on the row or, at the end, the note.
 */
static Next
save_cancel(Job *job, char *note, bool is_end)
{
	Verdict *verdict = palloc0(sizeof(Verdict));

	job->cancel.saves_end = is_end;
	verdict->error = note;
	return next_save(STEP_CANCEL, verdict);
}

/* What is written into a row. */
typedef struct Note
{
	Job *job;
	bool is_end;
	Next next;
} Note;

static void
save_cancel_note(void *arg)
{
	Note *note = arg;
	char *words = note->is_end ? describe_cancel(note->job) : cancel_describe_delay(note->job);

	note->next = save_cancel(note->job, words, note->is_end);
}

static void
let_go_of_call(Job *job)
{
	job->verdict = NULL;
	calls_forget(job);
	lines_end_call(&job->waiter);
	limits_leave(&job->place);
}

/*
 * Ends the cancel: writes the note on the row, unless the row is gone or memory is short.
 */
static Next
conclude_cancel(Job *job)
{
	Note note = {job, true};
	char *error;

	let_go_of_call(job);
	if (job->cancel.row_is_gone || !guard_run(save_cancel_note, &note, &error))
		return next_gone();
	return note.next;
}

Next
cancel_saved(Job *job)
{
	if (job->cancel.saves_end)
		return next_gone();
	job->cancel.is_marked = job->write.outcome == WRITE_DONE;
	job->cancel.row_is_gone |= !job->cancel.is_marked;
	job->verdict = NULL;
	return next_wait(STEP_CANCEL, Max(job->cancel.again_at, 1));
}

/* ---------- calls ---------- */

/*
 * Backs off before the present call is repeated.
 */
static Next
repeat_call_later(Job *job, int64 least_ms)
{
	Note note = {job, false};
	char *error;
	int64 delay =
		backoff_halves(&call_again, job->cancel.failures++, pg_prng_double(&pg_global_prng_state));

	let_go_of_call(job);
	job->cancel.again_at = clock_mono() + Max(delay, least_ms) * 1000;
	if (job->cancel.failures == FAILURES_BEFORE_NOTE && !job->cancel.row_is_gone &&
		guard_run(save_cancel_note, &note, &error))
		return note.next;
	return next_wait(STEP_CANCEL, job->cancel.again_at);
}

/*
 * Builds the call to the protocol's next cancel address that may have the
 * secrets.  NULL: there are no more.
 */
HttpRequest *
cancel_build(Job *job, char **why)
{
	for (; job->cancel.addresses != NULL; job->cancel.addresses = job->cancel.rest)
	{
		AddressedCall call = calls_build(job, job->cancel.addresses);

		job->cancel.rest = call.rest;
		if (call.is_trusted)
			return call.http;
	}
	return NULL;
}

/*
 * No call is left to make.  May run in a claim's transaction: no error may get
 * out, because nothing would move the job on.
 */
Next
cancel_unbuilt(Job *job, const char *why, const ErrorData *error)
{
	job->cancel.addresses = NULL;
	return conclude_cancel(job);
}

Next
cancel_given_up(Job *job, const char *why)
{
	return cancel_unbuilt(job, why, NULL);
}

Next
cancel_starved(Job *job)
{
	return repeat_call_later(job, 0);
}

/*
 * The server may now get the job's next call.
 */
Next
cancel_admitted(Job *job)
{
	MonoTime now = clock_mono();
	Next next;

	if (cuts_prevent(job, STEP_CANCEL, &next))
		return next;
	if (!limits_take_for_cancel(&job->queue->limits, job->options->url, now, &job->place))
		return repeat_call_later(job, 0);
	if (job->cancel.since == 0)
		job->cancel.since = now;
	cancelline_begin(job);
	return next_call(STEP_CANCEL);
}

/*
 * Returns how many cancels this process must not leave now: calls under way, and predictions that no row names.
 */
int
cancel_count_unfinished(void)
{
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, job_list(JOB_CANCELLING))
	{
		const Job *job = dlist_container(Job, node, iter.cur);

		n += job->call.transfer != NULL || !job->cancel.is_marked;
	}
	return n;
}

/* ---------- answers ---------- */

/*
 * True if the call must be repeated, because the provider did not get it.  A provider that knows no such prediction, or
 * can no longer cancel it, did get it.
 */
static bool
must_repeat(const Job *job, const HttpReply *reply)
{
	bool has_name = job->remote.id != NULL || job->remote.urls != NULL;

	/* without a name, a late call could cancel another job */
	if (!has_name || clock_mono() - job->cancel.since > GIVE_UP_US)
		return false;
	if (reply->error != HTTP_OK)
		return reply->error != HTTP_FORBIDDEN && reply->error != HTTP_UNTRUSTED;
	return status_action(STATUS_OF_CANCEL, reply->status, job->options->retry_status) ==
		   ACTION_AGAIN;
}

/*
 * Holds the server's cancels for as long as it asks; returns that in ms.
 */
static int64
obey_refusal(ServerQueue *queue, const HttpReply *reply)
{
	int64 ms = delay_read(reply, NULL, NULL, "", time(NULL));

	cancelline_narrow(queue);
	ms = Min(ms, MAX_HOLD_MS);
	if (ms > 0)
		queue->cancels_held_until = Max(queue->cancels_held_until, clock_mono() + ms * 1000);
	return Max(ms, 0);
}

/*
 * Tells the limits how the call ended; returns how long the server asks to wait, in ms.
 */
static int64
note_outcome(Job *job, HttpReply *reply)
{
	ServerQueue *queue = job->queue;
	CallOutcome outcome = limits_outcome(reply);

	words_mask_reply(job->call.http, reply);
	limits_note(&job->place,
				&(CallEnd){.outcome = outcome, .job = job->id, .error = reply->error_text},
				clock_mono());
	if (outcome == CALL_BUSY)
		return obey_refusal(queue, reply);
	if (outcome == CALL_ANSWERED && reply->error == HTTP_OK)
		cancelline_widen(queue);
	return 0;
}

Next
cancel_answered(Job *job, HttpReply *reply)
{
	int64 wait_ms = note_outcome(job, reply);

	Assert(job->cancel.addresses != NULL);
	if (reply->status == 401 || reply->status == 403)
		calls_doubt_secrets(job);
	job->cancel.is_confirmed |=
		reply->error == HTTP_OK && reply->status >= 200 && reply->status < 300;
	if (must_repeat(job, reply))
		return repeat_call_later(job, wait_ms);
	job->cancel.addresses = job->cancel.rest;
	job->cancel.failures = 0;
	return job->cancel.addresses != NULL ? next_call(STEP_CANCEL) : conclude_cancel(job);
}

/* ---------- beginning ---------- */

/*
 * Frees everything except what the cancelling calls need.
 */
static void
strip_job(Job *job)
{
	job_end_calls(job);
	pour_end_uploads(job);
	job_forget_id(job);
	if (job->activity != NULL)
		shmem_activity_remove(job->activity);
	job->activity = NULL;
	job->verdict = NULL;
	job->remote.has_verdict = false;
	calls_forget(job);
	calls_forget_input(job);
	limits_leave(&job->place);
}

/*
 * Begins to tell the provider to cancel, if its protocol can.  Marks the row
 * first, unless it has the mark.
 */
static Next
begin_named(Job *job)
{
	const char *cancels = job->options->protocol.cancel;
	bool is_ours = job->remote.id == NULL || job->idempotency_key == NULL ||
				   strcmp(job->remote.id, job->idempotency_key) == 0;

	job->cancel.addresses =
		cancels ? MemoryContextStrdup(job->context, grammar_fit_addresses(cancels, is_ours)) : NULL;
	if (job->cancel.addresses == NULL || *job->cancel.addresses == '\0')
		return conclude_cancel(job);
	if (job->cancel.is_marked || job->cancel.row_is_gone)
		return next_line(STEP_CANCEL);
	return save_cancel(job, NULL, false);
}

/*
 * True if the provider has named a prediction of the job.  An empty list of URLs names none.
 */
static bool
is_named(const Job *job)
{
	return job->remote.id != NULL ||
		   (job->remote.urls != NULL && strcmp(job->remote.urls, "{}") != 0);
}

/*
 * True if the prediction, if it exists, has an id that genjob chose.
 */
static bool
is_named_by_us(const Job *job)
{
	const Protocol *protocol = &job->options->protocol;
	bool is_submitting = job->state == JOB_CALLING && job->step == STEP_SUBMIT;

	return protocol->cancel != NULL && !is_named(job) &&
		   (job->step == STEP_LOOKUP || (is_submitting && protocol->lookup != NULL));
}

/*
 * True if the job's call can be cancelled without a name, because it is the only call of its server.
 */
static bool
is_only_call(const Job *job)
{
	const Protocol *protocol = &job->options->protocol;

	return protocol->cancel != NULL && job->state == JOB_CALLING && job->step == STEP_SUBMIT &&
		   protocol->kind.reply != REPLY_POLL && job->options->max_in_flight == 1;
}

/*
 * Ends a job whose provider need not be told.  Clears the mark, if its row has
 * one.
 */
static Next
release_job(Job *job)
{
	bool has_mark = job->is_saved && !job->cancel.row_is_gone &&
					(job->remote.id != NULL || job->remote.urls != NULL ||
					 job->remote.answer != NULL || job->remote.has_verdict);

	has_mark |= (job->remote.is_unsent || job->remote.is_unread || job->remote.uploads != NULL) &&
				!job->cancel.row_is_gone;
	strip_job(job);
	return has_mark ? save_cancel(job, NULL, true) : next_gone();
}

/*
 * True if genjob.complete() has ended the row, or may have done so while the
 * job was being saved.  Then there is nothing to cancel, and no note to write.
 */
static bool
is_answered(const Job *job)
{
	return job->cancel.is_completed ||
		   (job->state == JOB_SAVING && job->options != NULL && options_hands_over(job->options) &&
			job->options->protocol.cancel == NULL);
}

/*
 * Ends a job whose row was cancelled or deleted: cuts its calls, and tells the provider where possible.
 */
Next
cancel_begin(Job *job)
{
	bool has_ended = is_answered(job) || (job->state == JOB_REPORTING && !job->report.must_cancel);
	bool by_us;

	if (job->call.transfer != NULL)
		job->remote.is_public |= http_peer_is_public(job->call.transfer);
	/* an orphan was just read: its remote is in the row */
	job->is_saved |= job->state == JOB_CLAIMED && job->request == NULL;
	if (job->options == NULL || has_ended || job_is_unsent(job))
		return release_job(job);
	by_us = is_named_by_us(job);
	if (is_named(job) || by_us)
	{
		strip_job(job);
		if (by_us)
			job->remote.id = job->idempotency_key;
		job->cancel.is_marked = job->is_saved && !job->cancel.row_is_gone && !by_us;
		return begin_named(job);
	}
	if (!is_only_call(job))
		return release_job(job);
	/* at once: a late call could cancel the server's next job */
	strip_job(job);
	job->cancel.addresses =
		MemoryContextStrdup(job->context,
							grammar_fit_addresses(job->options->protocol.cancel, true));
	return next_call(STEP_CANCEL);
}

/*
 * Tells the provider to cancel the prediction of a job whose row is final and
 * has the mark.
 */
Next
cancel_resume(Job *job)
{
	strip_job(job);
	job->cancel.is_marked = true;
	if (!is_named(job))
		return save_cancel(job, NULL, true);
	if (job->options == NULL || job->complaint != NULL)
		return conclude_cancel(job);
	return begin_named(job);
}
