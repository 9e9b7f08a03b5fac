/*
 * follow.c
 *		What follows a submission: asking about the prediction.
 *
 * Between two questions a job holds no handle, no connection and no memory but its own few kilobytes, so
 * ten thousand predictions can be waited for.  How often is asked adapts to how long the server's
 * calls usually take, and is bounded for all of them together.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "life/asking.h"
#include "base/clock.h"
#include "base/guard.h"
#include "life/job.h"
#include "base/marker.h"
#include "protocol/words.h"
#include "schedule/schedule.h"
#include "shared/stats.h"
#include "life/steps.h"

#define MAX_POLL_DELAY_MS 30000
#define MAX_GRACE_MS 600000  /* beyond the deadline, for a provider that does not answer then */
#define ABSENT_BEFORE_LIST 4 /* answers that say nothing, before the list of all is asked for */

/* ---------- waiting ---------- */

/*
 * The address in "address#places"; NULL where there is no "#".
 */
char *
follow_split_address(const char *text, const char **places)
{
	const char *hash = text ? strchr(text, '#') : NULL;

	if (hash == NULL)
		return NULL;
	*places = hash + 1;
	return pnstrdup(text, hash - text);
}

static MonoTime
deadline_of(const Job *job)
{
	return job->began_at + job->options->timeout * INT64CONST(1000);
}

/*
 * When a prediction is given up of which the provider says nothing: an outage at the deadline must not throw away
 * what was paid for.
 */
static MonoTime
end_of_grace(const Job *job)
{
	return deadline_of(job) + Min(job->options->timeout, MAX_GRACE_MS) * INT64CONST(1000);
}

/*
 * How long to wait before the next question: until most of the server's usual time has passed, then a
 * tenth more each time.
 */
static int64
usual_delay_ms(const Job *job, MonoTime now)
{
	int64 least = job->options->poll_interval;
	int64 elapsed = (now - job->began_at) / 1000;
	double usual = job->queue->stats ? stats_percentile(job->queue->stats, 0.5) * 1000 * 0.8 : 0;
	int64 delay = Max(least, elapsed / 10);

	if (usual > elapsed)
		delay = Max(delay, (int64) usual - elapsed);
	return Min(delay, Max(least, MAX_POLL_DELAY_MS));
}

static void
show_progress(Job *job)
{
	if (job->activity != NULL && job->verdict->progress >= 0)
		pg_atomic_write_u64(&job->activity->progress, (uint64) (job->verdict->progress * 1000000));
}

/*
 * Where a server lists all that has not ended, with the places of ids in *places: of one whose poll says
 * nothing about that, nor about what it has forgotten.  NULL: of another.
 */
static char *
unended_address(const Job *job, const char **places)
{
	const Preset *preset = job->options->preset;

	if (preset->unended == NULL || job->options->protocol.poll != preset->protocol.poll)
		return NULL;
	return follow_split_address(preset->unended, places);
}

/*
 * Counts the answers that say nothing about the prediction, or that there is none.  The list of what has not
 * ended may be long: it is asked for only now and then, unless the prediction was missing in it.
 */
static void
note_absence(Job *job, const Verdict *verdict)
{
	const char *places;

	/* what was not there before it was submitted is another matter */
	if (job->step == STEP_SUBMIT || job->step == STEP_LOOKUP)
		job->n_forgotten = job->n_absent = 0;
	if (verdict->forgotten)
		job->n_forgotten++;
	else if (verdict->absent)
		job->n_absent++;
	else
		job->n_forgotten = job->n_absent = 0;
	job->asks_unended = verdict->absent && unended_address(job, &places) != NULL &&
						(job->n_forgotten > 0 || job->n_absent % ABSENT_BEFORE_LIST == 0);
}

/*
 * Fails a job whose prediction is still running when its time is up.  The provider is told to cancel it.
 */
static void
fail_running(Job *job)
{
	bool can_cancel = job->options->protocol.cancel != NULL && job->is_saved;

	job->must_cancel = can_cancel;
	steps_fail(job,
			   psprintf("the prediction %s of server \"%s\" did not end within the option timeout. It may still run, and be paid for: %s",
						job->remote.id ? job->remote.id : "", NameStr(job->queue->name),
						can_cancel
							? "the provider is told to cancel it. Raise timeout if it needs longer."
							: "cancel it at the provider, or raise timeout."));
}

