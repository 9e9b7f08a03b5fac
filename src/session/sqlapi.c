/*
 * sqlapi.c
 *		The functions of the schema genjob that SQL calls.
 */
#include "postgres.h"

#include <time.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/jsonb.h"
#include "protocol/links.h"
#include "protocol/request.h"
#include "queue/session.h"
#include "queue/submit.h"
#include "server/server.h"
#include "shared/commit.h"
#include "shared/shmem.h"
#include "session/check.h"
#include "session/sqlapi.h"

/* ---------- version ---------- */

/*
 * The version of the SQL objects in this database, palloc'd; NULL when there are none.
 */
static char *
installed_version(void)
{
	Relation relation = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key[1];
	SysScanDesc scan;
	HeapTuple tuple;
	char *version = NULL;

	ScanKeyInit(&key[0], Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("genjob"));
	scan = systable_beginscan(relation, ExtensionNameIndexId, true, NULL, 1, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool isnull;
		Datum datum =
			heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(relation), &isnull);

		version = TextDatumGetCString(datum);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return version;
}

/*
 * Raises an error unless the loaded library and the SQL objects are of one version.  Looks once a session.
 */
void
sqlapi_check_version(void)
{
	static bool checked = false;
	char *version = checked ? NULL : installed_version();

	if (version != NULL && strcmp(version, GENJOB_VERSION) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the extension genjob is of version %s, but the loaded library is of version %s",
						version, GENJOB_VERSION),
				 errhint(
					 "Run ALTER EXTENSION genjob UPDATE; if the library on disk is newer than the one that is loaded, restart the server first.")));
	checked |= version != NULL;
}

PG_FUNCTION_INFO_V1(genjob_version);

Datum
genjob_version(PG_FUNCTION_ARGS)
{
	sqlapi_check_version();
	PG_RETURN_TEXT_P(cstring_to_text(GENJOB_VERSION));
}

/* ---------- preview ---------- */

static void
source_inputs(RequestSource *source, ArrayType *array)
{
	Datum *elements;
	Input *inputs;
	int i;

	if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("inputs must be an array of one dimension without nulls"),
						errhint("Write ARRAY[$1, $2] with one bytea for each input.")));
	deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &elements, NULL, &source->n_inputs);
	inputs = palloc(Max(source->n_inputs, 1) * sizeof(Input));
	for (i = 0; i < source->n_inputs; i++)
	{
		inputs[i].data = VARDATA_ANY(DatumGetPointer(elements[i]));
		inputs[i].len = VARSIZE_ANY_EXHDR(DatumGetPointer(elements[i]));
	}
	source->inputs = inputs;
}

/*
 * Reads the outputs of other jobs that the request refers to, as far as the calling role may see them.
 */
static void
source_references(RequestSource *source)
{
	int i;

	if (!request_may_refer(source))
		return;
	source->references = request_list_references(source, &source->n_references);
	for (i = 0; i < source->n_references; i++)
	{
		Reference *reference = &source->references[i];

		if (reference->job != 0)
			session_read_output(reference);
		links_show(reference);
	}
}

static void
raise_complaint(const ServerComplaint *complaint)
{
	ereport(ERROR, (errcode(complaint->sqlerrcode), errmsg("%s", complaint->message),
					errhint("%s", complaint->hint)));
}

PG_FUNCTION_INFO_V1(genjob_preview);

/*
 * The HTTP request that a job of the calling role would send.
 */
