/*
 * wait.c
 *		genjob.wait(), wait_any() and run(): sessions that sleep until jobs
 *		have ended.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "queue/awaited.h"
#include "queue/session.h"
#include "queue/submit.h"
#include "session/sqlapi.h"
#include "shared/shmem.h"

#define LONGEST_WAIT_US 1e18 /* 30,000 years; longer is for ever */

/*
 * Returns about how long an interval is.
 */
static double
interval_us(const Interval *interval)
{
	double days = interval->month * (double) DAYS_PER_MONTH + interval->day;

	return days * USECS_PER_DAY + interval->time;
}

/*
 * Returns when a wait of that length ends, by clock_uptime(); 0: never.
 */
static MonoTime
wait_deadline(FunctionCallInfo fcinfo, int argument)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until;
	double about;

	if (PG_ARGISNULL(argument))
		return 0;
	/* the interval may be infinite, or beyond the calendar */
	about = interval_us(PG_GETARG_INTERVAL_P(argument));
	if (about <= 0 || about > LONGEST_WAIT_US)
		return about <= 0 ? 1 : 0;
	until =
		DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now),
												PG_GETARG_DATUM(argument)));
	return Max(clock_uptime() + (until - now), 1);
}

/*
 * Sleeps until something may have happened to the job; false when the deadline has passed.
 */
static bool
sleep_until(MonoTime deadline)
{
	static uint32 wait_event = 0;
	bool forever = deadline == 0;
	MonoTime now = clock_uptime();

	if (wait_event == 0)
		wait_event = compat_wait_event("GenjobWait");
	if (!forever && deadline <= now)
		return false;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (forever ? 0 : WL_TIMEOUT),
					 forever ? -1 : clock_ms_between(now, deadline), wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

static void
refuse_in_recovery(const char *function)
{
	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("%s() cannot be used during recovery", function),
						errhint("Wait on the primary server.")));
}

PG_FUNCTION_INFO_V1(genjob_wait);

/*
 * Returns the job's row once it has ended, or the present row when the time is
 * up.
 */
Datum
genjob_wait(PG_FUNCTION_ARGS)
{
	int64 id = PG_GETARG_INT64(0);
	MonoTime deadline;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	refuse_in_recovery("genjob.wait");
	deadline = wait_deadline(fcinfo, 1);
	PG_TRY();
	{
		int64 unended = id;

		shmem_wait_begin(id);
		if (session_keep_unended(&unended, 1) > 0)
		{
			while (sleep_until(deadline) && !session_job_has_ended(id))
				;
		}
	}
	PG_FINALLY();
	{
		shmem_wait_end();
	}
	PG_END_TRY();
	PG_RETURN_DATUM(session_job_row(id));
}

/*
 * Returns the ids in argument 0, palloc'd, without nulls.
 */
static int64 *
read_ids(FunctionCallInfo fcinfo, int *n)
{
	Datum *datums;
	bool *nulls;
	int64 *ids;
	int all;
	int i;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &datums, &nulls, &all);
	ids = palloc(Max(all, 1) * sizeof(int64));
	*n = 0;
	for (i = 0; i < all; i++)
	{
		if (!nulls[i])
			ids[(*n)++] = DatumGetInt64(datums[i]);
	}
	return ids;
}

/*
 * Returns the ids of jobs that have not ended, palloc'd, and their number in
 * *n.  Raises an error for a job that does not exist, or that cannot end while
 * this transaction lasts.
 */
static int64 *
list_unended(const int64 *ids, int *n)
{
	int64 *unended = palloc(Max(*n, 1) * sizeof(int64));

	if (*n > 0)
		memcpy(unended, ids, *n * sizeof(int64));
	*n = session_keep_unended(unended, *n);
	return unended;
}

/*
 * Raises an error for one of n jobs that cannot end while this transaction lasts, or does not exist.
 */
static void
check_unended(const int64 *ids, int n)
{
	pfree(list_unended(ids, &n));
}

#define LOOKED_AT 100 /* jobs at a time */

/*
 * Looks at up to LOOKED_AT of n ids.  Moves the unended ones to the end of
 * these; returns how many have ended.
 */
static int
pass_ended(int64 *ids, int n)
{
	int looked_at = Min(n, LOOKED_AT);
	int unended = session_keep_unended(ids, looked_at);

	memmove(ids + looked_at - unended, ids, unended * sizeof(int64));
	return looked_at - unended;
}

/*
 * Sleeps until all n jobs have ended, or the deadline has passed.  Changes
 * ids.
 */
static void
sleep_until_ended(int64 *ids, int n, MonoTime deadline)
{
	bool in_time = true;
	int i = 0;

	while (i < n && in_time)
	{
		CHECK_FOR_INTERRUPTS();
		shmem_wait_begin(ids[i]);
		while (!session_job_has_ended(ids[i]) && in_time)
			in_time = sleep_until(deadline);
		if (in_time)
			i += pass_ended(ids + i, n - i);
	}
}