/*
 * Fails a job whose provider does not say what became of its prediction.
 */
static void
fail_unanswered(Job *job)
{
	const Verdict *verdict = job->verdict;

	steps_fail(job,
			   psprintf("the prediction %s of server \"%s\" did not end within the option timeout, or it cannot be told. It may still run, and be paid for: look for it at the provider%s. The last question was not answered: %s",
						job->remote.id ? job->remote.id : "", NameStr(job->queue->name),
						verdict->has_answer ? ", which has its answer, before genjob.retry()"
											: " before genjob.retry(), or raise timeout",
						verdict->error));
}

/*
 * When to ask again, after so many ms if nothing ends before: when the time is up, and then a few times at least until
 * the prediction is given up.
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

/*
 * Has a job wait that follows from a verdict of the kind VERDICT_WAIT.  When its time is up, it fails, if the provider
 * says that the prediction is still running; it is not submitted again.  One that does not say so is asked for
 * some time longer, and an answer that is known to be there is fetched all the same.
 */
void
follow_wait(Job *job)
{
	Verdict *verdict = job->verdict;
	MonoTime now = clock_mono();
	int64 delay =
		verdict->after >= 0 && (verdict->error != NULL || verdict->has_answer)
			? Max(verdict->after, verdict->error != NULL ? job->options->poll_interval : 0)
			: usual_delay_ms(job, now);

	job->ask_failures = verdict->error != NULL ? job->ask_failures + 1 : 0;
	note_absence(job, verdict);
	if (verdict->usage != NULL)
	{
		/* it may come with each of a thousand questions */
		if (job->remote.usage != NULL)
			pfree(job->remote.usage);
		job->remote.usage = MemoryContextStrdup(job->context, verdict->usage);
	}
	if (job->step != STEP_SUBMIT && now >= end_of_grace(job) && verdict->error != NULL)
	{
		fail_unanswered(job);
		return;
	}
	if (job->step != STEP_SUBMIT && now >= deadline_of(job) && verdict->error == NULL &&
		!verdict->has_answer)
	{
		fail_running(job);
		return;
	}
	job->step = verdict->has_answer ? STEP_RESULT : STEP_POLL;
	show_progress(job);
	calls_forget(job);
	calls_show(job, ACTIVITY_WAITING);
	job_enter(job, JOB_WAITING);
	job_wake_at(job, next_question(job, now, delay));
}

/* ---------- asking ---------- */

/*
 * Begins a call that was built in job->call_context, or, where memory is short, waits to build it again.
 */
void
follow_begin(Job *job, JobStep step, HttpRequest *http, ActivityPhase phase)
{
	job_enter(job, JOB_CALLING);
	calls_show(job, phase);
	if (calls_begin(job, step, http))
		return;
	/* memory is short: another time */
	job_enter(job, JOB_WAITING);
	job->step = step;
	job_wake_at(job, clock_mono() + USECS_PER_SEC);
}

/*
 * Begins a call that only asks.
 */
void
follow_begin_question(Job *job, HttpRequest *http)
{
	asking_begin(job);
	follow_begin(job, job->step, http, ACTIVITY_POLLING);
	if (job->transfer == NULL)
		lines_end_call(&job->waiter);
}

/*
 * What is said of a job whose columns, which nobody but genjob should write, cannot be read.
 */
static char *
describe_unreadable(const Job *job, const char *why)
{
	return psprintf("what the columns remote_id and remote say of the prediction %s of server \"%s\" could not be read: %s. It may have been paid for: look for it at the provider before genjob.retry().",
					job->remote.id ? job->remote.id : "", NameStr(job->queue->name), why);
}

static void
ask(Job *job)
{
	const Protocol *protocol = &job->options->protocol;
	Building building = {job, job->step == STEP_RESULT ? protocol->result : protocol->poll};
	const char *places;
	char *error;

	calls_prepare(job);
	MemoryContextSwitchTo(job->call_context);
	if (job->asks_unended)
		building.text = unended_address(job, &places);
	if (building.text == NULL || protocol->state == NULL)
	{
		/* the server's options have changed since the prediction was submitted */
		steps_fail(job,
				   psprintf("server \"%s\" has no options any more that say how to ask about its prediction %s. It may still run, and be paid for: look for it at the provider before genjob.retry().",
							NameStr(job->queue->name), job->remote.id ? job->remote.id : ""));
		return;
	}
	if (!guard_run(calls_build, &building, &error))
		steps_fail(job, describe_unreadable(job, error));
	else if (building.http == NULL)
		steps_fail(job,
				   psprintf("server \"%s\" gave no URL at %s to ask about its prediction %s. Look at the server's option poll.",
							NameStr(job->queue->name), building.address.place,
							job->remote.id ? job->remote.id : ""));
	else if (!building.is_trusted)
		steps_fail(job,
				   psprintf("server \"%s\" gave a URL of another host to ask about its prediction: %s. Name the host in the server's option allow_hosts.",
							NameStr(job->queue->name), building.http->shown_url));
	else
		follow_begin_question(job, building.http);
}

