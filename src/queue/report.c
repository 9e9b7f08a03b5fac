/*
 * report.c
 *		Writing what became of attempts, and what they brought back.
 *
 * An attempt is written only over its own row: the row must still be running, and of that attempt.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "commit.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/tables.h"
#include "shmem.h"
#include "shown.h"

/* The columns of the statement REPORT that are arrays. */
typedef enum ReportColumn
{
	REPORT_ID,
	REPORT_ATTEMPT,
	REPORT_STATE,
	REPORT_RESULT,
	REPORT_USAGE,
	REPORT_ERROR,
	REPORT_HTTP_STATUS,
	REPORT_RUN_AT,
	REPORT_COUNTS,
	REPORT_KEEPS_KEY,
	REPORT_COLUMNS
} ReportColumn;

typedef struct ColumnType
{
	Oid type;
	int len;
	bool by_value;
	char align;
} ColumnType;

static const ColumnType column_types[REPORT_COLUMNS] = {
	[REPORT_ID] = {INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
	[REPORT_ATTEMPT] = {INT4OID, sizeof(int32), true, TYPALIGN_INT},
	[REPORT_STATE] = {TEXTOID, -1, false, TYPALIGN_INT},
	[REPORT_RESULT] = {TEXTOID, -1, false, TYPALIGN_INT},
	[REPORT_USAGE] = {TEXTOID, -1, false, TYPALIGN_INT},
	[REPORT_ERROR] = {TEXTOID, -1, false, TYPALIGN_INT},
	[REPORT_HTTP_STATUS] = {INT4OID, sizeof(int32), true, TYPALIGN_INT},
	[REPORT_RUN_AT] = {TIMESTAMPTZOID, sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
	[REPORT_COUNTS] = {INT4OID, sizeof(int32), true, TYPALIGN_INT},
	[REPORT_KEEPS_KEY] = {BOOLOID, 1, true, TYPALIGN_CHAR},
};

static Datum
text_or_null(char *utf8, bool *isnull)
{
	*isnull = utf8 == NULL;
	return *isnull ? (Datum) 0 : CStringGetTextDatum(shown_from_utf8(utf8));
}

static Datum
report_datum(const Job *job, int column, bool *isnull)
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
			return CStringGetTextDatum(job->new_state);
		case REPORT_RESULT:
			return text_or_null(verdict->result, isnull);
		case REPORT_USAGE:
			return text_or_null(verdict->usage, isnull);
		case REPORT_ERROR:
			return text_or_null(verdict->error, isnull);
		case REPORT_HTTP_STATUS:
			*isnull = verdict->http_status == 0;
			return Int32GetDatum(verdict->http_status);
		case REPORT_RUN_AT:
			*isnull = job->run_at == 0;
			return TimestampTzGetDatum(job->run_at);
		case REPORT_COUNTS:
			*isnull = verdict->kind == VERDICT_POSTPONE; /* it was no attempt */
			return Int32GetDatum(job->counts ? 1 : 0);
		case REPORT_KEEPS_KEY:
			return BoolGetDatum(verdict->unknown);
	}
	pg_unreachable();
}

/* What a column of a statement's arrays holds for a job. */
typedef Datum (*ColumnReader)(const Job *job, int column, bool *isnull);

