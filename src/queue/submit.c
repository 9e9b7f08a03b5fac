/*
 * submit.c
 *		What the functions for drivers ask of the queue: an INSERT, the first of several jobs, a prediction by its name.
 *
 * All of it runs as the caller, with the caller's privileges and row-level security.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "queue/session.h"
#include "queue/statement.h"
#include "queue/submit.h"

#define SUBMIT_TRIES 10

/* The arguments of genjob.submit() */
typedef enum SubmitArgument
{
	SUBMIT_SERVER,
	SUBMIT_REQUEST,
	SUBMIT_INPUT,
	SUBMIT_INPUTS,
	SUBMIT_PRIORITY,
	SUBMIT_RUN_AT,
	SUBMIT_EXPIRES_AT,
	SUBMIT_TENANT,
	SUBMIT_UNIQUE_KEY,
	SUBMIT_REQUEST_ID,
	SUBMIT_AFTER,
	SUBMIT_AFTER_RULE,
	SUBMIT_ON_DONE,
	SUBMIT_MAX_ATTEMPTS,
	SUBMIT_ARGUMENTS
} SubmitArgument;

static const struct
{
	const char *column;
	Oid type;
} arguments[SUBMIT_ARGUMENTS] = {
	[SUBMIT_SERVER] = {"server", TEXTOID},
	[SUBMIT_REQUEST] = {"request", JSONBOID},
	[SUBMIT_INPUT] = {"inputs", BYTEAARRAYOID},
	[SUBMIT_INPUTS] = {"inputs", BYTEAARRAYOID},
	[SUBMIT_PRIORITY] = {"priority", INT4OID},
	[SUBMIT_RUN_AT] = {"run_at", TIMESTAMPTZOID},
	[SUBMIT_EXPIRES_AT] = {"expires_at", TIMESTAMPTZOID},
	[SUBMIT_TENANT] = {"tenant", TEXTOID},
	[SUBMIT_UNIQUE_KEY] = {"unique_key", TEXTOID},
	[SUBMIT_REQUEST_ID] = {"request_id", TEXTOID},
	[SUBMIT_AFTER] = {"after", INT8ARRAYOID},
	[SUBMIT_AFTER_RULE] = {"after_rule", TEXTOID},
	[SUBMIT_ON_DONE] = {"on_done", TEXTOID},
	[SUBMIT_MAX_ATTEMPTS] = {"max_attempts", INT4OID},
};

/* An INSERT of only the given columns: a role may lack rights to others. */
typedef struct Insertion
{
	StringInfoData text;
	int n;
	Oid types[SUBMIT_ARGUMENTS];
	Datum values[SUBMIT_ARGUMENTS];
} Insertion;

static Datum
argument_value(FunctionCallInfo fcinfo, int i)
{
	Datum input;

	if (i != SUBMIT_INPUT)
		return PG_GETARG_DATUM(i);
	input = PG_GETARG_DATUM(i);
	return PointerGetDatum(construct_array(&input, 1, BYTEAOID, -1, false, TYPALIGN_INT));
}

static void
build_insertion(FunctionCallInfo fcinfo, Insertion *insertion, const char *table)
{
	int i;

	initStringInfo(&insertion->text);
	appendStringInfo(&insertion->text, "INSERT INTO %s (", table);
	insertion->n = 0;
	for (i = 0; i < SUBMIT_ARGUMENTS; i++)
	{
		if (PG_ARGISNULL(i))
			continue;
		appendStringInfo(&insertion->text, "%s%s", insertion->n > 0 ? ", " : "",
						 arguments[i].column);
		insertion->types[insertion->n] = arguments[i].type;
		insertion->values[insertion->n++] = argument_value(fcinfo, i);
	}
	if (insertion->n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("genjob.submit() needs a server and a request"),
				 errhint(
					 "Name a foreign server of the wrapper genjob, and its parameters as a JSON object.")));
	appendStringInfoString(&insertion->text, ") VALUES (");
	for (i = 0; i < insertion->n; i++)
		appendStringInfo(&insertion->text, "%s$%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoString(&insertion->text, ")");
	if (!PG_ARGISNULL(SUBMIT_REQUEST_ID))
		appendStringInfoString(&insertion->text, " ON CONFLICT (owner, request_id) DO NOTHING");
	appendStringInfoString(&insertion->text, " RETURNING id");
}

