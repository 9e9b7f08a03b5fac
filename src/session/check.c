/*
 * check.c
 *		Checks if a job can run, and if a new row is valid: refuses bad input
 *		before it costs anything.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/jsonb.h"
#include "queue/dependency.h"
#include "server/stores.h"
#include "session/after.h"
#include "session/check.h"
#include "session/ondone.h"

#define MAX_TENANT_BYTES 256
#define MAX_UNIQUE_KEY_BYTES 1024
#define MAX_REQUEST_ID_BYTES 1024
#define RESTORE_MS 600000 /* between a dump's rows and its GRANTs, at most */

/*
 * Returns what to do instead of changing a column that is genjob's.
 */
static const char *
hint_for_change(JobColumn column)
{
	switch (column)
	{
		case JOB_ID:
			return "Leave it out; the application's own id of an order is request_id.";
		case JOB_OWNER:
			return "Insert the job as the role that should own it.";
		case JOB_REQUEST_ID:
			return "request_id names one order while the job's row exists: insert a new job with another request_id.";
		case JOB_SERVER_OID:
		case JOB_RAN_ON:
		case JOB_BACKEND:
			return "Set the column server; the options fallback and url of a server say where its jobs go.";
		case JOB_BLOCKED_BY:
			return "Set the column after, or call genjob.retry(job) for this job or for the one that blocked it.";
		case JOB_REMOTE_ID:
		case JOB_REMOTE:
		case JOB_IDEMPOTENCY_KEY:
			return "genjob.cancel(job) ends a prediction, genjob.retry(job) then pays for another.";
		case JOB_ATTEMPT:
		case JOB_FAILURES:
		case JOB_LOSSES:
		case JOB_UNKNOWN_ENDS:
		case JOB_PUT_OFF_SINCE:
			return "Set max_attempts to allow more attempts, or call genjob.retry(job) once it has ended.";
		default:
			return "Leave it out.";
	}
}

static const char *
hint_for_new(JobColumn column)
{
	if (column == JOB_STATE)
		return "Leave it out: a new job is queued, or waits for the jobs in its column after.";
	return "Leave it out.";
}

/*
 * Raises the error for a value that only genjob, or only the owner of the
 * table, may set.
 */
void
check_refuse_column(const Row *row, JobColumn column, bool is_new)
{
	const char *name = row_column_name(row, column);

	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					!is_new && column == JOB_REQUEST_ID
						? errmsg("column \"%s\" of gen_jobs cannot be changed", name)
						: errmsg("column \"%s\" of gen_jobs is set by genjob", name),
					errhint("%s", is_new ? hint_for_new(column) : hint_for_change(column))));
}

/*
 * Refuses a text that is too long for its index.  The index's own error would not say which one.
 */
static void
check_length(const Row *row, JobColumn column, const char *name, int max)
{
	if (!row->nulls[column] && VARSIZE_ANY_EXHDR(DatumGetTextPP(row->values[column])) > max)
		ereport(ERROR, (errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
						errmsg("%s of a job is longer than %d bytes", name, max),
						errhint("Use a digest of it, such as md5(...).")));
}

/*
 * Refuses values that an index or a constraint of the table would refuse without a hint.
 */
void
check_values(const Row *row)
{
	check_length(row, JOB_TENANT, "tenant", MAX_TENANT_BYTES);
	check_length(row, JOB_UNIQUE_KEY, "unique_key", MAX_UNIQUE_KEY_BYTES);
	check_length(row, JOB_REQUEST_ID, "request_id", MAX_REQUEST_ID_BYTES);
	if (!row->nulls[JOB_MAX_ATTEMPTS] && DatumGetInt32(row->values[JOB_MAX_ATTEMPTS]) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION), errmsg("max_attempts of a job is less than 1"),
				 errhint("Leave it out for the server's own, or set run_at to run the job later.")));
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
 * True if a request must be checked.  Most have no binaries, and need not be parsed.
 */
