/*
 * change.c
 *		What people may change of a job, and what follows from it for the row.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/sysattr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "queue/dependency.h"
#include "server/server.h"
#include "session/after.h"
#include "session/change.h"
#include "session/check.h"
#include "session/defaults.h"

#define MAX_ERROR_BYTES 100000

/*
 * Refuses a change of state that makes no sense.  The hint names one that does.
 */
static void
refuse_transition(const Row *row, RowState from, RowState to)
{
	const char *hint =
		"An administrator may set queued, to run a failed or cancelled job again, or cancelled, to stop one that has not ended.";

	if (from == ROW_RUNNING && to == ROW_QUEUED)
		hint = "A call for the job is in flight: cancel the job first.";
	else if (from == ROW_WAITING && to == ROW_QUEUED)
		hint = "To make it wait for nothing, set its column after to null.";
	else if (from == ROW_SUCCEEDED && to == ROW_QUEUED)
		hint = "To pay for another result, insert a new job.";
	else if (to == ROW_CANCELLED)
		hint =
			"It has ended. To skip ended jobs, add WHERE state IN ('waiting', 'queued', 'running').";
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change state of job " INT64_FORMAT " from \"%s\" to \"%s\"",
					DatumGetInt64(row->values[JOB_ID]), rowstate_name(from), rowstate_name(to)),
			 errhint("%s", hint)));
}