Datum
genjob_preview(PG_FUNCTION_ARGS)
{
	RequestSource source = {.idempotency_key = "00000000-0000-4000-8000-000000000000",
							.now_unix = time(NULL)};
	ServerComplaint complaint;
	MappingOptions secrets;
	Jsonb *request;
	Server *server;
	char *text;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	request = PG_GETARG_JSONB_P(1);
	check_is_object(request);
	server = server_get(NameStr(*PG_GETARG_NAME(0)), &complaint);
	if (server == NULL || !server_check_role(server, GetUserId(), &complaint) ||
		!server_read_secrets(server, GetUserId(), &secrets, &complaint))
		raise_complaint(&complaint);
	text = jsonb_print(request);
	source.options = &server->options;
	source.secrets = &secrets;
	source.request = pg_server_to_any(text, strlen(text), PG_UTF8);
	if (!PG_ARGISNULL(2))
		source_inputs(&source, PG_GETARG_ARRAYTYPE_P(2));
	source_references(&source);
	text = request_describe(request_build(&source));
	PG_RETURN_TEXT_P(cstring_to_text(pg_any_to_server(text, strlen(text), PG_UTF8)));
}

/* ---------- ending, repeating and waiting ---------- */

PG_FUNCTION_INFO_V1(genjob_cancel);

Datum
genjob_cancel(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(session_cancel(PG_GETARG_INT64(0)));
}

PG_FUNCTION_INFO_V1(genjob_retry);

Datum
genjob_retry(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(session_retry(PG_GETARG_INT64(0)));
}

#define LONGEST_WAIT_US 1e18 /* 30,000 years; longer is for ever */

/*
 * Returns about how long an interval is.
 */
static double
interval_us(const Interval *interval)
{
	double days = interval->month * (double) DAYS_PER_MONTH + interval->day;

	return days * USECS_PER_DAY + interval->time;
}

/*
 * Returns when a wait of that length ends, by clock_uptime(); 0: never.
 */
static MonoTime
wait_deadline(FunctionCallInfo fcinfo, int argument)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until;
	double about;

	if (PG_ARGISNULL(argument))
		return 0;
	/* what is beyond the calendar, or infinite */
	about = interval_us(PG_GETARG_INTERVAL_P(argument));
	if (about <= 0 || about > LONGEST_WAIT_US)
		return about <= 0 ? 1 : 0;
	until =
		DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now),
												PG_GETARG_DATUM(argument)));
	return Max(clock_uptime() + (until - now), 1);
}

/*
 * Sleeps until something may have happened to the job; false when the deadline has passed.
 */
static bool
sleep_until(MonoTime deadline)
{
	static uint32 wait_event = 0;
	bool forever = deadline == 0;
	MonoTime now = clock_uptime();

	if (wait_event == 0)
		wait_event = compat_wait_event("GenjobWait");
	if (!forever && deadline <= now)
		return false;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (forever ? 0 : WL_TIMEOUT),
					 forever ? -1 : clock_ms_between(now, deadline), wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

static void
refuse_in_recovery(const char *function)
{
	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("%s() cannot be used during recovery", function),
						errhint("Wait on the primary server.")));
}

PG_FUNCTION_INFO_V1(genjob_wait);

/*
 * The job's row once it has ended, or as it is when the time is up.
 */
Datum
genjob_wait(PG_FUNCTION_ARGS)
{
	int64 id = PG_GETARG_INT64(0);
	MonoTime deadline;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	refuse_in_recovery("genjob.wait");
	deadline = wait_deadline(fcinfo, 1);
	PG_TRY();
	{
		shmem_wait_begin(id);
		while (!session_job_has_ended(id) && sleep_until(deadline))
			;
	}
	PG_FINALLY();
	{
		shmem_wait_end();
	}
	PG_END_TRY();
	PG_RETURN_DATUM(session_job_row(id));
}

/*
 * The ids of an argument, palloc'd; nulls are left out.
 */
static int64 *
read_ids(FunctionCallInfo fcinfo, int *n)
{
	Datum *datums;
	bool *nulls;
	int64 *ids;
	int all;
	int i;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &datums, &nulls, &all);
	ids = palloc(Max(all, 1) * sizeof(int64));
	*n = 0;
	for (i = 0; i < all; i++)
	{
		if (!nulls[i])
			ids[(*n)++] = DatumGetInt64(datums[i]);
	}
	return ids;
}

