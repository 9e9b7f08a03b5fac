/*
 * verdict.c
 *		What the end of a job's call means.  Every reply gets a verdict, even
 *		if memory is short.
 */
#include "postgres.h"

#include <time.h>

#include "utils/memutils.h"

#include "base/clock.h"
#include "life/calls.h"
#include "life/verdict.h"
#include "protocol/words.h"
#include "schedule/schedule.h"

/*
 * True if the provider has named a prediction of the job, so that it can be
 * polled.
 */
bool
verdict_names_prediction(const Job *job)
{
	return job->remote.id != NULL || job->remote.urls != NULL;
}

ReplySource
verdict_source(const Job *job, const HttpRequest *request)
{
	ReplySource source = {
		.server_name = NameStr(job->queue->name),
		.options = job->options,
		.request = request,
		.idempotency_key = job->idempotency_key,
		.remote = verdict_names_prediction(job) ? &job->remote : NULL,
		.failures = job->poll.failures,
		.forgotten = job->poll.n_forgotten,
		.age = (clock_mono() - job->began_at) / 1000,
		.now_unix = time(NULL),
	};

	return source;
}

/* Argument of judge_reply(). */
typedef struct Judging
{
	Job *job;
	const ReplySource *source;
	HttpReply *reply;
	VerdictJudge judge;
	const char *places; /* of ids in a list of all unfinished predictions; else NULL */
	const char *why;    /* why it could not be judged */
	Remote remote;      /* the job's, plus what the answer adds */
	Verdict *verdict;
} Judging;

static void
judge_reply(void *arg)
{
	Judging *judging = arg;

	if (judging->places != NULL)
		judging->verdict = reply_judge_unended(judging->source, judging->reply, judging->places);
	else
		judging->verdict = judging->judge(judging->source, judging->reply, &judging->remote);
}

/*
 * Judges an answer, unless another process did.  False if it could not be
 * judged: *error, or judging->why.
 */
static bool
run_judge(Judging *judging, ErrorData **error)
{
	Job *job = judging->job;
	Judged *judged = job->judged;

	if (judged == NULL)
		return calls_run_apart(&job->call, judge_reply, judging, error);
	job->judged = NULL;
	judging->verdict = judged->verdict;
	judging->remote = judged->remote;
	judging->why = judged->why;
	return judged->why == NULL;
}

static void
judge_unread(void *arg)
{
	Judging *judging = arg;

	judging->verdict = reply_unjudged(judging->source, judging->reply, judging->why);
}

/*
 * Returns the job's spare verdict, when there is no memory to judge an answer.
 * A success has been paid for, so the call is not repeated.
 */
static Verdict *
judge_without_memory(const Judging *judging)
{
	static char lost[] =
		"no memory was left to read the server's answer. It may have been paid for: look for it at the provider before you call genjob.retry(), and lower max_in_flight or genjob.max_memory.";
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
 * True if a server has refused the secrets of a call.  Somebody may have
 * replaced them since we read them.
 */
static bool
has_refused_secrets(const HttpReply *reply)
{
	return reply->error == HTTP_OK && (reply->status == 401 || reply->status == 403);
}

/*
 * Tells the limits of the job's server how its call ended.
 */
static void
note_call_end(Job *job, const Verdict *verdict)
{
	bool is_asked = verdict->kind == VERDICT_DEFER && verdict->after > 0;
	CallEnd end = {.outcome = job->call_outcome,
				   .brought_work = job->step == STEP_SUBMIT,
				   .of_job = verdict->of_job,
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
 * Returns what the end of the job's call means, in the memory context of the
 * call.  An error here (memory may be short) must not end the process and all
 * other calls: a question is asked again; any other answer is kept as it came.
 */
static Verdict *
read_answer(Judging *judging, bool asks)
{
	Job *job = judging->job;
	HttpReply *reply = judging->reply;
	ErrorData *error = NULL;

	job->call_outcome = limits_outcome(reply);
	if (has_refused_secrets(reply))
		calls_doubt_secrets(job);
	if (run_judge(judging, &error))
		job->remote = judging->remote;
	else
	{
		if (error != NULL)
			judging->why = error->message;
		if (!calls_run(&job->call, judge_unread, judging, &error))
			judging->verdict = judge_without_memory(judging);
		if (asks)
		{
			judging->verdict->kind = VERDICT_WAIT;
			judging->verdict->outputs = NIL;
		}
	}
	calls_hold_answer(job);
	if (judging->verdict->error != NULL)
		words_mask(job->call.http, judging->verdict->error, strlen(judging->verdict->error));
	note_call_end(job, judging->verdict);
	return judging->verdict;
}

/*
 * Returns what judge() makes of the end of the job's call.  The result lives
 * as long as the call.  asks: the call only asked, so it can be repeated.
 */
Verdict *
verdict_read(Job *job, HttpReply *reply, VerdictJudge judge, bool asks)
{
	ReplySource source = verdict_source(job, job->call.http);
	Judging judging = {job, &source, reply, judge, .remote = job->remote};

	return read_answer(&judging, asks);
}

/*
 * Like verdict_read(), for a list of all unfinished predictions, with ids at
 * places.
 */
Verdict *
verdict_read_unended(Job *job, HttpReply *reply, const char *places)
{
	ReplySource source = verdict_source(job, job->call.http);
	Judging judging = {job, &source, reply, .places = places, .remote = job->remote};

	return read_answer(&judging, true);
}
