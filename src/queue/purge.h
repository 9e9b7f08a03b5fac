/*
 * purge.h
 *		Deleting jobs that were kept for as long as their server's option retention says.
 */
#ifndef GENJOB_PURGE_H
#define GENJOB_PURGE_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

/* A server that may have one of the options. */
typedef struct PurgeServer
{
	NameData name;
	int64 digest; /* of all of its options */
} PurgeServer;

/* The place of a job among those of its server and state. */
typedef struct PurgePlace
{
	TimestampTz finished_at;
	int64 id;
} PurgePlace;

/* Some jobs of a server that have ended in one way. */
typedef struct PurgeBatch
{
	/* What to look at */
	const char *server;
	const char *state;
	TimestampTz before; /* those that ended by then are due */
	PurgePlace after;   /* those at or before this place have been looked at */
	int max;            /* jobs */

	/* What was found, and what became of it */
	PurgePlace last; /* the last that was looked at */
	int n;           /* of them; fewer than max where there are no more, or they are large */
	bool has_more;   /* also where they are fewer */
	int64 first;     /* id of the first that was to be deleted, or 0 */
	int64 deleted;
	int64 waiting;    /* objects that are still there */
	int64 ordered;    /* of these, those for which a job of their store was ordered now */
	bool any_kept;    /* some are needed by others */
	char *problem;    /* why an object is still there; or NULL */
	TimestampTz next; /* with no more: when the first ended that is not due; DT_NOEND: there is none */
} PurgeBatch;

/* Some jobs, in the order of their ids, to be listed for retention if they are of some servers. */
typedef struct RetainBatch
{
	List *servers; /* their names */
	int64 last;    /* those with this id or a lower one have been looked at */
	int max;       /* jobs */

	int n; /* that are listed now and were not */
	bool has_more;
	bool stepped_over; /* another transaction held some */
} RetainBatch;

/* To be called in queue_transact() only */
extern List *purge_list_servers(void);
extern void purge_run(PurgeBatch *batch);
extern void purge_retain(RetainBatch *batch);

#endif /* GENJOB_PURGE_H */