/* ---------- waking ---------- */

static void
wake(Job *job)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	job_stop_waking(job);
	marker_begin(job->id, job->attempt);
	if (job->state == JOB_CANCELLING)
		cancel_line_up(job);
	else if (job->state == JOB_CALLING)
		progress_ask(job);
	else if (job->step == STEP_DOWNLOAD)
		download_next(job);
	else if (job->step == STEP_LOOKUP)
		lookup_ask(job);
	else
		ask(job);
	marker_end();
	MemoryContextSwitchTo(caller);
}

/*
 * Whether what a job does when it is woken is to ask about its prediction.
 */
static bool
is_to_ask(const Job *job)
{
	return job->state == JOB_WAITING && job->step != STEP_DOWNLOAD;
}

/*
 * Moves on the jobs whose time has come.
 */
void
follow_wake(MonoTime now)
{
	Job *job;

	while ((job = job_next_to_wake()) != NULL && job->wake_at <= now)
	{
		job_stop_waking(job);
		if (is_to_ask(job))
			asking_line_up(job);
		else
			wake(job);
	}
	while ((job = asking_next(now)) != NULL)
		wake(job);
}

/*
 * When follow_wake() has something to do; 0: never.
 */
MonoTime
follow_next_wake(void)
{
	Job *job = job_next_to_wake();
	MonoTime now = clock_mono();
	MonoTime next = asking_next_time(now);

	if (job != NULL)
		schedule_note_time(&next, job->wake_at);
	return next;
}

/*
 * Whether the provider has named a prediction of the job.
 */
bool
follow_can_be_asked(const Job *job)
{
	return job->remote.id != NULL || job->remote.urls != NULL;
}

/* ---------- answers ---------- */

/*
 * Whether a server has refused the secrets of a question: they may have been replaced since they were read.
 */
static bool
has_refused_secrets(const HttpReply *reply)
{
	return reply->error == HTTP_OK && (reply->status == 401 || reply->status == 403);
}

/* An answer that is judged. */
typedef struct Judging
{
	Job *job;
	const ReplySource *source;
	HttpReply *reply;
	const char *why; /* it could not be judged */
	Remote remote;   /* the job's, with what the answer adds to it */
	Verdict *verdict;
} Judging;

static void
judge_answer(void *arg)
{
	Judging *judging = arg;
	Job *job = judging->job;
	const char *places;

	switch (job->step)
	{
		case STEP_POLL:
			if (job->asks_unended && unended_address(job, &places) != NULL)
				judging->verdict = reply_judge_unended(judging->source, judging->reply, places);
			else
				judging->verdict = reply_judge_poll(judging->source, judging->reply);
			break;
		case STEP_RESULT:
			judging->verdict = reply_judge_result(judging->source, judging->reply);
			break;
		default:
			judging->verdict = reply_judge(judging->source, judging->reply, &judging->remote);
	}
}

/*
 * Judges an answer, unless another process has.
 */
static bool
run_judge(Judging *judging, char **error)
{
	Judged *judged = judging->job->judged;

	if (judged == NULL)
		return guard_run_apart(judge_answer, judging, error);
	judging->job->judged = NULL;
	judging->verdict = judged->verdict;
	judging->remote = judged->remote;
	*error = judged->why;
	return judged->why == NULL;
}

static void
judge_unread(void *arg)
{
	Judging *judging = arg;

	judging->verdict = reply_unjudged(judging->source, judging->reply, judging->why);
}

/*
 * Returns what is made of an answer where there is no memory for anything: the job's spare verdict.  A success has been
 * paid for: it is not called for again by itself.
 */
