/*
 * report.c
 *		Writing what became of attempts, and what they brought back.
 *
 * An attempt is written only over its own row: the row must still be running, and of that attempt.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "commit.h"
#include "queue/queue.h"
#include "queue/statement.h"

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

static const struct
{
	Oid type;
	int len;
	bool by_value;
	char align;
} column_types[REPORT_COLUMNS] = {
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

/*
 * UTF-8 text in the encoding of the database; what that cannot hold becomes a question mark.
 */
static char *
text_from_utf8(char *utf8)
{
	int encoding = GetDatabaseEncoding();
	Oid conversion;
	StringInfoData text;
	unsigned char *p = (unsigned char *) utf8;
	unsigned char *end = p + strlen(utf8);

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return utf8;
	conversion = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(conversion))
		return utf8;
	initStringInfo(&text);
	while (p < end)
	{
		unsigned char piece[4 * MAX_CONVERSION_GROWTH * 256 + 1];
		int len = pg_encoding_mbcliplen(PG_UTF8, (char *) p, end - p, 1024);
		int done = pg_do_encoding_conversion_buf(conversion, PG_UTF8, encoding, p, len, piece,
												 sizeof(piece), true);

		appendStringInfoString(&text, (char *) piece);
		p += done;
		if (done < len)
		{
			appendStringInfoChar(&text, '?');
			p += pg_utf_mblen(p);
		}
	}
	return text.data;
}

static Datum
text_or_null(char *utf8, bool *isnull)
{
	*isnull = utf8 == NULL;
	return *isnull ? (Datum) 0 : CStringGetTextDatum(text_from_utf8(utf8));
}

static Datum
report_datum(const Job *job, ReportColumn column, bool *isnull)
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
			return Int32GetDatum(job->counts ? 1 : 0);
		case REPORT_KEEPS_KEY:
			return BoolGetDatum(verdict->unknown);
		case REPORT_COLUMNS:
			break;
	}
	pg_unreachable();
}

static Datum
report_array(Job **jobs, int n, ReportColumn column)
{
	Datum *datums = palloc(n * sizeof(Datum));
	bool *nulls = palloc(n * sizeof(bool));
	int dims[1] = {n};
	int bounds[1] = {1};
	int i;

	for (i = 0; i < n; i++)
		datums[i] = report_datum(jobs[i], column, &nulls[i]);
	return PointerGetDatum(construct_md_array(datums, nulls, 1, dims, bounds,
											  column_types[column].type, column_types[column].len,
											  column_types[column].by_value,
											  column_types[column].align));
}

static void
store_outputs(const Job *job)
{
	ListCell *cell;
	int ordinal = 1;

	foreach(cell, job->verdict->outputs)
	{
		const Output *output = lfirst(cell);
		bytea *data = palloc(output->len + VARHDRSZ);
		Datum args[4] = {Int64GetDatum(job->id), Int32GetDatum(ordinal++),
						 CStringGetTextDatum(output->content_type), PointerGetDatum(data)};

		SET_VARSIZE(data, output->len + VARHDRSZ);
		memcpy(VARDATA(data), output->data, output->len);
		statement_run(ADD_OUTPUT, args, NULL);
		pfree(data);
	}
}

/*
 * What earlier attempts of these jobs left behind (an answer kept with a failure) makes room.
 */
static void
forget_old_outputs(Job **jobs, int n)
{
	int64 *ids = palloc(n * sizeof(int64));
	Datum args[1];
	int n_ids = 0;
	int i;

	for (i = 0; i < n; i++)
	{
		if ((jobs[i]->attempt > 1 || jobs[i]->report_failures > 0) &&
			jobs[i]->outcome == REPORT_WRITTEN)
			ids[n_ids++] = jobs[i]->id;
	}
	if (n_ids == 0)
		return;
	args[0] = PointerGetDatum(statement_int8_array(ids, n_ids));
	statement_run(FORGET_OUTPUTS, args, NULL);
}

static Job *
job_among(Job **jobs, int n, int64 id)
{
	Job *job = job_find(id);
	int i;

	for (i = 0; i < n && jobs[i] != job; i++)
		;
	return i < n ? job : NULL;
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
		Job *job = job_among(jobs, n, DatumGetInt64(statement_not_null(row, 1)));

		if (job != NULL && DatumGetBool(statement_not_null(row, 4)) &&
			DatumGetInt32(statement_not_null(row, 5)) == job->attempt)
			job->outcome = REPORT_PENDING;
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
		args[i] = report_array(jobs, n, i);
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
