/*
 * capacity.c
 *		How many calls at a time a server can do, found by watching it.  Pure:
 *		the caller has the clock.
 *
 * Additive increase, multiplicative decrease.  While the limit is used and
 * nothing is wrong, each window of calls raises it by one, or by 5 percent if
 * that is more; at first each doubles it.  The limit falls when the server
 * refuses (429, 503, 529), or when calls take longer the more of them there
 * are, which is a queue in the server.  To know how long a call takes in a
 * server with room, the limit dips now and then.
 *
 * A window ends after twice as many calls as the limit.  Calls that began
 * before it do not count, because they were made under another limit.
 */
#include "postgres.h"

#include <math.h>

#include "limits/capacity.h"

#define MIN_WINDOW 3       /* calls */
#define GROWTH 1.05        /* of the duration: within this, nothing has grown */
#define GROWTH_OF_FEW 1.25 /* likewise, when few calls were seen */
#define FEW 8              /* calls */
#define DECREASE 0.9       /* after a refusal */
#define MAX_DECREASE 0.5   /* after a window of longer calls */
#define DIP 0.75           /* of the limit, while measuring */
#define WINDOWS_BETWEEN_DIPS 30
#define WINDOWS_AT_CEILING 5 /* before the ceiling is tried again */
#define FALLS_BEFORE_DIP 3   /* in a row: perhaps the calls have changed */

static double
sample_mean(const Sample *sample)
{
	return sample->sum / sample->n;
}

/* The variance of the mean. */
static double
sample_error(const Sample *sample)
{
	double mean = sample_mean(sample);

	return Max(sample->squares / sample->n - mean * mean, 0) / sample->n;
}

/*
 * Returns by what factor calls take longer than in a server with room; 1 if that may be chance.
 */
static double
measure_growth(const Capacity *capacity)
{
	const Sample *now = &capacity->sample;
	const Sample *base = &capacity->base;
	double ratio;
	double chance;

	if (base->n == 0)
		return 1;
	ratio = sample_mean(now) / Max(sample_mean(base), 0.001);
	chance = 2 * sqrt(sample_error(now) + sample_error(base));
	if (ratio <= (Min(now->n, base->n) < FEW ? GROWTH_OF_FEW : GROWTH) ||
		sample_mean(now) - sample_mean(base) <= chance)
		return 1;
	return ratio;
}

static void
begin_window(Capacity *capacity, MonoTime now)
{
	memset(&capacity->sample, 0, sizeof(Sample));
	capacity->began_at = now;
	capacity->was_full = false;
}

static void
decrease_limit(Capacity *capacity, int too_many, double factor)
{
	capacity->ceiling = too_many;
	capacity->limit = Max(1, Min(capacity->limit, too_many) * factor);
	capacity->is_searching = capacity->is_dipping = false;
	capacity->careful = 0;
}

/*
 * Returns how many calls there may be at a time now.
 */
int
capacity_limit(Capacity *capacity)
{
	if (capacity->limit == 0)
	{
		capacity->limit = 1;
		capacity->is_searching = true;
	}
	return Max(1, (int) (capacity->is_dipping ? capacity->limit * DIP : capacity->limit));
}

/*
 * Notes that a call begins, and how many are in flight with it.
 */
void
capacity_begun(Capacity *capacity, int in_flight)
{
	capacity->was_full |= in_flight >= capacity_limit(capacity);
}

static void
increase_limit(Capacity *capacity)
{
	if (capacity->is_searching)
		capacity->limit *= 2;
	else if (capacity->ceiling == 0 || capacity->limit + 1 < capacity->ceiling ||
			 ++capacity->careful >= WINDOWS_AT_CEILING)
	{
		capacity->limit += Max(1, capacity->limit * 0.05);
		if (capacity->careful > 0)
			capacity->ceiling = 0;
		capacity->careful = 0;
	}
}

/*
 * Changes the limit at the end of a window.
 */
static void
end_window(Capacity *capacity)
{
	double grown = measure_growth(capacity);
	int limit = capacity_limit(capacity);

	capacity->falls = grown > 1 ? capacity->falls + 1 : 0;
	capacity->windows++;
	if (capacity->is_dipping || capacity->base.n == 0 || limit == 1)
	{
		capacity->base = capacity->sample;
		capacity->is_dipping = false;
		capacity->windows = capacity->falls = 0;
		if (limit == 1 && capacity->was_full)
			increase_limit(capacity);
	}
	else if (grown > 1)
		decrease_limit(capacity, limit, Max(MAX_DECREASE, GROWTH / grown));
	else if (capacity->was_full)
		increase_limit(capacity);
	capacity->is_dipping =
		capacity->windows >= WINDOWS_BETWEEN_DIPS || capacity->falls >= FALLS_BEFORE_DIP;
}

/*
 * Notes that a call, begun at began_at, has brought a result.
 */
void
capacity_answered(Capacity *capacity, MonoTime began_at, MonoTime now)
{
	double ms;

	if (began_at < capacity->began_at)
		return;
	ms = (now - began_at) / 1000.0;
	capacity->sample.n++;
	capacity->sample.sum += ms;
	capacity->sample.squares += ms * ms;
	if (capacity->sample.n < Max(MIN_WINDOW, 2 * capacity_limit(capacity)))
		return;
	end_window(capacity);
	begin_window(capacity, now);
}

/*
 * Notes that the server refused a call because too many were in flight.  Calls
 * that began before the window say nothing new.
 */
void
capacity_refused(Capacity *capacity, int in_flight, MonoTime began_at, MonoTime now)
{
	if (began_at < capacity->began_at)
		return;
	decrease_limit(capacity, Min(in_flight, capacity_limit(capacity)), DECREASE);
	begin_window(capacity, now);
}
