/*
 * caller.c
 *		A process that calls on_done, connected as the owner of the jobs.
 *
 * Its session has the rights of that role and no others, and the settings of
 * the role and the database, as if the role had connected and called its
 * functions itself.  It knows nothing of the dispatcher's work.  Whatever an
 * on_done function does, and however long it takes, affects only this process.
 */
#include "postgres.h"

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/compat.h"
#include "process/caller.h"
#include "process/worker.h"
#include "queue/callback.h"
#include "shared/callers.h"
#include "shared/shmem.h"

#define IDLE_US (30 * USECS_PER_SEC)

static void
end_process(SIGNAL_ARGS)
{
	callers_note_told();
	die(postgres_signal_arg);
}

/*
 * Overrules settings of the role and the database under which no call could be made, so that RESET ALL keeps them.  With
 * row_security off, no row of the queue could be read.  With exit_on_error, any error would end the process before this
 * file can report it.
 */
static void
fix_settings(void)
{
	SetConfigOption("application_name", MyBgworkerEntry->bgw_name, PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("row_security", "on", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("exit_on_error", "off", PGC_USERSET, PGC_S_OVERRIDE);
}

static void
start_process(const CallerPost *post)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGTERM, end_process);
	BackgroundWorkerUnblockSignals();
	if (!callers_attach(post->slot, post->generation))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(post->database, post->role, 0);
	callers_set_state(CALLER_BUSY);
	fix_settings();
	clock_init();
	clock_join(post->clock_started_at);
	callback_init(post->dispatcher_started_at);
}

/*
 * Sleeps until there is something to do; false when nothing has come for IDLE_US.
 */
static bool
wait_for_calls(uint32 wait_event)
{
	int events;

	callers_set_state(CALLER_IDLE);
	shmem_tell_callbacks(MyDatabaseId);
	events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, IDLE_US / 1000,
					   wait_event);
	ResetLatch(MyLatch);
	callers_set_state(CALLER_BUSY);
	return (events & WL_LATCH_SET) != 0;
}

static void
obey_signals(void)
{
	if (worker_is_to_reload())
		ProcessConfigFile(PGC_SIGHUP);
}

static void
make_calls(MemoryContext context, uint32 wait_event)
{
	bool may_go_on = true;

	while (may_go_on && !callers_must_leave())
	{
		obey_signals();
		MemoryContextReset(context);
		if (!callback_call_some())
			may_go_on = wait_for_calls(wait_event);
	}
}

/*
 * Entry point of the background worker.
 */
void
genjob_caller_main(Datum arg)
{
	MemoryContext context;
	CallerPost post;

	memcpy(&post, MyBgworkerEntry->bgw_extra, sizeof(post));
	start_process(&post);
	context = AllocSetContextCreate(TopMemoryContext, "genjob call", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		make_calls(context, compat_wait_event("GenjobCallerMain"));
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		callers_set_error(error->message);
		PG_RE_THROW();
	}
	PG_END_TRY();
	proc_exit(0);
}
