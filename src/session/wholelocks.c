/*
 * wholelocks.c
 *		Refuses LOCK TABLE of genjob's tables by roles that do not own them.
 *
 * While a role has such a lock, or a statement waits for one, no job of any
 * role is inserted or run: everybody else waits behind it.  LOCK needs only
 * the privilege UPDATE, and it locks a view together with the tables that the
 * view reads.
 *
 * What a name or a view means may change while LOCK waits for one of several
 * locks.  So LOCK TABLE runs in three steps.  First, this file checks and
 * locks each relation that the statement names, one after the other.  Then
 * PostgreSQL runs the statement, with NOWAIT: nothing is left to wait for.
 * Last, this file compares the tables of genjob that the transaction has
 * locked with those that it had locked before.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "storage/sinval.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "session/strangers.h"
#include "session/wholelocks.h"

#define MAX_PASSES 8 /* over names that keep changing their meaning */

/* PostgreSQL 17 has a privilege for LOCK */
#ifdef ACL_MAINTAIN
#define ACL_LOCK (ACL_UPDATE | ACL_DELETE | ACL_TRUNCATE | ACL_MAINTAIN)
#else
#define ACL_LOCK (ACL_UPDATE | ACL_DELETE | ACL_TRUNCATE)
#endif

/* What is locked before PostgreSQL runs the statement. */
typedef struct Ahead
{
	const LockStmt *statement;
	Oid role;   /* whose privileges count: the current one, or a view's owner */
	List *seen; /* relations */
} Ahead;

static void
refuse_lock(Oid table)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be owner of table %s to lock it against others", get_rel_name(table)),
			 errdetail("No job of any role would be inserted or run meanwhile."),
			 errhint("SELECT ... FOR UPDATE locks rows.")));
}

/* ---------- before ---------- */

static void lock_ahead(Oid relation, bool with_children, Ahead *ahead);

static bool
lock_walker(Node *node, void *ahead)
{
	ListCell *cell;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, lock_walker, ahead);
	foreach(cell, ((Query *) node)->rtable)
	{
		const RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind == RTE_RELATION)
			lock_ahead(entry->relid, entry->inh, ahead);
	}
	return query_tree_walker((Query *) node, lock_walker, ahead, QTW_IGNORE_JOINALIASES);
}

/*
 * Locks what a view reads.  The caller has locked the view.
 */
static void
lock_view(Oid relation, const Ahead *ahead, List **seen)
{
	Relation view = try_relation_open(relation, NoLock);
	Ahead inner = *ahead;

	if (view == NULL)
		return;
	inner.seen = *seen;
	if (!RelationHasSecurityInvoker(view))
		inner.role = view->rd_rel->relowner;
	(void) lock_walker((Node *) get_view_query(view), &inner);
	*seen = inner.seen;
	relation_close(view, NoLock);
}

/*
 * Locks a relation in the statement's mode.  Does nothing if the role lacks
 * the privilege: PostgreSQL raises the error.
 */
static void
lock_ahead(Oid relation, bool with_children, Ahead *ahead)
{
	LOCKMODE mode = ahead->statement->mode;
	char kind = get_rel_relkind(relation);
	bool is_view = kind == RELKIND_VIEW;

	if (list_member_oid(ahead->seen, relation) ||
		(!is_view && kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE))
		return;
	check_stack_depth();
	ahead->seen = lappend_oid(ahead->seen, relation);
	if (!is_view && strangers_is_anothers(relation))
		refuse_lock(relation);
	if (pg_class_aclcheck(relation, ahead->role, ACL_LOCK) != ACLCHECK_OK)
		return;
	if (!ahead->statement->nowait)
		LockRelationOid(relation, mode);
	else if (!ConditionalLockRelationOid(relation, mode))
		return;
	if (is_view)
		lock_view(relation, ahead, &ahead->seen);
	else if (with_children && !ahead->statement->nowait)
		(void) find_all_inheritors(relation, mode, NULL);
}

/*
 * Locks all that the statement names, and repeats that if names have changed
 * meanwhile.
 */
static void
lock_names(const LockStmt *statement)
{
	uint64 counter;
	int passes = 0;

	do
	{
		Ahead ahead = {statement, GetUserId(), NIL};
		ListCell *cell;

		counter = SharedInvalidMessageCounter;
		foreach(cell, statement->relations)
		{
			const RangeVar *name = lfirst_node(RangeVar, cell);
			Oid relation = RangeVarGetRelid(name, NoLock, true);

			if (OidIsValid(relation))
				lock_ahead(relation, name->inh, &ahead);
		}
	} while (counter != SharedInvalidMessageCounter && ++passes < MAX_PASSES);
}

/* ---------- after ---------- */

static bool
is_locked(Oid table)
{
	RelationData relation = {0};

	relation.rd_lockInfo.lockRelId = (LockRelId){.relId = table, .dbId = MyDatabaseId};
	return CheckRelationLockedByMe(&relation, ShareLock, true);
}

/*
 * Returns the tables of genjob that this transaction has locked in SHARE mode
 * or a stronger one.
 */
static List *
list_held(void)
{
	List *held = NIL;
	Relation catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(get_extension_oid("genjob", true)));
	scan = systable_beginscan(catalog, DependReferenceIndexId, true, NULL, lengthof(keys), keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->classid == RelationRelationId && is_locked(form->objid))
			held = lappend_oid(held, form->objid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return held;
}

/* ---------- both ---------- */

/*
 * True if a statement is a LOCK TABLE that shuts others out, and the role is
 * no superuser.
 */
bool
wholelocks_concerns(Node *statement)
{
	/* weaker modes let others write */
	return IsA(statement, LockStmt) && ((LockStmt *) statement)->mode >= ShareLock &&
		   !superuser() && OidIsValid(get_extension_oid("genjob", true));
}

/*
 * Locks what the statement names, and returns the statement to run instead.
 * Pass *held to wholelocks_finish().
 */
PlannedStmt *
wholelocks_begin(PlannedStmt *planned, List **held)
{
	*held = list_held();
	lock_names(castNode(LockStmt, planned->utilityStmt));
	planned = copyObject(planned);
	castNode(LockStmt, planned->utilityStmt)->nowait = true;
	return planned;
}

/*
 * Raises an error if the statement has locked one of genjob's tables.
 */
void
wholelocks_finish(const List *held)
{
	ListCell *cell;

	foreach(cell, list_held())
	{
		if (!list_member_oid(held, lfirst_oid(cell)) && strangers_is_anothers(lfirst_oid(cell)))
			refuse_lock(lfirst_oid(cell));
	}
}
