/*
 * reasons.h
 *		What the claimer knows, and why it looks at the tables; for claimer.c and reasons.c.
 */
#ifndef GENJOB_REASONS_H
#define GENJOB_REASONS_H

#include "base/clock.h"
#include "queue/queue.h"
#include "shared/shmem.h"

/*
 * What the claimer knows between two looks at the tables.  claimer.c alone changes it.
 *
 *	 unknown		is_unknown: the extension may have changed; the next look finds out, before anything else
 *	 serving		presence is QUEUE_PRESENT
 *	 absent			presence is QUEUE_ABSENT: the dispatcher leaves
 *	 other version	presence is QUEUE_OTHER_VERSION: only news and rescans lead to a look
 *
 * It begins as unknown.  While trouble_until is not 0, it is troubled, too:
 * the last look failed.
 */
typedef struct Claimer
{
	/* What to look at */
	bool is_unknown;        /* the extension */
	bool weights_are_stale; /* the tenants' weights must be read */
	News news;              /* from commits since the last look */
	TimestampTz scan_since; /* read the queue from this run_at on; DT_NOEND: do not */
	bool scanning;          /* such a scan goes on */
	MonoTime
		orphans_at; /* when to look for orphans; DT_NOBEGIN: now, for all; DT_NOEND: there are none */
	MonoTime next_rescan;

	/* What the last look found */
	QueuePresence presence;    /* of the extension */
	TimestampTz due_read;      /* jobs with a run_at up to here were read; 0: none */
	MonoTime due_read_at;      /* when that was, by clock_uptime() */
	TimestampTz set_back_from; /* of a calendar that was set back; 0: all that was due then is due */
	TimestampTz set_back_to;   /* or a little earlier, while set_back_from is not 0 */

	/* What an earlier dispatcher left */
	bool spool_is_read;     /* results that could not be written */
	bool has_more_to_start; /* saved answers are in memory and are read next */

	/* How much one look claims, and what follows a failure */
	int max_calls;          /* file descriptors of this process */
	int batch;              /* jobs that one look may claim, from 1 to CLAIM_BATCH */
	int troubles;           /* looks in a row that failed */
	MonoTime trouble_until; /* no look before; 0: the last one did not fail */
} Claimer;

extern Claimer claimer;

/* Returns how many more calls may begin (claimer.c) */
extern int claimer_room(void);

extern const char *reasons_find(MonoTime now);
extern MonoTime reasons_next(MonoTime now);

#endif /* GENJOB_REASONS_H */
