/*
 * rowupdate.c
 *		Updates rows of gen_jobs by their ids, without a statement.
 *
 * For every row, a statement also locks the row before the update, which is
 * logged, fires genjob's triggers, which have nothing to do in the dispatcher,
 * and projects all columns.  That takes as long as the update itself.  This
 * file does what logical replication does to apply an UPDATE (PostgreSQL's
 * execReplication.c), without triggers and checks.  So it serves only a table
 * without code that an UPDATE of these columns would run.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "queue/attached.h"
#include "queue/rowupdate.h"
#include "queue/tables.h"

#define COLUMNS (JOB_LAST_COLUMN + 1)

typedef enum ColumnUse
{
	NOT_USED,
	IS_READ,
	IS_SET,
	IS_SET_NULL /* set to null or to a value */
} ColumnUse;

/* The columns that are read or set, with their types; state's may be any */
static const struct
{
	const char *name;
	ColumnUse use;
	Oid type;
} columns[COLUMNS] = {
	[JOB_ID] = {"id", IS_READ, INT8OID},
	[JOB_SERVER] = {"server", IS_READ, TEXTOID},
	[JOB_REQUEST] = {"request", IS_READ, JSONBOID},
	[JOB_INPUTS] = {"inputs", IS_READ, BYTEAARRAYOID},
	[JOB_PRIORITY] = {"priority", IS_READ, INT4OID},
	[JOB_RUN_AT] = {"run_at", IS_READ, TIMESTAMPTZOID},
	[JOB_EXPIRES_AT] = {"expires_at", IS_READ, TIMESTAMPTZOID},
	[JOB_TENANT] = {"tenant", IS_READ, TEXTOID},
	[JOB_MAX_ATTEMPTS] = {"max_attempts", IS_READ, INT4OID},
	[JOB_OWNER] = {"owner", IS_READ, REGROLEOID},
	[JOB_STATE] = {"state", IS_SET, InvalidOid},
	[JOB_ATTEMPT] = {"attempt", IS_SET, INT4OID},
	[JOB_FAILURES] = {"failures", IS_READ, INT4OID},
	[JOB_STARTED_AT] = {"started_at", IS_SET, TIMESTAMPTZOID},
	[JOB_FINISHED_AT] = {"finished_at", IS_SET_NULL, TIMESTAMPTZOID},
	[JOB_IDEMPOTENCY_KEY] = {"idempotency_key", IS_SET_NULL, UUIDOID},
	[JOB_RESULT] = {"result", IS_SET_NULL, JSONBOID},
	[JOB_USAGE] = {"usage", IS_SET_NULL, JSONBOID},
	[JOB_ERROR] = {"error", IS_SET_NULL, TEXTOID},
	[JOB_REMOTE] = {"remote", IS_SET_NULL, JSONBOID},
	[JOB_RAN_ON] = {"ran_on", IS_SET_NULL, TEXTOID},
	[JOB_BACKEND] = {"backend", IS_SET_NULL, TEXTOID},
	[JOB_SERVER_OID] = {"server_oid", IS_READ, OIDOID},
	[JOB_LOSSES] = {"losses", IS_SET, INT4OID},
	[JOB_ON_DONE] = {"on_done", IS_READ, TEXTOID},
	[JOB_DEPTH] = {"depth", IS_READ, INT4OID},
	[JOB_AFTER] = {"after", IS_READ, INT8ARRAYOID},
	[JOB_AFTER_RULE] = {"after_rule", IS_READ, TEXTOID},
	[JOB_BLOCKED_BY] = {"blocked_by", IS_SET_NULL, INT8OID},
	[JOB_UNKNOWN_ENDS] = {"unknown_ends", IS_READ, INT4OID},
	[JOB_PUT_OFF_SINCE] = {"put_off_since", IS_SET_NULL, TIMESTAMPTZOID},
	[JOB_CLAIMED_ELSEWHERE] = {"claimed_elsewhere", IS_SET, BOOLOID},
	[JOB_RETAINED] = {"retained", IS_SET, BOOLOID},
};

struct RowUpdate
{
	Relation table;
	Relation index; /* the primary key */
	IndexScanDesc scan;
	EState *estate;
	ResultRelInfo *result;
	TupleTableSlot *before;
	TupleTableSlot *after;
};

/* What the last look at the table found */
static uint64 looked_at = 0; /* attached_changes() then; the answer is valid while equal */
static bool is_fit;
static AttrNumber numbers[COLUMNS];
static Oid state_oids[ROW_STATES];

/* ---------- the table ---------- */

/*
 * True if no trigger that fires has anything to do.  genjob's own have nothing
 * to do; a foreign key to gen_jobs checks only when the key changes.
 */
