/*
 * storecall.c
 *		What the end of a call to a job's object store means.
 */
#include "postgres.h"

#include <time.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "life/calls.h"
#include "life/store.h"
#include "life/storeline.h"
#include "protocol/s3answer.h"
#include "protocol/s3refusal.h"
#include "protocol/words.h"
#include "schedule/schedule.h"

#define REFUSALS_BEFORE_END 10 /* in a row, and for at least this long: */
#define REFUSED_US (10 * USECS_PER_MINUTE)
#define DOWN_US USECS_PER_DAY

static const Backoff pace = {500, 60000}; /* ms, between two tries */

/* Argument of judge_reply(). */
typedef struct Judging
{
	ReplySource source;
	HttpReply *reply;
	const Judged *judged; /* how another process judged it; or NULL */
	Verdict *verdict;
	char *etag;
} Judging;

static void
judge_reply(void *arg)
{
	Judging *judging = arg;
	Remote remote = {NULL};

	if (judging->judged != NULL && judging->judged->why != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("%s", judging->judged->why)));
	judging->verdict = judging->judged ? judging->judged->verdict
									   : reply_judge(&judging->source, judging->reply, &remote);
	judging->etag = s3_read_etag(judging->reply);
}

/*
 * Tells the limits of the store how a call ended, and leaves its place.
 */
static void
note_store_call(const Job *job, Place *place, const HttpReply *reply, const Verdict *verdict)
{
	CallEnd end = {.outcome = limits_outcome(reply),
				   .brought_work = true,
				   .job = job->id,
				   .error = verdict->error};

	if (verdict->kind == VERDICT_DEFER && verdict->after > 0)
	{
		end.asked_ms = verdict->after;
		(void) limits_hold(place, clock_mono() + verdict->after * 1000, true);
	}
	limits_note(place, &end, clock_mono());
	limits_leave(place);
}

/*
 * Returns the options that a call to a store began with; else the server's
 * present ones; else NULL.
 */
static const ServerOptions *
options_of(const Place *place, const Server *server)
{
	if (place->backend != NULL && place->backend->options != NULL)
		return place->backend->options;
	return server ? &server->options : NULL;
}

/*
 * Returns what an answer to a call to a store is judged by.  queue and server
 * (or NULL) are the store's.  Its options are NULL if the server is gone.
 */
ReplySource
store_source(const ServerQueue *queue, const Server *server, const Place *place, const Call *call)
{
	return (ReplySource){.server_name = NameStr(queue->name),
						 .options = options_of(place, server),
						 .request = call->http,
						 .now_unix = time(NULL)};
}

/*
 * Returns what became of a call of the job to a store.  queue and server (or
 * NULL) are the store's.  Gives up *place, which may be empty.
 */
StoreAnswer
store_judge_at(Job *job, ServerQueue *queue, const Server *server, Place *place, Call *call,
			   HttpReply *reply)
{
	Judging judging = {.source = store_source(queue, server, place, call), .reply = reply};
	StoreAnswer answer = {false};
	ErrorData *error;

	if (call->step == STEP_FETCH)
	{
		judging.judged = job->judged;
		job->judged = NULL;
	}
	if (judging.source.options == NULL || !calls_run(call, judge_reply, &judging, &error))
	{
		limits_leave(place);
		answer.error = judging.source.options ? error->message : "the store's server is gone.";
		return answer;
	}
	if (place->limits != NULL)
		note_store_call(job, place, reply, judging.verdict);
	storeline_wake(queue);
	answer.is_done = judging.verdict->kind == VERDICT_DONE;
	answer.is_refused = judging.verdict->kind == VERDICT_FAIL;
	/* keys, or where the store is, may be corrected; not every refusal has the status 403 */
	if (answer.is_refused)
		calls_doubt_secrets(job);
	answer.is_refused &= !s3_is_of_all_calls(reply);
	answer.is_missing = s3_is_missing(reply);
	answer.etag = judging.etag;
	answer.object = judging.verdict->outputs != NIL ? linitial(judging.verdict->outputs) : NULL;
	answer.error = judging.verdict->error ? judging.verdict->error
										  : pstrdup("genjob cannot understand its answer.");
	words_mask(call->http, answer.error, strlen(answer.error));
	return answer;
}

/*
 * Returns what became of a call to the store of the job's outputs.  Gives up
 * *place.
 */
StoreAnswer
store_judge(Job *job, Place *place, Call *call, HttpReply *reply)
{
	return store_judge_at(job, job->store->queue, job->store->server, place, call, reply);
}

/*
 * Notes that a call to the store succeeded, which ends its trouble.
 */
void
store_note_success(Job *job)
{
	JobStore *store = job->store;

	if (store->failures > 0 && store->queue->stats != NULL)
		stats_end_trouble(store->queue->stats, job->id);
	store->failures = 0;
}

/*
 * True if a store is retried after that many failures in a row.  us:
 * microseconds since the first of them.
 */
bool
store_is_worth_a_try(int failures, int64 us, bool is_refused)
{
	return is_refused ? failures < REFUSALS_BEFORE_END || us < REFUSED_US : us < DOWN_US;
}

/*
 * Notes that a try has failed.  False if it was the last one.
 */
bool
store_bears(Job *job, const char *why, bool is_refused)
{
	JobStore *store = job->store;
	MonoTime now = clock_mono();

	if (store->failures++ == 0)
		store->failing_since = now;
	if (store->queue->stats != NULL)
		stats_note_trouble(store->queue->stats, job->id, why, clock_now());
	return store_is_worth_a_try(store->failures, now - store->failing_since, is_refused);
}

/*
 * Notes that the store does not know an upload any more.  Returns how long to
 * wait before the output is sent again, in ms; -1: that was the last try.  The
 * store's other answers do not count: it may begin each upload and forget it.
 */
int64
store_note_loss(Job *job, const char *why)
{
	JobStore *store = job->store;
	MonoTime now = clock_mono();

	if (store->losses++ == 0)
		store->losing_since = now;
	if (store->queue->stats != NULL)
		stats_note_trouble(store->queue->stats, job->id, why, clock_now());
	if (!store_is_worth_a_try(store->losses, now - store->losing_since, true))
		return -1;
	return backoff_delay(&pace, store->losses - 1);
}

/*
 * Returns how long the next try waits after a failure, in ms.
 */
int64
store_pause(const Job *job)
{
	return backoff_delay(&pace, job->store->failures - 1);
}

/*
 * Returns the error for an output that the store did not take, and that the
 * provider still has; palloc'd.
 */
char *
store_describe_refusal(const Job *job, const char *why)
{
	return psprintf("an output could not be put into the store \"%s\": %s The provider still has it, for as long as it keeps outputs.",
					NameStr(job->store->queue->name), why);
}
