/*
 * notify_full.c
 *		For tests: while the file "notify_is_full" is in the data directory, a transaction that ran pg_notify() cannot be
 *		committed, as where PostgreSQL's queue of notifications is full (its 8 GB take long to fill).
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "executor/executor.h"
#include "fmgr.h"

PG_MODULE_MAGIC;

static ExecutorStart_hook_type next_start = NULL;
static bool has_notified = false;

static void
start(QueryDesc *query, int flags)
{
	if (query->sourceText != NULL && strstr(query->sourceText, "pg_notify(") != NULL)
		has_notified = true;
	if (next_start != NULL)
		next_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

static void
transaction(XactEvent event, void *arg)
{
	bool refuses =
		event == XACT_EVENT_PRE_COMMIT && has_notified && access("notify_is_full", F_OK) == 0;

	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || refuses)
		has_notified = false;
	if (refuses)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("too many notifications in the NOTIFY queue")));
}

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	next_start = ExecutorStart_hook;
	ExecutorStart_hook = start;
	RegisterXactCallback(transaction, NULL);
}