static bool
has_binaries(const RequestSource *source)
{
	return source->options->preset->is_store || request_has_words(source->options) ||
		   source->options->protocol.kind.method != METHOD_POST || source->n_inputs > 0 ||
		   source->options->protocol.kind.body == BODY_RAW ||
		   strstr(source->request, "\"$input\"") != NULL || request_may_refer(source);
}

void
check_is_object(const Jsonb *request)
{
	if (!JB_ROOT_IS_OBJECT(request))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("request is not a JSON object"),
				 errhint(
					 "Write the server's own parameters, such as {\"prompt\": \"a lighthouse at dawn\"}.")));
}

/*
 * Checks that the request fits its inputs, and what it refers to.  Returns the
 * jobs that it refers to, and the objects in *urls.
 */
static JobIds
check_request(const Row *row, const Server *server, List **urls)
{
	Jsonb *request = DatumGetJsonbP(row->values[JOB_REQUEST]);
	int n_inputs = row->nulls[JOB_INPUTS] ? 0 : count_inputs(row->values[JOB_INPUTS]);
	RequestSource source = {.options = &server->options,
							.n_inputs = n_inputs,
							.is_literal = DatumGetInt32(row->values[JOB_DEPTH]) > 0};

	check_is_object(request);
	source.request = jsonb_print(request);
	if (has_binaries(&source))
		request_check(&source);
	return after_list_referred(&source, urls);
}

/*
 * Raises an error for the user if a job cannot run.  Adds to the column after what its request refers to.
 */
void
check_runnable(Row *row, Relation table, bool is_new)
{
	static MemoryContext context = NULL;
	MemoryContext caller;
	ServerComplaint complaint;
	Server *server;
	JobIds referred;
	List *urls = NIL;

	if (row->nulls[JOB_SERVER] || row->nulls[JOB_REQUEST])
		return; /* NOT NULL raises the error */
	check_values(row);
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
	referred = check_request(row, server, &urls);
	MemoryContextSwitchTo(caller);
	after_note_referred(row, &referred, urls, table);
	if (referred.n > 0)
		after_add(row, &referred, table);
}

/*
 * True if the row's server exists, and the row's owner may use it.
 */
bool
check_may_run(const Row *row)
{
	ServerComplaint complaint;
	Server *server = row->nulls[JOB_SERVER] ? NULL : server_get(row_server(row), &complaint);

	return server != NULL &&
		   server_check_role(server, DatumGetObjectId(row->values[JOB_OWNER]), &complaint);
}

/*
 * Delays a restored job whose owner lacks a privilege or a user mapping: a
 * restore inserts jobs before it grants these.
 */
void
check_restored(Row *row)
{
	TimestampTz later = GetCurrentTimestamp() + RESTORE_MS * INT64CONST(1000);

	if (row->nulls[JOB_SERVER] || row->nulls[JOB_RUN_AT] || check_may_run(row))
		return;
	if (DatumGetTimestampTz(row->values[JOB_RUN_AT]) < later)
		row_set(row, JOB_RUN_AT, TimestampTzGetDatum(later));
}

/*
 * Refuses a job of a role that the inserting role is no member of.
 */
void
check_owner(const Row *row)
{
	Oid owner = DatumGetObjectId(row->values[JOB_OWNER]);

	if (owner != GetUserId() && !has_privs_of_role(GetUserId(), owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to insert a job of role \"%s\"",
							   server_role_name(owner)),
						errhint("Leave out the column \"owner\": it is the inserting role.")));
}

/*
 * Takes a row that was running at its origin.  Replication will also bring its
 * end.  A dump will not: queue the row; if it has a prediction, genjob polls
 * that after the claim.
 */
static void
take_running(Row *row)
{
	row_set(row, JOB_CLAIMED_ELSEWHERE, BoolGetDatum(true));
	if (row_has_origin())
		return;
	row_set_state(row, ROW_QUEUED);
	/* it started before it expired */
	if (!row->nulls[JOB_REMOTE] && !row->nulls[JOB_EXPIRES_AT])
		row_set_null(row, JOB_EXPIRES_AT);
}

