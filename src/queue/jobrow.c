/*
 * jobrow.c
 *		Makes a Job of a row: of a claimed job, of a job that was running when
 *		genjob last stopped, or of one whose prediction must be cancelled.
 *
 * INSERT accepts only rows that can be read.  Replication and superusers may
 * bring others; then only the job of that row fails.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/jsonb.h"
#include "base/marker.h"
#include "base/memory.h"
#include "queue/jobrow.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/tables.h"
#include "life/store.h"
#include "schedule/schedule.h"
#include "shared/settle.h"

static bool is_settled;         /* the caches are as new as the rows being read */
static const char *column_read; /* the column being read, for the error if that fails */

/*
 * Returns a string of the database as UTF-8: string itself, or palloc'd.
 * Takes SQL_ASCII as it is.
 */
static char *
utf8_from_string(char *string)
{
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		return string;
	return pg_server_to_any(string, strlen(string), PG_UTF8);
}

static char *
utf8_from_text(Datum datum)
{
	return utf8_from_string(TextDatumGetCString(datum));
}

/*
 * Reads the column request.  INSERT refuses what cannot be printed, but replication brings it.
 */
static void
read_request(Job *job, Datum datum)
{
	Jsonb *jsonb = DatumGetJsonbP(datum);
	const char *fault = jsonb_find_fault(jsonb);

	if (fault == NULL)
		job->request = utf8_from_string(jsonb_print(jsonb));
	else
	{
		job->request = pstrdup("{}");
		job->complaint =
			psprintf("request has %s. Insert the job again with long numbers as strings.", fault);
	}
	if ((Pointer) jsonb != DatumGetPointer(datum))
		pfree(jsonb);
}

/*
 * Reads the column inputs.  INSERT refuses nulls in it, but replication brings them.
 */
static void
read_inputs(Job *job, Datum datum)
{
	ArrayType *array = DatumGetArrayTypePCopy(datum);
	Datum *elements;
	bool *nulls;
	int i;

	deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &elements, &nulls,
					  &job->submission.n_inputs);
	job->submission.inputs = palloc0(Max(job->submission.n_inputs, 1) * sizeof(Input));
	for (i = 0; i < job->submission.n_inputs; i++)
	{
		if (nulls[i])
		{
			job->complaint = pstrdup(
				"inputs has a null in it. Insert the job again with one bytea for each input.");
			continue;
		}
		job->submission.inputs[i].data = VARDATA_ANY(DatumGetPointer(elements[i]));
		job->submission.inputs[i].len = VARSIZE_ANY_EXHDR(DatumGetPointer(elements[i]));
	}
	pfree(elements);
	pfree(nulls);
}

/*
 * True if the server that the job is queued for is the one it was inserted for, or may take its place.
 */
static bool
check_bound(const Job *job, ServerComplaint *complaint)
{
	const Server *home = schedule_queue(job->server_name)->server;

	return home == NULL ||
		   server_check_intended(home, job->server_oid, job->owner, tables_owner(), complaint);
}

/*
 * Call it when a statement has run and before its rows are read.  Refreshes
 * the servers; rows may still be newer (see jobrow_settle()).
 */
void
jobrow_begin(void)
{
	AcceptInvalidationMessages();
	schedule_refresh();
	is_settled = false;
}

/*
 * Makes sure that what we know of servers and roles is as new as the rows.
 * True if it may have been older: the caller must look everything up again.
 */
bool
jobrow_settle(void)
{
	if (is_settled)
		return false;
	settle_caches();
	schedule_refresh();
	is_settled = true;
	return true;
}

static void
look_up_server(Job *job)
{
	ServerComplaint complaint;

	job->server = job->queue->server ? server_hold(job->queue->server) : NULL;
	if (job->server == NULL)
		job->complaint = pstrdup(job->queue->complaint ? job->queue->complaint : "");
	else if (!check_bound(job, &complaint) ||
			 !server_check_role(job->server, job->owner, &complaint) ||
			 !server_read_secrets(job->server, job->owner, &job->secrets, &complaint))
		job->complaint = psprintf("%s. %s", complaint.message, complaint.hint);
	job->secrets_generation = server_generation();
	store_open(job);
	/* not for an orphan: its output is paid for, and can be stored later */
	if (job->store != NULL && job->request != NULL && job->complaint == NULL)
		job->complaint = job->store->trouble;
	if (job->server != NULL)
		job->options = job->place.limits ? server_backend(job->server, job->place.backend->url)
										 : &job->server->options;
}

/*
 * Finds out whether the job may be sent, and with which secrets.
 */
static void
authorize_job(Job *job)
{
	bool is_unfit = job->complaint != NULL;

	look_up_server(job);
	if (job->complaint == NULL || is_unfit || !jobrow_settle())
		return;
	store_close(job);
	server_release(job->server);
	job->complaint = NULL;
	look_up_server(job);
}

