/*
 * launcher.c
 *		One process per cluster: keeps a dispatcher alive in every database that has the extension.
 *
 * It is connected to no database, so it cannot see which databases have the
 * extension.  It starts a dispatcher in each.  A dispatcher that finds no
 * extension says so and ends.  The launcher then looks at that database again
 * only when something happens there (CREATE EXTENSION, or a job without a
 * dispatcher).  The launcher starts after recovery, so a standby does nothing
 * until it is promoted.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/datafile.h"
#include "base/seldom.h"
#include "process/launcher.h"
#include "process/worker.h"
#include "base/settings.h"
#include "shared/shmem.h"

#define MAX_STARTING 4 /* at a time, so that others still find worker slots */
#define STARTING_POLL_MS 20
#define NO_WORKER \
	"no background worker is free to be the dispatcher of this database: increase max_worker_processes"
#define STEADY_MS 60000 /* a dispatcher that ran this long resets its back-off */

/*
 * A database that may need a dispatcher.
 */
typedef struct Database
{
	Oid oid;
	NameData name;
	bool wanted;                    /* it has the extension, or nobody has looked yet */
	bool asked_again;               /* somebody asked for it after its dispatcher started */
	bool seen;                      /* in the last reading of pg_database */
	int slot;                       /* in shared memory; -1: none */
	BackgroundWorkerHandle *handle; /* NULL: not running */
	MonoTime started_at;
	MonoTime not_before; /* no start before this */
	int failures;        /* in a row */
} Database;

static List *databases = NIL; /* of Database */

/*
 * Called while shared_preload_libraries are loaded.
 */
void
launcher_register(void)
{
	BackgroundWorker worker = {
		.bgw_name = "genjob launcher",
		.bgw_type = "genjob launcher",
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = 1,
		.bgw_library_name = "genjob",
		.bgw_function_name = "genjob_launcher_main",
	};

	RegisterBackgroundWorker(&worker);
}

/* ---------- the list of databases ---------- */

static Database *
database_find(Oid oid)
{
	ListCell *cell;

	foreach(cell, databases)
	{
		Database *database = lfirst(cell);

		if (database->oid == oid)
			return database;
	}
	return NULL;
}

static void
database_note(Oid oid, Name name)
{
	Database *database = database_find(oid);

	if (database == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

		database = palloc0(sizeof(Database));
		database->oid = oid;
		database->slot = -1;
		database->wanted = true;
		databases = lappend(databases, database);
		MemoryContextSwitchTo(caller);
	}
	database->name = *name;
	database->seen = true;
}

static void
forget_unseen(void)
{
	ListCell *cell;

	foreach(cell, databases)
	{
		Database *database = lfirst(cell);

		if (database->seen || database->handle != NULL)
			continue;
		shmem_stats_forget_database(database->oid);
		if (database->slot >= 0)
			shmem_slot_free(database->slot);
		databases = foreach_delete_current(databases, cell);
		pfree(database);
	}
}

/*
 * Reads pg_database, which a process without a database can read.  No job runs
 * in a template: it is for copying.
 */
static void
read_databases(void)
{
	Relation relation;
	TableScanDesc scan;
	HeapTuple tuple;
	ListCell *cell;
	List *all = NIL;

	foreach(cell, databases)
		((Database *) lfirst(cell))->seen = false;
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		all = lappend_oid(all, row->oid);
		if (row->datallowconn && !row->datistemplate)
			database_note(row->oid, &row->datname);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	datafile_remove_others(all);
	CommitTransactionCommand();
	forget_unseen();
}

/* ---------- dispatchers ---------- */

static void
postpone_start(Database *database)
{
	static const Backoff start_again = {1000, 60000};

	database->not_before =
		clock_uptime() + backoff_delay(&start_again, database->failures++) * 1000;
}

/*
 * Says that no dispatcher can be started for a database: in the views, and in the log once a minute.
 */
static void
complain_of_workers(Database *database)
{
	static Seldom said;
	int64 unsaid;

	if (database->slot >= 0)
	{
		shmem_slot_set_error(database->slot, NO_WORKER);
		shmem_slot_set_state(database->slot, WORKER_BLOCKED);
	}
	if (!seldom_must_say(&said, 0, clock_uptime(), &unsaid))
		return;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("genjob found no free background worker for a dispatcher"),
			 errdetail("The jobs of database \"%s\" wait. Each database with the extension needs one worker.",
					   NameStr(database->name)),
			 errhint("Increase max_worker_processes.%s", seldom_describe(unsaid))));
}

