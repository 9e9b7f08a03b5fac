/*
 * cancel.c
 *		Having a provider cancel the prediction of a job that was cancelled or deleted, or whose time is up.
 *
 *		begin -> (mark the row) -> line -> call -> (back off -> line ...) -> note on the row
 *
 * The row is final already.  While its column remote is not null it says that the provider is still to be told, so the
 * next dispatcher goes on where this one ends (queue/cancels.c); the note that the provider was told, or could not
 * be, clears it.  Calls go out a few at a time for each server, with its rate, its holds and its breaker, and are
 * repeated for an hour.  A prediction that is named in no row (its job was deleted) is told of as long as this
 * process lives.
 */
#include "postgres.h"

#include <time.h>

#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/guard.h"
#include "life/job.h"
#include "base/json.h"
#include "base/marker.h"
#include "base/status.h"
#include "protocol/delay.h"
#include "protocol/words.h"
#include "schedule/schedule.h"
#include "life/steps.h"

#define MAX_CALLS 128  /* that cancel, of all servers, but for one of each */
#define MAX_WINDOW 16  /* of a server, and no more than it may have jobs */
#define FIRST_WINDOW 4 /* which grows with each answer, and is halved by each refusal */
#define MAX_HOLD_MS INT64CONST(600000) /* what a server may ask to wait */
#define FAILURES_BEFORE_NOTE 3         /* in a row: then the row says so meanwhile */
#define GIVE_UP_US (60 * USECS_PER_MINUTE)

static const Backoff call_again = {1000, 60000}; /* ms */

static Lines cancels = {.waiting = DLIST_STATIC_INIT(cancels.waiting)};

/* ---------- the row ---------- */

/*
 * What the row says of a prediction of which the provider is told again and again.
 */
char *
cancel_describe_delay(const Job *job)
{
	return psprintf("The server \"%s\" did not confirm it yet: what it has begun may go on, and be paid for.",
					NameStr(job->queue->name));
}

/*
 * What the row says of a prediction that was to be cancelled, in the end.
 */
static char *
describe_cancel(const Job *job)
{
	const char *name = NameStr(job->queue->name);

	if (job->options == NULL || job->complaint != NULL)
		return psprintf("The server \"%s\" cannot be used any more, and was not told: what it has begun may go on, and be paid for.",
						name);
	if (job->options->protocol.cancel == NULL)
		return psprintf("The server \"%s\" has no call to cancel a prediction: what it has begun goes on, and may be paid for.",
						name);
	if (job->cancel_confirmed)
		return psprintf("The server \"%s\" confirmed it.", name);
	return psprintf("The server \"%s\" did not confirm it: what it has begun may go on, and be paid for.",
					name);
}

/*
 * Has the row marked or, with a note, be done with.
 */
static void
save(Job *job, char *note, bool is_end)
{
	job->cancel_has_ended = is_end;
	job->step = STEP_CANCEL;
	job->verdict = MemoryContextAllocZero(job->context, sizeof(Verdict));
	job->verdict->error = note;
	job_enter(job, JOB_SAVING);
}

static void
save_note(void *arg)
{
	Job *job = arg;

	save(job, describe_cancel(job), true);
}

static void
save_delay(void *arg)
{
	Job *job = arg;

	save(job, cancel_describe_delay(job), false);
}

static void
destroy(Job *job)
{
	MemoryContextSwitchTo(MemoryContextGetParent(job->context));
	job_destroy(job);
}

/*
 * All that can be done has been done.
 */
static void
conclude(Job *job)
{
	char *error;

	MemoryContextSwitchTo(job->context);
	job->verdict = NULL;
	calls_forget(job);
	lines_end_call(&job->waiter);
	limits_leave(&job->place);
	if (job->row_is_gone || !guard_run(save_note, job, &error))
		destroy(job);
}

/*
 * Takes notice that the row was marked, or has its note, or is not the job's any more.
 */