static void
cancel_row(const Row *before, Row *row)
{
	/* the other cluster cancels the prediction */
	if (DatumGetBool(row->values[JOB_CLAIMED_ELSEWHERE]) && !row->nulls[JOB_REMOTE])
		row_set_null(row, JOB_REMOTE);
	row_set(row, JOB_FINISHED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	if (!row_column_changed(before, row, JOB_ERROR))
		row_set(row, JOB_ERROR,
				CStringGetTextDatum(
					psprintf("cancelled by role \"%s\"", server_role_name(GetUserId()))));
}

/*
 * A failed or cancelled job runs again from the beginning, now unless the same
 * statement sets run_at.  Clears the Idempotency-Key if the prediction has a
 * remote_id.  Otherwise keeps it: the last call's outcome may be unknown.
 */
static void
requeue_row(const Row *before, Row *row)
{
	TimestampTz now = GetCurrentTimestamp();

	row_set(row, JOB_FAILURES, Int32GetDatum(0));
	row_set(row, JOB_LOSSES, Int32GetDatum(0));
	row_set(row, JOB_UNKNOWN_ENDS, Int32GetDatum(0));
	row_set_null(row, JOB_PUT_OFF_SINCE);
	if (DatumGetBool(row->values[JOB_CLAIMED_ELSEWHERE]))
		row_set(row, JOB_CLAIMED_ELSEWHERE, BoolGetDatum(false));
	row_set_null(row, JOB_FINISHED_AT);
	row_set_null(row, JOB_ERROR);
	if (!row->nulls[JOB_FOLLOW_UP])
		row_set_null(row, JOB_FOLLOW_UP);
	if (!row->nulls[JOB_REMOTE_ID])
		row_set_null(row, JOB_IDEMPOTENCY_KEY);
	row_set_null(row, JOB_REMOTE_ID);
	row_set_null(row, JOB_REMOTE);
	/* it never ran, because another job did not succeed: it waits for that one again */
	if (!row->nulls[JOB_BLOCKED_BY])
		row_set_state(row, ROW_WAITING);
	row_set_null(row, JOB_BLOCKED_BY);
	if (!row_column_changed(before, row, JOB_RUN_AT))
		row_set(row, JOB_RUN_AT, TimestampTzGetDatum(now));
	if (!row->nulls[JOB_EXPIRES_AT] && !row_column_changed(before, row, JOB_EXPIRES_AT) &&
		DatumGetTimestampTz(row->values[JOB_EXPIRES_AT]) <= now)
		row_set_null(row, JOB_EXPIRES_AT);
}

void
change_state(const Row *before, Row *row)
{
	RowState from = row_state(before);
	RowState to = row_state(row);

	if (from == to)
		return;
	if (from == ROW_RUNNING && to == ROW_QUEUED &&
		DatumGetBool(before->values[JOB_CLAIMED_ELSEWHERE]))
		return; /* this cluster takes the job over from the one that claimed it */
	if (to == ROW_CANCELLED && (from == ROW_QUEUED || from == ROW_RUNNING || from == ROW_WAITING))
		cancel_row(before, row);
	else if (to == ROW_QUEUED && (from == ROW_FAILED || from == ROW_CANCELLED))
		requeue_row(before, row);
	else
		refuse_transition(row, from, to);
}

/*
 * True if the owner of the table says that an ended job of a dump, with its
 * objects, now belongs here.
 */
static bool
is_adopted(const Row *before, const Row *after, JobColumn column)
{
	return column == JOB_CLAIMED_ELSEWHERE && row_has_ended(before) && row_has_ended(after) &&
		   !after->nulls[column] && !DatumGetBool(after->values[column]);
}

void
change_check_columns(const Row *before, const Row *after, bool privileged)
{
	static const JobColumn columns[] =
		{JOB_ID,         JOB_ATTEMPT,      JOB_FAILURES,      JOB_IDEMPOTENCY_KEY,
		 JOB_REMOTE_ID,  JOB_REMOTE,       JOB_RAN_ON,        JOB_BACKEND,
		 JOB_SERVER_OID, JOB_LOSSES,       JOB_BLOCKED_BY,    JOB_DEPTH,
		 JOB_FOLLOW_UP,  JOB_UNKNOWN_ENDS, JOB_PUT_OFF_SINCE, JOB_CLAIMED_ELSEWHERE,
		 JOB_REFERS,     JOB_RETAINED};
	static const JobColumn of_owner[] = /* only the table's owner may set these */
		{JOB_OWNER,      JOB_REQUEST_ID,  JOB_CREATED_AT,
		 JOB_STARTED_AT, JOB_FINISHED_AT, JOB_ATTEMPT_ERRORS};
	static const JobColumn answers[] = {JOB_RESULT, JOB_USAGE}; /* these may be set to null */
	static const JobColumn inputs[] = {JOB_SERVER, JOB_REQUEST, JOB_INPUTS, JOB_AFTER,
									   JOB_AFTER_RULE};
	int i;

	for (i = 0; i < lengthof(columns); i++)
	{
		if (row_column_changed(before, after, columns[i]) &&
			!(privileged && is_adopted(before, after, columns[i])))
			check_refuse_column(after, columns[i], false);
	}
	for (i = 0; i < lengthof(of_owner) && !privileged; i++)
	{
		if (row_column_changed(before, after, of_owner[i]))
			check_refuse_column(after, of_owner[i], false);
	}
	for (i = 0; i < lengthof(answers) && !privileged; i++)
	{
		if (!after->nulls[answers[i]] && row_column_changed(before, after, answers[i]))
			check_refuse_column(after, answers[i], false);
	}
	for (i = 0; i < lengthof(inputs) && row_state(before) == ROW_RUNNING; i++)
	{
		if (row_column_changed(before, after, inputs[i]))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("job " INT64_FORMAT " is running", DatumGetInt64(after->values[JOB_ID])),
					 errdetail("Its server, request, inputs and after cannot be changed now."),
					 errhint("Cancel it first.")));
	}
}

/*
 * Refuses a huge error.  Jobs that waited for this one quote its error, and genjob copies it in each note.
 */
void
change_check_error(const Row *before, const Row *after)
{
	if (row_column_changed(before, after, JOB_ERROR) && !after->nulls[JOB_ERROR] &&
		toast_raw_datum_size(after->values[JOB_ERROR]) > MAX_ERROR_BYTES + VARHDRSZ)
		ereport(ERROR, (errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
						errmsg("error of a job is longer than %d bytes", MAX_ERROR_BYTES),
						errhint("Say in a sentence why the job has not succeeded.")));
}

