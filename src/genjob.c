/*
 * genjob.c
 *		Loading the library into the postmaster.
 *
 * genjob needs shared memory, hooks in every session and a background worker, so it can only be
 * loaded by shared_preload_libraries; loaded otherwise it says so and does nothing.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"

#include "shared/commit.h"
#include "base/compat.h"
#include "session/hooks.h"
#include "session/ids.h"
#include "process/launcher.h"
#include "base/settings.h"
#include "shared/shmem.h"

COMPAT_MODULE_MAGIC;

static shmem_request_hook_type next_shmem_request = NULL;
static shmem_startup_hook_type next_shmem_startup = NULL;

static void
request_shmem(void)
{
	if (next_shmem_request != NULL)
		next_shmem_request();
	shmem_request();
}

static void
init_shmem(void)
{
	if (next_shmem_startup != NULL)
		next_shmem_startup();
	shmem_startup();
}

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
	{
		/* pg_upgrade only looks whether the library loads */
		if (IsBinaryUpgrade)
			return;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("genjob must be loaded by shared_preload_libraries"),
				 errhint(
					 "Add \"genjob\" to shared_preload_libraries in postgresql.conf and restart the server.")));
	}
	settings_define();
	next_shmem_request = shmem_request_hook;
	shmem_request_hook = request_shmem;
	next_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = init_shmem;
	if (IsBinaryUpgrade)
		return;
	commit_init();
	hooks_install();
	ids_install();
	launcher_register();
}
