/*
 * triggers.c
 *		The triggers of gen_jobs: they check what people do with a job, and
 *		tell the dispatcher.
 *
 * Bad input is refused here, at INSERT, where it loses nothing.  A replicated
 * row is not refused, because that would stop the subscription: a bad job
 * fails when it is claimed, and says why.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "queue/complete.h"
#include "queue/dependency.h"
#include "queue/ended.h"
#include "queue/queue.h"
#include "session/change.h"
#include "session/check.h"
#include "session/defaults.h"
#include "session/ids.h"
#include "session/ondone.h"
#include "session/row.h"
#include "session/sqlapi.h"
#include "session/triggers.h"
#include "shared/commit.h"

/*
 * True if this session may set what genjob sets: it is a replica, or the owner
 * of the table, who restores dumps.
 */
static bool
may_set_anything(Relation relation)
{
	return row_is_replicated() || has_privs_of_role(GetUserId(), relation->rd_rel->relowner);
}

/* ---------- triggers ---------- */

static void
check_trigger(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("genjob's trigger functions can only be called as triggers")));
}

static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	TriggerData *data;

	check_trigger(fcinfo);
	data = (TriggerData *) fcinfo->context;
	/* another table has other columns at these numbers */
	if (strcmp(RelationGetRelationName(data->tg_relation), "gen_jobs") != 0 ||
		RelationGetDescr(data->tg_relation)->natts < JOB_LAST_COLUMN)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("genjob's trigger functions belong to the table gen_jobs, not to \"%s\"",
						RelationGetRelationName(data->tg_relation)),
				 errhint("Drop the trigger.")));
	return data;
}

static void
note_row(const Row *row)
{
	commit_note_job(DatumGetInt64(row->values[JOB_ID]));
}

/*
 * Notes the end of a job whose row this transaction changes or deletes.
 */
static void
note_ended_job(const Row *row, RowState from, RowState to)
{
	JobEnd end = {.id = DatumGetInt64(row->values[JOB_ID]),
				  .from = from,
				  .to = to,
				  .is_of_session = true};

	if (row->nulls[JOB_SERVER])
		return; /* NOT NULL raises the error */
	end.server = row_server(row);
	job_ended(&end);
}

/*
 * Writes into follow_up what the dispatcher must do after this end of a job.
 */
static void
leave_follow_ups(Row *row)
{
	int follow_ups = row->nulls[JOB_SERVER] ? 0
											: ended_follow_ups(row_server(row), row_state(row),
															   !row->nulls[JOB_ON_DONE]);

	if (follow_ups != 0)
		row_set(row, JOB_FOLLOW_UP, ended_words(follow_ups));
}

/*
 * True if a trigger that fires later may still change the row, at an event (TRIGGER_TYPE_INSERT or
 * TRIGGER_TYPE_UPDATE).
 */
static bool
may_be_changed(const TriggerData *data, int16 event)
{
	const TriggerDesc *triggers = data->tg_relation->trigdesc;
	int i;

	/* triggers fire in the order of this array */
	for (i = triggers->numtriggers - 1;
		 i >= 0 && triggers->triggers[i].tgoid != data->tg_trigger->tgoid; i--)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (TRIGGER_FOR_ROW(trigger->tgtype) && TRIGGER_FOR_BEFORE(trigger->tgtype) &&
			(trigger->tgtype & event) != 0 && trigger->tgenabled != TRIGGER_DISABLED)
			return true;
	}
	return false;
}

/*
 * Notes a new row for the dispatcher.
 */
static void
note_new_row(const Row *row, const TriggerData *data)
{
	if (row->nulls[JOB_ID] || row->nulls[JOB_RUN_AT])
		return; /* NOT NULL raises the error */
	if (may_be_changed(data, TRIGGER_TYPE_INSERT))
		note_row(row);
	else
		commit_note_added(DatumGetInt64(row->values[JOB_ID]),
						  row_state(row) == ROW_WAITING
							  ? DT_NOEND
							  : DatumGetTimestampTz(row->values[JOB_RUN_AT]),
						  row->nulls[JOB_EXPIRES_AT]
							  ? DT_NOEND
							  : DatumGetTimestampTz(row->values[JOB_EXPIRES_AT]));
}

