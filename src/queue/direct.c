/*
 * direct.c
 *		Claims, reports and queues common jobs by writing rows, without statements.
 *
 * Does with common jobs what CLAIM, REPORT and ROUND_CONTINUE do.  Leaves to
 * these statements the unusual jobs, and rows that others may have locked.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/memory.h"
#include "queue/direct.h"
#include "queue/queue.h"
#include "queue/report.h"
#include "queue/rowupdate.h"
#include "queue/statement.h"
#include "schedule/schedule.h"

/* For a row that somebody locks just after we saw it unlocked */
#define LOCK_TIMEOUT "10ms"

/* After subtransactions that failed in a row */
static const Backoff after_undone = {USECS_PER_SEC, USECS_PER_MINUTE};

/* A column of a statement's result: which column of gen_jobs it is, or 0; and its type. */
typedef struct ResultColumn
{
	JobColumn column;
	Oid type;
} ResultColumn;

/* The columns of CLAIM: which of gen_jobs each is, or 0 for one that is null for these jobs; and their types */
#define CLAIM_KEY 10
static const ResultColumn claim_columns[] = {
	{JOB_ID, INT8OID},
	{JOB_SERVER, TEXTOID},
	{JOB_REQUEST, JSONBOID},
	{JOB_INPUTS, BYTEAARRAYOID},
	{JOB_PRIORITY, INT4OID},
	{JOB_OWNER, OIDOID},
	{JOB_ATTEMPT, INT4OID},
	{JOB_FAILURES, INT4OID},
	{JOB_MAX_ATTEMPTS, INT4OID},
	{JOB_IDEMPOTENCY_KEY, TEXTOID},
	{JOB_STARTED_AT, TIMESTAMPTZOID},
	{0, TEXTOID},
	{0, JSONBOID},
	{0, TEXTOID},
	{0, TEXTOID},
	{0, TEXTOID},
	{JOB_TENANT, TEXTOID},
	{JOB_EXPIRES_AT, TIMESTAMPTZOID},
	{0, TEXTOID},
	{0, TEXTOID},
	{0, INT4OID},
	{JOB_SERVER_OID, OIDOID},
	{JOB_LOSSES, INT4OID},
	{JOB_DEPTH, INT4OID},
	{JOB_UNKNOWN_ENDS, INT4OID},
	{JOB_PUT_OFF_SINCE, TIMESTAMPTZOID},
};

/* The columns of ROUND_CONTINUE in the same way; the state and whether there is a callback are no column's values */
#define CONTINUE_STATE 2
#define CONTINUE_HAS_ON_DONE 9
static const ResultColumn continue_columns[] = {
	{JOB_ID, INT8OID},
	{0, TEXTOID},
	{JOB_SERVER, TEXTOID},
	{JOB_OWNER, OIDOID},
	{JOB_TENANT, TEXTOID},
	{JOB_PRIORITY, INT4OID},
	{JOB_RUN_AT, TIMESTAMPTZOID},
	{JOB_EXPIRES_AT, TIMESTAMPTZOID},
	{0, BOOLOID},
};

/* Updates of one subtransaction. */
typedef struct Direct
{
	void (*write_rows)(struct Direct *direct);
	Snapshot snapshot; /* to read rows by; NULL: a new one */
	RowUpdate *update;
	TimestampTz now;
	int n; /* written so far */

	/* Claims */
	Turn *const *turns;
	int n_turns;
	pg_uuid_t *const *keys;

	/* Ends of waiting */
	const int64 *ids;
	int n_ids;

	SPITupleTable *rows; /* claimed, or queued */

	/* Reports */
	Job **jobs;
	int n_jobs;
	DirectReport *written;
} Direct;

static int undone = 0; /* in a row */
static MonoTime not_before = 0;

static void
update_rows(void *arg)
{
	Direct *direct = arg;
	int level = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	direct->update = rowupdate_begin(direct->snapshot);
	if (direct->update != NULL)
	{
		direct->write_rows(direct);
		rowupdate_end(direct->update);
	}
	AtEOXact_GUC(false, level);
}

/*
 * Writes rows in a subtransaction.  False if it failed, if the table cannot be
 * updated this way, or if it wrote no row.
 */