static bool
triggers_allow(Relation table)
{
	Oid ours = get_namespace_oid("genjob", true);
	int i;

	for (i = 0; table->trigdesc != NULL && i < table->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &table->trigdesc->triggers[i];

		if (!TRIGGER_FOR_UPDATE(trigger->tgtype) || trigger->tgenabled == TRIGGER_DISABLED)
			continue;
		if (get_func_namespace(trigger->tgfoid) != ours &&
			!(trigger->tgisinternal && RI_FKey_trigger_type(trigger->tgfoid) == RI_TRIGGER_PK))
			return false;
	}
	return true;
}

/*
 * True if no column is generated, and no CHECK reads a column that is set.
 */
static bool
constraints_allow(Relation table)
{
	const TupleConstr *constraints = RelationGetDescr(table)->constr;
	Bitmapset *asked = NULL;
	int column;
	int i;

	if (constraints == NULL)
		return true;
	for (i = 0; i < RelationGetDescr(table)->natts; i++)
	{
		if (TupleDescAttr(RelationGetDescr(table), i)->attgenerated != '\0')
			return false;
	}
	for (i = 0; i < constraints->num_check; i++)
		pull_varattnos(stringToNode(constraints->check[i].ccbin), 1, &asked);
	if (bms_is_member(InvalidAttrNumber - FirstLowInvalidHeapAttributeNumber, asked))
		return false;
	for (column = JOB_ID; column < COLUMNS; column++)
	{
		if (columns[column].use >= IS_SET &&
			bms_is_member(numbers[column] - FirstLowInvalidHeapAttributeNumber, asked))
			return false;
	}
	return true;
}

static bool
find_column(Relation table, JobColumn column)
{
	AttrNumber number = get_attnum(RelationGetRelid(table), columns[column].name);
	Form_pg_attribute attribute;

	if (number == InvalidAttrNumber)
		return false;
	attribute = TupleDescAttr(RelationGetDescr(table), number - 1);
	numbers[column] = number;
	return (columns[column].type == InvalidOid || attribute->atttypid == columns[column].type) &&
		   attribute->atttypmod == -1 &&
		   !(columns[column].use == IS_SET_NULL && attribute->attnotnull);
}

static bool
find_states(Relation table)
{
	Oid type = TupleDescAttr(RelationGetDescr(table), numbers[JOB_STATE] - 1)->atttypid;
	int i;

	for (i = 0; i < ROW_STATES; i++)
	{
		state_oids[i] = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid, ObjectIdGetDatum(type),
										CStringGetDatum(rowstate_name(i)));
		if (!OidIsValid(state_oids[i]))
			return false;
	}
	return true;
}

/*
 * Returns the index of the primary key, if that is the column id; else InvalidOid.
 */
static Oid
find_primary_key(Relation table)
{
	HeapTuple tuple;
	bool is_id;

	list_free(RelationGetIndexList(table));
	if (!OidIsValid(table->rd_pkindex))
		return InvalidOid;
	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(table->rd_pkindex));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	is_id = ((Form_pg_index) GETSTRUCT(tuple))->indnkeyatts == 1 &&
			((Form_pg_index) GETSTRUCT(tuple))->indkey.values[0] == numbers[JOB_ID];
	ReleaseSysCache(tuple);
	return is_id ? table->rd_pkindex : InvalidOid;
}

static bool
inspect_table(Relation table)
{
	int column;

	if (table->rd_rel->relkind != RELKIND_RELATION || table->rd_rel->relispartition ||
		table->rd_rel->relhassubclass || table->rd_rel->relforcerowsecurity ||
		table->rd_rules != NULL || table->rd_tableam != GetHeapamTableAmRoutine())
		return false;
	for (column = JOB_ID; column < COLUMNS; column++)
	{
		if (columns[column].use != NOT_USED && !find_column(table, column))
			return false;
	}
	return find_states(table) && OidIsValid(find_primary_key(table)) && triggers_allow(table) &&
		   constraints_allow(table);
}

/* ---------- rows ---------- */

/*
 * Prepares for the updates of a subtransaction.  Reads rows as the snapshot
 * sees them; NULL: a new one.  Returns NULL if the table needs statements.
 */