static void
start_dispatcher(Database *database)
{
	char name[NAMEDATALEN + 2];

	snprintf(name, sizeof(name), ": %s", NameStr(database->name));
	database->slot = shmem_slot_create(database->oid);
	if (database->slot < 0)
	{
		complain_of_workers(database);
		postpone_start(database);
		return;
	}
	shmem_slot_set_state(database->slot, WORKER_STARTING);
	if (!worker_register("dispatcher", name, &database->oid, sizeof(Oid),
						 Int32GetDatum(database->slot), &database->handle))
	{
		database->handle = NULL;
		complain_of_workers(database);
		postpone_start(database);
		return;
	}
	database->asked_again = false;
	database->started_at = clock_uptime();
}

/*
 * Handles the end of a dispatcher.
 */
static void
dispatcher_ended(Database *database)
{
	WorkerState state = shmem_slot_state(database->slot);
	MonoTime now = clock_uptime();

	pfree(database->handle);
	database->handle = NULL;
	if (clock_ms_between(database->started_at, now) >= STEADY_MS)
		database->failures = 0;
	switch (state)
	{
		case WORKER_ABSENT:
			database->wanted = database->asked_again;
			shmem_slot_free(database->slot);
			database->slot = -1;
			break;
		case WORKER_STOPPED:
			database->not_before = now;
			if (!database->seen)
				forget_unseen();
			break;
		default:
			shmem_slot_set_state(database->slot, WORKER_FAILED);
			postpone_start(database);
			read_databases();
			break;
	}
}

static bool
has_ended(Database *database)
{
	pid_t pid;

	return database->handle != NULL &&
		   GetBackgroundWorkerPid(database->handle, &pid) == BGWH_STOPPED;
}

static int
count_starting(void)
{
	ListCell *cell;
	int n = 0;

	foreach(cell, databases)
	{
		Database *database = lfirst(cell);

		n += database->handle != NULL && shmem_slot_state(database->slot) == WORKER_STARTING;
	}
	return n;
}

/*
 * Starts the dispatchers that should run and do not.  Returns after how many
 * ms to look again; -1: when woken.
 */
static long
start_missing(void)
{
	MonoTime now = clock_uptime();
	int starting = count_starting();
	long wait_ms = -1;
	ListCell *cell;

	foreach(cell, databases)
	{
		Database *database = lfirst(cell);
		bool at_once;
		long ms;

		if (!database->wanted || !database->seen || database->handle != NULL || !genjob_enabled ||
			shmem_is_evicted(database->oid, &at_once))
			continue;
		/* an earlier launcher started it; it wakes this one when it ends */
		if (shmem_has_dispatcher(database->oid))
			continue;
		if (database->not_before <= now && starting < MAX_STARTING)
		{
			start_dispatcher(database);
			starting++;
		}
		if (database->handle != NULL)
			continue;
		ms = Max(clock_ms_between(now, database->not_before), STARTING_POLL_MS);
		wait_ms = wait_ms < 0 ? ms : Min(wait_ms, ms);
	}
	return wait_ms;
}

static void
take_requests(void)
{
	Oid oid;

	while (shmem_launcher_take(&oid))
	{
		Database *database = database_find(oid);

		if (database == NULL)
			read_databases();
		else
			database->wanted = database->asked_again = true;
	}
}

static void
collect_ended(void)
{
	bool any = true;

	while (any)
	{
		ListCell *cell;

		any = false;
		foreach(cell, databases)
		{
			if (!has_ended(lfirst(cell)))
				continue;
			/* may change the list */
			dispatcher_ended(lfirst(cell));
			any = true;
			break;
		}
	}
}

/*
 * Entry point of the background worker.
 */
void
genjob_launcher_main(Datum arg)
{
	uint32 wait_event;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", MyBgworkerEntry->bgw_name, PGC_USERSET, PGC_S_SESSION);
	wait_event = compat_wait_event("GenjobLauncherMain");
	shmem_launcher_attach();
	while (!ShutdownRequestPending)
	{
		long wait_ms;

		take_requests();
		collect_ended();
		wait_ms = start_missing();
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (wait_ms >= 0 ? WL_TIMEOUT : 0),
						 wait_ms, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
	/*
	 * not 0: then the postmaster would not restart it after
	 * pg_terminate_backend()
	 */
	proc_exit(1);
}