/*
 * Of n ids, those of jobs that have not ended, palloc'd; their number in *n.  An error for one that does not exist, or
 * cannot end while this transaction lasts.
 */
static int64 *
list_unended(const int64 *ids, int *n)
{
	int64 *unended = palloc(Max(*n, 1) * sizeof(int64));

	if (*n > 0)
		memcpy(unended, ids, *n * sizeof(int64));
	*n = session_keep_unended(unended, *n);
	return unended;
}

/*
 * Sleeps until each of these jobs, which had not ended, has.
 */
static void
sleep_until_ended(const int64 *ids, int n, MonoTime deadline)
{
	bool in_time = true;
	int i;

	for (i = 0; i < n && in_time; i++)
	{
		CHECK_FOR_INTERRUPTS();
		shmem_wait_begin(ids[i]);
		while (!session_job_has_ended(ids[i]) && in_time)
			in_time = sleep_until(deadline);
	}
}

static void
wait_for_each(const int64 *ids, int n, MonoTime deadline)
{
	PG_TRY();
	{
		sleep_until_ended(ids, n, deadline);
	}
	PG_CATCH();
	{
		shmem_wait_end();
		PG_RE_THROW();
	}
	PG_END_TRY();
	shmem_wait_end();
}

PG_FUNCTION_INFO_V1(genjob_wait_all);

/*
 * The rows of jobs once all have ended, or as they are when the time is up, in the order of the ids.
 */
Datum
genjob_wait_all(PG_FUNCTION_ARGS)
{
	FuncCallContext *context;
	int64 *ids;
	Datum row;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext caller;
		int64 *unended;
		int n = 0;

		context = SRF_FIRSTCALL_INIT();
		caller = MemoryContextSwitchTo(context->multi_call_memory_ctx);
		ids = PG_ARGISNULL(0) ? NULL : read_ids(fcinfo, &n);
		MemoryContextSwitchTo(caller);
		context->user_fctx = ids;
		context->max_calls = n;
		if (n > 0)
			refuse_in_recovery("genjob.wait");
		unended = list_unended(ids, &n);
		wait_for_each(unended, n, wait_deadline(fcinfo, 1));
	}
	context = SRF_PERCALL_SETUP();
	ids = context->user_fctx;
	if (context->call_cntr >= context->max_calls)
		SRF_RETURN_DONE(context);
	row = session_job_row(ids[context->call_cntr]);
	SRF_RETURN_NEXT(context, row);
}

/*
 * An id, or an array of ids, from the text that a driver sends for a parameter; errors as bigint's input has them.
 */