static bool
try_update(Direct *direct)
{
	ErrorData *error;

	if (queue_guard(update_rows, direct, &error))
	{
		undone = 0;
		return direct->n > 0;
	}
	/* not shown: CLAIM or REPORT meets the same error */
	not_before = clock_mono() + backoff_delay(&after_undone, undone++);
	return false;
}

/*
 * The descriptor of a statement's result, for as long as the process lives.
 */
static TupleDesc
describe_result(const ResultColumn *columns, int n)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	TupleDesc desc = CreateTemplateTupleDesc(n);
	int i;

	for (i = 0; i < n; i++)
		TupleDescInitEntry(desc, i + 1, NULL, columns[i].type, -1, 0);
	MemoryContextSwitchTo(caller);
	return desc;
}

/*
 * Reads what of a result is columns of the row; the rest is null.
 */
static void
read_result(const RowUpdate *row, const ResultColumn *columns, int n, Datum *values, bool *nulls)
{
	int i;

	for (i = 0; i < n; i++)
	{
		nulls[i] = columns[i].column == 0 || rowupdate_is_null(row, columns[i].column);
		if (!nulls[i])
			values[i] = rowupdate_value(row, columns[i].column);
	}
}

/*
 * Runs updates that return rows, up to max, as a statement would.  Returns the number of rows, which may be 0.
 */
static uint64
run_returning(Direct *direct, TupleDesc desc, int max)
{
	direct->rows = palloc0(sizeof(SPITupleTable));
	direct->rows->tupdesc = desc;
	direct->rows->vals = palloc(max * sizeof(HeapTuple));
	if (!try_update(direct))
		return 0;
	direct->rows->numvals = direct->n;
	statement_set_result(direct->rows);
	return direct->n;
}

/* ---------- claims ---------- */

static TupleDesc
claim_descriptor(void)
{
	static TupleDesc desc = NULL;

	if (desc == NULL)
		desc = describe_result(claim_columns, lengthof(claim_columns));
	return desc;
}

/*
 * True if direct_claim() may find jobs of these turns.
 */
bool
direct_may_claim(const Turn *turns, int n)
{
	int i;

	for (i = 0; i < n; i++)
	{
		if (turns[i].queue != turns[0].home || turns[i].home != turns[0].home ||
			turns[i].home->wants_memory > 0 || turns[i].home->server->n_backends != 1)
			return false;
	}
	return n > 0 && clock_mono() >= not_before;
}

static bool
is_at_home(const RowUpdate *row, const Turn *turn)
{
	text *server = DatumGetTextPP(rowupdate_value(row, JOB_SERVER));
	const char *home = NameStr(turn->home->name);

	return VARSIZE_ANY_EXHDR(server) == strlen(home) &&
		   memcmp(VARDATA_ANY(server), home, strlen(home)) == 0;
}

/*
 * Returns the bytes that a body takes, by the sizes of pg_column_size().
 */
static size_t
body_size(const RowUpdate *row)
{
	size_t request = toast_datum_size(rowupdate_value(row, JOB_REQUEST));

	if (rowupdate_is_null(row, JOB_INPUTS))
		return request;
	return request + toast_datum_size(rowupdate_value(row, JOB_INPUTS)) / 3 * 4;
}

/*
 * True if an attempt without an earlier key may begin now, at the job's own
 * server, with a body so small that there is always room.
 */
static bool
may_begin(const RowUpdate *row, const Turn *turn, TimestampTz now)
{
	return rowupdate_state(row) == ROW_QUEUED && is_at_home(row, turn) &&
		   rowupdate_is_null(row, JOB_IDEMPOTENCY_KEY) && rowupdate_is_null(row, JOB_REMOTE) &&
		   DatumGetTimestampTz(rowupdate_value(row, JOB_RUN_AT)) <= now &&
		   (rowupdate_is_null(row, JOB_EXPIRES_AT) ||
			DatumGetTimestampTz(rowupdate_value(row, JOB_EXPIRES_AT)) > now) &&
		   body_size(row) <= MEMORY_SMALL;
}