static Datum
job_array(Job **jobs, int n, ColumnReader read, int column, const ColumnType *type)
{
	Datum *datums = palloc(n * sizeof(Datum));
	bool *nulls = palloc(n * sizeof(bool));
	int dims[1] = {n};
	int bounds[1] = {1};
	int i;

	for (i = 0; i < n; i++)
		datums[i] = read(jobs[i], column, &nulls[i]);
	return PointerGetDatum(construct_md_array(datums, nulls, 1, dims, bounds, type->type, type->len,
											  type->by_value, type->align));
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
 * The outputs that came; one that could not be downloaded leaves out its ordinal.
 */
static void
store_outputs(const Job *job)
{
	ListCell *cell;
	int ordinal = 1;

	foreach(cell, job->verdict->outputs)
	{
		const Output *output = lfirst(cell);

		if (output->data != NULL)
			store_output(job->id, ordinal, output);
		ordinal++;
	}
}

/* ---------- outputs of earlier attempts ---------- */

/* What of gen_outputs is not of the last attempt of some jobs. */
typedef struct Surplus
{
	int n;
	int64 *jobs;
	int32 *counts; /* of outputs; what is beyond is surplus */
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
		if (((Output *) lfirst(cell))->data == NULL)
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
 * Says once for each reason why outputs of earlier attempts stay.
 */
static void
show_surplus(const char *reason)
{
	static char shown[256] = "";

	if (strncmp(shown, reason, sizeof(shown) - 1) == 0)
		return;
	strlcpy(shown, reason, sizeof(shown));
	shmem_set_my_error(psprintf("outputs of earlier attempts stay in gen_outputs: %s", reason));
	ereport(LOG, (errmsg("genjob leaves outputs of earlier attempts in gen_outputs: %s", reason)));
}

/*
 * Deletes it, if nobody refers to it.  What is referred to stays: the job is what counts.  False, and
 * the reason, where some does.
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
 * What earlier attempts of these jobs left behind (an answer kept with a failure) makes room: what the
 * last attempt does not overwrite is deleted, as far as no table of others keeps it.
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
		if ((jobs[i]->attempt > 1 || jobs[i]->report_failures > 0) &&
			jobs[i]->outcome == REPORT_WRITTEN)
			add_surplus(&all, jobs[i]);
	}
	if (all.n == 0)
		return;
	if (tables_keep_outputs() != NULL)
		reason =
			psprintf("%s is of a role that the dispatcher runs nothing of", tables_keep_outputs());
	else if (!try_to_delete(&all, &reason) && n > 1)
	{
		/* of the others nobody need keep them */
		for (i = 0; i < n; i++)
			forget_old_outputs(&jobs[i], 1);
		return;
	}
	if (reason != NULL)
		show_surplus(reason);
}

/*
 * Whether a row of FIND_CHANGED is still the one that is to be written of a job.
 */
static bool
is_row_of(const Job *job, uint64 row)
{
	bool is_note = job->step == STEP_CANCEL;

	return DatumGetInt64(statement_not_null(row, CHANGED_ID)) == job->id &&
		   DatumGetBool(
			   statement_not_null(row, is_note ? CHANGED_IS_CANCELLED : CHANGED_IS_RUNNING)) &&
		   DatumGetInt32(statement_not_null(row, CHANGED_ATTEMPT)) == job->attempt;
}

/*
 * Of the jobs that were not written, those whose row is not theirs any more are fenced off; the others
 * are locked by someone.
 */
static void
find_fenced(Job **jobs, int n)
{
	int64 *ids = palloc(n * sizeof(int64));
	Datum args[1];
	uint64 rows;
	uint64 row;
	int n_ids = 0;
	int i;

	for (i = 0; i < n; i++)
	{
		if (jobs[i]->outcome == REPORT_WRITTEN)
			continue;
		jobs[i]->outcome = REPORT_FENCED;
		ids[n_ids++] = jobs[i]->id;
	}
	args[0] = PointerGetDatum(statement_int8_array(ids, n_ids));
	rows = statement_run(FIND_CHANGED, args, NULL);
	for (row = 0; row < rows; row++)
	{
		/* of a job that is not known by its id any more there may be another attempt */
		for (i = 0; i < n; i++)
		{
			if (jobs[i]->outcome == REPORT_FENCED && is_row_of(jobs[i], row))
				jobs[i]->outcome = REPORT_PENDING;
		}
	}
}

/*
 * Writes the verdicts of jobs in the state JOB_REPORTING with their outputs, and sets the outcome of
 * each: good once the transaction has committed.
 */
