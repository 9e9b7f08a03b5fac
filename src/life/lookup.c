/*
 * lookup.c
 *		Finding out whether a submission arrived of which nobody knows.
 *
 * A connection that was cut before the answer, or a dispatcher that ended before it, leaves open whether
 * the provider works already, and takes money for it.  One that lets us choose the id of a prediction can
 * be asked by it (the option lookup): what is found is waited for as if its answer had come.  Only what
 * it says several times in a row not to have is sent again.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/guard.h"
#include "life/job.h"
#include "protocol/found.h"
#include "schedule/schedule.h"
#include "life/steps.h"

#define ABSENT_AFTER 3 /* rounds without it, before that is believed: it may still be on its way */

static const Backoff ask_again = {1000, 60000}; /* ms */

/*
 * Whether the job's verdict leaves open what the provider can be asked for.
 */
bool
lookup_is_due(const Job *job)
{
	const Verdict *verdict = job->verdict;

	return verdict->unknown && job->step != STEP_LOOKUP && job->options != NULL &&
		   job->options->protocol.lookup != NULL &&
		   (verdict->kind == VERDICT_RETRY || verdict->kind == VERDICT_DEFER ||
			verdict->kind == VERDICT_LOST);
}

/*
 * Whether a job that is to be sent may have been sent before.
 */
bool
lookup_comes_first(const Job *job)
{
	return job->key_is_kept && job->options->protocol.lookup != NULL;
}

static void
wait_to_ask(Job *job, int64 delay_ms)
{
	job->lookup = job->options->protocol.lookup;
	calls_prepare(job);
	job->step = STEP_LOOKUP;
	calls_show(job, ACTIVITY_WAITING);
	job_enter(job, JOB_WAITING);
	job_wake_at(job, clock_mono() + delay_ms * 1000);
}

/*
 * The verdict that the job has, for the case that its submission did not arrive.
 */
static Verdict *
keep_verdict(const Job *job)
{
	Verdict *doubt = MemoryContextAlloc(job->context, sizeof(Verdict));

	*doubt = *job->verdict;
	doubt->error = MemoryContextStrdup(job->context, doubt->error);
	doubt->result = doubt->usage = doubt->answer = NULL;
	doubt->outputs = NIL;
	return doubt;
}

/*
 * Goes on with the verdict that the submission had, now that the provider was asked in vain.
 */
static void
conclude_doubt(Job *job, char *error)
{
	Verdict *verdict = job->doubt;

	verdict->error = error;
	job->doubt = NULL;
	job->ask_failures = job->n_forgotten = 0;
	steps_conclude(job, verdict);
}

/*
 * Has a job find out what became of its submission: of the present attempt, if there is a verdict, or of
 * an earlier one, before it is sent again.
 */
void
lookup_begin(Job *job)
{
	const ServerOptions *options = job->options;

	job->doubt = job->verdict ? keep_verdict(job) : NULL;
	job->ask_failures = job->n_forgotten = 0;
	if (job->complaint != NULL)
	{
		job->step = STEP_LOOKUP;
		conclude_doubt(job, job->doubt->error);
		return;
	}
	if (job->activity == NULL)
		job->activity =
			shmem_activity_add(job->owner, job->id, job->attempt, NameStr(job->queue->name));
	job->lookup_until = clock_mono() + options->timeout * INT64CONST(1000);
	wait_to_ask(job, 0);
}

/*
 * The submission arrived: its prediction is waited for, once its id is in the table.
 */
static void
found(Job *job, const HttpReply *reply)
{
	Verdict *verdict = MemoryContextAllocZero(job->context, sizeof(Verdict));

	job->remote.id = job->idempotency_key;
	job->remote.is_private |= reply->peer_is_private;
	job->remote.is_public |= reply->peer_is_public;
	job->is_saved = false;
	job->doubt = NULL;
	job->ask_failures = job->n_forgotten = 0;
	job->step = STEP_SUBMIT;
	verdict->kind = VERDICT_WAIT;
	verdict->after = verdict->progress = -1;
	steps_forget_input(job);
	steps_conclude(job, verdict);
}