RowUpdate *
rowupdate_begin(Snapshot snapshot)
{
	Relation table = table_open(tables_jobs(), RowExclusiveLock);
	uint64 changes = attached_changes();
	RowUpdate *update;

	if (looked_at != changes)
		is_fit = inspect_table(table);
	looked_at = changes;
	if (!is_fit)
	{
		table_close(table, NoLock);
		return NULL;
	}
	CheckCmdReplicaIdentity(table, CMD_UPDATE);
	update = palloc0(sizeof(RowUpdate));
	update->table = table;
	update->estate = CreateExecutorState();
	update->estate->es_output_cid = GetCurrentCommandId(true);
	update->result = makeNode(ResultRelInfo);
	InitResultRelInfo(update->result, table, 0, NULL, 0);
	ExecOpenIndices(update->result, false);
	update->before = table_slot_create(table, NULL);
	update->after = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsVirtual);
	PushActiveSnapshot(snapshot ? snapshot : GetTransactionSnapshot());
	update->index = index_open(find_primary_key(table), RowExclusiveLock);
	update->scan = compat_index_beginscan(table, update->index, GetActiveSnapshot(), 1);
	return update;
}

/*
 * Ends the updates; later commands of the transaction see them.
 */
void
rowupdate_end(RowUpdate *update)
{
	index_endscan(update->scan);
	index_close(update->index, NoLock);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(update->after);
	ExecDropSingleTupleTableSlot(update->before);
	ExecCloseIndices(update->result);
	FreeExecutorState(update->estate);
	table_close(update->table, NoLock);
	pfree(update);
	CommandCounterIncrement();
}

/*
 * True if another transaction may have locked the row, or be about to change it: then the update would wait for it.
 */
static bool
may_be_locked(TupleTableSlot *slot)
{
	HeapTupleHeader header = ExecFetchSlotHeapTuple(slot, false, NULL)->t_data;

	if (header->t_infomask & HEAP_XMAX_INVALID)
		return false;
	return (header->t_infomask & HEAP_XMAX_IS_MULTI) != 0 ||
		   TransactionIdIsInProgress(HeapTupleHeaderGetRawXmax(header));
}

/*
 * Reads the row of a job.  False if there is none, or if others may have it
 * locked.
 */
bool
rowupdate_read(RowUpdate *update, int64 id)
{
	TupleTableSlot *before = update->before;
	TupleTableSlot *after = update->after;
	int natts = RelationGetDescr(update->table)->natts;
	ScanKeyData key;

	CHECK_FOR_INTERRUPTS();
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	index_rescan(update->scan, &key, 1, NULL, 0);
	if (!index_getnext_slot(update->scan, ForwardScanDirection, before) || may_be_locked(before))
		return false;
	slot_getallattrs(before);
	ExecClearTuple(after);
	memcpy(after->tts_values, before->tts_values, natts * sizeof(Datum));
	memcpy(after->tts_isnull, before->tts_isnull, natts * sizeof(bool));
	return true;
}

bool
rowupdate_is_null(const RowUpdate *update, JobColumn column)
{
	Assert(columns[column].use != NOT_USED);
	return update->after->tts_isnull[numbers[column] - 1];
}

/*
 * Returns a value of the row; it may point into the row.
 */
Datum
rowupdate_value(const RowUpdate *update, JobColumn column)
{
	Assert(columns[column].use != NOT_USED);
	return update->after->tts_values[numbers[column] - 1];
}

RowState
rowupdate_state(const RowUpdate *update)
{
	Oid state = DatumGetObjectId(rowupdate_value(update, JOB_STATE));
	int i;

	for (i = 0; i < ROW_STATES && state_oids[i] != state; i++)
		;
	return i;
}

void
rowupdate_set(RowUpdate *update, JobColumn column, Datum value)
{
	Assert(columns[column].use >= IS_SET);
	update->after->tts_values[numbers[column] - 1] = value;
	update->after->tts_isnull[numbers[column] - 1] = false;
}

void
rowupdate_set_null(RowUpdate *update, JobColumn column)
{
	Assert(columns[column].use == IS_SET_NULL);
	update->after->tts_values[numbers[column] - 1] = (Datum) 0;
	update->after->tts_isnull[numbers[column] - 1] = true;
}

void
rowupdate_set_state(RowUpdate *update, RowState state)
{
	rowupdate_set(update, JOB_STATE, ObjectIdGetDatum(state_oids[state]));
}

/*
 * Writes the row that was read, with what was set since.  False if others have
 * changed it meanwhile.  If others have locked it meanwhile, waits for them.
 */
bool
rowupdate_write(RowUpdate *update)
{
	TM_FailureData failure;
	LockTupleMode lock_mode;
	CompatIndexes indexes;

	ExecStoreVirtualTuple(update->after);
	if (table_tuple_update(update->table, &update->before->tts_tid, update->after,
						   update->estate->es_output_cid, GetActiveSnapshot(), InvalidSnapshot,
						   true, &failure, &lock_mode, &indexes) != TM_Ok)
		return false;
	compat_insert_index_entries(update->result, update->after, update->estate, indexes);
	ResetPerTupleExprContext(update->estate);
	return true;
}
