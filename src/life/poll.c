/*
 * poll.c
 *		The steps that ask for a prediction's state, and for its result.
 *
 * Between two polls a job has no handle, no connection, and only a few
 * kilobytes of memory, so ten thousand jobs can wait for predictions.  The
 * interval adapts to how long the server's predictions usually take; asking.c
 * limits the polls of all jobs together.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "life/asking.h"
#include "life/calls.h"
#include "life/step.h"
#include "life/verdict.h"
#include "schedule/schedule.h"
#include "shared/shown.h"
#include "shared/stats.h"

#define MAX_POLL_DELAY_MS 30000
#define MAX_GRACE_MS 600000  /* beyond the deadline, for a provider that does not answer then */
#define ABSENT_BEFORE_LIST 4 /* answers that say nothing, before we ask for the list of all */

/* ---------- waiting ---------- */

static MonoTime
deadline_of(const Job *job)
{
	return job->began_at + job->options->timeout * INT64CONST(1000);
}

/*
 * Returns when to give up a prediction if the provider says nothing.  This is
 * after the deadline, so that an outage at that moment does not lose what was
 * paid for.
 */
static MonoTime
end_of_grace(const Job *job)
{
	return deadline_of(job) + Min(job->options->timeout, MAX_GRACE_MS) * INT64CONST(1000);
}

/*
 * Returns how long to wait before the first poll: the recent duration of the server's predictions or, before any has
 * ended, of its calls.
 */
static double
first_delay_ms(const Job *job)
{
	const ServerQueue *queue = job->queue;

	if (queue->pace.first_ms > 0)
		return queue->pace.first_ms;
	return queue->stats ? stats_percentile(queue->stats, 0.5) * 1000 * 0.8 : 0;
}

/*
 * Returns how long to wait before the next poll: until most of the server's usual time has passed, then a tenth longer
 * each time.
 */
static int64
usual_delay_ms(const Job *job, MonoTime now)
{
	int64 least = job->options->poll_interval;
	int64 elapsed = (now - job->began_at) / 1000;
	double usual = first_delay_ms(job);
	int64 delay = Max(least, elapsed / 10);

	if (usual > elapsed)
		delay = Max(delay, (int64) usual - elapsed);
	return Min(delay, Max(least, MAX_POLL_DELAY_MS));
}

/*
 * Returns the address that lists all unfinished predictions (ids at *places), for servers whose poll cannot tell
 * "queued" from "unknown".  NULL if the preset has none.
 */
static char *
unended_address(const Job *job, const char **places)
{
	const Preset *preset = job->options->preset;

	if (preset->unended == NULL || job->options->protocol.poll != preset->protocol.poll)
		return NULL;
	return grammar_split_address(preset->unended, places);
}

/*
 * True if the verdict answers a question about the prediction.  False if the
 * prediction was just named, or is resumed.
 */
static bool
was_asked_about(const Job *job)
{
	return job->step == STEP_POLL || job->step == STEP_RESULT;
}

/*
 * Counts the answers that say nothing about the prediction, or that there is none.  The list of unfinished predictions
 * may be long, so it is read only now and then, unless the prediction was missing in it.
 */
static void
note_absence(Job *job, const Verdict *verdict)
{
	const char *places;

	/* answers from before this prediction do not count */
	if (!was_asked_about(job))
		job->poll.n_forgotten = job->poll.n_absent = 0;
	if (verdict->forgotten)
		job->poll.n_forgotten++;
	else if (verdict->absent)
		job->poll.n_absent++;
	else
		job->poll.n_forgotten = job->poll.n_absent = 0;
	job->poll.asks_unended =
		verdict->absent && unended_address(job, &places) != NULL &&
		(job->poll.n_forgotten > 0 || job->poll.n_absent % ABSENT_BEFORE_LIST == 0);
}

/*
 * Keeps the provider's word for the prediction's state, and shows it.
 */
static void
note_remote_state(Job *job, const char *state)
{
	if (state == NULL)
		return;
	if (job->activity != NULL)
		shown_keep(job->activity->remote_state, state, sizeof(job->activity->remote_state));
	if (job->poll.remote_state != NULL && strcmp(state, job->poll.remote_state) == 0)
		return;
	if (job->poll.remote_state != NULL)
		pfree(job->poll.remote_state);
	job->poll.remote_state = MemoryContextStrdup(job->context, state);
}

/*
 * Returns the provider's last word for an error message; empty if there was none.
 */
