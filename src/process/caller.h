/*
 * caller.h
 *		A process that calls on_done, connected as the owner of the jobs.
 */
#ifndef GENJOB_CALLER_H
#define GENJOB_CALLER_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

/* What a caller is told when it is started. */
typedef struct CallerPost
{
	Oid database;
	Oid role;
	int slot;
	uint32 generation;
	TimestampTz dispatcher_started_at;
	TimestampTz clock_started_at;
} CallerPost;

extern PGDLLEXPORT void genjob_caller_main(Datum arg);

#endif /* GENJOB_CALLER_H */