static Datum
ids_from_text(const text *argument)
{
	char *digits = text_to_cstring(argument);
	const char *first = digits + strspn(digits, " \t\n\r\v\f");
	Datum id;

	if (*first == '{' || *first == '[')
		return OidInputFunctionCall(F_ARRAY_IN, digits, INT8OID, -1);
	id = DirectFunctionCall1(int8in, CStringGetDatum(digits));
	return PointerGetDatum(
		construct_array(&id, 1, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

PG_FUNCTION_INFO_V1(genjob_wait_text);

/*
 * As genjob_wait_all().  PostgreSQL chooses this one for a parameter without a type, which fits bigint and bigint[].
 */
Datum
genjob_wait_text(PG_FUNCTION_ARGS)
{
	if (SRF_IS_FIRSTCALL() && !PG_ARGISNULL(0))
		fcinfo->args[0].value = ids_from_text(PG_GETARG_TEXT_PP(0));
	return genjob_wait_all(fcinfo);
}

PG_FUNCTION_INFO_V1(genjob_wait_any);

/*
 * The row of the job that has ended first of some; null when the time is up before.
 */
Datum
genjob_wait_any(PG_FUNCTION_ARGS)
{
	MonoTime deadline;
	volatile bool in_time = true;
	volatile int64 id = 0;
	int64 *ids;
	int n;
	int n_unended;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	refuse_in_recovery("genjob.wait_any");
	ids = read_ids(fcinfo, &n);
	n_unended = n;
	(void) list_unended(ids, &n_unended);
	deadline = wait_deadline(fcinfo, 1);
	PG_TRY();
	{
		shmem_wait_begin(0);
		while (n > 0 && (id = session_first_ended(ids, n)) == 0 && in_time)
			in_time = sleep_until(deadline);
	}
	PG_FINALLY();
	{
		shmem_wait_end();
	}
	PG_END_TRY();
	if (id == 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(session_job_row(id));
}

/* ---------- from drivers ---------- */

PG_FUNCTION_INFO_V1(genjob_poke);

/*
 * Makes the dispatcher poll a prediction when this transaction commits.
 */
Datum
genjob_poke(PG_FUNCTION_ARGS)
{
	int64 id = session_find_prediction(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1));

	if (id != 0)
		commit_note_job(id);
	PG_RETURN_BOOL(id != 0);
}

PG_FUNCTION_INFO_V1(genjob_submit);

Datum
genjob_submit(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(2) && !PG_ARGISNULL(3))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("genjob.submit() takes input or inputs, not both"),
						errhint("Give all in inputs.")));
	PG_RETURN_INT64(session_submit(fcinfo));
}

#define RUN_TIMEOUT_ARGUMENT 3
#define RUN_COLUMNS 5

/*
 * As session_job_has_ended(), in a transaction of its own, so that the wait holds no snapshot.
 */
static bool
run_has_ended(int64 id)
{
	bool ended = session_job_has_ended(id);

	session_commit();
	return ended;
}

PG_FUNCTION_INFO_V1(genjob_run);

/*
 * Inserts a job, commits, waits for its end, and gives id, state, result, usage and error.
 */
Datum
genjob_run(PG_FUNCTION_ARGS)
{
	bool atomic = !(fcinfo->context && IsA(fcinfo->context, CallContext)) ||
				  castNode(CallContext, fcinfo->context)->atomic;
	MonoTime deadline = wait_deadline(fcinfo, RUN_TIMEOUT_ARGUMENT);
	MemoryContext upper = CurrentMemoryContext;
	TupleDesc desc;
	Datum values[RUN_COLUMNS];
	bool nulls[RUN_COLUMNS];
	int64 id;

	if (atomic)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
						errmsg("genjob.run() cannot be called in a transaction block"),
						errdetail("A job can only be run after its transaction has committed."),
						errhint("INSERT INTO gen_jobs, COMMIT, then SELECT genjob.wait(id).")));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = CreateTupleDescCopy(desc);
	session_open();
	id = session_insert(fcinfo);
	session_commit();
	PG_TRY();
	{
		shmem_wait_begin(id);
		while (!run_has_ended(id) && sleep_until(deadline))
			;
	}
	PG_FINALLY();
	{
		shmem_wait_end();
	}
	PG_END_TRY();
	session_job_columns(id, values, nulls, RUN_COLUMNS);
	session_close();
	MemoryContextSwitchTo(upper);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* ---------- limits ---------- */

PG_FUNCTION_INFO_V1(genjob_server_rate);

/*
 * Returns what the options of a server say of its pace: its OID, whether it is paused, calls a second (0: no limit).
 */
Datum
genjob_server_rate(PG_FUNCTION_ARGS)
{
	ServerComplaint complaint;
	Server *server = server_get(NameStr(*PG_GETARG_NAME(0)), &complaint);
	bool nulls[3] = {false, false, false};
	Datum values[3];
	TupleDesc desc;

	if (server == NULL)
		raise_complaint(&complaint);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = ObjectIdGetDatum(server->oid);
	values[1] = BoolGetDatum(server->options.paused != 0);
	values[2] = Float8GetDatum(server->options.rate);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
