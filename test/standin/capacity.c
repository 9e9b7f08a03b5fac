/*
 * capacity.c
 *		How many calls that bring work are done at a time: what is beyond waits, as in a server with a
 *		queue, or is refused.  Tests change it while calls are in flight.
 */
#include "standin.h"

static unsigned capacity; /* 0: there is no limit */
static bool refuses;
static unsigned working;
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

/* A call that brings work comes: it gets a place, or waits for one, or is refused with 429. */
void
capacity_enter(Call *call)
{
	if (capacity == 0 || working < capacity)
	{
		call->place = PLACE_WORKING;
		working++;
	}
	else if (refuses)
	{
		call_write_error(call, 429, "too_many_requests", "Too many requests at a time.");
		call->latency_ms = 0;
	}
	else
	{
		call->place = PLACE_WAITING;
		TAILQ_INSERT_TAIL(&line, call, line);
	}
}

/* The call is over; the next one gets its place. */
void
capacity_leave(Call *call)
{
	if (call->place == PLACE_WAITING)
		TAILQ_REMOVE(&line, call, line);
	else if (call->place == PLACE_WORKING)
		working--;
	call->place = PLACE_NONE;
	capacity_start_next();
}
