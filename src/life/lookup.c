/*
 * lookup.c
 *		The step that finds out whether a submission without an answer arrived.
 *
 * If the connection was cut before the answer, or the dispatcher ended, the
 * provider may be at work already, for money.  If it lets us choose the id of
 * a prediction, we can ask for that id (the option lookup).  A prediction that
 * it finds is polled, as if the answer had come.  We send the job again only
 * after the provider has said several times in a row that it has no such
 * prediction.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "life/calls.h"
#include "life/outcome.h"
#include "life/step.h"
#include "protocol/found.h"
#include "schedule/schedule.h"

#define ABSENT_AFTER 3 /* rounds without it before we believe that: it may still be on its way */

static const Backoff ask_again = {1000, 60000}; /* ms */

/*
 * True if the submission may have arrived, and the provider can be asked.
 */
bool
lookup_is_due(const Job *job)
{
	const Verdict *verdict = job->verdict;

	return verdict->unknown && job->options != NULL && job->options->protocol.lookup != NULL &&
		   (verdict->kind == VERDICT_RETRY || verdict->kind == VERDICT_DEFER ||
			verdict->kind == VERDICT_LOST);
}

/*
 * True if an earlier attempt may have sent the job.
 */
bool
lookup_comes_first(const Job *job)
{
	return job->key_is_kept && job->options->protocol.lookup != NULL;
}

/*
 * Begins a round after delay_ms: asks all addresses, from the first one on.
 */
static Next
begin_round_later(Job *job, int64 delay_ms)
{
	job->lookup.address = job->options->protocol.lookup;
	return next_wait(STEP_LOOKUP, clock_mono() + delay_ms * 1000);
}

/*
 * Copies the job's verdict, to be used if the submission did not arrive.
 */
static Verdict *
keep_verdict(const Job *job)
{
	Verdict *doubt = palloc(sizeof(Verdict));

	*doubt = *job->verdict;
	doubt->error = pstrdup(doubt->error);
	doubt->result = doubt->usage = doubt->answer = NULL;
	doubt->outputs = NIL;
	return doubt;
}

/*
 * Reports the kept verdict of the submission, with that error.
 */
static Next
conclude_doubt(Job *job, char *error)
{
	Verdict *verdict = job->lookup.doubt;

	verdict->error = error;
	job->lookup.doubt = NULL;
	job->lookup.failures = job->lookup.n_empty_rounds = 0;
	return next_report(verdict);
}

/*
 * Asks whether a submission arrived: the one of this attempt, if there is a
 * verdict; else an earlier attempt's, before the job is sent again.
 */
Next
lookup_begin(Job *job)
{
	const ServerOptions *options = job->options;

	Assert(options != NULL && options->protocol.lookup != NULL);
	job->lookup.doubt = job->verdict ? keep_verdict(job) : NULL;
	job->lookup.failures = job->lookup.n_empty_rounds = 0;
	if (job->complaint != NULL)
		return conclude_doubt(job, job->lookup.doubt->error);
	job->lookup.until = clock_mono() + options->timeout * INT64CONST(1000);
	return begin_round_later(job, 0);
}

/*
 * The submission arrived.  Saves the id of its prediction, then polls it.
 */
static Next
found_prediction(Job *job, const HttpReply *reply)
{
	Verdict *verdict = palloc0(sizeof(Verdict));

	job->remote.id = job->idempotency_key;
	job->remote.is_private |= reply->peer_is_private;
	job->remote.is_public |= reply->peer_is_public;
	job->is_saved = false;
	job->lookup.doubt = NULL;
	job->lookup.failures = job->lookup.n_empty_rounds = 0;
	verdict->kind = VERDICT_WAIT;
	verdict->after = verdict->progress = -1;
	calls_forget_input(job);
	return next_verdict(verdict);
}

/*
 * Sends the job after all.  Its time starts now.
 */
static Next
send_job(Job *job)
{
	job->started_at = clock_now();
	job->began_at = clock_mono();
	return next_submit(job);
}

