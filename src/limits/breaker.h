/*
 * breaker.h
 *		A circuit breaker: a server that takes no calls gets one call at a
 *		time.
 */
#ifndef GENJOB_BREAKER_H
#define GENJOB_BREAKER_H

#include "base/backoff.h"
#include "base/clock.h"

#define BREAKER_THRESHOLD 5 /* failures in a row that open it */

/* What is wrong with the server. */
typedef enum BreakerReason
{
	BREAKER_UNREACHABLE, /* calls do not get there */
	BREAKER_FAILING,     /* it says that it has failed, whosever job it is */
	BREAKER_BUSY,        /* it has too much to do */
	BREAKER_STUCK        /* it refuses, and waiting alone does not mend that */
} BreakerReason;

typedef struct Breaker
{
	int failures; /* calls in a row that did not get there, or were cut */
	int n_jobs;   /* jobs whose calls failed in a row */
	int64 jobs[BREAKER_THRESHOLD];
	bool is_open;
	BreakerReason reason; /* while open */
	bool is_probing;      /* the probe is under way */
	MonoTime opened_at;
	MonoTime until; /* while open: no probe before */
	int pauses;     /* before this one */
} Breaker;

/* How a call failed. */
typedef struct BreakerFailure
{
	BreakerReason reason;
	int64 job;           /* whose call it was */
	bool is_of_job;      /* it may be the job's fault: only several jobs are believed */
	bool was_probe;      /* breaker_begin() said so */
	int64 asked_ms;      /* how long the server asks to wait; 0: it does not say */
	const Backoff *pace; /* ms */
	double random;       /* from 0 to below 1 */
} BreakerFailure;

extern int breaker_room(const Breaker *breaker, MonoTime now);
extern bool breaker_begin(Breaker *breaker);
extern void breaker_answered(Breaker *breaker, bool accepts, MonoTime began_at);
extern void breaker_cut(Breaker *breaker);
extern void breaker_failed(Breaker *breaker, const BreakerFailure *failure, MonoTime now);
extern void breaker_probe_ended(Breaker *breaker);

#endif /* GENJOB_BREAKER_H */
