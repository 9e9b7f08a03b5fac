/*
 * ends.c
 *		What the end of a call says of its server, and what follows for the
 *		next calls.
 *
 * Only submissions show whether the server takes work: a busy server still
 * answers polls.
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "base/status.h"
#include "base/trace.h"
#include "limits/limits.h"
#include "shared/shown.h"

/*
 * Longest pause between two probes of a backend; and if a probe may cost
 * something.
 */
#define MAX_PAUSE_MS 60000
#define MAX_COSTLY_PAUSE_MS 300000
#define STUCK_PAUSE_MS 600000 /* and if waiting alone mends nothing */

/*
 * Returns what the end of a call says about its server.
 */
CallOutcome
limits_outcome(const HttpReply *reply)
{
	if (reply->status == 0)
		return !reply->sent && (reply->error == HTTP_RESOLVE || reply->error == HTTP_CONNECT ||
								reply->error == HTTP_TLS || reply->error == HTTP_TIMEOUT)
				   ? CALL_UNREACHABLE
				   : CALL_CUT;
	switch (status_class(reply->status))
	{
		case STATUS_BUSY:
			return CALL_BUSY;
		case STATUS_UNREACHABLE:
			return CALL_UNREACHABLE;
		case STATUS_CUT:
			return CALL_BROKEN;
		case STATUS_FAILED:
			return reply->status >= 500 ? CALL_FAILED : CALL_ANSWERED;
		default:
			return CALL_ANSWERED;
	}
}

/*
 * True if a server has another backend, so that one that answers with errors can be left out.
 */
static bool
has_choice(const Limits *limits)
{
	return limits->server != NULL && limits->server->n_backends > 1;
}

/*
 * True if a refusal because the server is full lowers the number of calls at a
 * time.  If only one is left, a pause follows instead.
 */
static bool
learns_capacity(const Backend *backend)
{
	return backend->options->max_in_flight == MAX_IN_FLIGHT_AUTO && backend->in_flight > 1;
}

/*
 * Returns true, and sets *failure, if the end of a call is a failure for the
 * breaker.
 */
static bool
describe_failure(const Place *place, const CallEnd *end, BreakerFailure *failure)
{
	switch (end->outcome)
	{
		case CALL_UNREACHABLE:
			failure->reason = BREAKER_UNREACHABLE;
			return true;
		case CALL_BROKEN:
			failure->reason = has_choice(place->limits) ? BREAKER_UNREACHABLE : BREAKER_FAILING;
			failure->is_of_job = true;
			return end->brought_work || failure->reason == BREAKER_UNREACHABLE;
		case CALL_FAILED:
			failure->reason = BREAKER_FAILING;
			failure->is_of_job = true;
			return end->brought_work;
		case CALL_BUSY:
			failure->reason = BREAKER_BUSY;
			failure->asked_ms = end->asked_ms;
			return end->brought_work && !learns_capacity(place->backend);
		case CALL_STUCK:
			failure->reason = BREAKER_STUCK;
			failure->is_of_job = end->of_job;
			return end->brought_work;
		default:
			return false;
	}
}

/*
 * Returns for how many ms a server is left alone that refuses, if waiting
 * alone does not mend that.
 */
int64
limits_stuck_pause(const ServerOptions *options)
{
	return Min(STUCK_PAUSE_MS, options->max_wait);
}

/*
 * Returns the pauses, in ms, of a backend that takes no calls for that reason.
 * If the backend fails, each probe that fails costs a job an attempt, or more.
 */
static Backoff
pace_of(const ServerOptions *options, BreakerReason reason)
{
	Backoff pace = {options->retry_base, Min(options->retry_max, MAX_PAUSE_MS)};

	if (reason == BREAKER_FAILING)
		pace.most = Min(options->retry_max, MAX_COSTLY_PAUSE_MS);
	else if (reason == BREAKER_STUCK)
		pace.first = pace.most = limits_stuck_pause(options);
	return pace;
}

/*
 * Notes since when the server refuses.  A job may know of earlier refusals
 * than this process.
 */