/*
 * Sends the job after all, and has its time begin.
 */
static void
send_now(Job *job)
{
	job->started_at = clock_now();
	job->began_at = clock_mono();
	steps_submit(job);
}

/*
 * All addresses were asked, and none has it.
 */
static void
found_nothing(Job *job)
{
	job->ask_failures = 0;
	if (++job->n_forgotten < ABSENT_AFTER)
	{
		wait_to_ask(job, job->options->poll_interval);
		return;
	}
	job->key_is_kept = false; /* nor has an earlier call arrived */
	if (job->doubt == NULL)
		send_now(job);
	else
	{
		job->doubt->unknown = false;
		conclude_doubt(job, psprintf("%s It was asked, and the call had not arrived.",
									 job->doubt->error));
	}
}

/*
 * It could not be asked in all the time that there is.
 */
static void
give_up(Job *job)
{
	Verdict earlier = {.kind = VERDICT_RETRY, .unknown = true};

	if (job->doubt != NULL)
	{
		conclude_doubt(job,
					   psprintf("%s Whether it had arrived could not be asked within the option timeout.",
								job->doubt->error));
		return;
	}
	earlier.error =
		psprintf("server \"%s\" could not be asked within the option timeout whether an earlier call had arrived.",
				 NameStr(job->queue->name));
	if (!outcome_apply_on_unknown(job, &earlier))
		send_now(job);
	else
	{
		job->doubt = MemoryContextAlloc(job->context, sizeof(Verdict));
		*job->doubt = earlier;
		conclude_doubt(job, earlier.error);
	}
}

static void
found_no_answer(Job *job)
{
	int64 delay = backoff_delay(&ask_again, job->ask_failures);
	MonoTime now = clock_mono();

	job->n_forgotten = 0;
	job->ask_failures++;
	if (now < job->lookup_until)
		wait_to_ask(job, Min(delay, (job->lookup_until - now) / 1000 + 1));
	else
		give_up(job);
}

/* A question that is built. */
typedef struct Question
{
	const Job *job;
	HttpRequest *http;
} Question;

static void
build_question(void *arg)
{
	Question *question = arg;
	RequestSource source = steps_request_source(question->job);
	Remote remote = {.id = question->job->idempotency_key};
	Address address;
	char *places;

	(void) grammar_read_lookup(question->job->lookup, &address, &places);
	question->http = request_follow(&source, &remote, &address);
}

/*
 * Asks at the next address.
 */
void
lookup_ask(Job *job)
{
	Question question = {job, NULL};
	char *error;

	calls_prepare(job);
	MemoryContextSwitchTo(job->call_context);
	if (guard_run(build_question, &question, &error))
		follow_begin_question(job, question.http);
	else
		found_no_answer(job);
}

/*
 * What an answer says.  An error in finding out (memory may be short) does not end the process, and with
 * it the calls of other jobs.
 */
static FoundState
judge(Job *job, HttpReply *reply, const Address *address, const char *places)
{
	volatile FoundState state = FOUND_NO_ANSWER;

	PG_TRY();
	{
		state = found_judge(reply, address, places, job->idempotency_key);
	}
	PG_CATCH();
	{
		(void) guard_take_error(job->call_context);
	}
	PG_END_TRY();
	return state;
}

/*
 * Moves a job on one of whose questions has been answered, or has not.
 */
void
lookup_answered(Job *job, HttpReply *reply)
{
	Address address;
	char *places;
	const char *next = grammar_read_lookup(job->lookup, &address, &places);
	FoundState state = judge(job, reply, &address, places);

	MemoryContextSwitchTo(job->context);
	if (state == FOUND_IT)
		found(job, reply);
	else if (state == FOUND_NO_ANSWER)
		found_no_answer(job);
	else if (next == NULL)
		found_nothing(job);
	else
	{
		job->lookup = next;
		lookup_ask(job);
	}
}