/*
 * Reads the request and the inputs, if there is room for their true sizes.  The table may have them compressed.
 */
static void
read_bodies(Job *job, uint64 row)
{
	bool no_inputs;
	bool no_request;
	Datum request = statement_value(row, 3, &no_request);
	Datum inputs = statement_value(row, 4, &no_inputs);
	size_t bytes = memory_body_size(no_request ? 0 : toast_raw_datum_size(request),
									no_inputs ? 0 : toast_raw_datum_size(inputs));

	if (no_request)
		return; /* an orphan */
	if (!memory_may_read(bytes, NULL))
	{
		job->request = pstrdup("{}");
		job->waits_for = pstrdup(MEMORY_IS_FULL);
		job->wants_memory = bytes;
		return;
	}
	memory_hold(&job->submission.share, job->submission.context, MEMORY_REQUESTS, NULL, bytes);
	column_read = "request";
	read_request(job, request);
	column_read = "inputs";
	if (!no_inputs)
		read_inputs(job, inputs);
}

char *
jobrow_text(uint64 row, int column)
{
	bool isnull;
	Datum datum = statement_value(row, column, &isnull);

	return isnull ? NULL : utf8_from_text(datum);
}

/*
 * Returns a member of the column remote as JSON; NULL if it is missing.
 */
static char *
remote_member(Jsonb *remote, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&remote->root, name, strlen(name), NULL);
	Jsonb *member = value ? JsonbValueToJsonb(value) : NULL;

	return member ? utf8_from_string(JsonbToCString(NULL, &member->root, VARSIZE(member))) : NULL;
}

/*
 * Returns a member of the column remote that is text; NULL if it is not.
 */
static char *
remote_text(Jsonb *remote, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&remote->root, name, strlen(name), NULL);

	if (value == NULL || value->type != jbvString)
		return NULL;
	return utf8_from_string(pnstrdup(value->val.string.val, value->val.string.len));
}

/*
 * Bytes.  Another process reads a larger remote: it may have a value for every
 * ten bytes.
 */
#define LARGE_REMOTE (256 * 1024)

/* Jobs whose column remote is read with the row, however large it is */
static HTAB *whole = NULL;

/*
 * Makes this process read an orphan's column remote with its row, because no
 * other process can.
 */
