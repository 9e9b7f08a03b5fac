/*
 * backoff.c
 *		How long to wait when something fails again and again: each wait is
 *		twice the last one, up to a limit.
 *
 * Pure.  random is from 0 to below 1.
 */
#include "postgres.h"

#include "base/backoff.h"

/*
 * Returns the wait after a failure.  failures: how many failures in a row came
 * before it.
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
 * As backoff_delay(), with full jitter: evenly spread from 0 to that wait.
 * For many callers that failed together.  (Brooker, "Exponential Backoff And
 * Jitter", AWS Architecture Blog, 2015.)
 */
int64
backoff_spread(const Backoff *backoff, int failures, double random)
{
	return (int64) (random * (backoff_delay(backoff, failures) + 1.0));
}

/*
 * As backoff_spread(), but at least half of the wait: for calls that must not
 * come back at once.
 */
int64
backoff_halves(const Backoff *backoff, int failures, double random)
{
	int64 delay = backoff_delay(backoff, failures);

	return delay - (int64) ((1 - random) * (delay / 2));
}

/*
 * Returns the wait in ms after a failure, plus up to a tenth.  seconds: the
 * first wait, the second and so on, then 0; the last wait repeats.  failures:
 * how many failures in a row came before this one.
 */
int64
backoff_scheduled(const int *seconds, int failures, double random)
{
	while (failures-- > 0 && seconds[1] != 0)
		seconds++;
	return (int64) (*seconds * (1000.0 + 100.0 * random));
}
