/*
 * stats.c
 *		What a server did: counts, and how long its calls took.
 *
 * One dispatcher writes, anyone reads without a lock: a reader may see a count that is a moment old.
 */
#include "postgres.h"

#include <math.h>

#include "utils/float.h"
#include "utils/timestamp.h"

#include "shared/shown.h"
#include "shared/stats.h"

#define TROUBLE_SHOWN_S 75 /* longer than the time between two tries */

/* Bucket i ends at 1 ms * RATIO^i: the last at about a day. */
#define STATS_RATIO 1.21
#define TROUBLES 64

/* The newest troubles that this process has noted.  Some may be over. */
static struct
{
	ServerStats *stats;
	int64 job;
} troubles[TROUBLES];
static int n_troubles = 0;
static int oldest_trouble = 0;

static void
remember_trouble(ServerStats *stats, int64 job)
{
	int i;

	for (i = 0; i < n_troubles && (troubles[i].stats != stats || troubles[i].job != job); i++)
		;
	if (i < n_troubles)
		return;
	if (n_troubles < TROUBLES)
		i = n_troubles++;
	else
	{
		i = oldest_trouble;
		oldest_trouble = (oldest_trouble + 1) % TROUBLES;
	}
	troubles[i].stats = stats;
	troubles[i].job = job;
}

/*
 * Notes that nothing will be done with the job any more: its trouble is over,
 * at whatever server it had any.
 */
void
stats_end_troubles(int64 job)
{
	int i;

	for (i = 0; i < n_troubles; i++)
	{
		if (troubles[i].job == job)
			stats_end_trouble(troubles[i].stats, job);
	}
}

/*
 * Shows that a statement on a job of the server raised an error.
 */
void
stats_note_trouble(ServerStats *stats, int64 job, const char *words, TimestampTz now)
{
	shown_keep_local(stats->trouble, words, sizeof(stats->trouble));
	stats->trouble_job = job;
	stats->trouble_until = now + TROUBLE_SHOWN_S * USECS_PER_SEC;
	remember_trouble(stats, job);
}

/*
 * Notes that a statement on the job succeeded: its trouble is over.
 */
void
stats_end_trouble(ServerStats *stats, int64 job)
{
	if (stats->trouble_job == job)
		stats->trouble_until = 0;
}

/*
 * Counts an attempt that ended its job, and how many seconds it took.
 */
void
stats_count_end(ServerStats *stats, double seconds, TimestampTz now)
{
	int64 second = now / USECS_PER_SEC;
	int slot = second % STATS_SECONDS;
	int bucket = seconds <= 0.001 ? 0 : (int) ceil(log(seconds / 0.001) / log(STATS_RATIO));

	stats->latency[Min(bucket, STATS_BUCKETS - 1)]++;
	if (stats->second[slot] != second)
		stats->ended[slot] = 0;
	stats->second[slot] = second;
	stats->ended[slot]++;
}

/*
 * Returns the seconds within which that fraction of the attempts ended (as
 * exact as a bucket is wide); NaN if none ended.
 */
double
stats_percentile(const ServerStats *stats, double fraction)
{
	uint64 total = 0;
	uint64 seen = 0;
	int i;

	for (i = 0; i < STATS_BUCKETS; i++)
		total += stats->latency[i];
	for (i = 0; i < STATS_BUCKETS && total > 0; i++)
	{
		seen += stats->latency[i];
		if (seen >= fraction * total)
			return 0.001 * pow(STATS_RATIO, i);
	}
	return get_float8_nan();
}

/*
 * Returns how many calls rate_limit allows at once now.  An idle dispatcher
 * does not update tokens.
 */
double
stats_tokens(const ServerStats *stats, TimestampTz now)
{
	double seconds = Max(now - stats->tokens_at, 0) / (double) USECS_PER_SEC;

	return Min(stats->burst, stats->tokens + seconds * stats->rate);
}

int64
stats_ended_last_minute(const ServerStats *stats, TimestampTz now)
{
	int64 second = now / USECS_PER_SEC;
	int64 n = 0;
	int i;

	for (i = 0; i < STATS_SECONDS; i++)
	{
		if (stats->second[i] > second - 60 && stats->second[i] <= second)
			n += stats->ended[i];
	}
	return n;
}