void
queue_report(Job **jobs, int n, TimestampTz now)
{
	Datum args[REPORT_COLUMNS + 1];
	uint64 rows;
	uint64 row;
	int i;

	for (i = 0; i < REPORT_COLUMNS; i++)
		args[i] = job_array(jobs, n, report_datum, i, &column_types[i]);
	args[REPORT_COLUMNS] = TimestampTzGetDatum(now);
	for (i = 0; i < n; i++)
		jobs[i]->outcome = REPORT_PENDING;
	rows = statement_run(REPORT, args, NULL);
	for (row = 0; row < rows; row++)
	{
		int64 id = DatumGetInt64(statement_not_null(row, 1));

		job_find(id)->outcome = REPORT_WRITTEN;
		commit_note_ended(id);
	}
	if (rows < n)
		find_fenced(jobs, n);
	forget_old_outputs(jobs, n);
	for (i = 0; i < n; i++)
	{
		if (jobs[i]->outcome == REPORT_WRITTEN)
			store_outputs(jobs[i]);
	}
}

/* ---------- saving ---------- */

/* The columns of the statement SAVE. */
typedef enum SaveColumn
{
	SAVE_ID,
	SAVE_ATTEMPT,
	SAVE_REMOTE_ID,
	SAVE_REMOTE,
	SAVE_NOTE,
	SAVE_IS_NOTE,
	SAVE_BACKEND,
	SAVE_COLUMNS
} SaveColumn;

static const ColumnType save_types[SAVE_COLUMNS] = {
	[SAVE_ID] = {INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
	[SAVE_ATTEMPT] = {INT4OID, sizeof(int32), true, TYPALIGN_INT},
	[SAVE_REMOTE_ID] = {TEXTOID, -1, false, TYPALIGN_INT},
	[SAVE_REMOTE] = {TEXTOID, -1, false, TYPALIGN_INT},
	[SAVE_NOTE] = {TEXTOID, -1, false, TYPALIGN_INT},
	[SAVE_IS_NOTE] = {BOOLOID, 1, true, TYPALIGN_CHAR},
	[SAVE_BACKEND] = {TEXTOID, -1, false, TYPALIGN_INT},
};

/*
 * The column remote: what a resumed job needs besides the id.
 */
static char *
remote_json(const Remote *remote)
{
	return psprintf("{\"urls\": %s, \"private\": %s%s%s%s%s}", remote->urls ? remote->urls : "{}",
					remote->is_private ? "true" : "false", remote->usage ? ", \"usage\": " : "",
					remote->usage ? remote->usage : "", remote->answer ? ", \"answer\": " : "",
					remote->answer ? remote->answer : "");
}

static Datum
save_datum(const Job *job, int column, bool *isnull)
{
	bool is_note = job->step == STEP_CANCEL;

	*isnull = false;
	switch (column)
	{
		case SAVE_ID:
			return Int64GetDatum(job->id);
		case SAVE_ATTEMPT:
			return Int32GetDatum(job->attempt);
		case SAVE_REMOTE_ID:
			/* of a prediction that was only looked for, the end of its call is known if the provider says so */
			return text_or_null(is_note && !job->cancel_confirmed ? NULL : job->remote.id, isnull);
		case SAVE_REMOTE:
			return text_or_null(remote_json(&job->remote), isnull);
		case SAVE_NOTE:
			return text_or_null(is_note ? job->verdict->error : NULL, isnull);
		case SAVE_IS_NOTE:
			return BoolGetDatum(is_note);
		case SAVE_BACKEND:
			return text_or_null(job->options ? job->options->url : NULL, isnull);
	}
	pg_unreachable();
}

/*
 * Writes what jobs in the state JOB_SAVING would need to be resumed, or, of one that was cancelled,
 * whether the provider knows; and sets the outcome of each.
 */
void
queue_save(Job **jobs, int n)
{
	Datum args[SAVE_COLUMNS];
	uint64 rows;
	uint64 row;
	int i;
	int k;

	for (i = 0; i < SAVE_COLUMNS; i++)
		args[i] = job_array(jobs, n, save_datum, i, &save_types[i]);
	for (i = 0; i < n; i++)
		jobs[i]->outcome = REPORT_PENDING;
	rows = statement_run(SAVE, args, NULL);
	for (row = 0; row < rows; row++)
	{
		int64 id = DatumGetInt64(statement_not_null(row, 1));

		for (k = 0; k < n; k++)
		{
			if (jobs[k]->id == id)
				jobs[k]->outcome = REPORT_WRITTEN;
		}
	}
	if (rows < n)
		find_fenced(jobs, n);
}
