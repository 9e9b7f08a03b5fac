/*
 * needed.c
 *		Tells whether anything still needs a job that has ended, or its
 *		objects.  Retention and genjob.purge() then keep the job.
 *
 * A job is needed in these cases:
 * - an unfinished job, whose owner may see this one, waits for it or refers
 *   to it;
 * - it did not succeed, and a job that was to wait for it and did not run is
 *   still there;
 * - its on_done is still to be called;
 * - its follow_up is not null;
 * - its provider must still be told to cancel.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "queue/needed.h"
#include "queue/session.h"
#include "queue/statement.h"

/*
 * True if the job j is needed; table is the text for gen_jobs.  Each EXISTS
 * mostly ends at its first row: the owner of a job that refers to j may see j,
 * unless a membership was revoked since.
 */
#define IS_NEEDED(table) \
	"(j.follow_up IS NOT NULL OR j.remote IS NOT NULL AND j.state <> 'succeeded'" \
	"  OR EXISTS (SELECT FROM genjob.callbacks c WHERE c.job_id = j.id AND c.run_at < 'infinity')" \
	"  OR EXISTS (SELECT FROM " table " u WHERE u.state IN ('waiting', 'queued', 'running')" \
	"   AND (u.after IS NOT NULL OR u.refers IS NOT NULL) AND (u.after && ARRAY[j.id] OR u.refers && ARRAY[j.id])" \
	"   AND coalesce(pg_has_role(u.owner::oid, j.owner::oid, 'USAGE'), false))" \
	"  OR j.state <> 'succeeded' AND EXISTS (SELECT FROM " table \
	" u WHERE u.id > j.id AND u.blocked_by IS NOT NULL" \
	"   AND u.after IS NOT NULL AND u.after && ARRAY[j.id]" \
	"   AND coalesce(pg_has_role(u.owner::oid, j.owner::oid, 'USAGE'), false)))"

static const Statement find_need = {1,
									{INT8OID},
									"SELECT " IS_NEEDED(
										"@.gen_jobs") " FROM @.gen_jobs j WHERE j.id = $1"};

/*
 * True if something needs a job.
 */
bool
needed_by_others(int64 id)
{
	static SPIPlanPtr plan = NULL;
	static uint64 schema_changes = 0;
	Datum args[1] = {Int64GetDatum(id)};

	if (schema_changes != statement_schema_changes)
		plan = NULL;
	schema_changes = statement_schema_changes;
	return statement_execute(&find_need, &plan, args, NULL) > 0 &&
		   DatumGetBool(statement_not_null(0, 1));
}

/*
 * Sets what the answer must not depend on, whatever the session has set.  With gin_fuzzy_search_limit, the index
 * gen_jobs_needed returns some of the rows only, and needed jobs would be deleted.
 */
static void
fix_settings(void)
{
	static const char *const settings[][2] = {{"search_path", "pg_catalog, pg_temp"},
											  {"enable_seqscan", "off"},
											  {"enable_bitmapscan", "on"},
											  {"gin_fuzzy_search_limit", "0"}};
	int i;

	for (i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Runs a query as the owner of gen_jobs, and returns its one value.  In the
 * query, @ stands for gen_jobs and # for gen_outputs.  $1 is the calling role;
 * the caller sets types and args from [1] on.  SPI must be connected; outer is
 * the memory context to return to.
 */
static Datum
ask_as_owner(const char *query, int n, Oid *types, Datum *args, MemoryContext outer)
{
	Oid caller;
	int context;
	int level;
	Oid table;
	char *jobs = session_find_table("gen_jobs", &table);
	char *outputs = session_find_table("gen_outputs", NULL);
	StringInfoData text;
	bool isnull;

	initStringInfo(&text);
	for (; *query != '\0'; query++)
	{
		if (*query == '@' || *query == '#')
			appendStringInfoString(&text, *query == '@' ? jobs : outputs);
		else
			appendStringInfoChar(&text, *query);
	}
	GetUserIdAndSecContext(&caller, &context);
	types[0] = OIDOID;
	args[0] = ObjectIdGetDatum(caller);
	level = NewGUCNestLevel();
	fix_settings();
	SetUserIdAndSecContext(session_table_owner(table),
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	if (SPI_execute_with_args(text.data, n, types, args, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read what is needed");
	SetUserIdAndSecContext(caller, context);
	AtEOXact_GUC(false, level);
	MemoryContextSwitchTo(outer);
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
}

PG_FUNCTION_INFO_V1(genjob_needed_jobs);

/*
 * Returns the ids of an array whose jobs are needed and which the calling role
 * may see.  Reads as the owner of gen_jobs: the caller may not see the job
 * that needs another.
 */
Datum
genjob_needed_jobs(PG_FUNCTION_ARGS)
{
	Oid types[2] = {InvalidOid, INT8ARRAYOID};
	Datum args[lengthof(types)] = {(Datum) 0, PG_GETARG_DATUM(0)};
	MemoryContext outer = CurrentMemoryContext;
	Datum found;

	SPI_connect();
	found = ask_as_owner("SELECT coalesce(array_agg(j.id), '{}') FROM @ j WHERE j.id = ANY ($2)"
						 " AND pg_has_role($1, j.owner::oid, 'USAGE') AND " IS_NEEDED("@"),
						 lengthof(types), types, args, outer);
	found = SPI_datumTransfer(found, false, -1);
	SPI_finish();
	PG_RETURN_DATUM(found);
}

/*
 * True if the calling role may see an output with that URL that was sent to
 * that store.
 */
bool
needed_is_output(Datum url, Oid store)
{
	Oid types[3] = {OIDOID, TEXTOID, OIDOID};
	Datum args[3] = {0, url, ObjectIdGetDatum(store)};
	MemoryContext outer = CurrentMemoryContext;
	Datum found;

	SPI_connect();
	found = ask_as_owner("SELECT EXISTS (SELECT FROM # o JOIN @ j ON j.id = o.job_id"
						 " WHERE o.url = $2 AND o.store_oid = $3"
						 " AND pg_has_role($1, j.owner::oid, 'USAGE'))",
						 lengthof(types), types, args, outer);
	SPI_finish();
	return DatumGetBool(found);
}

PG_FUNCTION_INFO_V1(genjob_shared_object);

/*
 * Returns true if the object of an output also belongs to a job that is not in
 * the array: if a store makes its keys from digests, equal outputs are one
 * object.  False if the calling role may not see the output's job.
 */
Datum
genjob_shared_object(PG_FUNCTION_ARGS)
{
	Oid types[4] = {InvalidOid, INT8OID, INT4OID, INT8ARRAYOID};
	Datum args[lengthof(types)] = {(Datum) 0, PG_GETARG_DATUM(0), PG_GETARG_DATUM(1),
								   PG_GETARG_DATUM(2)};
	MemoryContext outer = CurrentMemoryContext;
	bool is_shared;

	SPI_connect();
	is_shared = DatumGetBool(
		ask_as_owner("SELECT EXISTS (SELECT FROM # o JOIN @ j ON j.id = o.job_id JOIN # s ON s.url = o.url"
					 " WHERE o.job_id = $2 AND o.ordinal = $3 AND o.url IS NOT NULL AND s.url IS NOT NULL"
					 "  AND s.job_id <> o.job_id AND s.job_id <> ALL ($4) AND pg_has_role($1, j.owner::oid, 'USAGE'))",
					 lengthof(types), types, args, outer));
	SPI_finish();
	PG_RETURN_BOOL(is_shared);
}