static void
note_stuck(Limits *limits, const CallEnd *end, MonoTime now)
{
	TimestampTz since = end->stuck_since != 0 ? end->stuck_since : clock_wall_at(now);

	limits->stuck_since = limits->stuck_since != 0 ? Min(limits->stuck_since, since) : since;
	limits->stuck = end->stuck;
	limits->fails_overdue = true;
	limits->stuck_generation = server_generation();
}

/*
 * True if the server has been stuck for longer than the option max_wait
 * allows.
 */
bool
limits_are_stuck(const Limits *limits, TimestampTz now)
{
	return limits->stuck_since != 0 && limits->server != NULL &&
		   now - limits->stuck_since >= limits->server->options.max_wait * 1000;
}

/*
 * Notes how a call of this place ended.  A probe tells at once whether the
 * backend takes calls again, even if its place is needed for longer.
 */
void
limits_note(Place *place, const CallEnd *end, MonoTime now)
{
	BreakerFailure failure = {.job = end->job, .was_probe = place->is_probe};
	Backend *backend = place->backend;
	const ServerOptions *options;
	BackendAllowance before;
	Backoff pace;

	if (place->limits == NULL || backend->options == NULL)
		return;
	options = backend->options;
	before = limits_state(backend);
	if (describe_failure(place, end, &failure))
	{
		pace = pace_of(options, failure.reason);
		failure.pace = &pace;
		failure.random =
			failure.reason == BREAKER_STUCK ? 1 : pg_prng_double(&pg_global_prng_state);
		shown_keep(backend->error, end->error ? end->error : "", sizeof(backend->error));
		breaker_failed(&backend->breaker, &failure, now);
		if (end->outcome == CALL_STUCK && backend->breaker.is_open)
			note_stuck(place->limits, end, now);
	}
	else if (end->outcome == CALL_CUT)
		breaker_cut(&backend->breaker);
	else
		breaker_answered(&backend->breaker, end->brought_work && end->outcome == CALL_ANSWERED,
						 place->taken_at);
	if (!backend->breaker.is_open)
		place->limits->stuck_since = 0;
	limits_end_probe(place);
	if (end->outcome == CALL_BUSY && options->max_in_flight == MAX_IN_FLIGHT_AUTO &&
		!place->is_cancel)
		capacity_refused(&backend->capacity, backend->in_flight, place->taken_at, now);
	limits_trace_change(backend, before, now);
}

/*
 * Notes that the job of this place has succeeded.
 */
void
limits_note_result(const Place *place, MonoTime now)
{
	BackendAllowance before;

	if (place->limits == NULL || place->backend->options == NULL ||
		place->backend->options->max_in_flight != MAX_IN_FLIGHT_AUTO)
		return;
	before = limits_state(place->backend);
	capacity_answered(&place->backend->capacity, place->taken_at, now);
	limits_trace_change(place->backend, before, now);
}

/*
 * Holds all backends of the account, or only the one that asked to wait.  False if other backends may go on.
 */
bool
limits_hold(const Place *place, MonoTime until, bool whole_server)
{
	if (place->limits == NULL)
		return true;
	trace("address %s: held for " INT64_FORMAT " ms, as it asked%s",
		  trace_name(place->backend->url), Max(until - clock_mono(), 0) / 1000,
		  whole_server ? ", with the whole server" : "");
	if (whole_server || !has_choice(place->limits))
	{
		place->limits->held_until = Max(place->limits->held_until, until);
		return true;
	}
	place->backend->held_until = Max(place->backend->held_until, until);
	return false;
}

/*
 * True if the place's backend gets only one call at a time, after failures.
 */
bool
limits_are_paused(const Place *place)
{
	return place->limits != NULL && place->backend->breaker.is_open;
}

/*
 * True if a failed attempt is the server's fault and not the job's: another backend or the fallback may take the job,
 * or it waits for the probes.  Call it after limits_note().
 */
bool
limits_spare_attempt(const Place *place, CallOutcome outcome)
{
	if (place->limits == NULL || place->backend->options == NULL)
		return false;
	if (outcome != CALL_UNREACHABLE)
		return outcome == CALL_BUSY || outcome == CALL_STUCK;
	return has_choice(place->limits) || place->backend->breaker.is_open ||
		   place->backend->options->fallback != NULL;
}