void
cancel_saved(Job *job)
{
	if (job->cancel_has_ended)
	{
		job_destroy(job);
		return;
	}
	job->is_marked = job->outcome == REPORT_WRITTEN;
	job->row_is_gone |= !job->is_marked;
	job->report_at = job->report_failures = 0;
	job->verdict = NULL;
	job_enter(job, JOB_CANCELLING);
	job_wake_at(job, Max(job->cancel_again, 1));
}

/* ---------- calls ---------- */

static void
build_and_begin(void *arg)
{
	Job *job = arg;
	Building building = {job, job->cancels};

	calls_prepare(job);
	MemoryContextSwitchTo(job->call_context);
	job->cancels_left = NULL; /* an error below ends it */
	calls_build(&building);
	job->cancels_left = building.rest;
	if (building.is_trusted && !calls_begin(job, STEP_CANCEL, building.http))
		job->cancels_left = job->cancels; /* memory is short */
}

/*
 * Waits to make the present call once more.
 */
static void
back_off(Job *job, int64 least_ms)
{
	char *error;
	int64 delay =
		backoff_halves(&call_again, job->cancel_failures++, pg_prng_double(&pg_global_prng_state));

	MemoryContextSwitchTo(job->context);
	calls_forget(job);
	lines_end_call(&job->waiter);
	limits_leave(&job->place);
	job->cancel_again = clock_mono() + Max(delay, least_ms) * 1000;
	if (job->cancel_failures == FAILURES_BEFORE_NOTE && !job->row_is_gone &&
		guard_run(save_delay, job, &error))
		return;
	job_wake_at(job, job->cancel_again);
}

/*
 * Calls the next of the protocol's addresses that end a prediction; when there are none left, the row is told.
 * Runs within a claim's transaction too, whose failure would leave the job where nothing moves it on: so no error gets
 * out.
 */
static void
call_next(Job *job)
{
	char *error;

	while (job->cancels != NULL)
	{
		MemoryContextSwitchTo(job->context);
		if (!guard_run(build_and_begin, job, &error))
			job->transfer = NULL;
		if (job->transfer != NULL)
			return;
		if (job->cancels_left == job->cancels)
		{
			back_off(job, 0);
			return;
		}
		job->cancels = job->cancels_left;
	}
	conclude(job);
}

/*
 * How many calls that cancel a server may have now.
 */
static int
window_of(const ServerQueue *queue)
{
	double window = queue->cancel_window > 0 ? queue->cancel_window : FIRST_WINDOW;

	return Min((int) window, limits_cancels(&queue->limits, MAX_WINDOW));
}

static bool
has_window(const Line *line)
{
	return line->n_calls < window_of(line->queue) &&
		   (line->n_calls == 0 || cancels.n_calls < MAX_CALLS);
}

static bool
may_go(const Line *line, MonoTime now)
{
	ServerQueue *queue = line->queue;

	/* no job waits for the token that is not theirs */
	if (!queue_has_waiting(queue))
		queue->limits.cancels_next = true;
	return has_window(line) && queue->cancels_held_until <= now &&
		   limits_may_cancel(&queue->limits, now);
}

/*
 * Has a job's next call begun when its server may have it.
 */
void
cancel_line_up(Job *job)
{
	lines_join(&cancels, &job->queue->cancels, &job->waiter);
}

static void
begin(Job *job, MonoTime now)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	if (!limits_take_for_cancel(&job->queue->limits, job->options->url, now, &job->place))
		back_off(job, 0);
	else
	{
		if (job->cancel_since == 0)
			job->cancel_since = now;
		lines_begin_call(&cancels, &job->queue->cancels, &job->waiter);
		marker_begin(job->id, job->attempt);
		call_next(job);
		marker_end();
	}
	MemoryContextSwitchTo(caller);
}

/*
 * Begins the calls that may go now.
 */
