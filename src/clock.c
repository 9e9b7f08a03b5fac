/*
 * clock.c
 *		What time it is for a dispatcher.
 *
 * All that a dispatcher decides by time, it decides by this clock: when a job is due, a rate, a hold, a
 * back-off, a poll.  A test that must see a minute pass has it run faster (genjob.debug_clock_speed); in
 * use it is the system's.
 */
#include "postgres.h"

#include <math.h>

#include "utils/timestamp.h"

#include "clock.h"
#include "settings.h"

static TimestampTz started_at = 0;

/*
 * Starts the clock, at the time that it is.
 */
void
clock_init(void)
{
	started_at = GetCurrentTimestamp();
}

TimestampTz
clock_now(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (genjob_debug_clock_speed == 1.0 || started_at == 0)
		return now;
	return started_at + (TimestampTz) ((now - started_at) * genjob_debug_clock_speed);
}

/*
 * How many ms of the system's time pass from one moment of this clock to another, rounded up; 0 when
 * the second comes first.
 */
long
clock_real_ms(TimestampTz from, TimestampTz to)
{
	long ms = TimestampDifferenceMilliseconds(from, to);

	return genjob_debug_clock_speed == 1.0 ? ms : (long) ceil(ms / genjob_debug_clock_speed);
}
