/*
 * callback.c
 *		Calls on_done functions, in a process connected as the jobs' owner.
 *
 * Everything here runs as that role, with its settings and its rights.  The
 * transaction that calls a function also deletes the row of genjob.callbacks,
 * so a call takes effect once, however often it is tried.
 *
 * A commit costs more than most calls.  So one transaction makes calls for
 * BATCH_US, each in a subtransaction.  If it cannot commit, the next one makes
 * only one call.  A call that fails after others is first tried alone, before
 * the failure counts: some functions work only once in a transaction.
 *
 * A call that crashes PostgreSQL would be made again after every restart.  So
 * if the row is older than this dispatcher, the call counts as failed before
 * it is made; if it succeeds, the row and the count are deleted.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/prepare.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/settings.h"
#include "queue/callback.h"
#include "queue/calling.h"
#include "shared/callers.h"

#define BATCH 20
#define BATCH_US (5 * INT64CONST(1000)) /* after which no more calls begin */
#define STOP_TIMES 5                    /* cancels, one a second, before the process ends */
#define RESTORE_US \
	(10 * USECS_PER_MINUTE) /* wait this long for a restore to bring the missing job */

#define MOST_ATTEMPTS 1000000 /* the maximum of genjob.callback_attempts */
#define ERROR_LEN 8000        /* bytes kept of an error: a function may raise any text */
#define UNKNOWN_END "the call began, and the server stopped during it"

static const Backoff call_again = {USECS_PER_SEC, USECS_PER_HOUR};

/* A row of genjob.callbacks. */
typedef struct Callback
{
	int64 id;
	int64 job;
	int attempt;     /* of the job, when it ended */
	int attempts;    /* calls that failed */
	bool is_old;     /* the row is older than this dispatcher */
	bool has_error;  /* of an earlier call */
	bool is_counted; /* attempts already counts the present call */
} Callback;

static TimestampTz dispatcher_started_at;
static TimeoutId call_timeout;
static volatile sig_atomic_t overtime =
	0;                        /* alarms so far, one a second; 0: the call is still in time */
static bool is_timed = false; /* the clock runs for a call, or for its commit */
static int batch_size = BATCH;
static Oid first_user; /* when the session began: functions may set user and role */
static Oid first_role;

/* ---------- time ---------- */

static void
stop_call(void)
{
	overtime++;
	if (overtime > STOP_TIMES)
	{
		callers_note_overdue();
		ProcDiePending = true;
	}
	else
		QueryCancelPending = true;
	InterruptPending = true;
}

static void
stop_clock(void)
{
	disable_timeout(call_timeout, false);
	QueryCancelPending = false;
	is_timed = false;
}

static void
start_clock(void)
{
	stop_clock();
	overtime = 0;
	is_timed = true;
	if (genjob_callback_timeout > 0)
		enable_timeout_every(call_timeout,
							 TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														 genjob_callback_timeout),
							 1000);
}

static void
check_clock(void)
{
	if (overtime > 0)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
						errmsg("the call went on for longer than genjob.callback_timeout"),
						errhint("Make the function faster, or raise genjob.callback_timeout.")));
}

/*
 * Stops the clock at pre-commit, when the calls' deferred triggers and cursors
 * have run.  The rest of the commit may wait for a standby: do not cancel it.
 */
static void
transaction_event(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_PRE_COMMIT || !is_timed)
		return;
	check_clock();
	stop_clock();
}

void
callback_init(TimestampTz started_at)
{
	dispatcher_started_at = started_at;
	call_timeout = RegisterTimeout(USER_TIMEOUT, stop_call);
	first_user = GetSessionUserId();
	first_role = GetCurrentRoleId();
	RegisterXactCallback(transaction_event, NULL);
}

/* ---------- statements ---------- */

typedef enum CallbackStatement
{
	TAKE,
	FORGET,
	POSTPONE,
	CALLBACK_STATEMENTS
} CallbackStatement;

static const struct
{
	int nargs;
	Oid args[4];
	const char *text;
} statements[CALLBACK_STATEMENTS] = {
	/* clang-format off */
	[TAKE] = {4, {OIDOID, TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID},
		"SELECT c.id, c.job_id, c.attempt, c.attempts, c.created_at OPERATOR(pg_catalog.<) $4, c.error IS NOT NULL"
		" FROM genjob.callbacks c WHERE c.owner OPERATOR(pg_catalog.=) $1 AND c.run_at OPERATOR(pg_catalog.<=) $2"
		"  AND c.run_at OPERATOR(pg_catalog.<) 'infinity'"
		" ORDER BY c.run_at, c.id LIMIT $3 FOR UPDATE SKIP LOCKED"},
	[FORGET] = {1, {INT8OID}, "DELETE FROM genjob.callbacks WHERE id OPERATOR(pg_catalog.=) $1"},
	[POSTPONE] = {4, {INT8OID, INT4OID, TIMESTAMPTZOID, TEXTOID},
		"UPDATE genjob.callbacks SET attempts = $2, run_at = $3, error = $4 WHERE id OPERATOR(pg_catalog.=) $1"},
	/* clang-format on */
};