static const char *
describe_remote_state(const Job *job)
{
	return job->poll.remote_state != NULL
			   ? psprintf(" (its state was last \"%s\")", job->poll.remote_state)
			   : "";
}

/*
 * Fails a job whose prediction still runs at the deadline.  The provider is told to cancel it.
 */
static Next
fail_running(Job *job)
{
	bool can_cancel = job->options->protocol.cancel != NULL && job->is_saved;

	job->report.must_cancel = can_cancel;
	return next_fail(job,
					 psprintf("the prediction %s of server \"%s\" did not end within the option timeout%s. It may still run and cost money: %s",
							  job->remote.id ? job->remote.id : "", NameStr(job->queue->name),
							  describe_remote_state(job),
							  can_cancel
								  ? "the provider is told to cancel it. Raise timeout if it needs longer."
								  : "cancel it at the provider, or raise timeout."));
}

/*
 * Fails a job whose provider does not say what became of its prediction.
 */
static Next
fail_unanswered(Job *job)
{
	const Verdict *verdict = job->verdict;

	return next_fail(job,
					 psprintf("it is not known whether the prediction %s of server \"%s\" ended within the option timeout%s. It may still run and cost money: look for it at the provider%s. The last poll failed: %s",
							  job->remote.id ? job->remote.id : "", NameStr(job->queue->name),
							  describe_remote_state(job),
							  verdict->has_answer
								  ? ", which has its answer, before you call genjob.retry()"
								  : " before you call genjob.retry(), or raise timeout",
							  verdict->error));
}

/*
 * Returns when to poll again: after ms, but also at the deadline, and a few times between it and the time to give up.
 */
static MonoTime
next_question(const Job *job, MonoTime now, int64 delay)
{
	MonoTime deadline = deadline_of(job);
	MonoTime end = end_of_grace(job);
	int64 most = Max(job->options->poll_interval, (end - deadline) / 1000 / 8);

	if (now < deadline)
		return Min(now + delay * 1000, deadline);
	return Min(now + Min(delay, most) * 1000, Max(now, end));
}

static void
keep_usage(Job *job, const char *usage)
{
	/* free it: each of a thousand polls may bring one */
	if (job->remote.usage != NULL)
		pfree(job->remote.usage);
	job->remote.usage = pstrdup(usage);
}

static int64
next_delay_ms(const Job *job, MonoTime now)
{
	const Verdict *verdict = job->verdict;

	if (verdict->after >= 0 && (verdict->error != NULL || verdict->has_answer))
		return Max(verdict->after, verdict->error != NULL ? job->options->poll_interval : 0);
	return usual_delay_ms(job, now);
}

/*
 * Fails a job that was handed over, and that nobody answered in time.
 */
static Next
fail_handed_over(Job *job)
{
	return next_fail(job,
					 psprintf("job was handed over to server \"%s\" (%s), but genjob.complete() did not bring its answer within the option timeout. It may still be at work and cost money: look there before you call genjob.retry(), or raise timeout.",
							  NameStr(job->queue->name), job->remote.id));
}

/*
 * Waits for genjob.complete(), which ends the row: there is nothing to ask.
 */
static Next
await_answer(Job *job)
{
	MonoTime deadline = deadline_of(job);

	if (clock_mono() >= deadline)
		return fail_handed_over(job);
	return next_wait(STEP_POLL, deadline);
}

Next
poll_woken(Job *job)
{
	return options_hands_over(job->options) ? await_answer(job) : next_line(STEP_POLL);
}

bool
poll_is_due(const Job *job)
{
	return job->verdict->kind == VERDICT_WAIT;
}

/*
 * Waits for the next poll.  After the deadline the job fails if the provider
 * says that the prediction still runs; it is never submitted again.  If the
 * provider does not answer, it is polled for some time longer.  A result that
 * is there is fetched in any case.
 */
Next
poll_begin(Job *job)
{
	const Verdict *verdict = job->verdict;
	MonoTime now = clock_mono();
	int64 delay = next_delay_ms(job, now);

	Assert(verdict->kind == VERDICT_WAIT && verdict_names_prediction(job));
	if (options_hands_over(job->options))
		return await_answer(job);
	job->poll.failures = verdict->error != NULL ? job->poll.failures + 1 : 0;
	note_absence(job, verdict);
	note_remote_state(job, verdict->remote_state);
	if (verdict->usage != NULL)
		keep_usage(job, verdict->usage);
	if (was_asked_about(job) && now >= end_of_grace(job) && verdict->error != NULL)
		return fail_unanswered(job);
	if (was_asked_about(job) && now >= deadline_of(job) && verdict->error == NULL &&
		!verdict->has_answer)
		return fail_running(job);
	calls_show_progress(job, verdict->progress);
	return next_wait(verdict->has_answer ? STEP_RESULT : STEP_POLL, next_question(job, now, delay));
}