/*
 * True if a restore inserts the row: somebody who may insert anything brings
 * another role's job.  A dump says when a job was created; a row without that
 * is a new job, unless its owner may not use the server yet.
 */
static bool
is_restored(const Row *row, bool privileged)
{
	if (!privileged || DatumGetObjectId(row->values[JOB_OWNER]) == GetUserId() ||
		ended_is_handing_over)
		return false;
	return DatumGetTimestampTz(row->values[JOB_CREATED_AT]) !=
			   GetCurrentTransactionStartTimestamp() ||
		   !check_may_run(row);
}

/*
 * Gives a row that replication brings without an owner to the subscription's
 * owner.  Since PostgreSQL 16, changes are applied as the owner of the table,
 * who is therefore the column's default.
 */
static void
own_replicated(Row *row, Relation table)
{
	Oid table_owner = table->rd_rel->relowner;

	if (row_is_replicated() && GetUserId() == table_owner &&
		DatumGetObjectId(row->values[JOB_OWNER]) == table_owner)
		row_set(row, JOB_OWNER, ObjectIdGetDatum(GetSessionUserId()));
}

PG_FUNCTION_INFO_V1(genjob_before_insert);

Datum
genjob_before_insert(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	bool privileged = may_set_anything(data->tg_relation);
	Row row;

	sqlapi_check_version();
	row_read(&row, data->tg_trigtuple, RelationGetDescr(data->tg_relation));
	own_replicated(&row, data->tg_relation);
	defaults_fill_new(&row);
	ids_check(&row, data->tg_relation, privileged);
	if (!privileged)
		check_owner(&row);
	check_new_state(&row, privileged);
	/* an ended job keeps the server_oid of its origin */
	if (!row_has_ended(&row))
		defaults_bind_server(&row);
	if (row_is_replicated() && !row.nulls[JOB_FOLLOW_UP])
		row_set_null(&row, JOB_FOLLOW_UP);
	if (row_is_replicated() ||
		!has_privs_of_role(GetUserId(), DatumGetObjectId(row.values[JOB_OWNER])))
		ondone_filter(&row, data->tg_relation);
	if (!row_has_ended(&row))
	{
		if (!row_is_replicated() && is_restored(&row, privileged))
			check_restored(&row);
		else if (!row_is_replicated())
			check_new_row(&row, data->tg_relation);
		note_new_row(&row, data);
	}
	return PointerGetDatum(row.tuple);
}

/*
 * True if genjob's own statement fires the trigger: it needs no check.  What a
 * user's trigger changes within that statement is checked and reported as in
 * any session.
 */
static bool
is_own_statement(void)
{
	if (queue_is_mine)
		return !ended_is_handing_over &&
			   DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) <= 1;
	return dependency_is_own_statement();
}

/*
 * Checks what a session changes of a row, and fills in what follows from it.
 */
static void
take_change(const Row *before, Row *after, const TriggerData *data)
{
	bool is_timed = row_column_changed(before, after, JOB_RUN_AT);

	change_check_columns(before, after, may_set_anything(data->tg_relation));
	change_check_error(before, after);
	change_bind_server(before, after, data->tg_updatedcols);
	defaults_fill_settable(after, DatumGetObjectId(before->values[JOB_OWNER]));
	change_state(before, after);
	if (!row_has_ended(before) && row_has_ended(after))
		leave_follow_ups(after);
	/* no retry any more, which queue/keepdue.c moves if the calendar is set back */
	if (is_timed && row_state(after) == ROW_QUEUED && !after->nulls[JOB_STARTED_AT])
		row_set_null(after, JOB_STARTED_AT);
	change_prepare(before, after, data->tg_relation);
	if (row_column_changed(before, after, JOB_ON_DONE) ||
		row_column_changed(before, after, JOB_OWNER))
		ondone_check(after, data->tg_relation);
	if (change_is_of_order(before, after))
		change_forget_order(after);
	/* also for a running job: it may be queued again */
	if (row_column_changed(before, after, JOB_TENANT) ||
		row_column_changed(before, after, JOB_UNIQUE_KEY) ||
		row_column_changed(before, after, JOB_REQUEST_ID) ||
		row_column_changed(before, after, JOB_MAX_ATTEMPTS))
		check_values(after);
}