static void
wait_for_each(int64 *ids, int n, MonoTime deadline)
{
	PG_TRY();
	{
		sleep_until_ended(ids, n, deadline);
	}
	PG_CATCH();
	{
		shmem_wait_end();
		PG_RE_THROW();
	}
	PG_END_TRY();
	shmem_wait_end();
}

PG_FUNCTION_INFO_V1(genjob_wait_all);

/*
 * Returns the rows of jobs in the order of the ids: once all have ended, or as
 * they are when the time is up.
 */
Datum
genjob_wait_all(PG_FUNCTION_ARGS)
{
	int64 *ids;
	int64 *unended;
	int n = 0;
	int n_unended;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	ids = read_ids(fcinfo, &n);
	if (n > 0)
		refuse_in_recovery("genjob.wait");
	n_unended = n;
	unended = list_unended(ids, &n_unended);
	wait_for_each(unended, n_unended, wait_deadline(fcinfo, 1));
	session_put_job_rows(ids, n, ((ReturnSetInfo *) fcinfo->resultinfo)->setResult);
	return (Datum) 0;
}

/*
 * Returns an array of ids from the text of a parameter, one id or an array.
 * Raises the errors of bigint's input.
 */
static Datum
ids_from_text(const text *argument)
{
	char *digits = text_to_cstring(argument);
	const char *first = digits + strspn(digits, " \t\n\r\v\f");
	Datum id;

	if (*first == '{' || *first == '[')
		return OidInputFunctionCall(F_ARRAY_IN, digits, INT8OID, -1);
	id = DirectFunctionCall1(int8in, CStringGetDatum(digits));
	return PointerGetDatum(
		construct_array(&id, 1, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

PG_FUNCTION_INFO_V1(genjob_wait_text);

/*
 * As genjob_wait_all().  PostgreSQL chooses this function for a parameter
 * without a type: bigint and bigint[] both fit.
 */
Datum
genjob_wait_text(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(0))
		fcinfo->args[0].value = ids_from_text(PG_GETARG_TEXT_PP(0));
	return genjob_wait_all(fcinfo);
}

PG_FUNCTION_INFO_V1(genjob_wait_any);

/*
 * Returns the row of the first of some jobs that has ended; null if the time
 * is up before.
 */
Datum
genjob_wait_any(PG_FUNCTION_ARGS)
{
	MonoTime deadline;
	volatile bool in_time = true;
	volatile int64 id = 0;
	int64 *ids;
	int n;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	refuse_in_recovery("genjob.wait_any");
	ids = read_ids(fcinfo, &n);
	if (n > 0)
		id = session_first_ended(ids, n);
	if (id == 0)
		check_unended(ids, n);
	deadline = wait_deadline(fcinfo, 1);
	PG_TRY();
	{
		shmem_wait_begin(0);
		while (n > 0 && id == 0 && (id = session_first_ended(ids, n)) == 0 && in_time)
			in_time = sleep_until(deadline);
	}
	PG_FINALLY();
	{
		shmem_wait_end();
	}
	PG_END_TRY();
	if (id == 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(session_job_row(id));
}

/* ---------- genjob.run() ---------- */

#define RUN_TIMEOUT_ARGUMENT 3
#define RUN_COLUMNS 5

/*
 * As session_job_has_ended(), in its own transaction, so that the wait keeps
 * no snapshot.
 */
static bool
run_has_ended(int64 id)
{
	bool ended = session_job_has_ended(id);

	session_commit();
	return ended;
}

PG_FUNCTION_INFO_V1(genjob_run);

/*
 * Inserts a job, commits, waits for its end, and returns id, state, result,
 * usage and error.
 */
Datum
genjob_run(PG_FUNCTION_ARGS)
{
	bool atomic = !(fcinfo->context && IsA(fcinfo->context, CallContext)) ||
				  castNode(CallContext, fcinfo->context)->atomic;
	MonoTime deadline = wait_deadline(fcinfo, RUN_TIMEOUT_ARGUMENT);
	MemoryContext upper = CurrentMemoryContext;
	TupleDesc desc;
	Datum values[RUN_COLUMNS];
	bool nulls[RUN_COLUMNS];
	int64 id;

	if (atomic)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
						errmsg("genjob.run() cannot be called in a transaction block"),
						errdetail("A job can only be run after its transaction has committed."),
						errhint("INSERT INTO gen_jobs, COMMIT, then SELECT genjob.wait(id).")));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = CreateTupleDescCopy(desc);
	session_open();
	id = session_insert(fcinfo);
	session_commit();
	PG_TRY();
	{
		shmem_wait_begin(id);
		while (!run_has_ended(id) && sleep_until(deadline))
			;
	}
	PG_FINALLY();
	{
		shmem_wait_end();
	}
	PG_END_TRY();
	session_job_columns(id, values, nulls, RUN_COLUMNS);
	session_close();
	MemoryContextSwitchTo(upper);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