static SPIPlanPtr plans[CALLBACK_STATEMENTS];

static SPIPlanPtr
prepare_statement(CallbackStatement statement)
{
	SPIPlanPtr plan = SPI_prepare(statements[statement].text, statements[statement].nargs,
								  (Oid *) statements[statement].args);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare: %s", statements[statement].text);
	return plan;
}

static uint64
run_statement(CallbackStatement statement, Datum *args)
{
	int code;

	if (plans[statement] == NULL)
		plans[statement] = prepare_statement(statement);
	code = SPI_execute_plan(plans[statement], args, NULL, false, 0);
	if (code < 0)
		elog(ERROR, "could not execute statement: %s", SPI_result_code_string(code));
	return SPI_processed;
}

static Datum
read_column(uint64 row, int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, isnull);
}

/* ---------- one call ---------- */

/*
 * Returns when to retry a call that has failed attempts times.  DT_NOEND:
 * never.
 */
static TimestampTz
retry_time(int attempts)
{
	if (attempts >= genjob_callback_attempts)
		return DT_NOEND;
	return clock_now() + backoff_delay(&call_again, attempts - 1);
}

static void
postpone_call(const Callback *callback, int attempts, TimestampTz run_at, const char *error)
{
	Datum args[4] = {Int64GetDatum(callback->id), Int32GetDatum(attempts),
					 TimestampTzGetDatum(run_at), CStringGetTextDatum(error)};

	run_statement(POSTPONE, args);
}

/*
 * Postpones a call whose job is missing: a restore may still bring the job.
 * False if the row already has an error: give the call up.
 */
static bool
wait_for_job(const Callback *callback)
{
	if (callback->has_error)
		return false;
	postpone_call(callback, callback->attempts, clock_now() + RESTORE_US,
				  psprintf("job " INT64_FORMAT " does not exist", callback->job));
	return true;
}

/*
 * Deletes the row.  Calls the function, unless the job has run again since, or
 * names none.
 */
static void
call_on_done(const Callback *callback)
{
	Datum id[1] = {Int64GetDatum(callback->id)};
	char *function;
	bool has_ended;

	if (!calling_read_job(callback->job, callback->attempt, &function, &has_ended))
	{
		if (!wait_for_job(callback))
			(void) run_statement(FORGET, id);
		return;
	}
	/* somebody may have deleted the row */
	if (run_statement(FORGET, id) == 0 || function == NULL || !has_ended)
		return;
	calling_run(function, callback->job);
	check_clock();
}

static char *
describe_error(const ErrorData *error)
{
	char *words;

	if (overtime > 0)
		return psprintf("the call took longer than genjob.callback_timeout (%d ms)",
						genjob_callback_timeout);
	words = error->hint ? psprintf("%s. %s", error->message, error->hint) : pstrdup(error->message);
	words[pg_mbcliplen(words, strlen(words), ERROR_LEN)] = '\0';
	return words;
}

/*
 * Makes a call in a subtransaction, then undoes what the function set for the
 * session.  Returns why the call failed, or NULL.
 */
static char *
try_call(const Callback *callback)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int level = NewGUCNestLevel();
	char *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		call_on_done(callback);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *data;

		MemoryContextSwitchTo(caller);
		data = CopyErrorData();
		FlushErrorState();
		stop_clock();
		error = describe_error(data);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	AtEOXact_GUC(false, level);
	return error;
}

/* ---------- some calls ---------- */

static Callback last;              /* the last call of the present transaction */
static bool is_committing = false; /* a transaction in which a call succeeded */

/*
 * Locks and reads up to batch_size due calls; returns their number.
 */
static int
take_due(Callback *callbacks)
{
	Datum args[4] = {ObjectIdGetDatum(GetSessionUserId()), TimestampTzGetDatum(clock_now()),
					 Int32GetDatum(batch_size), TimestampTzGetDatum(dispatcher_started_at)};
	int n = (int) run_statement(TAKE, args);
	bool isnull;
	int i;

	for (i = 0; i < n; i++)
	{
		callbacks[i].id = DatumGetInt64(read_column(i, 1, &isnull));
		callbacks[i].job = DatumGetInt64(read_column(i, 2, &isnull));
		callbacks[i].attempt = DatumGetInt32(read_column(i, 3, &isnull));
		/* the role may have set any number */
		callbacks[i].attempts =
			Min(Max(DatumGetInt32(read_column(i, 4, &isnull)), 0), MOST_ATTEMPTS);
		callbacks[i].is_old = DatumGetBool(read_column(i, 5, &isnull));
		callbacks[i].has_error = DatumGetBool(read_column(i, 6, &isnull));
	}
	return n;
}

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	calling_find_table();
}