/*
 * Adapts a replicated change.  Its origin does what follows from it.
 */
static void
take_replicated(const Row *before, Row *after, const TriggerData *data)
{
	change_bind_server(before, after, data->tg_updatedcols);
	ondone_filter(after, data->tg_relation);
	defaults_retain(after);
	if (!after->nulls[JOB_FOLLOW_UP])
		row_set_null(after, JOB_FOLLOW_UP);
	if (row_has_origin() && !after->nulls[JOB_STATE])
		change_note_origin(after);
}

PG_FUNCTION_INFO_V1(genjob_before_update);

Datum
genjob_before_update(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	TupleDesc desc = RelationGetDescr(data->tg_relation);
	Row before;
	Row after;

	if (queue_is_mine && is_own_statement())
		return PointerGetDatum(data->tg_newtuple);
	row_read(&before, data->tg_trigtuple, desc);
	row_read(&after, data->tg_newtuple, desc);
	if (complete_is_writing())
	{
		leave_follow_ups(&after);
		note_row(&after);
		note_ended_job(&after, row_state(&before), row_state(&after));
		return PointerGetDatum(after.tuple);
	}
	if (is_own_statement())
	{
		if (!row_has_ended(&before) && row_has_ended(&after))
			leave_follow_ups(&after);
		return PointerGetDatum(after.tuple);
	}
	if (!row_is_replicated() && !after.nulls[JOB_STATE])
		take_change(&before, &after, data);
	else
		take_replicated(&before, &after, data);
	note_row(&after);
	if (!row_has_ended(&before) && row_has_ended(&after))
		note_ended_job(&after, row_state(&before), row_state(&after));
	else if (may_be_changed(data, TRIGGER_TYPE_UPDATE))
		commit_note_ended(DatumGetInt64(after.values[JOB_ID]));
	return PointerGetDatum(after.tuple);
}

PG_FUNCTION_INFO_V1(genjob_before_delete);

Datum
genjob_before_delete(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	Row row;

	row_read(&row, data->tg_trigtuple, RelationGetDescr(data->tg_relation));
	/*
	 * nobody waits for an ended job, and retention deletes thousands of them
	 */
	if (!row_has_ended(&row))
	{
		note_row(&row);
		note_ended_job(&row, row_state(&row), ROW_GONE);
	}
	return PointerGetDatum(data->tg_trigtuple);
}

PG_FUNCTION_INFO_V1(genjob_after_weights);

/*
 * Reports that a weight was changed.
 */
Datum
genjob_after_weights(PG_FUNCTION_ARGS)
{
	check_trigger(fcinfo);
	commit_note_servers();
	return PointerGetDatum(NULL);
}

PG_FUNCTION_INFO_V1(genjob_after_callbacks);

/*
 * Reports that calls of on_done are due, or their times changed.
 */
Datum
genjob_after_callbacks(PG_FUNCTION_ARGS)
{
	check_trigger(fcinfo);
	commit_note_callbacks();
	return PointerGetDatum(NULL);
}

PG_FUNCTION_INFO_V1(genjob_after_truncate);

Datum
genjob_after_truncate(PG_FUNCTION_ARGS)
{
	dependency_forget_all(RelationGetRelid(trigger_data(fcinfo)->tg_relation));
	commit_note_all_jobs();
	return PointerGetDatum(NULL);
}

PG_FUNCTION_INFO_V1(genjob_after_change);

/*
 * Queues, or fails, jobs that waited for jobs that the statement has changed.
 */
Datum
genjob_after_change(PG_FUNCTION_ARGS)
{
	if (!queue_is_mine)
		dependency_follow(RelationGetRelid(trigger_data(fcinfo)->tg_relation));
	return PointerGetDatum(NULL);
}
