/*
 * awaited.c
 *		The jobs that a session waits for: whether they have ended, whether
 *		they can end while it waits, and their rows.
 *
 * Reads what was committed last, whatever the caller's snapshot shows.  Reads
 * with the caller's rights.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "queue/awaited.h"
#include "queue/session.h"
#include "queue/statement.h"

/* ---------- reading ---------- */

/*
 * Returns a plan for a query with one parameter; "@" in it stands for
 * gen_jobs.  Sets *oid to the table's OID unless oid is NULL.  SPI must be
 * connected.
 */
static SPIPlanPtr
prepare_query(const char *query, Oid type, Oid *oid)
{
	char *table = session_find_table("gen_jobs", oid);
	SPIPlanPtr plan = SPI_prepare(session_name_table(query, table), 1, &type);

	if (plan == NULL)
		elog(ERROR, "could not prepare to read jobs: %s", SPI_result_code_string(SPI_result));
	return plan;
}

static void
execute_plan(SPIPlanPtr plan, Datum value)
{
	if (SPI_execute_snapshot(plan, &value, NULL, GetLatestSnapshot(), InvalidSnapshot, true, false,
							 0) < 0)
		elog(ERROR, "could not read jobs");
}

static void
read_job(SPIPlanPtr plan, int64 id)
{
	execute_plan(plan, Int64GetDatum(id));
	if (SPI_processed == 0)
		session_no_such_job(id);
}

/* ---------- jobs that cannot end now ---------- */

/*
 * True if this lock conflicts with FOR NO KEY UPDATE, which the dispatcher
 * takes.
 */
static bool
is_in_the_way(MultiXactStatus status)
{
	return status != MultiXactStatusForKeyShare;
}

/*
 * True if this transaction has locked a row version against the dispatcher.
 */
static bool
is_locked_here(HeapTupleHeader header)
{
	TransactionId xmax = HeapTupleHeaderGetRawXmax(header);
	MultiXactMember *members;
	int n;
	int i;

	if ((header->t_infomask & HEAP_XMAX_INVALID) != 0)
		return false;
	if ((header->t_infomask & HEAP_XMAX_IS_MULTI) == 0)
		return TransactionIdIsCurrentTransactionId(xmax) &&
			   !HEAP_XMAX_IS_KEYSHR_LOCKED(header->t_infomask);
	n = GetMultiXactIdMembers(xmax, &members, false, HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask));
	for (i = 0; i < n; i++)
	{
		if (TransactionIdIsCurrentTransactionId(members[i].xid) && is_in_the_way(members[i].status))
			return true;
	}
	return false;
}

/*
 * Raises the error for a job that cannot run before this transaction ends.
 * waits: the job that waits for it, or id itself.  held: this transaction only
 * locked the row; otherwise it wrote the row.
 */
static void
refuse_own(int64 id, int64 waits, bool held)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 held ? errmsg("job " INT64_FORMAT " is locked by this same transaction", id)
				  : errmsg("job " INT64_FORMAT " was inserted or changed in this same transaction",
						   id),
			 waits == id
				 ? errdetail("It can only be run after this transaction has committed.")
				 : errdetail("It can only be run after this transaction has committed, and job " INT64_FORMAT
							 " waits for it.",
							 waits),
			 held ? errhint("COMMIT first, or lock it FOR KEY SHARE, which does not conflict.")
				  : errhint("COMMIT first, or use CALL genjob.run(...), which commits.")));
}

/*
 * Raises an error if this transaction has locked the whole table against the dispatcher.
 */
static void
check_table(Relation table)
{
	if (CheckRelationLockedByMe(table, ShareLock, true))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"%s\" is locked by this same transaction",
							   RelationGetRelationName(table)),
						errdetail("Its jobs can only be run after this transaction has committed."),
						errhint("COMMIT first.")));
}

/* The columns of the rows to check */
typedef enum CheckedColumn
{
	CHECKED_ID = 1,
	CHECKED_PLACE,
	CHECKED_HAS_ENDED,
	CHECKED_WAITS /* the job that waits for it, or itself */
} CheckedColumn;

/*
 * Raises an error if the dispatcher cannot change the row before this
 * transaction ends.  tuple is the row's version in the table.  An ended job
 * blocks its dependents only if this transaction wrote it.
 */
static void
check_awaited_row(const SPITupleTable *result, uint64 row, HeapTuple tuple)
{
	int64 id;
	int64 waits;
	bool has_ended;
	bool isnull;
	bool is_own = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));

	if (!is_own && !is_locked_here(tuple->t_data))
		return;
	id = DatumGetInt64(SPI_getbinval(result->vals[row], result->tupdesc, CHECKED_ID, &isnull));
	waits =
		DatumGetInt64(SPI_getbinval(result->vals[row], result->tupdesc, CHECKED_WAITS, &isnull));
	has_ended =
		DatumGetBool(SPI_getbinval(result->vals[row], result->tupdesc, CHECKED_HAS_ENDED, &isnull));
	if (is_own || !has_ended)
		refuse_own(id, waits, !is_own);
}

/*
 * Checks the rows of SPI_tuptable.  Skips a row that the dispatcher has
 * changed meanwhile: this transaction does not block it.
 */
