/*
 * save.c
 *		Writes what a job needs to be resumed, and what became of predictions
 *		to cancel.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/memutils.h"

#include "base/json.h"
#include "life/cancel.h"
#include "protocol/saved.h"
#include "queue/queue.h"
#include "queue/report.h"
#include "queue/statement.h"

/* The columns of the statement SAVE. */
typedef enum SaveColumn
{
	SAVE_ID,
	SAVE_ATTEMPT,
	SAVE_REMOTE_ID,
	SAVE_REMOTE,
	SAVE_NOTE,
	SAVE_OLD_NOTE,
	SAVE_IS_FINAL,
	SAVE_BACKEND,
	SAVE_COLUMNS
} SaveColumn;

/* The arguments of SAVE after the arrays. */
#define SAVE_LARGE_ID SAVE_COLUMNS
#define SAVE_LARGE_REMOTE (SAVE_COLUMNS + 1)
#define SAVE_ARGS (SAVE_COLUMNS + 2)

static const ColumnType save_types[SAVE_COLUMNS] = {
	[SAVE_ID] = {INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
	[SAVE_ATTEMPT] = {INT4OID, sizeof(int32), true, TYPALIGN_INT},
	[SAVE_REMOTE_ID] = {TEXTOID, -1, false, TYPALIGN_INT},
	[SAVE_REMOTE] = {JSONBOID, -1, false, TYPALIGN_INT},
	[SAVE_NOTE] = {TEXTOID, -1, false, TYPALIGN_INT},
	[SAVE_OLD_NOTE] = {TEXTOID, -1, false, TYPALIGN_INT},
	[SAVE_IS_FINAL] = {BOOLOID, 1, true, TYPALIGN_CHAR},
	[SAVE_BACKEND] = {TEXTOID, -1, false, TYPALIGN_INT},
};

/*
 * Returns the answer of a job whose row is not final, as the column remote
 * keeps it; NULL: none.  In the current memory context, or the job's.
 */
char *
queue_saved_answer(const Job *job)
{
	StringInfoData text;

	if (!job->remote.has_verdict)
		return job->remote.answer;
	initStringInfo(&text);
	saved_write(&text, job->verdict);
	return text.data;
}

/*
 * Returns about how many bytes queue_saved_answer() has; 0: none.
 */
size_t
queue_saved_size(const Job *job)
{
	if (job->remote.has_verdict)
		return saved_size(job->verdict);
	return job->remote.answer ? strlen(job->remote.answer) : 0;
}

static void
add_answer(StringInfo out, const Job *job)
{
	size_t size = queue_saved_size(job);

	/* an answer may be large: it is copied here, and nowhere on the way */
	if (size < MaxAllocSize / 2)
		enlargeStringInfo(out, (int) size + 1024);
	if (!job->remote.has_verdict)
	{
		json_add_member(out, "answer", job->remote.answer);
		return;
	}
	json_add_member(out, "answer", "");
	saved_write(out, job->verdict);
}

/*
 * Returns the column remote: what a resumed job needs besides the id.
 * is_final: what the cancel of its prediction needs, with the id, which has no
 * other column then.  "private" is null while no address of the server is
 * known.  A job with only uploads, or whose answer the table refuses, has no
 * "urls", which would mean that it has a prediction.
 */
static char *
remote_json(const Job *job, bool is_final)
{
	const Remote *remote = &job->remote;
	bool has_answer = !is_final && (remote->has_verdict || remote->answer != NULL);
	const char *uploads = is_final ? NULL : remote->uploads;
	bool is_named = is_final || remote->id != NULL || remote->token_digest != NULL;
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	if (is_final)
		json_add_string(&out, "id", remote->id);
	if (remote->urls != NULL || has_answer || (is_named && uploads == NULL))
		json_add_member(&out, "urls", remote->urls ? remote->urls : "{}");
	json_add_member(&out, "private",
					remote->is_private  ? "true"
					: remote->is_public ? "false"
										: "null");
	if (!is_final)
	{
		json_add_member(&out, "usage", remote->usage);
		json_add_string(&out, "note", remote->note);
		json_add_string(&out, "complete", remote->token_digest);
	}
	json_add_member(&out, "uploads", uploads);
	if (has_answer)
		add_answer(&out, job);
	appendStringInfoChar(&out, '}');
	return out.data;
}

static Datum
remote_datum(const Job *job, bool is_final)
{
	char *text = remote_json(job, is_final);

	return PointerGetDatum(report_json(&text));
}

static bool
is_large_remote(const Job *job)
{
	return queue_saved_size(job) > QUEUE_LARGE_RESULT;
}

static Datum
save_datum(const Job *job, int column, bool *isnull)
{
	bool is_final = job->step == STEP_CANCEL;

	*isnull = false;
	switch (column)
	{
		case SAVE_ID:
			return Int64GetDatum(job->id);
		case SAVE_ATTEMPT:
			return Int32GetDatum(job->attempt);
		case SAVE_REMOTE_ID:
			/* after the job's end, only if the provider has confirmed it */
			return report_text(is_final && !job->cancel.is_confirmed ? NULL : job->remote.id,
							   isnull);
		case SAVE_REMOTE:
			/* in a final row, not null: the provider must still cancel */
			if (is_final)
				*isnull = job->cancel.saves_end;
			else
				*isnull = is_large_remote(job) ||
						  (job->step == STEP_FETCH && job->remote.token_digest == NULL);
			return *isnull ? (Datum) 0 : remote_datum(job, is_final);
		case SAVE_NOTE:
			return report_text(is_final ? job->verdict->error : NULL, isnull);
		case SAVE_OLD_NOTE:
			return report_text(is_final ? cancel_describe_delay(job) : NULL, isnull);
		case SAVE_IS_FINAL:
			return BoolGetDatum(is_final);
		case SAVE_BACKEND:
			return report_text(job->options ? job->options->url : NULL, isnull);
	}
	pg_unreachable();
}

/*
 * Writes what jobs in the state JOB_SAVING need to be resumed.  For jobs that
 * have ended, writes that the provider must still be told to cancel, or
 * whether it was told.  Sets the outcome of each.  At most one answer may be
 * larger than QUEUE_LARGE_RESULT.
 */
void
queue_save(Job **jobs, int n)
{
	Datum args[SAVE_ARGS] = {0};
	char nulls[SAVE_ARGS];
	uint64 rows;
	uint64 row;
	int i;
	int k;

	for (i = 0; i < SAVE_COLUMNS; i++)
		args[i] = report_array(jobs, n, save_datum, i, &save_types[i]);
	memset(nulls, ' ', sizeof(nulls));
	nulls[SAVE_LARGE_ID] = nulls[SAVE_LARGE_REMOTE] = 'n';
	for (i = 0; i < n; i++)
	{
		jobs[i]->write.outcome = WRITE_PENDING;
		if (jobs[i]->step == STEP_CANCEL || !is_large_remote(jobs[i]))
			continue;
		args[SAVE_LARGE_ID] = Int64GetDatum(jobs[i]->id);
		args[SAVE_LARGE_REMOTE] = remote_datum(jobs[i], false);
		nulls[SAVE_LARGE_ID] = nulls[SAVE_LARGE_REMOTE] = ' ';
	}
	rows = statement_run(SAVE, args, nulls);
	for (row = 0; row < rows; row++)
	{
		int64 id = DatumGetInt64(statement_not_null(row, 1));
		int attempt = DatumGetInt32(statement_not_null(row, 2));

		/* an earlier attempt's prediction may be cancelled while the present one's is saved */
		for (k = 0; k < n; k++)
		{
			if (jobs[k]->id == id && jobs[k]->attempt == attempt)
				jobs[k]->write.outcome = WRITE_DONE;
		}
	}
	if (rows < n)
		report_find_fenced(jobs, n);
}