static void
begin_attempt(RowUpdate *row, pg_uuid_t *key, TimestampTz now)
{
	rowupdate_set_state(row, ROW_RUNNING);
	rowupdate_set(row, JOB_ATTEMPT,
				  Int32GetDatum(DatumGetInt32(rowupdate_value(row, JOB_ATTEMPT)) + 1));
	rowupdate_set(row, JOB_CLAIMED_ELSEWHERE, BoolGetDatum(false));
	rowupdate_set(row, JOB_STARTED_AT, TimestampTzGetDatum(now));
	rowupdate_set(row, JOB_IDEMPOTENCY_KEY, UUIDPGetDatum(key));
	rowupdate_set_null(row, JOB_RAN_ON);
	rowupdate_set_null(row, JOB_BACKEND);
}

/*
 * Returns the row as CLAIM would return it.
 */
static HeapTuple
make_claimed(const RowUpdate *row, pg_uuid_t *key)
{
	Datum values[lengthof(claim_columns)] = {0};
	bool nulls[lengthof(claim_columns)];

	read_result(row, claim_columns, lengthof(claim_columns), values, nulls);
	values[CLAIM_KEY - 1] =
		CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(key))));
	return heap_form_tuple(claim_descriptor(), values, nulls);
}

static void
write_claims(Direct *direct)
{
	int i;

	for (i = 0; i < direct->n_turns; i++)
	{
		if (!rowupdate_read(direct->update, direct->turns[i]->id) ||
			!may_begin(direct->update, direct->turns[i], direct->now))
			continue;
		begin_attempt(direct->update, direct->keys[i], direct->now);
		if (rowupdate_write(direct->update))
			direct->rows->vals[direct->n++] = make_claimed(direct->update, direct->keys[i]);
	}
}

/*
 * Claims jobs of these turns, with these keys.  direct_may_claim() must be
 * true.  Returns the number of rows, perhaps 0.  The last result then has rows
 * like CLAIM's.
 */
uint64
direct_claim(Turn *const *turns, int n, pg_uuid_t *const *keys, TimestampTz now)
{
	Direct direct = {.write_rows = write_claims,
					 .turns = turns,
					 .n_turns = n,
					 .keys = keys,
					 .now = now};

	return run_returning(&direct, claim_descriptor(), n);
}

/* ---------- ends of waiting ---------- */

static TupleDesc
continue_descriptor(void)
{
	static TupleDesc desc = NULL;

	if (desc == NULL)
		desc = describe_result(continue_columns, lengthof(continue_columns));
	return desc;
}

/*
 * True if the row waits for successes alone.
 */
static bool
may_continue(const RowUpdate *row)
{
	text *rule = DatumGetTextPP(rowupdate_value(row, JOB_AFTER_RULE));

	return rowupdate_state(row) == ROW_WAITING && !rowupdate_is_null(row, JOB_AFTER) &&
		   ARR_NDIM(DatumGetArrayTypeP(rowupdate_value(row, JOB_AFTER))) > 0 &&
		   (VARSIZE_ANY_EXHDR(rule) != strlen("failed") ||
			memcmp(VARDATA_ANY(rule), "failed", strlen("failed")) != 0);
}

static HeapTuple
make_continued(const RowUpdate *row)
{
	Datum values[lengthof(continue_columns)] = {0};
	bool nulls[lengthof(continue_columns)];

	read_result(row, continue_columns, lengthof(continue_columns), values, nulls);
	values[CONTINUE_STATE - 1] = CStringGetTextDatum(rowstate_name(ROW_QUEUED));
	values[CONTINUE_HAS_ON_DONE - 1] = BoolGetDatum(!rowupdate_is_null(row, JOB_ON_DONE));
	nulls[CONTINUE_STATE - 1] = nulls[CONTINUE_HAS_ON_DONE - 1] = false;
	return heap_form_tuple(continue_descriptor(), values, nulls);
}

