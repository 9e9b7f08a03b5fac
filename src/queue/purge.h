/*
 * purge.h
 *		Deletes jobs that were kept for as long as their server's option
 *		retention says.
 */
#ifndef GENJOB_PURGE_H
#define GENJOB_PURGE_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

/* A server that may have the option retention or retention_failed. */
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
	TimestampTz before; /* jobs that ended by then are due */
	PurgePlace after;   /* jobs up to this place have been looked at */
	int max;            /* jobs */

	/* What was found, and what became of it */
	PurgePlace last; /* the last job that was looked at */
	int n;           /* jobs looked at; below max if there are no more, or they are large */
	bool has_more;   /* may be true although n is below max */
	int64 first;     /* id of the first job to delete, or 0 */
	int64 deleted;
	int64 waiting;    /* objects that are still there */
	int64 ordered;    /* of these, objects whose deletion was ordered now */
	bool any_kept;    /* some are needed by others */
	char *problem;    /* why an object is still there; or NULL */
	TimestampTz next; /* if !has_more: when the first job ended that is not due; or DT_NOEND */
} PurgeBatch;

/* A page of jobs by id; those of some servers get listed for retention. */
typedef struct RetainBatch
{
	List *servers; /* their names */
	int64 last;    /* jobs up to this id have been looked at */
	int max;       /* jobs */

	int n; /* jobs newly listed */
	bool has_more;
	bool stepped_over; /* another transaction had some locked */
} RetainBatch;

/* Call these only in queue_transact() */
extern List *purge_list_servers(void);
extern void purge_run(PurgeBatch *batch);
extern void purge_retain(RetainBatch *batch);

#endif /* GENJOB_PURGE_H */
