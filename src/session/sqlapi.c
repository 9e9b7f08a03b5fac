/*
 * sqlapi.c
 *		The functions of the schema genjob that SQL calls.
 */
#include "postgres.h"

#include <time.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "base/jsonb.h"
#include "protocol/binary.h"
#include "protocol/links.h"
#include "protocol/request.h"
#include "queue/session.h"
#include "queue/submit.h"
#include "server/server.h"
#include "shared/commit.h"
#include "session/check.h"
#include "session/sqlapi.h"

/* ---------- version ---------- */

/*
 * Returns the version of the SQL objects in this database, palloc'd; NULL when
 * there are none.
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
 * True if the SQL objects in this database have the version of the loaded library.
 */
bool
sqlapi_is_updated(void)
{
	char *version = installed_version();

	return version != NULL && strcmp(version, GENJOB_VERSION) == 0;
}

/*
 * Raises an error unless the loaded library and the SQL objects have the same
 * version.  Checks once per session.
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
 * Returns the HTTP request that a job of the calling role would send.
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
	binary_check_alone(&source);
	source_references(&source);
	text = request_describe(request_build(&source));
	PG_RETURN_TEXT_P(cstring_to_text(pg_any_to_server(text, strlen(text), PG_UTF8)));
}

/* ---------- ending and repeating ---------- */

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
						errhint("Put all inputs into inputs.")));
	PG_RETURN_INT64(session_submit(fcinfo));
}

/* ---------- limits ---------- */

PG_FUNCTION_INFO_V1(genjob_server_rate);

/*
 * Returns a server's OID, whether it is paused, and its rate_limit in calls a
 * second (0: no limit).
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
