/*
 * triggers.c
 *		The triggers of gen_jobs: they check what people do with a job and have the dispatcher told.
 *
 * Bad input is refused here, at INSERT, where it loses nothing.  What replication applies is not
 * refused, for that would stop the subscription: such a job fails when it is claimed, and says why.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "shared/commit.h"
#include "session/after.h"
#include "session/defaults.h"
#include "session/ids.h"
#include "session/ondone.h"
#include "life/job.h"
#include "base/jsonb.h"
#include "queue/ended.h"
#include "queue/dependency.h"
#include "queue/queue.h"
#include "session/row.h"
#include "session/sqlapi.h"
#include "session/triggers.h"
#include "server/stores.h"

#define MAX_TENANT_BYTES 256
#define MAX_UNIQUE_KEY_BYTES 1024
#define MAX_REQUEST_ID_BYTES 1024
#define RESTORE_MS 600000 /* between a dump's rows and its GRANTs, at most */

static bool
is_replication(void)
{
	return SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA;
}

/*
 * Whether this session may set what is genjob's to set: the owner of the table restores dumps.
 */
static bool
may_set_anything(Relation relation)
{
	return is_replication() || has_privs_of_role(GetUserId(), relation->rd_rel->relowner);
}

/* ---------- checks of new input ---------- */

static void
refuse_column(const char *column)
{
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("column \"%s\" of gen_jobs is set by genjob", column),
					errhint("Leave it out.")));
}

/*
 * Texts that stand in an index must be short; the index's own error would not say which.
 */
static void
check_length(const Row *row, JobColumn column, const char *name, int max)
{
	if (!row->nulls[column] && VARSIZE_ANY_EXHDR(DatumGetTextPP(row->values[column])) > max)
		ereport(ERROR, (errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
						errmsg("%s of a job is longer than %d bytes", name, max),
						errhint("Use a digest of it, such as md5(...).")));
}

static void
check_lengths(const Row *row)
{
	check_length(row, JOB_TENANT, "tenant", MAX_TENANT_BYTES);
	check_length(row, JOB_UNIQUE_KEY, "unique_key", MAX_UNIQUE_KEY_BYTES);
	check_length(row, JOB_REQUEST_ID, "request_id", MAX_REQUEST_ID_BYTES);
}

static int
count_inputs(Datum datum)
{
	ArrayType *inputs = DatumGetArrayTypeP(datum);

	if (ARR_NDIM(inputs) > 1 || array_contains_nulls(inputs))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("inputs must be an array of one dimension without nulls"),
						errhint("Write ARRAY[$1, $2] with one bytea for each input.")));
	return ArrayGetNItems(ARR_NDIM(inputs), ARR_DIMS(inputs));
}

/*
 * Whether there is something to check about a request: most have no binaries, and then there is nothing
 * to parse.
 */
static bool
has_binaries(const RequestSource *source)
{
	return source->options->preset->is_store || request_has_words(source->options) ||
		   strcmp(source->options->protocol.method, "POST") != 0 || source->n_inputs > 0 ||
		   strcmp(source->options->protocol.body, "raw") == 0 ||
		   strstr(source->request, "\"$input\"") != NULL || request_may_refer(source);
}

/*
 * The request fits its inputs, and what it refers to is written as it should be.  The jobs that it refers to.
 */
static JobIds
check_request(const Row *row, const Server *server)
{
	Jsonb *request = DatumGetJsonbP(row->values[JOB_REQUEST]);
	int n_inputs = row->nulls[JOB_INPUTS] ? 0 : count_inputs(row->values[JOB_INPUTS]);
	RequestSource source = {.options = &server->options,
							.n_inputs = n_inputs,
							.is_literal = DatumGetInt32(row->values[JOB_DEPTH]) > 0};

	if (!JB_ROOT_IS_OBJECT(request))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("request is not a JSON object"),
				 errhint(
					 "Write the server's own parameters, such as {\"prompt\": \"a lighthouse at dawn\"}.")));
	source.request = jsonb_print(request);
	if (has_binaries(&source))
		request_check(&source);
	return after_list_referred(&source);
}

/*
 * Errors for the user where a job could not be run.  Adds to after what its request refers to.
 */
