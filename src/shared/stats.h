/*
 * stats.h
 *		What a server did: counts, and how long its calls took.
 */
#ifndef GENJOB_STATS_H
#define GENJOB_STATS_H

#include "datatype/timestamp.h"

#define STATS_REASON_LEN 512 /* bytes */
#define STATS_ERROR_LEN 200  /* bytes */
#define STATS_BACKENDS 16    /* of a server */
#define STATS_BUCKETS 96     /* of latency; each a fifth longer than the bucket before it */
#define STATS_SECONDS 64     /* for which ends are counted one by one */

typedef enum BackendHealth
{
	BACKEND_OK,
	BACKEND_HELD,   /* it asked to wait */
	BACKEND_BROKEN, /* it cannot be reached: left out until the next probe */
	BACKEND_PROBING /* a call finds out whether it can be reached again */
} BackendHealth;

/* One of the addresses of a server, in the order of its option url. */
typedef struct BackendStats
{
	int in_flight;
	int max_in_flight; /* now */
	BackendHealth health;
	TimestampTz until; /* no call before this time; 0: unknown */
	int failures;      /* calls in a row that did not reach it */
	char error[STATS_ERROR_LEN];
} BackendStats;

/*
 * Written by one dispatcher only, read by anyone without a lock.
 */
typedef struct ServerStats
{
	Oid server;
	int in_flight;
	int allowed;  /* calls at a time, at all addresses that can be reached */
	float tokens; /* of rate_limit, at tokens_at; -1: there is none */
	float rate;   /* tokens that come back a second */
	float burst;  /* tokens at most */
	TimestampTz tokens_at;
	int64 succeeded;
	int64 failed;       /* for good */
	int64 unknown_ends; /* calls whose end is unknown, and that were or will be repeated */
	int64 retried;      /* attempts that failed, and that were or will be retried */
	TimestampTz held_until;
	char held_reason[STATS_REASON_LEN]; /* all texts here are from shown_keep() */
	char held_plain[STATS_REASON_LEN];  /* the same, without words of servers and errors */
	int64 trouble_job;                  /* job whose statement last raised an error */
	TimestampTz trouble_until;          /* show that until then */
	char trouble[STATS_REASON_LEN];
	uint32 latency[STATS_BUCKETS];
	int64 second[STATS_SECONDS];
	uint32 ended[STATS_SECONDS];
	int n_backends;
	BackendStats backends[STATS_BACKENDS];
} ServerStats;

extern void stats_note_trouble(ServerStats *stats, int64 job, const char *words, TimestampTz now);
extern void stats_end_trouble(ServerStats *stats, int64 job);
extern void stats_end_troubles(int64 job);
extern void stats_count_end(ServerStats *stats, double seconds, TimestampTz now);
extern double stats_percentile(const ServerStats *stats, double fraction);
extern double stats_tokens(const ServerStats *stats, TimestampTz now);
extern int64 stats_ended_last_minute(const ServerStats *stats, TimestampTz now);

#endif /* GENJOB_STATS_H */
