/*
 * needed.c
 *		Whether anything still needs a job that has ended: retention and genjob.purge() keep it then.
 *
 * An unfinished job, whose owner may see it, waits for it or refers to it; it has failed or was cancelled, and a job that
 * was not run because of such a one is still there; its on_done is still to be called; what follows its end is still to
 * be done; or its provider is still to be told to cancel.
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
 * Whether the job j is needed; table is the text that stands for gen_jobs.  One row is enough: each of those that refer
 * to it may see it, unless a membership was taken away since.
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

PG_FUNCTION_INFO_V1(genjob_needed_jobs);

/*
 * Those of an array of ids that are needed, of the jobs that the calling role may see.  Reads as the owner of gen_jobs:
 * who needs a job may be a role whose jobs the caller does not see.
 */
Datum
genjob_needed_jobs(PG_FUNCTION_ARGS)
{
	static Oid types[] = {INT8ARRAYOID, OIDOID};
	Datum args[lengthof(types)] = {PG_GETARG_DATUM(0)};
	MemoryContext outer = CurrentMemoryContext;
	Oid caller;
	int context;
	int level;
	Oid table;
	char *name;
	Datum found;
	bool isnull;

	SPI_connect();
	name = session_find_table("gen_jobs", &table);
	GetUserIdAndSecContext(&caller, &context);
	args[1] = ObjectIdGetDatum(caller);
	level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	SetUserIdAndSecContext(session_table_owner(table),
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	if (SPI_execute_with_args(session_name_table("SELECT coalesce(array_agg(j.id), '{}') FROM @ j WHERE j.id = ANY ($1)"
												 " AND pg_has_role($2, j.owner::oid, 'USAGE') AND " IS_NEEDED(
													 "@"),
												 name),
							  lengthof(types), types, args, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read which jobs are needed");
	SetUserIdAndSecContext(caller, context);
	AtEOXact_GUC(false, level);
	MemoryContextSwitchTo(outer);
	found = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	found = SPI_datumTransfer(found, false, -1);
	SPI_finish();
	PG_RETURN_DATUM(found);
}
