/*
 * stats.h
 *		What a server did: counts, and how long its calls took.
 */
#ifndef GENJOB_STATS_H
#define GENJOB_STATS_H

#include "datatype/timestamp.h"

#define STATS_REASON_LEN 512 /* bytes */
#define STATS_BUCKETS 96     /* of latency; each a fifth longer than the one before */
#define STATS_SECONDS 64     /* for which ends are counted one by one */

/*
 * Written by one dispatcher only, read by anyone without a lock.
 */
typedef struct ServerStats
{
	Oid database; /* invalid: free */
	Oid server;
	int in_flight;
	int64 succeeded;
	int64 failed;  /* for good */
	int64 retried; /* attempts that failed and were, or will be, tried again */
	TimestampTz held_until;
	char held_reason[STATS_REASON_LEN];
	uint32 latency[STATS_BUCKETS];
	int64 second[STATS_SECONDS];
	uint32 ended[STATS_SECONDS];
} ServerStats;

extern void stats_count_end(ServerStats *stats, double seconds, TimestampTz now);
extern double stats_percentile(const ServerStats *stats, double fraction);
extern int64 stats_ended_last_minute(const ServerStats *stats, TimestampTz now);

#endif /* GENJOB_STATS_H */
