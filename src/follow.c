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

#include "clock.h"
#include "guard.h"
#include "job.h"
#include "schedule.h"
#include "stats.h"
#include "steps.h"

#define MAX_ASKING 512           /* polls under way at a time */
#define MAX_ASKING_EACH 64       /* of those, of a server */
#define MAX_POLLS_PER_SECOND 400 /* begun, of all servers */
#define MAX_POLL_DELAY_MS 30000
#define ABSENT_BEFORE_LIST 4 /* answers that say nothing, before the list of all is asked for */

/* What http_take_finished() gives for a call that is not the job's main one has this bit set. */
#define PROBE_TAG 1

static int asking = 0; /* polls under way */
static int64 poll_second = 0;
static int polls_in_second = 0;

/* ---------- waiting ---------- */

/*
 * The address in "address#places"; NULL where there is no "#".
 */
static char *
split_address(const char *text, const char **places)
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
	return split_address(preset->unended, places);
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
 * Has a job wait that follows from a verdict of the kind VERDICT_WAIT.  When its time is up, it fails:
 * the prediction may go on without it, but it is not submitted again.
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
	/* an answer that is known to be there is fetched all the same */
	if (now >= deadline_of(job) && job->step != STEP_SUBMIT &&
		(!verdict->has_answer || verdict->error != NULL))
	{
		steps_fail(job,
				   psprintf("the prediction %s of server \"%s\" did not end within the option timeout. It may still run, and be paid for: cancel it at the provider, or raise timeout.%s%s",
							job->remote.id ? job->remote.id : "", NameStr(job->queue->name),
							verdict->error ? " The last question was not answered: " : "",
							verdict->error ? verdict->error : ""));
		return;
	}
	job->step = verdict->has_answer ? STEP_RESULT : STEP_POLL;
	show_progress(job);
	calls_forget(job);
	calls_show(job, ACTIVITY_WAITING);
	job_enter(job, JOB_WAITING);
	job_wake_at(job, Min(now + delay * 1000, Max(now, deadline_of(job))));
}

/* ---------- asking ---------- */

/*
 * How many of the calls under way only ask: to cut those loses nothing.
 */
int
follow_count_asking(void)
{
	return asking;
}

/*
 * Takes notice that the job's call is about to be cut: it may be one that only asks.
 */
void
follow_forget_question(const Job *job)
{
	if (job->state == JOB_CALLING &&
		(job->step == STEP_LOOKUP || job->step == STEP_POLL || job->step == STEP_RESULT))
		asking--;
}

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
	asking++;
	follow_begin(job, job->step, http, ACTIVITY_POLLING);
	if (job->transfer == NULL)
		asking--;
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

/* ---------- progress beside a call ---------- */

static char *
progress_address(const Job *job, const char **place)
{
	if (job->options->max_in_flight != 1)
		return NULL;
	return split_address(job->options->protocol.progress, place);
}

/*
 * A submission is under way: where the protocol has an address for it, its progress is asked for now
 * and then.  Such an address tells of the whole server, so only where that has one call at a time.
 */
void
follow_submitted(Job *job)
{
	const char *place;

	if (progress_address(job, &place) != NULL)
		job_wake_at(job, clock_mono() + job->options->poll_interval * 1000);
}