void
cancel_work(MonoTime now)
{
	LineWaiter *waiter;
	dlist_iter iter;

	while ((waiter = lines_take(&cancels, may_go, now)) != NULL)
		begin(job_of_waiter(waiter), now);
	dlist_foreach(iter, &cancels.waiting)
	{
		const Line *line = dlist_container(Line, node, iter.cur);

		line->queue->limits.cancels_wait =
			line_has_waiters(line) && has_window(line) && line->queue->cancels_held_until <= now;
	}
}

/*
 * When cancel_work() has something to do, unless a call ends before; 0: not by itself.
 */
MonoTime
cancel_next(MonoTime now)
{
	MonoTime next = 0;
	dlist_iter iter;

	dlist_foreach(iter, &cancels.waiting)
	{
		const Line *line = dlist_container(Line, node, iter.cur);
		ServerQueue *queue = line->queue;
		MonoTime change;

		if (!line_has_waiters(line) || !has_window(line))
			continue;
		if (may_go(line, now))
			return now;
		change = queue->cancels_held_until > now ? queue->cancels_held_until
												 : limits_next_cancel(&queue->limits, now);
		if (change != 0)
			schedule_note_time(&next, change);
	}
	return next;
}

/*
 * How many calls are under way.
 */
int
cancel_count_calls(void)
{
	return cancels.n_calls;
}

/*
 * What would be lost if this process left now: calls under way, and what no row says.
 */
int
cancel_count_unfinished(void)
{
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, job_list(JOB_CANCELLING))
	{
		const Job *job = dlist_container(Job, node, iter.cur);

		n += job->transfer != NULL || !job->is_marked;
	}
	return n;
}

/* ---------- answers ---------- */

/*
 * Whether a call that ended so has not told the provider.  One that knows of no such prediction, or says that it
 * cannot be cancelled any more, has heard.
 */
static bool
must_repeat(const Job *job, const HttpReply *reply)
{
	bool has_name = job->remote.id != NULL || job->remote.urls != NULL;

	/* what has no name may mean another job by then */
	if (!has_name || clock_mono() - job->cancel_since > GIVE_UP_US)
		return false;
	if (reply->error != HTTP_OK)
		return reply->error != HTTP_FORBIDDEN && reply->error != HTTP_UNTRUSTED;
	return status_action(STATUS_OF_CANCEL, reply->status, job->options->retry_status) ==
		   ACTION_AGAIN;
}

/*
 * Has the server's calls wait that cancel, as it asks; returns how long, in ms.
 */
static int64
obey_refusal(ServerQueue *queue, const HttpReply *reply)
{
	int64 ms = delay_read(reply, NULL, NULL, "", time(NULL));

	queue->cancel_window = Max(1, window_of(queue) / 2);
	ms = Min(ms, MAX_HOLD_MS);
	if (ms > 0)
		queue->cancels_held_until = Max(queue->cancels_held_until, clock_mono() + ms * 1000);
	return Max(ms, 0);
}

/*
 * What the end of a call says of its server; returns how long that asks to wait, in ms.
 */
static int64
note_outcome(Job *job, HttpReply *reply)
{
	ServerQueue *queue = job->queue;
	CallOutcome outcome = limits_outcome(reply);

	words_mask_reply(job->http, reply);
	json_sanitize_text(reply->error_text, strlen(reply->error_text));
	limits_note(&job->place,
				&(CallEnd){.outcome = outcome, .job = job->id, .error = reply->error_text},
				clock_mono());
	if (outcome == CALL_BUSY)
		return obey_refusal(queue, reply);
	if (outcome == CALL_ANSWERED && reply->error == HTTP_OK)
		queue->cancel_window = Min(MAX_WINDOW, window_of(queue) + 1);
	return 0;
}

/*
 * Moves a job on one of whose calls has ended.
 */
