/*
 * row.c
 *		A row of gen_jobs in a trigger: reads its columns, and makes tuples
 *		with new values.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "replication/origin.h"
#include "access/htup_details.h"
#include "catalog/pg_enum.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/syscache.h"

#include "session/row.h"

static const char *const added_names[ROW_ADDED] = {"request_id",    "server_oid",
												   "losses",        "on_done",
												   "depth",         "follow_up",
												   "after",         "after_rule",
												   "blocked_by",    "unknown_ends",
												   "put_off_since", "claimed_elsewhere",
												   "refers",        "retained"};

/* ---------- numbers of columns ---------- */

/*
 * Returns the name of a column that was added after 0.1.0.
 */
const char *
row_added_name(JobColumn column)
{
	return added_names[column - ROW_FIRST_ADDED];
}

static AttrNumber
find_column(TupleDesc desc, const char *name)
{
	int i;

	for (i = 0; i < desc->natts; i++)
	{
		/* dropped columns have names that no other column has */
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return i + 1;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("table gen_jobs has no column \"%s\"", name),
			 errhint("Drop and create the extension genjob, or restore the column.")));
}

/*
 * Finds the columns that were added after 0.1.0.  Users may have added columns
 * before the upgrade, so the numbers differ between tables.  Tries the numbers
 * of the last row first: names are unique.
 */
static void
find_added(Row *row)
{
	static AttrNumber last[ROW_ADDED] = {0};
	int i;

	for (i = 0; i < ROW_ADDED; i++)
	{
		if (last[i] == 0)
			last[i] = ROW_FIRST_ADDED + i;
		if (last[i] > row->desc->natts ||
			strcmp(NameStr(TupleDescAttr(row->desc, last[i] - 1)->attname), added_names[i]) != 0)
			last[i] = find_column(row->desc, added_names[i]);
		row->added[i] = last[i];
	}
}

static AttrNumber
number_of(const Row *row, JobColumn column)
{
	return column < ROW_FIRST_ADDED ? (AttrNumber) column : row->added[column - ROW_FIRST_ADDED];
}

/* ---------- values ---------- */

/*
 * Returns the name of any column.
 */
const char *
row_column_name(const Row *row, JobColumn column)
{
	return NameStr(TupleDescAttr(row->desc, number_of(row, column) - 1)->attname);
}

/*
 * Returns the name of the server, palloc'd; the column must not be null.
 */
char *
row_server(const Row *row)
{
	return TextDatumGetCString(row->values[JOB_SERVER]);
}

/*
 * Takes a tuple apart; values point into it.  The table may have columns more than genjob knows.
 */
void
row_read(Row *row, HeapTuple tuple, TupleDesc desc)
{
	int column;

	row->tuple = tuple;
	row->desc = desc;
	find_added(row);
	if (desc->natts == JOB_LAST_COLUMN)
	{
		/* no columns of users, so each has its usual number */
		heap_deform_tuple(tuple, desc, row->values + JOB_ID, row->nulls + JOB_ID);
		return;
	}
	for (column = JOB_ID; column <= JOB_LAST_COLUMN; column++)
		row->values[column] =
			heap_getattr(tuple, number_of(row, column), desc, &row->nulls[column]);
}

/*
 * Makes a new tuple with another value.
 */
void
row_set(Row *row, JobColumn column, Datum value)
{
	bool isnull = false;
	int number = number_of(row, column);

	row->values[column] = value;
	row->nulls[column] = false;
	row->tuple = heap_modify_tuple_by_cols(row->tuple, row->desc, 1, &number, &value, &isnull);
}

void
row_set_null(Row *row, JobColumn column)
{
	Datum value = (Datum) 0;
	bool isnull = true;
	int number = number_of(row, column);

	row->nulls[column] = true;
	row->tuple = heap_modify_tuple_by_cols(row->tuple, row->desc, 1, &number, &value, &isnull);
}

/*
 * Returns the OIDs of the values of gen_job_state, looked up once for the
 * column's type.
 */
static const Oid *
state_oids(Oid type)
{
	static Oid cached_type = InvalidOid;
	static Oid oids[ROW_STATES];
	int i;

	if (cached_type == type)
		return oids;
	for (i = 0; i < ROW_STATES; i++)
	{
		oids[i] = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid, ObjectIdGetDatum(type),
								  CStringGetDatum(rowstate_name(i)));
		if (!OidIsValid(oids[i]))
			elog(ERROR, "type gen_job_state has no value \"%s\"", rowstate_name(i));
	}
	cached_type = type;
	return oids;
}

RowState
row_state(const Row *row)
{
	const Oid *oids = state_oids(TupleDescAttr(row->desc, JOB_STATE - 1)->atttypid);
	Oid state = DatumGetObjectId(row->values[JOB_STATE]);
	int i;

	for (i = 0; i < ROW_STATES - 1 && oids[i] != state; i++)
		;
	return i;
}

void
row_set_state(Row *row, RowState state)
{
	row_set(row, JOB_STATE,
			ObjectIdGetDatum(state_oids(TupleDescAttr(row->desc, JOB_STATE - 1)->atttypid)[state]));
}

/*
 * True if a column differs between two versions of a row.
 */
bool
row_column_changed(const Row *before, const Row *after, JobColumn column)
{
	Form_pg_attribute attribute = TupleDescAttr(after->desc, number_of(after, column) - 1);

	if (before->nulls[column] || after->nulls[column])
		return before->nulls[column] != after->nulls[column];
	return !datum_image_eq(before->values[column], after->values[column], attribute->attbyval,
						   attribute->attlen);
}

bool
row_has_ended(const Row *row)
{
	return rowstate_is_final(row_state(row));
}

/*
 * True if this session applies changes as a replica.
 */
bool
row_is_replicated(void)
{
	return SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA;
}

/*
 * True if logical replication with an origin applies this session's changes.
 * A restore has no origin.
 */
bool
row_has_origin(void)
{
	return row_is_replicated() && replorigin_session_origin != InvalidRepOriginId;
}