/*
 * True if the job now orders something else: another server, request or
 * inputs.
 */
bool
change_is_of_order(const Row *before, const Row *after)
{
	return row_column_changed(before, after, JOB_SERVER) ||
		   row_column_changed(before, after, JOB_REQUEST) ||
		   row_column_changed(before, after, JOB_INPUTS) ||
		   row_column_changed(before, after, JOB_SERVER_OID);
}

/*
 * Sets the server's OID of a changed row.  An UPDATE that names the column server gets the server that has the name
 * now, even if the name stays.  Replication brings the OID of the publisher's server, which is ignored.
 */
void
change_bind_server(const Row *before, Row *after, const Bitmapset *named)
{
	bool is_named = bms_is_member(JOB_SERVER - FirstLowInvalidHeapAttributeNumber, named);

	if (row_column_changed(before, after, JOB_SERVER) || (is_named && !row_is_replicated()))
		defaults_bind_server(after);
	else if (!row_column_changed(before, after, JOB_SERVER_OID))
		return;
	else if (before->nulls[JOB_SERVER_OID])
		row_set_null(after, JOB_SERVER_OID);
	else
		row_set(after, JOB_SERVER_OID, before->values[JOB_SERVER_OID]);
}

/*
 * Checks a changed row that is to run: whether it can, and what it waits for.
 */
void
change_prepare(const Row *before, Row *after, Relation table)
{
	bool waits_again = row_column_changed(before, after, JOB_AFTER) ||
					   row_column_changed(before, after, JOB_AFTER_RULE);
	RowState from = row_state(before);
	int64 id = DatumGetInt64(after->values[JOB_ID]);

	if (row_has_ended(after) || row_state(after) == ROW_RUNNING)
	{
		if (waits_again)
			after_check(after, false);
		/* it no longer waits for the job that blocked it */
		if (waits_again && row_has_ended(after))
			row_set_null(after, JOB_BLOCKED_BY);
		return;
	}
	if (row_state(after) != from || waits_again || change_is_of_order(before, after))
		check_runnable(after, table, false);
	waits_again = waits_again || row_column_changed(before, after, JOB_AFTER);
	if (waits_again)
		row_set_state(after, after_is_empty(after) ? ROW_QUEUED : ROW_WAITING);
	else if (row_has_ended(before))
	{
		after_forget_gone(before, after, table);
		if (row_state(after) == ROW_QUEUED && after_is_ahead(after, table))
			row_set_state(after, ROW_WAITING);
		else if (row_state(after) == ROW_WAITING && after_is_empty(after))
			row_set_state(after, ROW_QUEUED);
	}
	if (waits_again)
		dependency_note_rewired(id);
	if (waits_again || row_state(after) != from)
		dependency_note_own(id, true);
}

/*
 * Sets claimed_elsewhere of a replicated row: true if another cluster runs the
 * job, or, after the job's end, may still have to cancel its prediction.
 */
void
change_note_origin(Row *after)
{
	bool is_elsewhere = row_state(after) != ROW_QUEUED && row_state(after) != ROW_WAITING;

	if (DatumGetBool(after->values[JOB_CLAIMED_ELSEWHERE]) != is_elsewhere)
		row_set(after, JOB_CLAIMED_ELSEWHERE, BoolGetDatum(is_elsewhere));
}

/*
 * Clears what was begun for the old order.  Keeps the prediction of an ended
 * job: it may still have to be cancelled.
 */
void
change_forget_order(Row *after)
{
	row_set_null(after, JOB_IDEMPOTENCY_KEY);
	if (row_has_ended(after) || after->nulls[JOB_REMOTE])
		return;
	row_set_null(after, JOB_REMOTE_ID);
	row_set_null(after, JOB_REMOTE);
}
