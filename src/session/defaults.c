/*
 * defaults.c
 *		Fills in a row of gen_jobs: defaults in place of nulls, and the OID of
 *		the server.
 */
#include "postgres.h"

#include "access/xact.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "session/defaults.h"

static void
set_default(Row *row, JobColumn column, Datum value)
{
	if (row->nulls[column])
		row_set(row, column, value);
}

/*
 * Replaces nulls by the defaults in columns that applications set: most
 * libraries that build INSERTs from objects write all columns.
 */
void
defaults_fill_settable(Row *row, Oid role)
{
	set_default(row, JOB_PRIORITY, Int32GetDatum(0));
	set_default(row, JOB_RUN_AT, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	set_default(row, JOB_AFTER_RULE, CStringGetTextDatum("succeeded"));
	if (row->nulls[JOB_TENANT])
		row_set(row, JOB_TENANT, CStringGetTextDatum(GetUserNameFromId(role, false)));
}

/*
 * Sets retained, so that the index gen_jobs_ended lists the job once it has
 * ended.  Only the dispatcher knows when this is not needed: a row from a dump
 * or from replication may get a server with retention.
 */
void
defaults_retain(Row *row)
{
	if (row->nulls[JOB_RETAINED] || !DatumGetBool(row->values[JOB_RETAINED]))
		row_set(row, JOB_RETAINED, BoolGetDatum(true));
}

/*
 * As defaults_fill_settable(), for a new row, and also for columns that genjob sets.
 */
void
defaults_fill_new(Row *row)
{
	defaults_fill_settable(row, GetUserId());
	set_default(row, JOB_CREATED_AT, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	set_default(row, JOB_ATTEMPT, Int32GetDatum(0));
	set_default(row, JOB_FAILURES, Int32GetDatum(0));
	set_default(row, JOB_LOSSES, Int32GetDatum(0));
	set_default(row, JOB_DEPTH, Int32GetDatum(0));
	set_default(row, JOB_UNKNOWN_ENDS, Int32GetDatum(0));
	set_default(row, JOB_CLAIMED_ELSEWHERE, BoolGetDatum(false));
	defaults_retain(row);
	set_default(row, JOB_OWNER, ObjectIdGetDatum(GetUserId()));
	if (row->nulls[JOB_STATE])
		row_set_state(row, ROW_QUEUED);
}

/*
 * Notes which server has the name now.  A later server of that name gets the job only if it may (server.c).
 */
void
defaults_bind_server(Row *row)
{
	Oid server =
		row->nulls[JOB_SERVER] ? InvalidOid : get_foreign_server_oid(row_server(row), true);

	if (OidIsValid(server))
		row_set(row, JOB_SERVER_OID, ObjectIdGetDatum(server));
	else if (!row->nulls[JOB_SERVER_OID])
		row_set_null(row, JOB_SERVER_OID);
}