static void
check_awaited_rows(Relation table)
{
	const SPITupleTable *result = SPI_tuptable;
	TupleTableSlot *slot = table_slot_create(table, NULL);
	uint64 n = SPI_processed;
	uint64 row;

	PushActiveSnapshot(GetLatestSnapshot());
	for (row = 0; row < n; row++)
	{
		bool isnull;
		Datum place = SPI_getbinval(result->vals[row], result->tupdesc, CHECKED_PLACE, &isnull);
		bool should_free;

		CHECK_FOR_INTERRUPTS();
		if (isnull || !table_tuple_fetch_row_version(table, (ItemPointer) DatumGetPointer(place),
													 GetActiveSnapshot(), slot))
			continue;
		check_awaited_row(result, row, ExecFetchSlotHeapTuple(slot, false, &should_free));
		ExecClearTuple(slot);
	}
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * Raises an error if a job that these jobs wait for, directly or through
 * others, cannot end before this transaction does.
 */
static void
check_parents(Relation table, int64 *ids, int n)
{
	static const char query[] =
		"WITH RECURSIVE w (id, child) AS"
		" (SELECT p, j.id FROM @ j, pg_catalog.unnest(j.after) p"
		"   WHERE j.id OPERATOR(pg_catalog.=) ANY ($1) AND j.state OPERATOR(pg_catalog.=) 'waiting'"
		"  UNION SELECT p, j.id FROM w JOIN @ j ON j.id OPERATOR(pg_catalog.=) w.id"
		"   AND j.state OPERATOR(pg_catalog.=) 'waiting', pg_catalog.unnest(j.after) p)"
		" SELECT j.id, j.ctid, j.state OPERATOR(pg_catalog.=) ANY ('{succeeded, failed, cancelled}'), w.child"
		" FROM w JOIN @ j ON j.id OPERATOR(pg_catalog.=) w.id";

	execute_plan(prepare_query(query, INT8ARRAYOID, NULL),
				 PointerGetDatum(statement_int8_array(ids, n)));
	check_awaited_rows(table);
}

/* ---------- whether jobs have ended ---------- */

/* The argument of look_at_end() */
typedef struct Look
{
	int64 id;
	bool has_ended;
} Look;

static void
look_at_end(void *arg)
{
	Look *look = arg;
	bool isnull;

	SPI_connect();
	read_job(prepare_query("SELECT j.state OPERATOR(pg_catalog.=) ANY ('{succeeded, failed, cancelled}') FROM @ j"
						   " WHERE j.id OPERATOR(pg_catalog.=) $1",
						   INT8OID, NULL),
			 look->id);
	look->has_ended =
		DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
}

/*
 * True if the job has ended.  Keeps no lock.
 */
bool
session_job_has_ended(int64 id)
{
	Look look = {id, false};

	session_look(look_at_end, &look);
	return look.has_ended;
}

/* keep_unended() drops the ids of jobs that have ended. */
typedef struct Keeping
{
	int64 *ids;
	int n;
} Keeping;

static void
keep_unended(void *arg)
{
	static const char query[] =
		"SELECT g.id, j.ctid, false, g.id, j.state OPERATOR(pg_catalog.=) 'waiting'"
		" FROM pg_catalog.unnest($1) WITH ORDINALITY g (id, n)"
		" LEFT JOIN @ j ON j.id OPERATOR(pg_catalog.=) g.id WHERE j.id IS NULL OR NOT"
		" j.state OPERATOR(pg_catalog.=) ANY ('{succeeded, failed, cancelled}') ORDER BY g.n";
	Keeping *keeping = arg;
	bool one_waits = false;
	Relation table;
	Oid oid;
	int i;

	SPI_connect();
	execute_plan(prepare_query(query, INT8ARRAYOID, &oid),
				 PointerGetDatum(statement_int8_array(keeping->ids, keeping->n)));
	keeping->n = (int) SPI_processed;
	for (i = 0; i < keeping->n; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		bool waits;

		keeping->ids[i] = DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
		waits = DatumGetBool(SPI_getbinval(row, desc, 5, &isnull));
		if (isnull)
			session_no_such_job(keeping->ids[i]);
		one_waits |= waits;
	}
	if (keeping->n > 0)
	{
		table = table_open(oid, AccessShareLock);
		check_table(table);
		check_awaited_rows(table);
		if (one_waits)
			check_parents(table, keeping->ids, keeping->n);
		table_close(table, NoLock);
	}
	SPI_finish();
}

/*
 * Keeps the ids of jobs that have not ended; returns how many are left.
 * Raises an error if a job does not exist, or if this transaction wrote or
 * locked what the job needs to end.
 */
int
session_keep_unended(int64 *ids, int n)
{
	Keeping keeping = {ids, n};

	if (n > 0)
		session_look(keep_unended, &keeping);
	return keeping.n;
}

/* ---------- rows ---------- */

static SPIPlanPtr
prepare_row(void)
{
	return prepare_query("SELECT j, j.request, j.result, j.usage, j.attempt_errors, j.remote FROM @ j"
						 " WHERE j.id OPERATOR(pg_catalog.=) $1",
						 INT8OID, NULL);
}

/*
 * Returns the job's row, a composite of type gen_jobs, which lasts until the
 * caller frees SPI_tuptable.
 */
static Datum
read_row(SPIPlanPtr plan, int64 id)
{
	bool isnull;

	read_job(plan, id);
	session_check_columns(id);
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
}

/*
 * Returns the job's row, a composite of type gen_jobs in the caller's memory
 * context.
 */
Datum
session_job_row(int64 id)
{
	Datum row;

	SPI_connect();
	row = SPI_datumTransfer(read_row(prepare_row(), id), false, -1);
	SPI_finish();
	return row;
}

/*
 * Adds the jobs' rows to store, in the order of the ids.  Reads one row at a
 * time: rows may contain pictures.
 */
void
session_put_job_rows(const int64 *ids, int n, Tuplestorestate *store)
{
	SPIPlanPtr plan;
	int i;

	SPI_connect();
	plan = prepare_row();
	for (i = 0; i < n; i++)
	{
		HeapTupleHeader header = DatumGetHeapTupleHeader(read_row(plan, ids[i]));
		HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};

		CHECK_FOR_INTERRUPTS();
		tuplestore_puttuple(store, &tuple);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_finish();
}
