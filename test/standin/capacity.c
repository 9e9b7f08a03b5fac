/*
 * capacity.c
 *		How many calls that bring work are done at a time: what is beyond waits, as in a server with a
 *		queue, or is refused.  Tests change it while calls are in flight.
 */
#include "standin.h"

#include <stdio.h>

static unsigned capacity; /* 0: there is no limit */
static bool refuses;
static int refusal; /* status of the answer to all; 0: they are worked on */
static char refusal_retry_after[32];
static unsigned working;
static unsigned cancels;    /* calls that cancel, at a time; 0: there is no limit */
static unsigned cancelling; /* now */
static TAILQ_HEAD(, Call) line = TAILQ_HEAD_INITIALIZER(line); /* first come, first served */

static void
capacity_start_next(void)
{
	Call *call;

	while ((call = TAILQ_FIRST(&line)) != NULL && (capacity == 0 || working < capacity))
	{
		TAILQ_REMOVE(&line, call, line);
		call->place = PLACE_WORKING;
		working++;
		if (call->fault.stall != STALL_ALL)
			call_arm(call, call->latency_ms);
	}
}

/* Calls at a time from now on, 0 for no limit; those beyond are refused, or wait. */
void
capacity_set(unsigned n, bool refuse)
{
	capacity = n;
	refuses = refuse;
	capacity_start_next();
}

/* All calls that bring work get this status from now on, and Retry-After if it is not NULL; 0: none. */
void
capacity_refuse_all(int status, const char *retry_after)
{
	refusal = status;
	snprintf(refusal_retry_after, sizeof(refusal_retry_after), "%s",
			 retry_after ? retry_after : "");
}

static void
capacity_refuse(Call *call)
{
	counts_add_refused();
	call->latency_ms = 0;
	if (*refusal_retry_after && refusal)
		call_add_header(call, "Retry-After", refusal_retry_after);
	call_write_error(call, refusal ? refusal : 429, "refused", "Not now.");
}

/* A call that brings work comes: it gets a place, or waits for one, or is refused. */
void
capacity_enter(Call *call)
{
	if (refusal)
		capacity_refuse(call);
	else if (capacity == 0 || working < capacity)
	{
		call->place = PLACE_WORKING;
		working++;
	}
	else if (refuses)
		capacity_refuse(call);
	else
	{
		call->place = PLACE_WAITING;
		TAILQ_INSERT_TAIL(&line, call, line);
	}
}

/* Calls that cancel at a time from now on, 0 for no limit; those beyond are refused. */
void
capacity_set_cancels(unsigned n)
{
	cancels = n;
}

/* A call that cancels comes: it gets a place, or is refused. */
void
capacity_enter_cancel(Call *call)
{
	if (cancels > 0 && cancelling >= cancels)
	{
		call->latency_ms = 0;
		call_write_error(call, 429, "refused", "Not now.");
		return;
	}
	call->place = PLACE_CANCELLING;
	cancelling++;
}

/* The call is over; the next one gets its place. */
void
capacity_leave(Call *call)
{
	if (call->place == PLACE_WAITING)
		TAILQ_REMOVE(&line, call, line);
	else if (call->place == PLACE_WORKING)
		working--;
	else if (call->place == PLACE_CANCELLING)
		cancelling--;
	call->place = PLACE_NONE;
	capacity_start_next();
}
