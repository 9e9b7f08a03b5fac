/*
 * ids.c
 *		The id of a new job comes from the sequence; only the owner of the
 *		table may choose one.
 *
 * A role that chooses ids could take the next ones and make the INSERTs of
 * others fail.  A trigger cannot see where an id comes from.  So the hook for
 * permission checks, which sees the columns that a statement names, notes a
 * statement that names "id".  In a transaction without such a statement, every
 * id is the default.  In a transaction with one, an id must be the last value
 * that the sequence gave to this session.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "session/ids.h"

static ExecutorCheckPerms_hook_type next_check_permissions = NULL;
static bool id_was_named = false; /* by a statement of this transaction */

/* The identity sequence of a table, as last looked up */
static Oid known_table = InvalidOid;
static Oid known_sequence = InvalidOid;

static bool
names_id(const CompatPermissions *permissions)
{
	const char *name;

	if ((permissions->requiredPerms & ACL_INSERT) == 0 ||
		!bms_is_member(JOB_ID - FirstLowInvalidHeapAttributeNumber, permissions->insertedCols))
		return false;
	name = get_rel_name(permissions->relid);
	return name != NULL && strcmp(name, "gen_jobs") == 0;
}

static bool
check_permissions(COMPAT_CHECK_PERMISSIONS_PARAMETERS)
{
	ListCell *cell;

	foreach(cell, COMPAT_PERMISSIONS_LIST)
	{
		if (names_id(lfirst(cell)))
			id_was_named = true;
	}
	return next_check_permissions == NULL ||
		   next_check_permissions(COMPAT_CHECK_PERMISSIONS_ARGUMENTS);
}

static void
forget_named(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		id_was_named = false;
}

static void
forget_sequence(Datum arg, Oid relation)
{
	if (relation == known_table || relation == known_sequence || !OidIsValid(relation))
		known_table = InvalidOid;
}

void
ids_install(void)
{
	next_check_permissions = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = check_permissions;
	RegisterXactCallback(forget_named, NULL);
}

/*
 * Returns the sequence of a table's ids; InvalidOid if someone has removed it.
 */
static Oid
find_sequence(Relation relation)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterRelcacheCallback(forget_sequence, (Datum) 0);
	registered = true;
	if (known_table != RelationGetRelid(relation))
	{
		known_sequence = compat_identity_sequence(relation, JOB_ID);
		known_table = RelationGetRelid(relation);
	}
	return known_sequence;
}

static void
refuse_id(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to choose the id of a job: " INT64_FORMAT, id),
			 errdetail(
				 "Ids come from the sequence of gen_jobs; only the owner of the table chooses one."),
			 errhint("Leave it out; RETURNING id returns it.")));
}

/*
 * True if id is the last value that the sequence gave this session.  Asks as the sequence's owner, since the session's
 * role may lack a privilege.  An error means that the sequence gave nothing yet: then the id was chosen.
 */
static bool
was_drawn(Oid sequence, Oid owner, int64 id)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid role;
	int context;
	int64 last = 0;

	GetUserIdAndSecContext(&role, &context);
	SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE);
	PG_TRY();
	{
		last = DatumGetInt64(DirectFunctionCall1(currval_oid, ObjectIdGetDatum(sequence)));
	}
	PG_CATCH();
	{
		SetUserIdAndSecContext(role, context);
		if (geterrcode() != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
			PG_RE_THROW();
		/* refuse_id() raises another error instead */
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		refuse_id(id);
	}
	PG_END_TRY();
	SetUserIdAndSecContext(role, context);
	return last == id;
}

/*
 * Gives a new row without an id the next one.  Refuses an id that the role
 * chose, unless may_choose.
 */
void
ids_check(Row *row, Relation relation, bool may_choose)
{
	Oid sequence;

	if (!row->nulls[JOB_ID] && (may_choose || !id_was_named))
		return;
	sequence = find_sequence(relation);
	if (!OidIsValid(sequence))
		return; /* NOT NULL or the primary key raises the error */
	if (row->nulls[JOB_ID])
		row_set(row, JOB_ID, Int64GetDatum(nextval_internal(sequence, false)));
	else if (!was_drawn(sequence, relation->rd_rel->relowner, DatumGetInt64(row->values[JOB_ID])))
		refuse_id(DatumGetInt64(row->values[JOB_ID]));
}