static void
commit_transaction(void)
{
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
}

/*
 * Counts the call as failed before it is made, and commits the count.
 */
static void
count_beforehand(Callback *callback)
{
	callback->attempts++;
	callback->is_counted = true;
	postpone_call(callback, callback->attempts, retry_time(callback->attempts), UNKNOWN_END);
	commit_transaction();
	begin_transaction();
}

static void
note_failure(const Callback *callback, const char *error)
{
	int attempts = callback->attempts + (callback->is_counted ? 0 : 1);

	postpone_call(callback, attempts, retry_time(attempts), error);
}

/*
 * Makes one of the calls.  True if it succeeded; the clock then runs on, for
 * the commit.  If a call after the first fails, its failure does not count,
 * unless it took too long: the next transaction makes it alone.
 */
static bool
make_call(const Callback *callback, bool is_first)
{
	char *error;

	last = *callback;
	callers_begin_call(callback->id);
	start_clock();
	error = try_call(callback);
	if (error != NULL && !is_first && overtime == 0)
		batch_size = 0;
	else if (error != NULL)
		note_failure(callback, error);
	return error == NULL;
}

/*
 * Makes some calls in one transaction; returns how many were begun.
 */
static int
call_batch(void)
{
	Callback callbacks[BATCH] = {0};
	MonoTime enough = clock_uptime() + BATCH_US;
	bool succeeded = true;
	int n;
	int i;

	begin_transaction();
	n = take_due(callbacks);
	if (n > 0 && callbacks[0].is_old)
		count_beforehand(&callbacks[0]);
	for (i = 0; i < n && succeeded; i++)
	{
		/* always make the first call: it may already be counted */
		if (i > 0 && (callbacks[0].is_counted || callbacks[i].is_old || clock_uptime() >= enough ||
					  callers_must_leave()))
			break;
		succeeded = make_call(&callbacks[i], i == 0);
	}
	is_committing = succeeded || i > 1;
	/* without a call, the alarm would only wake the process again and again */
	if (i > 0 && is_committing && !is_timed)
		start_clock();
	/*
	 * If the process dies in the commit of several calls, the first one counts
	 * as failed, and comes after the others.
	 */
	if (i > 1)
		callers_begin_call(callbacks[0].id);
	commit_transaction();
	is_committing = false;
	callers_end_call();
	batch_size = Min(Max(batch_size * 2, 1), BATCH);
	return i;
}

/*
 * Handles a failed commit.  With batch_size 1, counts the call as failed.
 * Otherwise no failure counts, and the next transaction makes only one call.
 */
static void
commit_failed(const ErrorData *error)
{
	is_committing = false;
	if (batch_size == 1)
	{
		begin_transaction();
		note_failure(&last, describe_error(error));
		commit_transaction();
	}
	callers_end_call();
	batch_size = 1;
}

/*
 * Undoes what deferred triggers set during the commit.
 */
static void
reset_settings(void)
{
	if (GetSessionUserId() != first_user)
		SetPGVariable("session_authorization", NIL, false);
	if (GetCurrentRoleId() != first_role)
		SetPGVariable("role", NIL, false);
	ResetAllOptions();
}

/*
 * Clears what functions left in the session: the next call finds it like new.
 * try_call() undoes what a call sets, but not what a deferred trigger sets.
 */
static void
clean_session(void)
{
	StartTransactionCommand();
	reset_settings();
	ResetTempTableNamespace();
	PortalHashTableDeleteAll();
	DropAllPreparedStatements();
	(void) DirectFunctionCall1(pg_advisory_unlock_all, (Datum) 0);
	CommitTransactionCommand();
}

/*
 * True if an error outside the calls says nothing about the role: another caller took the same rows under a stricter
 * isolation level, or somebody cancelled.
 */
static bool
is_passing(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK ||
		   error->sqlerrcode == ERRCODE_QUERY_CANCELED;
}

/*
 * Makes some calls that are due, in one transaction.  False if there was none.  An error ends the process: this role
 * lacks a right that calls need.
 */
bool
callback_call_some(void)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData *volatile error = NULL;
	volatile int n = 0;

	pgstat_report_activity(STATE_RUNNING, "calling on_done");
	PG_TRY();
	{
		n = call_batch();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		stop_clock();
		AbortOutOfAnyTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (error != NULL && is_committing)
		commit_failed(error);
	else if (error != NULL && is_passing(error))
		callers_end_call();
	else if (error != NULL)
		ReThrowError(error);
	if (error != NULL || n > 0)
		clean_session();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	return error != NULL || n > 0;
}