static int64
first_id(void)
{
	bool isnull;

	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/*
 * Returns the calling role's job with the request_id; 0: there is none any
 * more.
 */
static int64
find_request(const char *table, Datum request_id)
{
	Oid types[2] = {OIDOID, TEXTOID};
	Datum values[2] = {ObjectIdGetDatum(GetUserId()), request_id};
	char *query = psprintf("SELECT id FROM %s WHERE owner OPERATOR(pg_catalog.=) $1"
						   " AND request_id OPERATOR(pg_catalog.=) $2",
						   table);

	if (SPI_execute_with_args(query, 2, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for a job");
	return SPI_processed > 0 ? first_id() : 0;
}

/*
 * Inserts the job that the arguments of genjob.submit() describe.  Returns its
 * id, or the id of the job that already has the request_id.
 */
int64
session_submit(FunctionCallInfo fcinfo)
{
	Insertion insertion;
	int64 id = 0;
	int tries;
	char *table;

	SPI_connect();
	table = session_find_table("gen_jobs", NULL);
	build_insertion(fcinfo, &insertion, table);
	/* the job with the request_id may be deleted between the two statements */
	for (tries = 0; id == 0 && tries < SUBMIT_TRIES; tries++)
	{
		/* no row limit: it would keep statement triggers from firing */
		if (SPI_execute_with_args(insertion.text.data, insertion.n, insertion.types,
								  insertion.values, NULL, false, 0) != SPI_OK_INSERT_RETURNING)
			elog(ERROR, "could not insert a job");
		id = SPI_processed > 0 ? first_id()
							   : find_request(table, PG_GETARG_DATUM(SUBMIT_REQUEST_ID));
	}
	SPI_finish();
	if (id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the job with this request_id cannot be seen"), errhint("Try again.")));
	return id;
}

/*
 * Returns which of n jobs ended first, as last committed; 0: none has.  Then
 * *missing is a job that does not exist, or 0.
 */
static int64
read_first_ended(const int64 *ids, int n, int64 *missing)
{
	Oid types[1] = {INT8ARRAYOID};
	Datum values[1];
	SPIPlanPtr plan;
	int64 id = 0;

	SPI_connect();
	values[0] = PointerGetDatum(statement_int8_array(ids, n));
	plan =
		SPI_prepare(psprintf("SELECT g.id, j.id IS NOT NULL FROM pg_catalog.unnest($1) g (id)"
							 " LEFT JOIN %s j ON j.id OPERATOR(pg_catalog.=) g.id WHERE j.id IS NULL OR"
							 " j.state OPERATOR(pg_catalog.=) ANY ('{succeeded, failed, cancelled}')"
							 " ORDER BY j.id IS NULL, j.finished_at, j.id LIMIT 1",
							 session_find_table("gen_jobs", NULL)),
					1, types);
	if (plan == NULL || SPI_execute_snapshot(plan, values, NULL, GetLatestSnapshot(),
											 InvalidSnapshot, true, false, 0) < 0)
		elog(ERROR, "could not read jobs");
	*missing = 0;
	if (SPI_processed > 0)
	{
		bool isnull;
		bool exists =
			DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));

		id = exists ? first_id() : 0;
		*missing = exists ? 0 : first_id();
	}
	SPI_finish();
	return id;
}

/* The argument of look_at_first(). */
typedef struct FirstLook
{
	const int64 *ids;
	int n;
	int64 first;
	int64 missing;
} FirstLook;

static void
look_at_first(void *arg)
{
	FirstLook *look = arg;

	look->first = read_first_ended(look->ids, look->n, &look->missing);
}

/*
 * Returns which of n jobs ended first, as last committed; 0: none has.  Raises
 * an error if none has and one does not exist.  Keeps no lock.
 */
int64
session_first_ended(const int64 *ids, int n)
{
	FirstLook look = {ids, n, 0, 0};

	session_look(look_at_first, &look);
	if (look.missing != 0)
		session_no_such_job(look.missing);
	return look.first;
}

/*
 * Returns the running job with that prediction at a server; 0: the caller sees
 * none.
 */
int64
session_find_prediction(Datum server, Datum remote_id)
{
	Oid types[2] = {TEXTOID, TEXTOID};
	Datum values[2] = {server, remote_id};
	char *query;
	int64 id;

	SPI_connect();
	query = psprintf("SELECT j.id FROM %s j WHERE j.state OPERATOR(pg_catalog.=) 'running'"
					 " AND j.remote_id OPERATOR(pg_catalog.=) $2"
					 " AND coalesce(j.ran_on, j.server) OPERATOR(pg_catalog.=) $1",
					 session_find_table("gen_jobs", NULL));
	if (SPI_execute_with_args(query, 2, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for a prediction");
	id = SPI_processed > 0 ? first_id() : 0;
	SPI_finish();
	return id;
}
