/*
 * backoff.c
 *		How long to wait when something fails again and again: each wait twice the one before, up to a limit.
 *
 * Pure: the caller has the clock and the random number, which is from 0 to below 1.
 */
#include "postgres.h"

#include "base/backoff.h"

/*
 * Returns the wait after a failure before which that many others came in a row.
 */
int64
backoff_delay(const Backoff *backoff, int failures)
{
	int64 delay = backoff->first;

	while (failures-- > 0 && delay < backoff->most)
		delay = delay > backoff->most / 2 ? backoff->most : delay * 2;
	return Min(delay, backoff->most);
}

/*
 * The same with full jitter, that is, evenly spread from nothing to that wait: for what many do that failed together.
 * (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)
 */
int64
backoff_spread(const Backoff *backoff, int failures, double random)
{
	return (int64) (random * (backoff_delay(backoff, failures) + 1.0));
}

/*
 * The same from half of the wait on: for what must not come back at once.
 */
int64
backoff_halves(const Backoff *backoff, int failures, double random)
{
	int64 delay = backoff_delay(backoff, failures);

	return delay - (int64) ((1 - random) * (delay / 2));
}

/*
 * The wait in ms that a schedule (in seconds, 0 behind the last) has after a failure before which that many others came
 * in a row, and up to a tenth more; after the last one that one again.
 */
int64
backoff_scheduled(const int *seconds, int failures, double random)
{
	while (failures-- > 0 && seconds[1] != 0)
		seconds++;
	return (int64) (*seconds * (1000.0 + 100.0 * random));
}