/*
 * Ends a round in which no address knew the prediction.
 */
static Next
found_nothing(Job *job)
{
	job->lookup.failures = 0;
	if (++job->lookup.n_empty_rounds < ABSENT_AFTER)
		return begin_round_later(job, job->options->poll_interval);
	job->key_is_kept = false; /* no earlier call has arrived either */
	if (job->lookup.doubt == NULL)
		return send_job(job);
	job->lookup.doubt->unknown = false;
	return conclude_doubt(job, psprintf("%s genjob asked the server: the call had not arrived.",
										job->lookup.doubt->error));
}

/*
 * Gives up: the provider did not answer in time.
 */
static Next
abandon_lookup(Job *job)
{
	Verdict *earlier;

	if (job->lookup.doubt != NULL)
		return conclude_doubt(job,
							  psprintf("%s genjob could not ask within the option timeout whether the call had arrived.",
									   job->lookup.doubt->error));
	earlier = palloc0(sizeof(Verdict));
	earlier->kind = VERDICT_RETRY;
	earlier->unknown = true;
	earlier->error =
		psprintf("genjob could not ask server \"%s\" within the option timeout whether an earlier call had arrived.",
				 NameStr(job->queue->name));
	if (!outcome_apply_on_unknown(job, earlier))
		return send_job(job);
	job->lookup.doubt = earlier;
	return conclude_doubt(job, earlier->error);
}

static Next
found_no_answer(Job *job)
{
	int64 delay = backoff_delay(&ask_again, job->lookup.failures);
	MonoTime now = clock_mono();

	job->lookup.n_empty_rounds = 0;
	job->lookup.failures++;
	if (now < job->lookup.until)
		return begin_round_later(job, Min(delay, (job->lookup.until - now) / 1000 + 1));
	return abandon_lookup(job);
}

/*
 * Builds the question to the present address.
 */
HttpRequest *
lookup_build(Job *job, char **why)
{
	RequestSource source = calls_request_source(job);
	Remote remote = {.id = job->idempotency_key};
	Address address;
	char *places;

	(void) grammar_read_lookup(job->lookup.address, &address, &places);
	return request_follow(&source, &remote, &address);
}

Next
lookup_unbuilt(Job *job, const char *why, const ErrorData *error)
{
	return found_no_answer(job);
}

/*
 * Decides without an answer, since the question crashes PostgreSQL.
 */
Next
lookup_given_up(Job *job, const char *why)
{
	if (job->lookup.doubt == NULL)
		return abandon_lookup(job);
	return conclude_doubt(job,
						  psprintf("%s PostgreSQL or genjob crashed again and again while genjob asked whether the call had arrived.",
								   job->lookup.doubt->error));
}

/* Argument of read_answer(). */
typedef struct Reading
{
	Job *job;
	HttpReply *reply;
	const Judged *judged; /* how another process judged it; or NULL */
	const char *next;     /* the address after the one that answered; or NULL */
	FoundState state;
} Reading;

static void
read_answer(void *arg)
{
	Reading *reading = arg;
	Address address;
	char *places;

	reading->next = grammar_read_lookup(reading->job->lookup.address, &address, &places);
	if (reading->judged != NULL)
		reading->state = reading->judged->why ? FOUND_NO_ANSWER : reading->judged->found;
	else
		reading->state =
			found_judge(reading->reply, &address, places, reading->job->idempotency_key);
}

Next
lookup_answered(Job *job, HttpReply *reply)
{
	Reading reading = {job, reply, job->judged, NULL, FOUND_NO_ANSWER};
	ErrorData *error;

	job->judged = NULL;
	if (!calls_run(&job->call, read_answer, &reading, &error))
		reading.state = FOUND_NO_ANSWER;
	if (reading.state == FOUND_IT)
		return found_prediction(job, reply);
	if (reading.state == FOUND_NO_ANSWER)
		return found_no_answer(job);
	if (reading.next == NULL)
		return found_nothing(job);
	job->lookup.address = reading.next;
	return next_call(STEP_LOOKUP);
}
