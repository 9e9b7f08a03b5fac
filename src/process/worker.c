/*
 * worker.c
 *		What a dispatcher and its writers have in common: how they connect to
 *		their database, and what they do at a signal.
 */
#include "postgres.h"

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

#include "base/guard.h"
#include "base/memory.h"
#include "base/settings.h"
#include "process/worker.h"
#include "queue/environment.h"
#include "queue/queue.h"

/*
 * Handles SIGINT: obeys only lock_timeout and the limits that genjob sets itself.  pg_cancel_backend() would delay a
 * job or a result, and there is no user's query to cancel.
 */
static void
cancel_for_timeout(SIGNAL_ARGS)
{
	if (get_timeout_indicator(LOCK_TIMEOUT, false) ||
		get_timeout_indicator(STATEMENT_TIMEOUT, false))
		StatementCancelHandler(postgres_signal_arg);
}

static volatile sig_atomic_t stop_requested_at = 0; /* seconds of clock_uptime() */

static void
request_stop(SIGNAL_ARGS)
{
	if (stop_requested_at == 0)
		stop_requested_at = (sig_atomic_t) (clock_uptime() / USECS_PER_SEC + 1);
	SignalHandlerForShutdownRequest(postgres_signal_arg);
}

/*
 * Returns when a transaction must have ended, because the server was told to
 * stop.  0: it was not.
 */
MonoTime
worker_stop_deadline(void)
{
	if (stop_requested_at == 0)
		return 0;
	return (stop_requested_at + genjob_shutdown_grace + INT64CONST(1)) * USECS_PER_SEC;
}

/*
 * Asks the postmaster to start a background worker that may connect to a
 * database.  It runs genjob_KIND_main(arg), has post (len bytes) in bgw_extra,
 * and is named "genjob KIND", then name.  False when no worker is free;
 * *handle lives as long as this process.
 */
bool
worker_register(const char *kind, const char *name, const void *post, size_t len, Datum arg,
				BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_library_name = "genjob",
		.bgw_main_arg = arg,
		.bgw_notify_pid = MyProcPid,
	};
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	bool succeeded;

	Assert(len <= BGW_EXTRALEN);
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "genjob_%s_main", kind);
	snprintf(worker.bgw_type, BGW_MAXLEN, "genjob %s", kind);
	snprintf(worker.bgw_name, BGW_MAXLEN, "genjob %s%s", kind, name);
	memcpy(worker.bgw_extra, post, len);
	succeeded = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(caller);
	return succeeded;
}

/*
 * Handles interrupts that are pending; call it after each wait.  True, once,
 * if the configuration must be read again.
 */
bool
worker_is_to_reload(void)
{
	CHECK_FOR_INTERRUPTS();
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	return true;
}

/*
 * Connects a background worker to its database.  deadline returns when a transaction must have ended; 0: never.
 */
void
worker_start(Oid database, MonoTime (*deadline)(void))
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, request_stop);
	pqsignal(SIGINT, cancel_for_timeout);
	BackgroundWorkerUnblockSignals();
	environment_fix_settings();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);

	queue_init(deadline);
	SetConfigOption("application_name", MyBgworkerEntry->bgw_name, PGC_USERSET, PGC_S_SESSION);
	environment_fix_session();
	clock_init();
	guard_init();
	memory_init();
}

/*
 * Reads the configuration again.
 */
void
worker_reload(void)
{
	ProcessConfigFile(PGC_SIGHUP);
}