/* ---------- asking ---------- */

/*
 * Returns the error for a job whose columns remote_id or remote cannot be
 * read.  Only genjob should write them.
 */
static char *
describe_unreadable(const Job *job, const char *why)
{
	return psprintf("genjob could not read the columns remote_id and remote, which name the prediction %s of server \"%s\": %s. It may have been paid for: look for it at the provider before you call genjob.retry().",
					job->remote.id ? job->remote.id : "", NameStr(job->queue->name), why);
}

Next
poll_unbuilt(Job *job, const char *why, const ErrorData *error)
{
	return next_fail(job, error ? describe_unreadable(job, error->message) : why);
}

/*
 * Returns why a poll cannot go to that address.
 */
static char *
describe_obstacle(const Job *job, const AddressedCall *call)
{
	if (call->http == NULL)
		return psprintf("server \"%s\" gave no URL at %s to poll its prediction %s. Look at the server's option poll.",
						NameStr(job->queue->name),
						call->address.place ? call->address.place : call->address.path,
						job->remote.id ? job->remote.id : "");
	return psprintf("server \"%s\" gave a URL of another host to poll its prediction: %s. Name the host in the server's option allow_hosts.",
					NameStr(job->queue->name), call->http->shown_url);
}

static HttpRequest *
build_question(Job *job, const char *address, char **why)
{
	AddressedCall call;

	if (address == NULL || job->options->protocol.state == NULL)
	{
		/* the server's options have changed since the prediction was submitted */
		*why =
			psprintf("server \"%s\" no longer has the options to poll its prediction %s. It may still run and cost money: look for it at the provider before you call genjob.retry().",
					 NameStr(job->queue->name), job->remote.id ? job->remote.id : "");
		return NULL;
	}
	call = calls_build(job, address);
	if (call.http != NULL && call.is_trusted)
		return call.http;
	*why = describe_obstacle(job, &call);
	return NULL;
}

HttpRequest *
poll_build(Job *job, char **why)
{
	const char *places;
	const char *address =
		job->poll.asks_unended ? unended_address(job, &places) : job->options->protocol.poll;

	return build_question(job, address, why);
}

HttpRequest *
poll_build_result(Job *job, char **why)
{
	return build_question(job, job->options->protocol.result, why);
}

/* ---------- answers ---------- */

Verdict *
poll_judge(const ReplySource *source, HttpReply *reply, Remote *remote)
{
	return reply_judge_poll(source, reply, remote);
}

Verdict *
poll_judge_result(const ReplySource *source, HttpReply *reply, Remote *remote)
{
	return reply_judge_result(source, reply);
}

/*
 * Notes when the prediction succeeded, and that the server answers polls.
 */
static Verdict *
note_answer(Job *job, Verdict *verdict)
{
	bool has_ended = verdict->kind == VERDICT_DONE || verdict->kind == VERDICT_FETCH ||
					 (verdict->kind == VERDICT_WAIT && verdict->has_answer);

	asking_note_end(job);
	if (has_ended && verdict->error == NULL)
		pace_note_end(&job->queue->pace, (clock_mono() - job->began_at) / 1000,
					  job->poll.n_answers == 0);
	job->poll.n_answers += verdict->error == NULL;
	return verdict;
}

/*
 * Ends a series of failed polls, unless the prediction still runs: then
 * poll_begin() counts.
 */
static Next
conclude_poll(Job *job, Verdict *verdict)
{
	if (verdict->kind != VERDICT_WAIT)
		job->poll.failures = 0;
	return next_verdict(verdict);
}

Next
poll_answered(Job *job, HttpReply *reply)
{
	const char *places;
	Verdict *verdict;

	if (job->poll.asks_unended && unended_address(job, &places) != NULL)
		return next_verdict(verdict_read_unended(job, reply, places));
	verdict = verdict_read(job, reply, poll_judge, true);
	if (verdict->has_answer && job->remote.urls != NULL)
		job->remote.urls = pstrdup(job->remote.urls);
	return conclude_poll(job, note_answer(job, verdict));
}

Next
poll_answered_result(Job *job, HttpReply *reply)
{
	return conclude_poll(job, verdict_read(job, reply, poll_judge_result, true));
}
