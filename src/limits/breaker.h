/*
 * breaker.h
 *		A circuit breaker: what cannot be reached is tried by one call at a time.
 */
#ifndef GENJOB_BREAKER_H
#define GENJOB_BREAKER_H

#include "base/clock.h"

#define BREAKER_THRESHOLD 5 /* failures in a row that open it */

typedef struct Breaker
{
	int failures; /* in a row */
	bool is_open;
	bool is_probing; /* the one call that finds out is under way */
	MonoTime until;  /* while open: no probe before */
	int64 delay;     /* ms, before the next probe */
} Breaker;

extern int breaker_room(const Breaker *breaker, MonoTime now);
extern bool breaker_begin(Breaker *breaker);
extern void breaker_succeeded(Breaker *breaker);
extern void breaker_failed(Breaker *breaker, bool was_probe, int64 base_ms, int64 max_ms,
						   MonoTime now);
extern void breaker_probe_ended(Breaker *breaker);

#endif /* GENJOB_BREAKER_H */