static void
check_runnable(Row *row, Relation table, bool is_new)
{
	static MemoryContext context = NULL;
	MemoryContext caller;
	ServerComplaint complaint;
	Server *server;
	JobIds referred;

	if (row->nulls[JOB_SERVER] || row->nulls[JOB_REQUEST])
		return; /* NOT NULL says so */
	check_lengths(row);
	after_check(row, is_new);
	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "genjob check", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(context);
	caller = MemoryContextSwitchTo(context);
	server = server_get(row_server(row), &complaint);
	if (server == NULL ||
		!server_check_role(server, DatumGetObjectId(row->values[JOB_OWNER]), &complaint))
		ereport(ERROR, (errcode(complaint.sqlerrcode), errmsg("%s", complaint.message),
						errhint("%s", complaint.hint)));
	if (server->options.store != NULL &&
		stores_of(server, DatumGetObjectId(row->values[JOB_OWNER]), &complaint) == NULL)
		ereport(ERROR, (errcode(complaint.sqlerrcode), errmsg("%s", complaint.message),
						errhint("%s", complaint.hint)));
	referred = check_request(row, server);
	MemoryContextSwitchTo(caller);
	after_note_referred(row, &referred);
	if (referred.n > 0)
		after_add(row, &referred, table);
}

/*
 * A restore brings in others' jobs before it grants their owners what they need: one that lacks
 * something now is given time before it fails for that.
 */
static void
postpone_restored(Row *row)
{
	TimestampTz later = GetCurrentTimestamp() + RESTORE_MS * INT64CONST(1000);
	ServerComplaint complaint;
	Server *server;

	if (row->nulls[JOB_SERVER] || row->nulls[JOB_RUN_AT])
		return;
	server = server_get(row_server(row), &complaint);
	if (server != NULL &&
		server_check_role(server, DatumGetObjectId(row->values[JOB_OWNER]), &complaint))
		return;
	if (DatumGetTimestampTz(row->values[JOB_RUN_AT]) < later)
		row_set(row, JOB_RUN_AT, TimestampTzGetDatum(later));
}

static void
check_owner(const Row *row)
{
	Oid owner = DatumGetObjectId(row->values[JOB_OWNER]);

	if (owner != GetUserId() && !has_privs_of_role(GetUserId(), owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to insert a job of role \"%s\"",
							   server_role_name(owner)),
						errhint("Leave out the column \"owner\": it is the inserting role.")));
}

/* ---------- triggers ---------- */

static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	TriggerData *data;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("genjob's trigger functions can only be called as triggers")));
	data = (TriggerData *) fcinfo->context;
	/* another table's columns would be taken for what they are not */
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

static bool
has_ended(const Row *row)
{
	return rowstate_is_final(row_state(row));
}

/*
 * Notes the end of a job whose row this transaction changes or deletes.
 */
static void
note_end(const Row *row, RowState from, RowState to)
{
	JobEnd end = {.id = DatumGetInt64(row->values[JOB_ID]),
				  .from = from,
				  .to = to,
				  .is_of_session = true};

	if (row->nulls[JOB_SERVER])
		return; /* NOT NULL says so */
	end.server = row_server(row);
	job_ended(&end);
}

/*
 * Has the dispatcher do what follows the end of a job that a session writes.
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
 * Whether a trigger that fires later may still change the row, at an event (TRIGGER_TYPE_INSERT or TRIGGER_TYPE_UPDATE).
 */