static void
probe(Job *job)
{
	Building building = {job};
	const char *place;
	char *error;

	if (job->probe_context == NULL)
		job->probe_context =
			AllocSetContextCreate(job->context, "genjob probe", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(job->probe_context);
	building.text = progress_address(job, &place);
	if (!guard_run(calls_build, &building, &error) || building.http == NULL)
		return; /* no answer has given its URL */
	job->probe_http = building.http;
	job->probe_http->is_dispensable = true;
	job->probe_http->public_only = job->transfer != NULL && http_peer_is_public(job->transfer);
	job->probe = http_start(job->probe_http, &job->meter, job->probe_context,
							(void *) ((uintptr_t) job | PROBE_TAG));
}

/* An answer that is read for its progress. */
typedef struct Reading
{
	const Job *job;
	HttpReply *reply;
	double progress; /* -1: it does not tell */
} Reading;

static void
read_progress(void *arg)
{
	Reading *reading = arg;
	const char *place;

	if (progress_address(reading->job, &place) != NULL)
		reading->progress = reply_read_progress(reading->reply, place);
}

static void
probed(Job *job, HttpReply *reply)
{
	Reading reading = {job, reply, -1};
	char *error;

	job->probe = NULL;
	MemoryContextSwitchTo(job->probe_context);
	if (job->activity != NULL && guard_run(read_progress, &reading, &error) && reading.progress >= 0)
		pg_atomic_write_u64(&job->activity->progress, (uint64) (reading.progress * 1000000));
	MemoryContextSwitchTo(job->context);
	MemoryContextReset(job->probe_context);
	if (job->state == JOB_CALLING && job->step == STEP_SUBMIT)
		job_wake_at(job, clock_mono() + job->options->poll_interval * 1000);
}

/* ---------- waking ---------- */

/*
 * Whether there is room for another poll in this second.
 */
static bool
may_ask(MonoTime now)
{
	int64 second = now / USECS_PER_SEC;

	if (second != poll_second)
		polls_in_second = 0;
	poll_second = second;
	return asking < MAX_ASKING && polls_in_second < MAX_POLLS_PER_SECOND;
}

/*
 * Whether so many questions to a job's server are under way that this one has to wait: a server that
 * answers none must not keep others from being asked.
 */
static bool
has_asked_enough(const Job *job)
{
	dlist_iter iter;
	int n = 0;

	if (job->state != JOB_WAITING || job->step == STEP_DOWNLOAD || asking < MAX_ASKING_EACH)
		return false;
	dlist_foreach(iter, job_list(JOB_CALLING))
	{
		const Job *other = dlist_container(Job, node, iter.cur);

		n += other->queue == job->queue && other->step != STEP_SUBMIT &&
			 other->step != STEP_DOWNLOAD;
	}
	return n >= MAX_ASKING_EACH;
}

static void
wake(Job *job)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	job_stop_waking(job);
	if (job->state == JOB_CALLING)
		probe(job);
	else if (job->step == STEP_DOWNLOAD)
		download_next(job);
	else
	{
		polls_in_second++;
		if (job->step == STEP_LOOKUP)
			lookup_ask(job);
		else
			ask(job);
	}
	MemoryContextSwitchTo(caller);
}

/*
 * Moves on the jobs whose time has come.
 */
void
follow_wake(MonoTime now)
{
	Job *job;

	while ((job = job_next_to_wake()) != NULL && job->wake_at <= now && may_ask(now))
	{
		if (has_asked_enough(job))
			job_wake_at(job, now + Max(job->options->poll_interval * 1000, USECS_PER_SEC));
		else
			wake(job);
	}
}

/*
 * When follow_wake() has something to do; 0: never.
 */
MonoTime
follow_next_wake(void)
{
	Job *job = job_next_to_wake();
	MonoTime now = clock_mono();

	if (job == NULL || asking >= MAX_ASKING)
		return 0;
	if (job->wake_at <= now && !may_ask(now))
		return (now / USECS_PER_SEC + 1) * USECS_PER_SEC;
	return Max(job->wake_at, 1);
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

static Verdict *
judge_unguarded(Job *job, const ReplySource *source, HttpReply *reply)
{
	const char *places;

	switch (job->step)
	{
		case STEP_POLL:
			if (job->asks_unended && unended_address(job, &places) != NULL)
				return reply_judge_unended(source, reply, places);
			return reply_judge_poll(source, reply);
		case STEP_RESULT:
			return reply_judge_result(source, reply);
		default:
			return reply_judge(source, reply, &job->remote);
	}
}

/*
 * What a call's end means.  An error in finding out (memory may be short) ends neither the process nor,
 * with it, the calls of other jobs: a question is asked again, an answer is kept as it came.
 */
static Verdict *
judge(Job *job, HttpReply *reply)
{
	ReplySource source = steps_reply_source(job, job->http);
	Verdict *volatile verdict = NULL;

	job->call_outcome = limits_outcome(reply);

	PG_TRY();
	{
		verdict = judge_unguarded(job, &source, reply);
	}
	PG_CATCH();
	{
		ErrorData *data;

		MemoryContextSwitchTo(job->call_context);
		data = CopyErrorData();
		FlushErrorState();
		verdict = reply_unjudged(&source, reply, data->message);
		if (job->step != STEP_SUBMIT)
		{
			verdict->kind = VERDICT_WAIT;
			verdict->outputs = NIL;
		}
	}
	PG_END_TRY();
	calls_hold_answer(job);
	limits_note(&job->place, job->call_outcome, verdict->error, clock_mono());
	return verdict;
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

	if ((uintptr_t) tag & PROBE_TAG)
		probed(job, reply);
	else
	{
		job->transfer = NULL;
		switch (job->step)
		{
			case STEP_SUBMIT:
				submitted(job, reply);
				break;
			case STEP_LOOKUP:
				asking--;
				lookup_answered(job, reply);
				break;
			case STEP_POLL:
			case STEP_RESULT:
				asking--;
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
	MemoryContextSwitchTo(caller);
}
