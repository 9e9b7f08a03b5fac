/*
 * report.c
 *		Writes what became of attempts, and what they brought back.
 *
 * An attempt writes only to its own row: the row must still be running, in
 * that attempt.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/json.h"
#include "base/jsonb.h"
#include "base/jsontext.h"
#include "queue/direct.h"
#include "queue/ended.h"
#include "queue/queue.h"
#include "queue/report.h"
#include "queue/sent.h"
#include "queue/statement.h"
#include "queue/tables.h"
#include "queue/trouble.h"
#include "shared/shmem.h"
#include "shared/shown.h"
#include "life/cancel.h"

/* The arguments of REPORT after the arrays. */
#define REPORT_NOW REPORT_COLUMNS
#define REPORT_LARGE_ID (REPORT_COLUMNS + 1)
#define REPORT_LARGE_RESULT (REPORT_COLUMNS + 2)
#define REPORT_ARGS (REPORT_COLUMNS + 3)

/* For a row that others are about to unlock; all jobs wait meanwhile */
#define ROW_LOCK_TIMEOUT "50ms"

static const ColumnType column_types[REPORT_COLUMNS] = {
	[REPORT_ID] = {INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
	[REPORT_ATTEMPT] = {INT4OID, sizeof(int32), true, TYPALIGN_INT},
	[REPORT_STATE] = {TEXTOID, -1, false, TYPALIGN_INT},
	[REPORT_RESULT] = {JSONBOID, -1, false, TYPALIGN_INT},
	[REPORT_USAGE] = {TEXTOID, -1, false, TYPALIGN_INT},
	[REPORT_ERROR] = {TEXTOID, -1, false, TYPALIGN_INT},
	[REPORT_HTTP_STATUS] = {INT4OID, sizeof(int32), true, TYPALIGN_INT},
	[REPORT_RUN_AT] = {TIMESTAMPTZOID, sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
	[REPORT_COUNTS] = {INT4OID, sizeof(int32), true, TYPALIGN_INT},
	[REPORT_KEEPS_KEY] = {BOOLOID, 1, true, TYPALIGN_CHAR},
	[REPORT_LOSSES] = {INT4OID, sizeof(int32), true, TYPALIGN_INT},
	[REPORT_BEGINS_ERRORS] = {BOOLOID, 1, true, TYPALIGN_CHAR},
	[REPORT_MUST_CANCEL] = {BOOLOID, 1, true, TYPALIGN_CHAR},
	[REPORT_UNKNOWN_ENDS] = {INT4OID, sizeof(int32), true, TYPALIGN_INT},
	[REPORT_PUT_OFF_SINCE] = {TIMESTAMPTZOID, sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
	[REPORT_BODY] = {TEXTOID, -1, false, TYPALIGN_INT},
};

/*
 * Returns UTF-8, made valid in place, as a text; *isnull: it is NULL.
 */
Datum
report_text(char *utf8, bool *isnull)
{
	*isnull = utf8 == NULL;
	if (*isnull)
		return (Datum) 0;
	json_sanitize_text(utf8, strlen(utf8));
	return CStringGetTextDatum(shown_from_utf8(utf8));
}

/*
 * Returns the jsonb, in the current memory context, of JSON that it uses up.
 */
struct varlena *
report_json(char **utf8)
{
	int encoding = GetDatabaseEncoding();
	Jsonb *jsonb = NULL;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		jsonb = jsonb_from_text(utf8);
	if (jsonb != NULL)
		return (struct varlena *) jsonb;
	return (struct varlena *) DatumGetJsonbP(
		DirectFunctionCall1(jsonb_in, CStringGetDatum(shown_from_utf8(*utf8))));
}

/*
 * Makes jsonb of a verdict's result.  It stays with the job, in place of the text, which may be megabytes.
 */
static void
convert_result(Job *job)
{
	Verdict *verdict = job->verdict;
	MemoryContext caller;

	if (job->report.result != NULL || verdict->result == NULL)
		return;
	caller = MemoryContextSwitchTo(job->context);
	if (job->remote.answer == verdict->result)
		job->remote.answer = NULL;
	job->report.result = report_json(&verdict->result);
	MemoryContextSwitchTo(caller);
}

/*
 * True if a result is too large for the arrays: a statement copies their
 * elements several times.
 */
bool
report_is_large(const Job *job)
{
	return job->report.result != NULL && VARSIZE_ANY(job->report.result) > QUEUE_LARGE_RESULT;
}

/*
 * Returns how many attempts in a row were lost, with this one.
 */
static int
losses_after(const Job *job)
{
	switch (job->verdict->kind)
	{
		case VERDICT_LOST:
			return job->losses + 1;
		case VERDICT_POSTPONE: /* it was no attempt */
			return job->losses;
		default:
			return 0;
	}
}

static Datum
read_column(const Job *job, int column, bool *isnull)
{
	const Verdict *verdict = job->verdict;

	*isnull = false;
	switch (column)
	{
		case REPORT_ID:
			return Int64GetDatum(job->id);
		case REPORT_ATTEMPT:
			return Int32GetDatum(job->attempt);
		case REPORT_STATE:
			return CStringGetTextDatum(rowstate_name(job->report.new_state));
		case REPORT_RESULT:
			*isnull = job->report.result == NULL || report_is_large(job);
			return PointerGetDatum(job->report.result);
		case REPORT_USAGE:
			return report_text(verdict->usage, isnull);
		case REPORT_ERROR:
			return report_text(verdict->error, isnull);
		case REPORT_HTTP_STATUS:
			*isnull = verdict->http_status == 0;
			return Int32GetDatum(verdict->http_status);
		case REPORT_RUN_AT:
			*isnull = job->report.run_at == 0;
			return TimestampTzGetDatum(job->report.run_at);
		case REPORT_COUNTS:
			*isnull = verdict->kind == VERDICT_POSTPONE; /* it was no attempt */
			return Int32GetDatum(job->report.counts ? 1 : 0);
		case REPORT_KEEPS_KEY:
			return BoolGetDatum(verdict->unknown);
		case REPORT_LOSSES:
			return Int32GetDatum(losses_after(job));
		case REPORT_BEGINS_ERRORS:
			return BoolGetDatum(job->write.begins_errors);
		case REPORT_MUST_CANCEL:
			return BoolGetDatum(job->report.must_cancel);
		case REPORT_UNKNOWN_ENDS:
			return Int32GetDatum(job->unknown_ends);
		case REPORT_PUT_OFF_SINCE:
			*isnull = job->put_off_since == 0;
			return TimestampTzGetDatum(job->put_off_since);
		case REPORT_BODY:
			return report_text(verdict->body, isnull);
	}
	pg_unreachable();
}

/*
 * Returns the array of a column for the jobs.
 */
Datum
report_array(Job **jobs, int n, ColumnReader read, int column, const ColumnType *type)
{
	Datum *datums = palloc(n * sizeof(Datum));
	bool *nulls = palloc(n * sizeof(bool));
	int dims[1] = {n};
	int bounds[1] = {1};
	ArrayType *array;
	int i;

	for (i = 0; i < n; i++)
		datums[i] = read(jobs[i], column, &nulls[i]);
	array = construct_md_array(datums, nulls, 1, dims, bounds, type->type, type->len,
							   type->by_value, type->align);
	/* the array has copies, perhaps megabytes; a result stays with its job */
	for (i = 0; i < n && !type->by_value; i++)
	{
		if (!nulls[i] && DatumGetPointer(datums[i]) != (Pointer) jobs[i]->report.result)
			pfree(DatumGetPointer(datums[i]));
	}
	return PointerGetDatum(array);
}

/*
 * Returns the array of a column of REPORT for the jobs.
 */
static Datum
report_column(Job **jobs, int n, ReportColumn column)
{
	return report_array(jobs, n, read_column, column, &column_types[column]);
}

static void
store_output(int64 job_id, int ordinal, const Output *output)
{
	bytea *data = palloc(output->len + VARHDRSZ);
	Datum args[4] = {Int64GetDatum(job_id), Int32GetDatum(ordinal),
					 CStringGetTextDatum(output->content_type), PointerGetDatum(data)};

	SET_VARSIZE(data, output->len + VARHDRSZ);
	memcpy(VARDATA(data), output->data, output->len);
	statement_run(STORE_OUTPUT, args, NULL);
	pfree(data);
}

/*
 * Writes the row of an output that is in an object store.
 */
static void
store_object(int64 job_id, int ordinal, const Output *output)
{
	char nulls[] = "         ";
	bool no_etag;
	Datum args[9] = {Int64GetDatum(job_id),
					 Int32GetDatum(ordinal),
					 CStringGetTextDatum(output->content_type),
					 Int64GetDatum((int64) output->len),
					 CStringGetTextDatum(output->sha256),
					 CStringGetTextDatum(shown_from_utf8(output->object)),
					 report_text(output->etag, &no_etag),
					 CStringGetTextDatum(output->store),
					 ObjectIdGetDatum(output->store_oid)};

	if (no_etag)
		nulls[6] = 'n';
	if (!OidIsValid(output->store_oid))
		nulls[8] = 'n';
	statement_run(STORE_OBJECT, args, nulls);
}

/*
 * Writes the outputs that came.  One that could not be downloaded leaves its
 * ordinal unused.
 */
static void
store_each(const Job *job)
{
	ListCell *cell;
	int ordinal = 1;

	foreach(cell, job->verdict->outputs)
	{
		const Output *output = lfirst(cell);

		if (output->object != NULL)
			store_object(job->id, ordinal, output);
		else if (output->data != NULL)
			store_output(job->id, ordinal, output);
		ordinal++;
	}
}

/*
 * Like store_each(), but waits only ROW_LOCK_TIMEOUT for rows of gen_outputs
 * that others have locked: all jobs of the database wait meanwhile.  The error
 * then counts as the job's own, not as that of a locked table.
 */
static void
store_outputs(const Job *job)
{
	int level = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", ROW_LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	PG_TRY();
	{
		store_each(job);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR, (errcode(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION),
						errmsg("another transaction locks rows of gen_outputs of job " INT64_FORMAT,
							   job->id),
						errhint("End it; pg_locks and pg_prepared_xacts show which one it is.")));
	}
	PG_END_TRY();
	AtEOXact_GUC(false, level);
}

/* ---------- outputs of earlier attempts ---------- */

/* Rows of gen_outputs that are not of the last attempts of some jobs. */
typedef struct Surplus
{
	int n;
	int64 *jobs;
	int32 *counts; /* of outputs; higher ordinals are surplus */
	int n_gaps;
	int64 *gap_jobs;
	int32 *gaps; /* ordinals that were left out */
} Surplus;

static void
add_surplus(Surplus *surplus, const Job *job)
{
	int n = list_length(job->verdict->outputs);
	int ordinal = 1;
	ListCell *cell;

	surplus->jobs[surplus->n] = job->id;
	surplus->counts[surplus->n++] = n;
	surplus->gap_jobs = repalloc(surplus->gap_jobs, (surplus->n_gaps + n + 1) * sizeof(int64));
	surplus->gaps = repalloc(surplus->gaps, (surplus->n_gaps + n + 1) * sizeof(int32));
	foreach(cell, job->verdict->outputs)
	{
		if (!OUTPUT_IS_THERE((Output *) lfirst(cell)))
		{
			surplus->gap_jobs[surplus->n_gaps] = job->id;
			surplus->gaps[surplus->n_gaps++] = ordinal;
		}
		ordinal++;
	}
}

static void
delete_surplus(const Surplus *surplus)
{
	Datum args[4] = {PointerGetDatum(statement_int8_array(surplus->jobs, surplus->n)),
					 PointerGetDatum(statement_int4_array(surplus->counts, surplus->n)),
					 PointerGetDatum(statement_int8_array(surplus->gap_jobs, surplus->n_gaps)),
					 PointerGetDatum(statement_int4_array(surplus->gaps, surplus->n_gaps))};

	statement_run(FORGET_OUTPUTS, args, NULL);
	tables_check_outputs_keys();
}

/*
 * Deletes surplus outputs.  If somebody refers to one, all stay: to end the
 * jobs is more important.  Then returns false and *reason.
 */
static bool
try_to_delete(const Surplus *surplus, char **reason)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool deleted = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		delete_surplus(surplus);
		ReleaseCurrentSubTransaction();
		deleted = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			ReThrowError(error);
		*reason = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return deleted;
}

/*
 * Deletes outputs of earlier attempts (of an answer kept with a failure) that the last attempt does not overwrite, if
 * no table of others keeps them.
 */
static void
forget_old_outputs(Job **jobs, int n)
{
	Surplus all = {.jobs = palloc(n * sizeof(int64)),
				   .counts = palloc(n * sizeof(int32)),
				   .gap_jobs = palloc(sizeof(int64)),
				   .gaps = palloc(sizeof(int32))};
	char *reason = NULL;
	int i;

	for (i = 0; i < n; i++)
	{
		if ((jobs[i]->attempt > 1 || jobs[i]->write.failures > 0) &&
			jobs[i]->write.outcome == WRITE_DONE)
			add_surplus(&all, jobs[i]);
	}
	if (all.n == 0)
		return;
	if (tables_keep_outputs() != NULL)
		reason = psprintf("%s belongs to a role whose code the dispatcher does not run",
						  tables_keep_outputs());
	else if (!try_to_delete(&all, &reason) && n > 1)
	{
		/* outputs of the other jobs can perhaps be deleted */
		for (i = 0; i < n; i++)
			forget_old_outputs(&jobs[i], 1);
		return;
	}
	if (reason != NULL)
		trouble_show_kept_outputs(reason);
}

/*
 * True if a row of FIND_CHANGED is still the one to write for the job.
 */
static bool
is_row_of(const Job *job, uint64 row)
{
	bool is_note = job->step == STEP_CANCEL;

	return DatumGetInt64(statement_not_null(row, CHANGED_ID)) == job->id &&
		   DatumGetBool(statement_not_null(row, is_note ? CHANGED_IS_FINAL : CHANGED_IS_RUNNING)) &&
		   DatumGetInt32(statement_not_null(row, CHANGED_ATTEMPT)) == job->attempt;
}

/*
 * Sets the outcome of the jobs that were not written: WRITE_FENCED if the row
 * is not theirs any more, WRITE_PENDING if it is locked.
 */
void
report_find_fenced(Job **jobs, int n)
{
	int64 *ids = palloc(n * sizeof(int64));
	Datum args[1];
	uint64 rows;
	uint64 row;
	int n_ids = 0;
	int i;

	for (i = 0; i < n; i++)
	{
		if (jobs[i]->write.outcome == WRITE_DONE)
			continue;
		jobs[i]->write.outcome = WRITE_FENCED;
		ids[n_ids++] = jobs[i]->id;
	}
	args[0] = PointerGetDatum(statement_int8_array(ids, n_ids));
	rows = statement_run(FIND_CHANGED, args, NULL);
	for (row = 0; row < rows; row++)
	{
		/* an earlier attempt in cancel may be another Job with this id */
		for (i = 0; i < n; i++)
		{
			if (jobs[i]->write.outcome == WRITE_FENCED && is_row_of(jobs[i], row))
				jobs[i]->write.outcome = WRITE_PENDING;
		}
	}
}

/*
 * Handles a written row: the job has ended, unless it is queued again.
 */
static void
note_written(Job *job, bool has_on_done)
{
	JobEnd end = {.id = job->id,
				  .from = ROW_RUNNING,
				  .to = job->report.new_state,
				  .server = job->server_name,
				  .has_on_done = has_on_done,
				  .http_status = job->verdict->http_status};

	job->write.outcome = WRITE_DONE;
	if (rowstate_is_final(end.to))
		job_ended(&end);
}

/*
 * Runs REPORT; returns the number of rows that it has written.
 */
static uint64
run_report(Job **jobs, int n, TimestampTz now)
{
	Datum args[REPORT_ARGS] = {0};
	char nulls[REPORT_ARGS];
	int i;

	memset(nulls, ' ', sizeof(nulls));
	nulls[REPORT_LARGE_ID] = nulls[REPORT_LARGE_RESULT] = 'n';
	for (i = 0; i < n; i++)
	{
		if (!report_is_large(jobs[i]))
			continue;
		args[REPORT_LARGE_ID] = Int64GetDatum(jobs[i]->id);
		args[REPORT_LARGE_RESULT] = PointerGetDatum(jobs[i]->report.result);
		nulls[REPORT_LARGE_ID] = nulls[REPORT_LARGE_RESULT] = ' ';
	}
	for (i = 0; i < REPORT_COLUMNS; i++)
		args[i] = report_column(jobs, n, i);
	args[REPORT_NOW] = TimestampTzGetDatum(now);
	return statement_run(REPORT, args, nulls);
}

static void
note_rows(uint64 rows)
{
	uint64 row;

	for (row = 0; row < rows; row++)
		note_written(job_find(DatumGetInt64(statement_not_null(row, 1))),
					 DatumGetBool(statement_not_null(row, 2)));
}

static void
report_directly(Job **jobs, int n, TimestampTz now)
{
	DirectReport *written = palloc(n * sizeof(DirectReport));
	int n_written = direct_report(jobs, n, now, written);
	int i;

	for (i = 0; i < n_written; i++)
		note_written(written[i].job, written[i].has_on_done);
	pfree(written);
}

/*
 * Writes the verdicts of jobs in the state JOB_REPORTING with their outputs.
 * Sets the outcome of each, which is valid once the transaction has committed.
 * At most one result may be larger than QUEUE_LARGE_RESULT, as text or as
 * jsonb.
 */
void
queue_report(Job **jobs, int n, TimestampTz now)
{
	Job **rest = palloc(n * sizeof(Job *));
	uint64 rows;
	int n_rest = 0;
	int i;

	for (i = 0; i < n; i++)
	{
		convert_result(jobs[i]);
		jobs[i]->write.outcome = WRITE_PENDING;
	}
	report_directly(jobs, n, now);
	for (i = 0; i < n; i++)
	{
		if (jobs[i]->write.outcome != WRITE_DONE)
			rest[n_rest++] = jobs[i];
	}
	if (n_rest > 0)
	{
		rows = run_report(rest, n_rest, now);
		note_rows(rows);
		if (rows < n_rest)
			report_find_fenced(rest, n_rest);
	}
	queue_keep_sent(jobs, n);
	forget_old_outputs(jobs, n);
	for (i = 0; i < n; i++)
	{
		if (jobs[i]->write.outcome == WRITE_DONE && jobs[i]->verdict->outputs != NIL)
			store_outputs(jobs[i]);
	}
}