/*
 * Forgets the uploads that the row's origin has open: that goes on with them.
 */
static void
forget_uploads(Row *row)
{
	text *name = cstring_to_text("uploads");

	if (row->nulls[JOB_REMOTE] ||
		!DatumGetBool(
			DirectFunctionCall2(jsonb_exists, row->values[JOB_REMOTE], PointerGetDatum(name))))
		return;
	row_set(row, JOB_REMOTE,
			DirectFunctionCall2(jsonb_delete, row->values[JOB_REMOTE], PointerGetDatum(name)));
}

/*
 * Takes a row that a dump brings.  What the row's origin has at the provider
 * and in object stores is not ours: it may still run.
 */
static void
take_dumped(Row *row)
{
	if (!row_has_ended(row))
	{
		forget_uploads(row);
		return;
	}
	row_set(row, JOB_CLAIMED_ELSEWHERE, BoolGetDatum(true));
	if (row_state(row) != ROW_SUCCEEDED && !row->nulls[JOB_REMOTE])
		row_set_null(row, JOB_REMOTE);
}

/*
 * Checks the state of a new row: it must be queued.  The owner of the table may insert other states, as a restore does.
 */
void
check_new_state(Row *row, bool privileged)
{
	static const JobColumn empty_columns[] = {JOB_STARTED_AT,      JOB_FINISHED_AT,
											  JOB_IDEMPOTENCY_KEY, JOB_RESULT,
											  JOB_USAGE,           JOB_ERROR,
											  JOB_ATTEMPT_ERRORS,  JOB_REMOTE_ID,
											  JOB_REMOTE,          JOB_RAN_ON,
											  JOB_BACKEND,         JOB_SERVER_OID,
											  JOB_BLOCKED_BY,      JOB_FOLLOW_UP,
											  JOB_PUT_OFF_SINCE,   JOB_REFERS};
	static const JobColumn counts[] = {JOB_ATTEMPT, JOB_FAILURES, JOB_LOSSES, JOB_DEPTH,
									   JOB_UNKNOWN_ENDS};
	RowState state = row_state(row);
	int i;

	if (!privileged && state != ROW_QUEUED)
		check_refuse_column(row, JOB_STATE, true);
	for (i = 0; i < lengthof(counts) && !privileged; i++)
	{
		if (DatumGetInt32(row->values[counts[i]]) != 0)
			check_refuse_column(row, counts[i], true);
	}
	for (i = 0; i < lengthof(empty_columns) && !privileged; i++)
	{
		if (!row->nulls[empty_columns[i]])
			check_refuse_column(row, empty_columns[i], true);
	}
	if (!privileged && DatumGetBool(row->values[JOB_CLAIMED_ELSEWHERE]))
		check_refuse_column(row, JOB_CLAIMED_ELSEWHERE, true);
	if (state == ROW_RUNNING)
		take_running(row);
	else if (state == ROW_WAITING && after_is_empty(row) && !row_has_origin())
		row_set_state(row, ROW_QUEUED);
	if (row_has_origin() && row_has_ended(row))
		row_set(row, JOB_CLAIMED_ELSEWHERE, BoolGetDatum(true));
	else if (!row_has_origin())
		take_dumped(row);
}

/*
 * Checks a row that is inserted, not restored: whether it can run, and whether it waits first.
 */
void
check_new_row(Row *row, Relation table)
{
	check_runnable(row, table, true);
	ondone_check(row, table);
	if (row_state(row) == ROW_QUEUED && !after_is_empty(row))
		row_set_state(row, ROW_WAITING);
	if (row_state(row) == ROW_WAITING && !row->nulls[JOB_ID])
		dependency_note_own(DatumGetInt64(row->values[JOB_ID]), true);
}