static void
write_continued(Direct *direct)
{
	RowUpdate *row = direct->update;
	int i;

	for (i = 0; i < direct->n_ids; i++)
	{
		if (!rowupdate_read(row, direct->ids[i]) || !may_continue(row))
			continue;
		rowupdate_set_state(row, ROW_QUEUED);
		rowupdate_set_null(row, JOB_FINISHED_AT);
		rowupdate_set_null(row, JOB_BLOCKED_BY);
		rowupdate_set_null(row, JOB_ERROR);
		if (rowupdate_write(row))
			direct->rows->vals[direct->n++] = make_continued(row);
	}
}

/*
 * Queues jobs that wait for successes alone; the caller has seen, no earlier
 * than the snapshot, that each has them all.  Leaves rows that changed since
 * the snapshot: they may wait for other jobs now.  Returns the number of rows,
 * which may be 0; they are as those of ROUND_CONTINUE.
 */
uint64
direct_continue(const int64 *jobs, int n, Snapshot snapshot)
{
	Direct direct = {.write_rows = write_continued, .snapshot = snapshot, .ids = jobs, .n_ids = n};

	if (clock_mono() < not_before)
		return 0;
	return run_returning(&direct, continue_descriptor(), n);
}

/* ---------- reports ---------- */

static bool
is_plain_success(const Job *job)
{
	const Verdict *verdict = job->verdict;

	return verdict->kind == VERDICT_DONE && verdict->error == NULL && !verdict->unknown &&
		   !job->report.must_cancel && !job->report.counts && job->report.run_at == 0 &&
		   job->put_off_since == 0 && job->unknown_ends == 0 && !report_is_large(job);
}

/*
 * True if retention will delete the job: the index gen_jobs_ended must list
 * it.  Otherwise sets has_unretained of the job's queue.
 */
static bool
is_retained(const Job *job)
{
	ServerQueue *home = schedule_queue(job->server_name);

	if (home->server == NULL || home->server->options.retention > 0)
		return true;
	home->has_unretained = true;
	return false;
}

static void
set_json(RowUpdate *row, JobColumn column, bool isnull, Datum value)
{
	if (isnull)
		rowupdate_set_null(row, column);
	else
		rowupdate_set(row, column, value);
}

static void
end_attempt(RowUpdate *row, const Job *job, TimestampTz now)
{
	bool no_usage;
	Datum usage = report_text(job->verdict->usage, &no_usage);

	if (!no_usage)
		usage = DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(usage)));
	rowupdate_set_state(row, ROW_SUCCEEDED);
	set_json(row, JOB_RESULT, job->report.result == NULL, PointerGetDatum(job->report.result));
	set_json(row, JOB_USAGE, no_usage, usage);
	rowupdate_set(row, JOB_FINISHED_AT, TimestampTzGetDatum(now));
	rowupdate_set(row, JOB_LOSSES, Int32GetDatum(0));
	rowupdate_set(row, JOB_RETAINED, BoolGetDatum(is_retained(job)));
	rowupdate_set_null(row, JOB_ERROR);
	rowupdate_set_null(row, JOB_REMOTE);
	rowupdate_set_null(row, JOB_PUT_OFF_SINCE);
	rowupdate_set_null(row, JOB_IDEMPOTENCY_KEY);
}

static void
write_reports(Direct *direct)
{
	int i;

	for (i = 0; i < direct->n_jobs; i++)
	{
		Job *job = direct->jobs[i];

		if (!is_plain_success(job) || !rowupdate_read(direct->update, job->id) ||
			rowupdate_state(direct->update) != ROW_RUNNING ||
			DatumGetInt32(rowupdate_value(direct->update, JOB_ATTEMPT)) != job->attempt)
			continue;
		end_attempt(direct->update, job, direct->now);
		if (rowupdate_write(direct->update))
			direct->written[direct->n++] =
				(DirectReport){job, !rowupdate_is_null(direct->update, JOB_ON_DONE)};
	}
}

/*
 * Writes the jobs that simply succeeded, as REPORT would.  Lists them in
 * written, which has room for n; returns their number, perhaps 0.
 */
int
direct_report(Job **jobs, int n, TimestampTz now, DirectReport *written)
{
	Direct direct = {.write_rows = write_reports,
					 .jobs = jobs,
					 .n_jobs = n,
					 .now = now,
					 .written = written};

	if (clock_mono() < not_before || !try_update(&direct))
		return 0;
	return direct.n;
}