static Verdict *
judge_without_memory(const Judging *judging)
{
	static char lost[] =
		"no memory was left to read the server's answer. It may have been paid for: look for it at the provider before genjob.retry(), and lower max_in_flight or genjob.max_memory.";
	Verdict *verdict = judging->job->spare;
	bool is_success = judging->reply->status >= 200 && judging->reply->status < 300;

	memset(verdict, 0, sizeof(*verdict));
	verdict->kind = is_success ? VERDICT_FAIL : VERDICT_RETRY;
	verdict->unknown = judging->reply->sent;
	verdict->progress = -1;
	verdict->error = lost;
	return verdict;
}

/*
 * Tells the limits of the job's server how its call ended.
 */
static void
note_end(Job *job, const Verdict *verdict)
{
	bool is_asked = verdict->kind == VERDICT_DEFER && verdict->after > 0;
	CallEnd end = {.outcome = job->call_outcome,
				   .of_job = verdict->of_job,
				   .brought_work = job->step == STEP_SUBMIT,
				   .job = job->id,
				   .asked_ms = is_asked ? Max(verdict->after, job->options->retry_base) : 0,
				   .error = verdict->error};

	if (verdict->kind == VERDICT_DEFER && verdict->stuck != STUCK_NOT)
	{
		job->call_outcome = end.outcome = CALL_STUCK;
		end.stuck = stuck_describe(verdict->stuck);
		end.stuck_since = job->put_off_since;
	}
	limits_note(&job->place, &end, clock_mono());
}

/*
 * What a call's end means.  An error in finding out (memory may be short) ends neither the process nor,
 * with it, the calls of other jobs: a question is asked again, an answer is kept as it came.
 */
static Verdict *
judge(Job *job, HttpReply *reply)
{
	ReplySource source = steps_reply_source(job, job->http);
	Judging judging = {job, &source, reply, .remote = job->remote};
	char *error;

	job->call_outcome = limits_outcome(reply);
	if (has_refused_secrets(reply))
		calls_doubt_secrets(job);
	MemoryContextSwitchTo(job->call_context);
	if (run_judge(&judging, &error))
		job->remote = judging.remote;
	else
	{
		judging.why = error;
		if (!guard_run(judge_unread, &judging, &error))
			judging.verdict = judge_without_memory(&judging);
		if (job->step != STEP_SUBMIT)
		{
			judging.verdict->kind = VERDICT_WAIT;
			judging.verdict->outputs = NIL;
		}
	}
	calls_hold_answer(job);
	if (judging.verdict->error != NULL)
		words_mask(job->http, judging.verdict->error, strlen(judging.verdict->error));
	note_end(job, judging.verdict);
	return judging.verdict;
}

static void
submitted(Job *job, HttpReply *reply)
{
	Verdict *verdict;

	job_stop_waking(job);
	verdict = judge(job, reply);
	job->remote.is_private |= reply->peer_is_private;
	job->remote.is_public |= reply->peer_is_public;
	if (job->remote.id != NULL)
		job->remote.id = MemoryContextStrdup(job->context, job->remote.id);
	if (job->remote.urls != NULL)
		job->remote.urls = MemoryContextStrdup(job->context, job->remote.urls);
	if (job->remote.usage != NULL)
		job->remote.usage = MemoryContextStrdup(job->context, job->remote.usage);
	steps_conclude(job, verdict);
}

/*
 * Moves a job on one of whose calls has ended.
 */
void
follow_answered(void *tag, HttpReply *reply)
{
	Job *job = (Job *) ((uintptr_t) tag & ~(uintptr_t) PROBE_TAG);
	MemoryContext caller = MemoryContextSwitchTo(job->call_context);

	marker_begin(job->id, job->attempt);
	if ((uintptr_t) tag & PROBE_TAG)
		progress_answered(job, reply);
	else
	{
		job->transfer = NULL;
		lines_end_call(&job->waiter);
		switch (job->step)
		{
			case STEP_SUBMIT:
				submitted(job, reply);
				break;
			case STEP_LOOKUP:
				lookup_answered(job, reply);
				break;
			case STEP_POLL:
			case STEP_RESULT:
				steps_conclude(job, judge(job, reply));
				break;
			case STEP_DOWNLOAD:
				download_ended(job, reply);
				break;
			case STEP_CANCEL:
				cancel_answered(job, reply);
				break;
		}
	}
	marker_end();
	MemoryContextSwitchTo(caller);
}