void
cancel_answered(Job *job, HttpReply *reply)
{
	int64 wait_ms = note_outcome(job, reply);

	if (reply->status == 401 || reply->status == 403)
		calls_doubt_secrets(job);
	job->cancel_confirmed |= reply->error == HTTP_OK && reply->status >= 200 && reply->status < 300;
	if (must_repeat(job, reply))
	{
		back_off(job, wait_ms);
		return;
	}
	job->cancels = job->cancels_left;
	job->cancel_failures = 0;
	call_next(job);
}

/* ---------- beginning ---------- */

/*
 * Lets go of all but what the calls that cancel need.
 */
static void
strip(Job *job)
{
	job_end_calls(job);
	job_forget_id(job);
	if (job->activity != NULL)
		shmem_activity_remove(job->activity);
	job->activity = NULL;
	job->verdict = NULL;
	calls_forget(job);
	steps_forget_input(job);
	job_enter(job, JOB_CANCELLING);
}

/*
 * Has the provider told of a job, as far as that can be, whose row says that it is to be, or says nothing yet.
 */
static void
begin_named(Job *job)
{
	job->cancels = job->options->protocol.cancel;
	if (job->cancels == NULL)
		conclude(job);
	else if (job->is_marked || job->row_is_gone)
		cancel_line_up(job);
	else
		save(job, NULL, false);
}

/*
 * Whether the provider has named a prediction of the job: an empty list of URLs names none.
 */
static bool
is_named(const Job *job)
{
	return job->remote.id != NULL ||
		   (job->remote.urls != NULL && strcmp(job->remote.urls, "{}") != 0);
}

/*
 * Ends a job of which there is nothing to be told: its row may say that there is.
 */
static void
let_go(Job *job)
{
	bool has_mark =
		job->is_saved && !job->row_is_gone &&
		(job->remote.id != NULL || job->remote.urls != NULL || job->remote.answer != NULL);

	if (!has_mark)
	{
		destroy(job);
		return;
	}
	strip(job);
	save(job, NULL, true);
}

/*
 * Whether what the job waits for at its server has a name that we gave it, if it has arrived.
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
 * Whether what the job waits for can be cancelled, as it has no name but is the only call of its server.
 */
static bool
is_only_call(const Job *job)
{
	const Protocol *protocol = &job->options->protocol;

	return protocol->cancel != NULL && job->state == JOB_CALLING && job->step == STEP_SUBMIT &&
		   strcmp(protocol->reply, "poll") != 0 && job->options->max_in_flight == 1;
}

/*
 * Ends a job whose row was cancelled or deleted: its calls are cut, and the provider is told where it
 * can be.
 */
void
cancel_begin(Job *job)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	bool has_ended = job->state == JOB_REPORTING && !job->must_cancel;
	bool by_us;

	if (job->transfer != NULL)
		job->remote.is_public |= http_peer_is_public(job->transfer);
	/* an orphan that was read just now has what its row says */
	job->is_saved |= job->state == JOB_CLAIMED && job->request == NULL;
	if (job->options == NULL || has_ended || (job->state == JOB_CLAIMED && job->request != NULL))
	{
		let_go(job);
		MemoryContextSwitchTo(caller);
		return;
	}
	by_us = is_named_by_us(job);
	if (is_named(job) || by_us)
	{
		strip(job);
		if (by_us)
			job->remote.id = job->idempotency_key;
		job->is_marked = job->is_saved && !job->row_is_gone && !by_us;
		begin_named(job);
	}
	else if (is_only_call(job))
	{
		/* at once: the next call of this server must not be taken for it */
		strip(job);
		job->cancels = job->options->protocol.cancel;
		call_next(job);
	}
	else
		let_go(job);
	MemoryContextSwitchTo(caller);
}

/*
 * Has the provider told of a job whose row is final and says that it is to be: it failed just now, or was found so.
 */
void
cancel_resume(Job *job)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	strip(job);
	job->is_marked = true;
	if (!is_named(job))
		save(job, NULL, true);
	else if (job->options == NULL || job->complaint != NULL)
		conclude(job);
	else
		begin_named(job);
	MemoryContextSwitchTo(caller);
}