void
jobrow_read_whole(int64 id)
{
	if (whole == NULL)
	{
		HASHCTL control = {.keysize = sizeof(int64),
						   .entrysize = sizeof(int64),
						   .hcxt = TopMemoryContext};

		whole = hash_create("genjob jobs read whole", 16, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	(void) hash_search(whole, &id, HASH_ENTER, NULL);
}

static bool
forget_whole(int64 id)
{
	return whole != NULL && hash_search(whole, &id, HASH_REMOVE, NULL) != NULL;
}

/*
 * Reads the column remote, in the current memory context.  If the job has ended, only what it takes to cancel its
 * prediction and to abort its uploads.
 */
static void
take_remote(Remote *remote, Datum datum, bool has_ended)
{
	Jsonb *json = DatumGetJsonbP(datum);
	char *is_private;

	if (!JB_ROOT_IS_OBJECT(json))
		return;
	remote->urls = remote_member(json, "urls");
	remote->uploads = remote_member(json, "uploads");
	if (has_ended && remote->id == NULL)
		remote->id = remote_text(json, "id");
	if (!has_ended)
	{
		remote->answer = remote_member(json, "answer");
		remote->usage = remote_member(json, "usage");
		remote->note = remote_text(json, "note");
		remote->token_digest = remote_text(json, "complete");
		remote->is_unsent = remote_member(json, "fetching") != NULL;
	}
	is_private = remote_member(json, "private");
	remote->is_private = is_private != NULL && strcmp(is_private, "true") == 0;
	remote->is_public = is_private != NULL && strcmp(is_private, "false") == 0;
	if ((Pointer) json != DatumGetPointer(datum))
		pfree(json);
}

/*
 * Reads the column remote of a row into its Job.  Leaves a large one of an
 * orphan unread.
 */
static void
read_remote(Job *job, uint64 row, bool has_ended)
{
	bool isnull;
	Datum datum = statement_value(row, 13, &isnull);
	size_t bytes = isnull ? 0 : toast_raw_datum_size(datum);

	if (isnull)
		return;
	job->remote.is_unread =
		!has_ended && job->request == NULL && bytes > LARGE_REMOTE && !forget_whole(job->id);
	if (!job->remote.is_unread)
		take_remote(&job->remote, datum, has_ended);
	if (job->remote.is_unread || job->remote.answer != NULL)
		memory_hold(&job->saved_share, job->context, MEMORY_ANSWERS, NULL,
					SAVED_COPIES * (job->remote.answer ? strlen(job->remote.answer) : bytes));
}

/*
 * Reads the column remote of a running row, except the id, in the current
 * memory context.  False if no running row has that attempt.
 */
bool
queue_read_remote(int64 id, int attempt, Remote *remote)
{
	Datum args[2] = {Int64GetDatum(id), Int32GetDatum(attempt)};
	MemoryContext caller = CurrentMemoryContext;
	bool isnull;
	Datum datum;

	if (statement_run(FIND_REMOTE, args, NULL) == 0)
		return false;
	datum = statement_value(0, 1, &isnull);
	MemoryContextSwitchTo(caller);
	if (!isnull)
		take_remote(remote, datum, false);
	return true;
}

/*
 * Fills a Job with a row of CLAIM, FIND_ORPHANS or FIND_CANCELS; only the last one has jobs that have ended.
 */
static void
fill_job(Job *job, uint64 row, bool has_ended)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	Datum datum;
	bool isnull;

	job->server_name = pstrdup(statement_name(row, 2));
	MemoryContextSwitchTo(job->submission.context);
	read_bodies(job, row);
	MemoryContextSwitchTo(job->context);
	job->priority = DatumGetInt32(statement_not_null(row, 5));
	job->owner = DatumGetObjectId(statement_not_null(row, 6));
	job->attempt = DatumGetInt32(statement_not_null(row, 7));
	job->failures = DatumGetInt32(statement_not_null(row, 8));
	datum = statement_value(row, 9, &isnull);
	job->max_attempts = isnull ? 0 : DatumGetInt32(datum);
	job->idempotency_key = jobrow_text(row, 10);
	datum = statement_value(row, 11, &isnull);
	job->started_at = isnull ? clock_now() : DatumGetTimestampTz(datum);
	/* only wall-clock time is known, and the clock may have been set since */
	job->began_at = clock_mono() - Max(clock_now() - job->started_at, 0);
	job->remote.id = jobrow_text(row, 12);
	read_remote(job, row, has_ended);
	job->tenant = TextDatumGetCString(statement_not_null(row, 17));
	datum = statement_value(row, 18, &isnull);
	job->expires_at = isnull ? 0 : DatumGetTimestampTz(datum);
	datum = statement_value(row, 22, &isnull);
	job->server_oid = isnull ? InvalidOid : DatumGetObjectId(datum);
	job->losses = DatumGetInt32(statement_not_null(row, 23));
	job->depth = DatumGetInt32(statement_not_null(row, 24));
	job->unknown_ends = DatumGetInt32(statement_not_null(row, 25));
	datum = statement_value(row, 26, &isnull);
	job->put_off_since = isnull ? 0 : DatumGetTimestampTz(datum);
	MemoryContextSwitchTo(caller);
}

/* The argument of read_row(). */
typedef struct RowReading
{
	uint64 row;
	bool has_ended;
	Job *job;
} RowReading;

static void
read_row(void *arg)
{
	RowReading *reading = arg;

	statement_read_row(reading->row);
	reading->job = job_create(DatumGetInt64(statement_not_null(reading->row, 1)));
	marker_begin(reading->job->id, DatumGetInt32(statement_not_null(reading->row, 7)));
	fill_job(reading->job, reading->row, reading->has_ended);
	marker_end();
	statement_forget_row();
}

/*
 * Makes a Job of a row of CLAIM, in the state JOB_CLAIMED.  The Job stays even
 * if this raises an error.
 */
Job *
jobrow_take(uint64 row)
{
	RowReading reading = {row, false, NULL};

	read_row(&reading);
	return reading.job;
}

/*
 * Makes a Job of a row of CLAIM, FIND_ORPHANS or, if has_ended, FIND_CANCELS.
 * If the row cannot be read, returns false and *error; *job is then NULL.
 */
bool
jobrow_try(uint64 row, bool has_ended, Job **job, ErrorData **error)
{
	RowReading reading = {row, has_ended, NULL};
	bool succeeded = queue_guard(read_row, &reading, error);

	marker_end();
	if (!succeeded && reading.job != NULL)
		job_destroy(reading.job);
	*job = succeeded ? reading.job : NULL;
	return succeeded;
}

/*
 * Returns the column of the last row that could not be read.
 */
const char *
jobrow_column(void)
{
	return column_read;
}

/*
 * Returns the queue of the server that ran the job of a row.
 */
ServerQueue *
jobrow_queue(uint64 row, const Job *job)
{
	bool isnull;

	(void) statement_value(row, 19, &isnull);
	return schedule_queue(isnull ? job->server_name : statement_name(row, 19));
}

/*
 * Gives a job its server and place, and finds out whether it may be sent.
 */
void
jobrow_assign(Job *job, ServerQueue *queue, Place place)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	job->queue = queue;
	job->place = place;
	queue->n_jobs++;
	if (job->submission.share != NULL)
		memory_hold(&job->submission.share, job->submission.context, MEMORY_REQUESTS,
					&queue->requests, job->submission.share->bytes);
	authorize_job(job);
	MemoryContextSwitchTo(caller);
}
