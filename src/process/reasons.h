/*
 * reasons.h
 *		What the claimer has to look at, and why it looks; for claimer.c and reasons.c.
 */
#ifndef GENJOB_REASONS_H
#define GENJOB_REASONS_H

#include "base/clock.h"
#include "shared/shmem.h"

typedef struct ClaimerTodo
{
	News news;              /* what commits have told since the last look */
	bool extension;         /* it may have changed */
	bool other_version;     /* it is of another version, which this library cannot serve */
	TimestampTz scan_since; /* the queue is to be read from that run_at on; DT_NOEND: it is known */
	bool scanning;          /* that has begun, and goes on */
	MonoTime orphans_at;    /* orphans are to be looked for then; DT_NOEND: there are none */
	MonoTime next_rescan;
	MonoTime trouble_until; /* the last look failed: none before; 0: it did not */
} ClaimerTodo;

extern ClaimerTodo claimer_todo;

/* How many more calls there may be in all (claimer.c) */
extern int claimer_room(void);

extern const char *reasons_find(MonoTime now);
extern MonoTime reasons_next(MonoTime now);

#endif /* GENJOB_REASONS_H */
