/*
 * breaker.c
 *		A circuit breaker: a server that takes no calls gets one call at a
 *		time, less and less often.  Pure: the caller has the clock and the
 *		random numbers.
 *
 *		closed ----(it fails)----> open -(time passes, a call begins)-> probing
 *		   ^                        ^-------------(it fails)---------------|
 *		   |-----------------(a call gets through)-------------------------|
 *
 * If the server says that it is busy, the breaker opens at once.  If the
 * server cannot be reached, it opens after some calls in a row; if the server
 * fails, after some jobs in a row: one job that the server cannot do must not
 * keep the others waiting.
 */
#include "postgres.h"

#include <limits.h>

#include "limits/breaker.h"

/*
 * Returns how many calls the breaker lets begin now.
 */
int
breaker_room(const Breaker *breaker, MonoTime now)
{
	if (!breaker->is_open)
		return INT_MAX;
	return breaker->is_probing || now < breaker->until ? 0 : 1;
}

/*
 * Notes that a call begins.  Returns true if it is the probe;
 * breaker_probe_ended() must then report its end.
 */
bool
breaker_begin(Breaker *breaker)
{
	if (!breaker->is_open || breaker->is_probing)
		return false;
	breaker->is_probing = true;
	return true;
}

/*
 * Notes that a call, begun at began_at, was answered.  accepts: it brought
 * work, and was not refused for the server's state.  Any other answer shows
 * only that the server can be reached.
 */
void
breaker_answered(Breaker *breaker, bool accepts, MonoTime began_at)
{
	breaker->failures = 0;
	if (accepts)
		breaker->n_jobs = 0;
	/* a call that was accepted before the quota was used up says nothing of the next */
	if (breaker->reason == BREAKER_STUCK && began_at < breaker->opened_at)
		return;
	if (accepts || breaker->reason == BREAKER_UNREACHABLE)
		breaker->is_open = false;
}

/*
 * Notes that a call got there, and was cut before its answer.  A server that
 * ends cuts calls, and then takes none: so cuts count.  But a job whose every
 * call is cut does not open the breaker alone.
 */
void
breaker_cut(Breaker *breaker)
{
	if (!breaker->is_open)
		breaker->failures = Min(breaker->failures + 1, BREAKER_THRESHOLD - 1);
	else if (breaker->reason == BREAKER_UNREACHABLE)
		breaker->is_open = false;
}

/*
 * Counts a failure; returns true if it opens the breaker.
 */
static bool
count_failure(Breaker *breaker, const BreakerFailure *failure)
{
	int i;

	if (failure->reason == BREAKER_UNREACHABLE)
		return ++breaker->failures >= BREAKER_THRESHOLD;
	if (!failure->is_of_job)
		return true;
	for (i = 0; i < breaker->n_jobs; i++)
	{
		if (breaker->jobs[i] == failure->job)
			return breaker->n_jobs == BREAKER_THRESHOLD;
	}
	if (breaker->n_jobs < BREAKER_THRESHOLD)
		breaker->jobs[breaker->n_jobs++] = failure->job;
	return breaker->n_jobs == BREAKER_THRESHOLD;
}

/*
 * Notes that a call failed.  Of the calls that were under way when the breaker
 * opened, only a worse reason counts, or a longer pause that the server asks
 * for.  A failed probe makes the pause longer.
 */
void
breaker_failed(Breaker *breaker, const BreakerFailure *failure, MonoTime now)
{
	MonoTime asked_until = now + failure->asked_ms * INT64CONST(1000);
	bool was_open = breaker->is_open;
	bool opens = count_failure(breaker, failure);
	bool is_worse = failure->reason == BREAKER_STUCK && breaker->reason != BREAKER_STUCK;

	if (failure->reason == BREAKER_STUCK && !opens)
	{
		/* a refusal of this job alone: the server takes calls */
		if (failure->was_probe || breaker->reason != BREAKER_STUCK)
			breaker->is_open = false;
		return;
	}
	if (was_open && !failure->was_probe && !is_worse)
	{
		if (failure->asked_ms > 0)
			breaker->until = Max(breaker->until, asked_until);
		return;
	}
	if (!was_open && !opens)
		return;
	if (!was_open || is_worse)
	{
		breaker->opened_at = now;
		breaker->pauses = 0;
	}
	breaker->reason = failure->reason;
	breaker->is_open = true;
	if (failure->asked_ms > 0)
		breaker->until = asked_until;
	else
		breaker->until = now + backoff_halves(failure->pace, breaker->pauses++, failure->random) *
								   INT64CONST(1000);
}

void
breaker_probe_ended(Breaker *breaker)
{
	breaker->is_probing = false;
}
