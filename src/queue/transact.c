/*
 * transact.c
 *		The dispatcher's transactions.
 *
 * A transaction is opened and ended by queue_transact(), so none is ever open while a server is waited for.  It runs
 * as the owner of the tables.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/guard.h"
#include "queue/attached.h"
#include "queue/dependency.h"
#include "queue/ended.h"
#include "queue/plans.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/tables.h"
#include "shared/standby.h"

#define LEAVE_LAST_US (5 * USECS_PER_SEC) /* for a transaction that was cancelled to end */

bool queue_is_mine = false;

static TimeoutId leave_timeout;
static MonoTime (*leave_deadline)(void);

/*
 * A transaction that waits (for a synchronous standby, say) must not keep the server from stopping.  It is
 * cancelled, so that this process can still put by what it holds; where it does not end by that, so does the
 * process.
 */
static void
leave_callback(void)
{
	MonoTime deadline = leave_deadline();
	MonoTime now = clock_uptime();

	standby_end_wait();
	if (deadline == 0 || now < deadline)
		return;
	if (now >= deadline + LEAVE_LAST_US)
		ProcDiePending = true;
	else
		QueryCancelPending = true;
	InterruptPending = true;
}

/*
 * Makes this process one that runs transactions with queue_transact(), each of which is broken off, and
 * the process with it, after the time that deadline tells; 0: it may go on.
 */
void
queue_init(MonoTime (*deadline)(void))
{
	queue_is_mine = true;
	plans_init();
	attached_init();
	leave_deadline = deadline;
	leave_timeout = RegisterTimeout(USER_TIMEOUT, leave_callback);
}

/*
 * What is done in a transaction before its work, and after it.  The work runs as the owner of the tables, and leaves
 * no setting behind, nor anything to run at the commit.
 */
static void
run_work(QueueWork work, void *arg)
{
	int level = NewGUCNestLevel();

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	/* they were moved, or dropped and created */
	if (!tables_are_known() && *statement_schema() != '\0')
		(void) queue_look();
	tables_become_owner();
	ended_begin();
	work(arg);
	dependency_work();
	ended_follow();
	tables_fire_deferred();
	AtEOXact_GUC(false, level);
	SPI_finish();
}

/*
 * What lacks a right is code of others, such as a trigger's: says what to do about it.
 */
static void
explain_denial(ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE && error->hint == NULL)
		error->hint =
			psprintf("Triggers run as role \"%s\" here: GRANT it to that role, or make the trigger's function SECURITY DEFINER.",
					 tables_owner_name());
}

/*
 * Runs work in a transaction of its own, shown in pg_stat_activity as activity.  False, and the error
 * in the caller's memory context, when it failed; then nothing was changed in the database.
 */
bool
queue_transact(const char *activity, QueueWork work, void *arg, ErrorData **error)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool succeeded = false;
	Oid user;
	int context;

	*error = NULL;
	GetUserIdAndSecContext(&user, &context);
	pgstat_report_activity(STATE_RUNNING, activity);
	PG_TRY();
	{
		enable_timeout_every(leave_timeout, GetCurrentTimestamp() + USECS_PER_SEC, 1000);
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		standby_begin();
		PushActiveSnapshot(GetTransactionSnapshot());
		run_work(work, arg);
		PopActiveSnapshot();
		CommitTransactionCommand();
		standby_committed();
		succeeded = true;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		/* first, for what the transaction took of the memory */
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
		*error = guard_take_error(caller);
		explain_denial(*error);
		ended_transaction_failed(*error);
	}
	PG_END_TRY();
	/* a commit leaves it as it was */
	SetUserIdAndSecContext(user, context);
	disable_timeout(leave_timeout, false);
	QueryCancelPending = false; /* it was for this transaction */
	MemoryContextSwitchTo(caller);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	return succeeded;
}

/*
 * Runs work in a subtransaction of the present one.  False, and the error in the caller's memory context, when it
 * failed: then nothing of it was done in the database.  The result of the last statement is the same as before.
 */
bool
queue_guard(QueueWork work, void *arg, ErrorData **error)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	SPITupleTable *table = SPI_tuptable;
	volatile bool succeeded = false;

	*error = NULL;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		work(arg);
		ReleaseCurrentSubTransaction();
		succeeded = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		RollbackAndReleaseCurrentSubTransaction();
		*error = guard_take_error(caller);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	SPI_tuptable = table;
	return succeeded;
}
