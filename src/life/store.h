/*
 * store.h
 *		Where a job's outputs go, if that is an object store.
 */
#ifndef GENJOB_STORE_H
#define GENJOB_STORE_H

#include "life/job.h"

struct ServerQueue;

typedef struct JobStore
{
	struct ServerQueue *queue; /* of the store's server */
	Server *server;            /* held; NULL: it cannot be used, see trouble */
	MappingOptions secrets;    /* the job owner's */
	char *trouble;             /* why it cannot be used, as a sentence; else NULL */
	Place place;               /* of the call under way */
	int failures;              /* in a row */
	MonoTime failing_since;    /* the first of them */
	MonoTime waiting_since;    /* for a place; 0: it does not wait */
	char *saved;               /* the verdict as it is being saved; or NULL */
	bool is_saved;             /* the verdict is in the table, or cannot be */
	bool gave_up;              /* the outputs stay in the table */

	/* What the key of an output is made of, in UTF-8 */
	char *server_name; /* of the server that brought it */
	char *owner_name;
	char *database_name;
} JobStore;

extern void store_open(Job *job);
extern void store_read(Job *job);
extern void store_leave_place(Job *job);
extern void store_close(Job *job);
extern bool store_holds_unsaved(const Job *job);

#endif /* GENJOB_STORE_H */
