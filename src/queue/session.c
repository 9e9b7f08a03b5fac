/*
 * session.c
 *		What a session asks of the queue by calling genjob's functions.
 *
 * All of it runs as the caller.  So row-level security applies, and code from
 * the caller's search_path or the table's triggers has no more rights than the
 * caller.  To change a job's state, the caller needs no privilege on the
 * table, only membership in the role that owns the job: the change goes
 * through the view genjob.own_jobs.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/jsonb.h"
#include "queue/printable.h"
#include "queue/session.h"
#include "queue/statement.h"

/*
 * Returns the quoted name of a table of the extension with its schema,
 * palloc'd.  Sets *oid to its OID unless oid is NULL.  SPI must be connected.
 */
char *
session_find_table(const char *table, Oid *oid)
{
	char *text =
		psprintf("SELECT c.oid, pg_catalog.format('%%I.%%I', n.nspname, c.relname)"
				 " FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n"
				 " ON n.oid OPERATOR(pg_catalog.=) e.extnamespace"
				 " JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid"
				 " AND c.relname OPERATOR(pg_catalog.=) '%s'"
				 " WHERE e.extname OPERATOR(pg_catalog.=) 'genjob'",
				 table);
	char *name;

	if (SPI_execute(text, true, 1) != SPI_OK_SELECT || SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("the extension genjob is not installed in this database"),
						errhint("CREATE EXTENSION genjob.")));
	name = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	if (oid != NULL)
	{
		bool isnull;

		*oid = DatumGetObjectId(
			SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	return name;
}

/*
 * Returns the query with table in place of each "@", palloc'd.
 */
char *
session_name_table(const char *query, const char *table)
{
	StringInfoData text;
	const char *p;

	initStringInfo(&text);
	for (p = query; *p != '\0'; p++)
	{
		if (*p == '@')
			appendStringInfoString(&text, table);
		else
			appendStringInfoChar(&text, *p);
	}
	return text.data;
}

static char *
find_table(Oid *oid)
{
	return session_find_table("gen_jobs", oid);
}

void
session_no_such_job(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND), errmsg("job " INT64_FORMAT " does not exist", id),
			 errhint(
				 "It may have been deleted, not be committed yet, or belong to a role that this one is not a member of.")));
}

Oid
session_table_owner(Oid table)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", table);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static uint64
execute_with_id(const char *text, int64 id, bool read_only)
{
	Oid types[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(id)};
	int code = SPI_execute_with_args(text, 1, types, values, NULL, read_only, 0);

	if (code < 0)
		elog(ERROR, "could not execute statement: %s", SPI_result_code_string(code));
	return SPI_processed;
}

/*
 * Raises an error unless the view's owner may read and change gen_jobs: the
 * view runs as its owner.
 */
static void
check_view_owner(Oid table)
{
	Oid view = get_relname_relid("own_jobs", get_namespace_oid("genjob", false));
	Oid owner = OidIsValid(view) ? session_table_owner(view) : InvalidOid;

	if (!OidIsValid(view) || owner == session_table_owner(table) ||
		pg_class_aclcheck(table, owner, ACL_SELECT | ACL_UPDATE) == ACLCHECK_OK)
		return;
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("the owner of the view genjob.own_jobs may not change gen_jobs"),
					errhint("ALTER VIEW genjob.own_jobs OWNER TO the owner of gen_jobs.")));
}

/*
 * Sets the job's state if it is one of from, for a member of the role that
 * owns the job.  The view's owner has the privilege; triggers run as the
 * caller.  False if the state is another one.
 */
static bool
change_state(int64 id, const char *state, const char *from)
{
	Oid table;
	bool changed;

	SPI_connect();
	(void) find_table(&table);
	check_view_owner(table);
	if (execute_with_id("SELECT FROM genjob.own_jobs WHERE id OPERATOR(pg_catalog.=) $1", id,
						false) == 0)
		session_no_such_job(id);
	changed =
		execute_with_id(psprintf("UPDATE genjob.own_jobs SET state = '%s' WHERE id OPERATOR(pg_catalog.=) $1"
								 " AND state OPERATOR(pg_catalog.=) ANY ('{%s}')",
								 state, from),
						id, false) > 0;
	SPI_finish();
	return changed;
}

/*
 * Returns a sentence about a trigger of genjob that does not always fire,
 * palloc'd, or NULL.  stops: only about a trigger that does not fire in
 * sessions, so that no commit reports jobs.
 */
char *
session_find_disabled(bool stops)
{
	static const char query[] =
		"SELECT pg_catalog.format('trigger %s of %s %s: ALTER TABLE %s ENABLE ALWAYS TRIGGER %s',"
		" t.tgname, t.tgrelid::pg_catalog.regclass, CASE WHEN t.tgenabled OPERATOR(pg_catalog.=) 'O'"
		"  THEN 'does not fire for logical replication (pg_restore --disable-triggers leaves it so)'"
		"  ELSE 'is disabled, so that no commit reports jobs' END, t.tgrelid::pg_catalog.regclass, t.tgname)"
		" FROM pg_catalog.pg_extension e"
		" JOIN pg_catalog.pg_depend d ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass"
		"  AND d.refobjid OPERATOR(pg_catalog.=) e.oid AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
		" JOIN pg_catalog.pg_trigger t ON t.tgrelid OPERATOR(pg_catalog.=) d.objid AND t.tgenabled OPERATOR(pg_catalog.<>) 'A'"
		"  AND (t.tgenabled OPERATOR(pg_catalog.<>) 'O' OR NOT $1)"
		"  AND t.tgname OPERATOR(pg_catalog.=) ANY ('{genjob_before_insert, genjob_before_update, genjob_before_delete, genjob_after_truncate, genjob_after_change}')"
		" WHERE e.extname OPERATOR(pg_catalog.=) 'genjob' ORDER BY t.tgenabled OPERATOR(pg_catalog.=) 'O' LIMIT 1";
	MemoryContext caller = CurrentMemoryContext;
	Oid types[1] = {BOOLOID};
	Datum args[1] = {BoolGetDatum(stops)};
	char *sentence = NULL;

	SPI_connect();
	if (SPI_execute_with_args(query, 1, types, args, NULL, true, 1) == SPI_OK_SELECT &&
		SPI_processed == 1)
		sentence = MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0],
															SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return sentence;
}

