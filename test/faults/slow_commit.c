/*
 * slow_commit.c
 *		For tests: a session that loads this and calls itself "slow commit" takes half a second from when others see what it
 *		has committed until they are told that their caches are old.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

static void
transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && strcmp(application_name, "slow commit") == 0)
		pg_usleep(500000);
}

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	RegisterXactCallback(transaction, NULL);
}