static bool
may_be_changed(const TriggerData *data, int16 event)
{
	const TriggerDesc *triggers = data->tg_relation->trigdesc;
	int i;

	/* they fire in this order */
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
 * Has the dispatcher told of a row that is inserted.
 */
static void
note_new_row(const Row *row, const TriggerData *data)
{
	if (row->nulls[JOB_ID] || row->nulls[JOB_RUN_AT])
		return; /* NOT NULL says so */
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
 * A new row must be one that waits to be run; the owner of the table may bring in others, as a restore
 * does.  One that was running where it came from is not running here.
 */
static void
check_new_state(Row *row, bool privileged)
{
	static const struct
	{
		JobColumn column;
		const char *name;
	} empty_columns[] = {
		{JOB_STARTED_AT, "started_at"},
		{JOB_FINISHED_AT, "finished_at"},
		{JOB_IDEMPOTENCY_KEY, "idempotency_key"},
		{JOB_RESULT, "result"},
		{JOB_USAGE, "usage"},
		{JOB_ERROR, "error"},
		{JOB_ATTEMPT_ERRORS, "attempt_errors"},
		{JOB_REMOTE_ID, "remote_id"},
		{JOB_REMOTE, "remote"},
		{JOB_RAN_ON, "ran_on"},
		{JOB_BACKEND, "backend"},
		{JOB_SERVER_OID, "server_oid"},
		{JOB_BLOCKED_BY, "blocked_by"},
		{JOB_FOLLOW_UP, "follow_up"},
		{JOB_PUT_OFF_SINCE, "put_off_since"},
		{JOB_REFERS, "refers"},
	};
	static const struct
	{
		JobColumn column;
		const char *name;
	} counts[] = {{JOB_ATTEMPT, "attempt"},
				  {JOB_FAILURES, "failures"},
				  {JOB_LOSSES, "losses"},
				  {JOB_DEPTH, "depth"},
				  {JOB_UNKNOWN_ENDS, "unknown_ends"}};
	RowState state = row_state(row);
	int i;

	if (!privileged && state != ROW_QUEUED)
		refuse_column("state");
	for (i = 0; i < lengthof(counts) && !privileged; i++)
	{
		if (DatumGetInt32(row->values[counts[i].column]) != 0)
			refuse_column(counts[i].name);
	}
	for (i = 0; i < lengthof(empty_columns) && !privileged; i++)
	{
		if (!row->nulls[empty_columns[i].column])
			refuse_column(empty_columns[i].name);
	}
	if (state == ROW_RUNNING)
		row_set_state(row, ROW_QUEUED);
}

/*
 * Checks a row that someone inserts, not a restore: whether it can be run, and whether it is to wait first.
 */
static void
prepare_new_row(Row *row, Relation table)
{
	check_runnable(row, table, true);
	ondone_check(row, table);
	if (row_state(row) == ROW_QUEUED && !after_is_empty(row))
		row_set_state(row, ROW_WAITING);
	if (row_state(row) == ROW_WAITING && !row->nulls[JOB_ID])
		dependency_note_own(DatumGetInt64(row->values[JOB_ID]), true);
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
	defaults_fill_new(&row);
	ids_check(&row, data->tg_relation, privileged);
	if (!privileged)
		check_owner(&row);
	check_new_state(&row, privileged);
	/* one that has ended keeps what it had where it comes from */
	if (!has_ended(&row))
		defaults_bind_server(&row);
	if (is_replication() && !row.nulls[JOB_FOLLOW_UP])
		row_set_null(&row, JOB_FOLLOW_UP);
	if (!has_ended(&row))
	{
		bool restored = privileged && DatumGetObjectId(row.values[JOB_OWNER]) != GetUserId() &&
						!ended_is_handing_over;

		if (!is_replication() && restored)
			postpone_restored(&row);
		else if (!is_replication())
			prepare_new_row(&row, data->tg_relation);
		note_new_row(&row, data);
	}
	return PointerGetDatum(row.tuple);
}

/*
 * Refuses a change of state that makes no sense, in words that name the one that would.
 */
static void
refuse_transition(const Row *row, RowState from, RowState to)
{
	const char *hint =
		"An administrator may set queued, to run a failed or cancelled job again, or cancelled, to stop one that has not ended.";

	if (from == ROW_RUNNING && to == ROW_QUEUED)
		hint = "It is with its server now: cancel it first.";
	else if (from == ROW_SUCCEEDED && to == ROW_QUEUED)
		hint = "To pay for another result, insert a new job.";
	else if (to == ROW_CANCELLED)
		hint =
			"It has ended; a statement for many jobs leaves such out WHERE state IN ('queued', 'running').";
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot change state of job " INT64_FORMAT " from \"%s\" to \"%s\"",
					DatumGetInt64(row->values[JOB_ID]), rowstate_name(from), rowstate_name(to)),
			 errhint("%s", hint)));
}

