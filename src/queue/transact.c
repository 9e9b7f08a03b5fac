/*
 * transact.c
 *		The dispatcher's transactions.
 *
 * queue_transact() begins and ends each transaction, so none is open while the
 * dispatcher waits for a server.  It runs as the owner of the tables.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
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
 * Cancels a transaction that waits (for a synchronous standby, for example),
 * because it must not keep the server from stopping.  This process can then
 * still spool its jobs.  If the transaction does not end, ends the process.
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
 * Prepares this process for queue_transact().  deadline returns the time after
 * which leave_callback() cancels a transaction; 0: never.
 */
void
queue_init(MonoTime (*deadline)(void))
{
	queue_is_mine = true;
	plans_init();
	tables_init();
	attached_init();
	leave_deadline = deadline;
	leave_timeout = RegisterTimeout(USER_TIMEOUT, leave_callback);
}

/*
 * Runs work as the owner of the tables, with what comes before and after it in
 * the transaction.  Leaves no setting behind, and nothing to run at the
 * commit.  What work allocates by SPI_palloc() is in caller, and outlives the
 * transaction.
 */
static void
run_as_owner(QueueWork work, void *arg, MemoryContext caller)
{
	int level = NewGUCNestLevel();

	MemoryContextSwitchTo(caller);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	/* the tables were moved, or dropped and created */
	if (!tables_are_known() && *statement_schema() != '\0')
		(void) queue_look();
	tables_become_owner();
	ended_begin();
	dependency_begin();
	work(arg);
	/* before dependency_work(), so that its errors do not fail the work */
	tables_fire_deferred();
	dependency_work();
	ended_follow();
	AtEOXact_GUC(false, level);
	SPI_finish();
}

/*
 * True if an error says that USAGE on the schema is missing.  The transaction
 * has ended, so only the message is left, in the language of the messages.
 */
static bool
denies_schema(const ErrorData *error, const char *schema)
{
	return strcmp(error->message, psprintf(_("permission denied for schema %s"), schema)) == 0;
}

/*
 * Adds a hint to an error about a missing right.  If the right is not one on a
 * schema of genjob, the error comes from code of others, such as a trigger.
 */
static void
explain_denial(ErrorData *error)
{
	const char *schemas[] = {statement_schema(), "genjob"};
	int i;

	if (error->sqlerrcode != ERRCODE_INSUFFICIENT_PRIVILEGE || error->hint != NULL)
		return;
	for (i = 0; i < lengthof(schemas); i++)
	{
		if (denies_schema(error, schemas[i]))
			error->hint =
				psprintf("genjob's tables are in it: GRANT USAGE ON SCHEMA %s TO %s",
						 quote_identifier(schemas[i]), quote_identifier(tables_owner_name()));
	}
	if (error->hint == NULL)
		error->hint =
			psprintf("Triggers run as role \"%s\" here: GRANT it to that role, or make the trigger's function SECURITY DEFINER.",
					 tables_owner_name());
}

/*
 * Turns synchronous_commit off into local, just before the commit: until then, a database or a trigger may set it.  A
 * crash must not forget what a server was sent: a claim is on disk before its call begins.
 */
static void
insist_on_durability(void)
{
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		(void) set_config_option("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
}

/*
 * Runs work in a transaction of its own, shown in pg_stat_activity as
 * activity.  If it fails, returns false and *error, in the caller's memory
 * context; the database is then unchanged.
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
		run_as_owner(work, arg, caller);
		PopActiveSnapshot();
		insist_on_durability();
		CommitTransactionCommand();
		standby_committed();
		succeeded = true;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		statement_forget_row();
		/* first, to free the transaction's memory */
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
		*error = guard_take_error(caller);
		explain_denial(*error);
		ended_transaction_failed(*error);
		dependency_transaction_failed();
	}
	PG_END_TRY();
	/* a commit does not restore the user */
	SetUserIdAndSecContext(user, context);
	disable_timeout(leave_timeout, false);
	QueryCancelPending = false; /* it was for this transaction */
	MemoryContextSwitchTo(caller);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	return succeeded;
}

/*
 * Runs work in a subtransaction.  If it fails, returns false and *error, in
 * the caller's memory context; the database is then unchanged.  The result of
 * the last statement stays the same.
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
		statement_forget_row();
		RollbackAndReleaseCurrentSubTransaction();
		*error = guard_take_error(caller);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	SPI_tuptable = table;
	return succeeded;
}
