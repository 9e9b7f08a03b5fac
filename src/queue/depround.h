/*
 * depround.h
 *		One round of looking at dependencies; for the files of this folder
 *		only.
 */
#ifndef GENJOB_DEPROUND_H
#define GENJOB_DEPROUND_H

#include "utils/timestamp.h"

#include "queue/dependency.h"
#include "queue/idlist.h"

/* What became of a job that waited. */
typedef struct Resolved
{
	int64 id;
	uint64 row;        /* in the last result; from ROUND_SERVER on, columns for find.c */
	const char *state; /* queued, failed or cancelled; NULL: another session has it locked */
} Resolved;

#define ROUND_SERVER 3
#define ROUND_HAS_ON_DONE 9

/* A round: jobs that changed, and what that means for their dependents. */
typedef struct Round
{
	const int64 *ids;
	int n;
	bool is_look;    /* they may wait, or be unfinished again; false: all have ended */
	bool may_revive; /* there may be jobs that did not run because of these */
	bool is_final;   /* records how they ended, so that the next round need not look */
	TimestampTz now;
	int limit;       /* jobs that are looked at; 0: all */
	IdList *revived; /* jobs that wait again */
	bool has_more;   /* the limit was reached */
	bool found;      /* somebody waits, or was woken */
	int n_done;      /* rows that this changed for good */
	void (*resolved)(const Resolved *job, void *arg);
	void *arg;
} Round;

extern void round_run(Round *round);
extern void round_forget(const IdList *jobs);
extern void round_forget_all(void);
extern bool round_is_used(bool *has_blocked);
extern int round_list_dependents(int64 job, int64 *ids, int max);
extern int round_keep_seen(int64 *ids, int n, Oid role, KeptJobs kept);
extern int round_page(int64 *from, int64 *ids, int max);
extern bool round_page_retried(int64 *from, int64 *ids, int *n, int max);

#endif /* GENJOB_DEPROUND_H */