static void
cancel_row(const Row *before, Row *row)
{
	row_set(row, JOB_FINISHED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	if (!row_column_changed(before, row, JOB_ERROR))
		row_set(row, JOB_ERROR,
				CStringGetTextDatum(
					psprintf("cancelled by role \"%s\"", server_role_name(GetUserId()))));
}

/*
 * A failed or cancelled job runs again from the beginning, now unless the same statement says when.
 * The Idempotency-Key stays where the end of the last call is not known; that of a prediction with a name is.
 */
static void
requeue_row(const Row *before, Row *row)
{
	TimestampTz now = GetCurrentTimestamp();

	row_set(row, JOB_FAILURES, Int32GetDatum(0));
	row_set(row, JOB_LOSSES, Int32GetDatum(0));
	row_set(row, JOB_UNKNOWN_ENDS, Int32GetDatum(0));
	row_set_null(row, JOB_PUT_OFF_SINCE);
	row_set_null(row, JOB_FINISHED_AT);
	row_set_null(row, JOB_ERROR);
	if (!row->nulls[JOB_FOLLOW_UP])
		row_set_null(row, JOB_FOLLOW_UP);
	if (!row->nulls[JOB_REMOTE_ID])
		row_set_null(row, JOB_IDEMPOTENCY_KEY);
	row_set_null(row, JOB_REMOTE_ID);
	row_set_null(row, JOB_REMOTE);
	/* it has not been run, for want of another: it waits for that again */
	if (!row->nulls[JOB_BLOCKED_BY])
		row_set_state(row, ROW_WAITING);
	row_set_null(row, JOB_BLOCKED_BY);
	if (!row_column_changed(before, row, JOB_RUN_AT))
		row_set(row, JOB_RUN_AT, TimestampTzGetDatum(now));
	if (!row->nulls[JOB_EXPIRES_AT] && !row_column_changed(before, row, JOB_EXPIRES_AT) &&
		DatumGetTimestampTz(row->values[JOB_EXPIRES_AT]) <= now)
		row_set_null(row, JOB_EXPIRES_AT);
}

static void
change_state(const Row *before, Row *row)
{
	RowState from = row_state(before);
	RowState to = row_state(row);

	if (from == to)
		return;
	if (to == ROW_CANCELLED && (from == ROW_QUEUED || from == ROW_RUNNING || from == ROW_WAITING))
		cancel_row(before, row);
	else if (to == ROW_QUEUED && (from == ROW_FAILED || from == ROW_CANCELLED))
		requeue_row(before, row);
	else
		refuse_transition(row, from, to);
}

static void
check_protected_columns(const Row *before, const Row *after, bool privileged)
{
	static const struct
	{
		JobColumn column;
		const char *name;
		bool is_owners; /* of the table */
	} columns[] = {
		{JOB_ID, "id"},
		{JOB_OWNER, "owner", true},
		{JOB_REQUEST_ID, "request_id", true},
		{JOB_ATTEMPT, "attempt"},
		{JOB_FAILURES, "failures"},
		{JOB_IDEMPOTENCY_KEY, "idempotency_key"},
		{JOB_REMOTE_ID, "remote_id"},
		{JOB_REMOTE, "remote"},
		{JOB_RAN_ON, "ran_on"},
		{JOB_BACKEND, "backend"},
		{JOB_SERVER_OID, "server_oid"},
		{JOB_LOSSES, "losses"},
		{JOB_BLOCKED_BY, "blocked_by"},
		{JOB_DEPTH, "depth"},
		{JOB_FOLLOW_UP, "follow_up"},
		{JOB_UNKNOWN_ENDS, "unknown_ends"},
		{JOB_PUT_OFF_SINCE, "put_off_since"},
		{JOB_REFERS, "refers"},
	};
	static const JobColumn inputs[] = {JOB_SERVER, JOB_REQUEST, JOB_INPUTS, JOB_AFTER,
									   JOB_AFTER_RULE};
	int i;

	for (i = 0; i < lengthof(columns); i++)
	{
		if (row_column_changed(before, after, columns[i].column) &&
			!(columns[i].is_owners && privileged))
			refuse_column(columns[i].name);
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
 * Whether another call is ordered than before.
 */
static bool
order_changed(const Row *before, const Row *after)
{
	return row_column_changed(before, after, JOB_SERVER) ||
		   row_column_changed(before, after, JOB_REQUEST) ||
		   row_column_changed(before, after, JOB_INPUTS) ||
		   row_column_changed(before, after, JOB_SERVER_OID);
}

/*
 * Which server a changed row is for.  Whoever names the column has the server that has the name now, also where the
 * name stays.  Replication brings the number that the server has where the row comes from.
 */
static void
bind_changed(const Row *before, Row *after, const Bitmapset *named)
{
	bool is_named = bms_is_member(JOB_SERVER - FirstLowInvalidHeapAttributeNumber, named);

	if (row_column_changed(before, after, JOB_SERVER) || (is_named && !is_replication()))
		defaults_bind_server(after);
	else if (!row_column_changed(before, after, JOB_SERVER_OID))
		return;
	else if (before->nulls[JOB_SERVER_OID])
		row_set_null(after, JOB_SERVER_OID);
	else
		row_set(after, JOB_SERVER_OID, before->values[JOB_SERVER_OID]);
}

/*
 * Checks a row that someone changes, if it is to be run: whether it can be, and what it waits for.
 */
static void
prepare_changed_row(const Row *before, Row *after, Relation table)
{
	bool waits_anew = row_column_changed(before, after, JOB_AFTER) ||
					  row_column_changed(before, after, JOB_AFTER_RULE);
	RowState from = row_state(before);
	int64 id = DatumGetInt64(after->values[JOB_ID]);

	if (has_ended(after) || row_state(after) == ROW_RUNNING)
	{
		if (waits_anew)
			after_check(after, false);
		return;
	}
	if (row_state(after) != from || waits_anew || order_changed(before, after))
		check_runnable(after, table, false);
	waits_anew = waits_anew || row_column_changed(before, after, JOB_AFTER);
	if (waits_anew)
		row_set_state(after, after_is_empty(after) ? ROW_QUEUED : ROW_WAITING);
	if (waits_anew)
		dependency_note_rewired(id);
	if (waits_anew || row_state(after) != from)
		dependency_note_own(id, true);
}

/*
 * Whether genjob's own statement fires the trigger, which tells of what it does.  What a trigger of others changes while
 * that runs is checked and told of as in any session.
 */
static bool
is_own_statement(void)
{
	if (queue_is_mine)
		return !ended_is_handing_over &&
			   DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) <= 1;
	return dependency_is_own_statement();
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
	if (is_own_statement())
	{
		if (!has_ended(&before) && has_ended(&after))
			leave_follow_ups(&after);
		return PointerGetDatum(after.tuple);
	}
	if (!is_replication() && !after.nulls[JOB_STATE])
	{
		check_protected_columns(&before, &after, may_set_anything(data->tg_relation));
		bind_changed(&before, &after, data->tg_updatedcols);
		defaults_fill_settable(&after, DatumGetObjectId(before.values[JOB_OWNER]));
		change_state(&before, &after);
		if (!has_ended(&before) && has_ended(&after))
			leave_follow_ups(&after);
		prepare_changed_row(&before, &after, data->tg_relation);
		if (row_column_changed(&before, &after, JOB_ON_DONE))
			ondone_check(&after, data->tg_relation);
		/* what became of the old one does not answer the new one */
		if (order_changed(&before, &after))
			row_set_null(&after, JOB_IDEMPOTENCY_KEY);
		/* also of one that is running: it may have to be queued again */
		if (row_column_changed(&before, &after, JOB_TENANT) ||
			row_column_changed(&before, &after, JOB_UNIQUE_KEY) ||
			row_column_changed(&before, &after, JOB_REQUEST_ID))
			check_lengths(&after);
	}
	else
	{
		bind_changed(&before, &after, data->tg_updatedcols);
		/* where the row comes from, it is done there */
		if (!after.nulls[JOB_FOLLOW_UP])
			row_set_null(&after, JOB_FOLLOW_UP);
	}
	note_row(&after);
	if (!has_ended(&before) && has_ended(&after))
		note_end(&after, row_state(&before), row_state(&after));
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
	/* one that has ended is nobody's concern any more: others are deleted by the thousand */
	if (!has_ended(&row))
	{
		note_row(&row);
		note_end(&row, row_state(&row), ROW_GONE);
	}
	return PointerGetDatum(data->tg_trigtuple);
}

PG_FUNCTION_INFO_V1(genjob_after_weights);

/*
 * A weight of a tenant was changed.
 */
Datum
genjob_after_weights(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("genjob's trigger functions can only be called as triggers")));
	commit_note_servers();
	return PointerGetDatum(NULL);
}

PG_FUNCTION_INFO_V1(genjob_after_callbacks);

/*
 * There are calls of on_done to be made, or some are to be made at another time.
 */
Datum
genjob_after_callbacks(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("genjob's trigger functions can only be called as triggers")));
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
 * A statement has changed jobs: those that wait for them go on, or not.
 */
Datum
genjob_after_change(PG_FUNCTION_ARGS)
{
	if (!queue_is_mine)
		dependency_follow(RelationGetRelid(trigger_data(fcinfo)->tg_relation));
	return PointerGetDatum(NULL);
}
