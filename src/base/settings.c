/*
 * settings.c
 *		genjob's configuration parameters: the only file that defines any.
 *
 * All but genjob.debug_clock_speed take effect on reload (SIGHUP).
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "base/machine.h"
#include "base/settings.h"

bool genjob_enabled = true;
int genjob_max_in_flight = 1000;
int genjob_max_memory;
int genjob_rescan_interval = 600;
int genjob_shutdown_grace = 10;
int genjob_max_writers = 2;
int genjob_callback_workers = 2;
int genjob_callback_timeout = 30000;
int genjob_callback_attempts = 10;
double genjob_debug_clock_speed = 1.0;

#define MIN_MEMORY_MB 64
#define MAX_DEFAULT_MEMORY_MB 1024

/*
 * Returns a quarter of the machine's memory, in MB: PostgreSQL has other
 * processes, and writing an answer takes more than the answer.
 */
static int
default_max_memory(void)
{
	uint64 quarter = machine_memory() / 4 / (1024 * 1024);

	return (int) Max(MIN_MEMORY_MB, Min(quarter, MAX_DEFAULT_MEMORY_MB));
}

static void
define_callbacks(void)
{
	DefineCustomIntVariable("genjob.callback_workers",
							"Sets how many processes of one database call on_done at a time.",
							"They start when calls are due. With 0, on_done is never called.",
							&genjob_callback_workers, 2, 0, SETTINGS_MAX_CALLBACK_WORKERS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("genjob.callback_timeout", "Sets how long a call of on_done may take.",
							"A call that takes longer fails and is retried later. 0 means no limit.",
							&genjob_callback_timeout, 30000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("genjob.callback_attempts",
							"Sets how many times a failing call of on_done is tried.",
							"After that its row stays in genjob.callbacks, with run_at infinity.",
							&genjob_callback_attempts, 10, 1, 1000000, PGC_SIGHUP, 0, NULL, NULL,
							NULL);
}

void
settings_define(void)
{
	DefineCustomBoolVariable("genjob.enabled", "Runs queued jobs.",
							 "When off, jobs can still be enqueued; calls in flight are given genjob.shutdown_grace to end.",
							 &genjob_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("genjob.max_in_flight",
							"Sets how many calls one database may have in flight, all servers together.",
							"The limit on open files lowers it if that limit is smaller.",
							&genjob_max_in_flight, 1000, 1, 1000000, PGC_SIGHUP, 0, NULL, NULL,
							NULL);

	DefineCustomIntVariable("genjob.max_memory",
							"Sets how much memory the inputs and answers of one database's calls may take.",
							"When it is full, jobs wait in the table and answers wait at their servers. The default is a quarter of what the machine or its cgroup has, 1 GB at most.",
							&genjob_max_memory, default_max_memory(), MIN_MEMORY_MB,
							MAX_KILOBYTES / 1024, PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);

	DefineCustomIntVariable("genjob.max_writers",
							"Sets how many processes of one database handle large requests and answers.",
							"A writer starts when such work arrives, and exits after 30 seconds without any. With 0, or when no background worker is free, the dispatcher does the work itself, and other answers wait meanwhile.",
							&genjob_max_writers, 2, 0, SETTINGS_MAX_WRITERS, PGC_SIGHUP, 0, NULL,
							NULL, NULL);

	DefineCustomIntVariable("genjob.rescan_interval",
							"Sets how often the queue is searched for jobs that no commit reported.",
							"A safety net: every commit that adds or changes a job wakes the dispatcher by itself.",
							&genjob_rescan_interval, 600, 1, INT_MAX / 1000, PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomIntVariable("genjob.shutdown_grace",
							"Sets how long a stopping dispatcher waits for calls in flight to end.",
							"Calls that have not ended by then are taken up after the next start.",
							&genjob_shutdown_grace, 10, 0, 3600, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL,
							NULL);

	define_callbacks();

	DefineCustomRealVariable("genjob.debug_clock_speed",
							 "Makes the dispatchers' clock run faster than the system's.",
							 "For tests of rates, holds and retries.", &genjob_debug_clock_speed,
							 1.0, 1.0, 10000.0, PGC_POSTMASTER, GUC_NOT_IN_SAMPLE | GUC_NO_SHOW_ALL,
							 NULL, NULL, NULL);

	MarkGUCPrefixReserved("genjob");
}