/*
 * Stops a job; false if it had ended.
 */
bool
session_cancel(int64 id)
{
	return change_state(id, "cancelled", "waiting, queued, running");
}

/*
 * Queues a failed or cancelled job again; false if it is in another state.
 */
bool
session_retry(int64 id)
{
	return change_state(id, "queued", "failed, cancelled");
}

/*
 * Runs look in a subtransaction and rolls it back, so that it keeps no lock on
 * the table: an ALTER TABLE or TRUNCATE would wait for this session, and the
 * job for the ALTER TABLE.  Raises again what look raises.
 */
void
session_look(void (*look)(void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		look(arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	if (error != NULL)
		ReThrowError(error);
}

/*
 * Raises an error if a column of a job that was just read cannot be shown.
 */
void
session_check_columns(int64 id)
{
	TupleDesc desc = SPI_tuptable->tupdesc;
	int i;

	for (i = 0; i < desc->natts; i++)
	{
		bool isnull;
		Datum datum = SPI_getbinval(SPI_tuptable->vals[0], desc, i + 1, &isnull);

		if (!isnull && TupleDescAttr(desc, i)->atttypid == JSONBOID)
			printable_check(id, NameStr(TupleDescAttr(desc, i)->attname), datum);
	}
}

/*
 * Reads an output that the caller may see, into the caller's memory context; without data if there is none.
 */
void
session_read_output(Reference *reference)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[2] = {INT8OID, INT4OID};
	Datum values[2] = {Int64GetDatum(reference->job), Int32GetDatum(reference->ordinal)};
	char *query;
	bytea *data;
	bool isnull;

	SPI_connect();
	if (reference->ordinal == 0)
		query =
			psprintf("SELECT 'application/json'::pg_catalog.text, j.result, NULL::pg_catalog.text FROM %s j"
					 " WHERE j.id OPERATOR(pg_catalog.=) $1 AND j.result IS NOT NULL"
					 " AND $2 IS NOT NULL",
					 find_table(NULL));
	else
		query = psprintf("SELECT o.content_type, o.data, o.url FROM %s o"
						 " WHERE o.job_id OPERATOR(pg_catalog.=) $1"
						 " AND o.ordinal OPERATOR(pg_catalog.=) $2",
						 session_find_table("gen_outputs", NULL));
	if (SPI_execute_with_args(query, 2, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read output %d of job " INT64_FORMAT, reference->ordinal,
			 reference->job);
	if (SPI_processed > 0)
	{
		HeapTuple row = SPI_tuptable->vals[0];
		TupleDesc desc = SPI_tuptable->tupdesc;

		MemoryContextSwitchTo(caller);
		reference->content_type = TextDatumGetCString(SPI_getbinval(row, desc, 1, &isnull));
		reference->url = SPI_getvalue(row, desc, 3);
		if (reference->ordinal == 0)
		{
			reference->data = jsonb_print_utf8(
				(struct varlena *) DatumGetJsonbP(SPI_getbinval(row, desc, 2, &isnull)));
			reference->len = strlen(reference->data);
		}
		else if (reference->url == NULL)
		{
			data = DatumGetByteaPCopy(SPI_getbinval(row, desc, 2, &isnull));
			reference->data = VARDATA_ANY(data);
			reference->len = VARSIZE_ANY_EXHDR(data);
		}
	}
	SPI_finish();
}

/*
 * Connects a procedure that will commit.
 */
void
session_open(void)
{
	SPI_connect_ext(SPI_OPT_NONATOMIC);
}

/*
 * Commits, and so releases every snapshot.
 */
void
session_commit(void)
{
	SPI_commit();
}

void
session_close(void)
{
	SPI_finish();
}

/*
 * Inserts the job that the first arguments of genjob.run() describe; returns
 * its id.  Call it after session_open().
 */
int64
session_insert(FunctionCallInfo fcinfo)
{
	Oid types[3] = {NAMEOID, JSONBOID, BYTEAARRAYOID};
	Datum values[3];
	char nulls[3];
	bool isnull;
	int i;

	for (i = 0; i < lengthof(types); i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	if (SPI_execute_with_args(psprintf("INSERT INTO %s (server, request, inputs) VALUES ($1, $2, $3) RETURNING id",
									   find_table(NULL)),
							  lengthof(types), types, values, nulls, false,
							  0) != SPI_OK_INSERT_RETURNING ||
		SPI_processed != 1)
		elog(ERROR, "could not insert a job");
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/*
 * Reads the first n of id, state, result, usage and error of a job, allocated
 * where SPI_palloc() does.  Call it after session_open().
 */
void
session_job_columns(int64 id, Datum *values, bool *nulls, int n)
{
	int i;

	if (execute_with_id(psprintf("SELECT id, state, result, usage, error FROM %s WHERE id OPERATOR(pg_catalog.=) $1",
								 find_table(NULL)),
						id, true) == 0)
		session_no_such_job(id);
	session_check_columns(id);
	for (i = 0; i < n; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(SPI_tuptable->tupdesc, i);

		values[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &nulls[i]);
		if (!nulls[i])
			values[i] = SPI_datumTransfer(values[i], attribute->attbyval, attribute->attlen);
	}
}
