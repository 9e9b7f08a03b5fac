/*
 * wholelocks.c
 *		Statements that lock genjob's tables as a whole, of roles that do not own them: refused.
 *
 * While such a lock is held, no job of any role is inserted or run; nor is one while a statement waits for such a lock,
 * for everybody else then waits behind it.  PostgreSQL takes some of these locks first and looks at the privileges
 * afterwards, so that a role without any right can wait for as long as a transaction of its own keeps the lock away.
 * This looks before.  What may have such a lock is a foreign key to gen_jobs, with the privilege REFERENCES.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "rewrite/rewriteHandler.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "session/wholelocks.h"

/*
 * True if CREATE EXTENSION genjob made the relation, and the current role does not own it.
 */
static bool
is_anothers(Oid relation)
{
	Oid extension = get_extension_oid("genjob", true);

	return OidIsValid(extension) && OidIsValid(relation) &&
		   getExtensionOfObject(RelationRelationId, relation) == extension &&
		   !compat_owns_relation(relation, GetUserId());
}

/*
 * The relation that a statement names, if it is one of genjob's that the current role does not own; else InvalidOid.
 */
static Oid
find_anothers(RangeVar *name)
{
	Oid relation = name != NULL ? RangeVarGetRelid(name, NoLock, true) : InvalidOid;

	return is_anothers(relation) ? relation : InvalidOid;
}

/*
 * Raises an error if the relation is not the current role's to change.  what: "to create a rule on it".
 */
static void
check_owner(RangeVar *name, const char *what)
{
	Oid relation = find_anothers(name);

	if (OidIsValid(relation))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of table %s %s", get_rel_name(relation), what),
						errdetail("It would concern the jobs of all roles."),
						errhint("Ask an administrator to do it.")));
}

/* ---------- LOCK TABLE ---------- */

static void check_locked(Oid relation, List **seen);

static bool
check_locked_walker(Node *node, void *seen)
{
	ListCell *cell;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, check_locked_walker, seen);
	foreach(cell, ((Query *) node)->rtable)
	{
		const RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind == RTE_RELATION)
			check_locked(entry->relid, seen);
	}
	return query_tree_walker((Query *) node, check_locked_walker, seen, QTW_IGNORE_JOINALIASES);
}

/*
 * Refuses LOCK TABLE, which needs only UPDATE.  A view is locked with the tables that it reads.
 */
static void
check_locked(Oid relation, List **seen)
{
	Relation view;

	if (list_member_oid(*seen, relation))
		return;
	*seen = lappend_oid(*seen, relation);
	if (get_rel_relkind(relation) == RELKIND_VIEW)
	{
		view = table_open(relation, AccessShareLock);
		(void) check_locked_walker((Node *) get_view_query(view), seen);
		table_close(view, AccessShareLock);
	}
	else if (is_anothers(relation))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of table %s to lock it against others",
							   get_rel_name(relation)),
						errdetail("No job of any role would be inserted or run meanwhile."),
						errhint("SELECT ... FOR UPDATE locks rows.")));
}

static void
check_lock(LockStmt *statement)
{
	List *seen = NIL;
	ListCell *cell;

	/* what is weaker lets others write */
	if (statement->mode < ShareLock)
		return;
	foreach(cell, statement->relations)
	{
		Oid relation = RangeVarGetRelid(lfirst_node(RangeVar, cell), NoLock, true);

		if (OidIsValid(relation))
			check_locked(relation, &seen);
	}
}

/* ---------- foreign keys ---------- */

static bool
may_refer_to(Oid table)
{
	return pg_class_aclcheck(table, GetUserId(), ACL_REFERENCES) == ACLCHECK_OK ||
		   pg_attribute_aclcheck_all(table, GetUserId(), ACL_REFERENCES, ACLMASK_ANY) ==
			   ACLCHECK_OK;
}

/*
 * Checks constraints of a table or of a column.
 */
static void
check_constraints(List *constraints)
{
	ListCell *cell;

	foreach(cell, constraints)
	{
		const Constraint *constraint = lfirst(cell);
		Oid table = IsA(constraint, Constraint) && constraint->contype == CONSTR_FOREIGN
						? find_anothers(constraint->pktable)
						: InvalidOid;

		if (OidIsValid(table) && !may_refer_to(table))
			aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(table));
	}
}

static void
check_element(Node *element)
{
	if (element == NULL)
		return;
	if (IsA(element, ColumnDef))
		check_constraints(((ColumnDef *) element)->constraints);
	else if (IsA(element, Constraint))
		check_constraints(list_make1(element));
}

static void
check_create_table(CreateStmt *statement)
{
	ListCell *cell;

	foreach(cell, statement->inhRelations)
		check_owner(lfirst_node(RangeVar, cell), "to create a child of it");
	foreach(cell, statement->tableElts)
		check_element(lfirst(cell));
	check_constraints(statement->constraints);
}

static void
check_alter_table(AlterTableStmt *statement)
{
	ListCell *cell;

	foreach(cell, statement->cmds)
		check_element(lfirst_node(AlterTableCmd, cell)->def);
}

/* ---------- all ---------- */

/*
 * Raises an error if a statement would lock one of genjob's tables as a whole, and the current role has no right to it.
 */
void
wholelocks_check(Node *statement)
{
	if (superuser())
		return;
	switch (nodeTag(statement))
	{
		case T_LockStmt:
			check_lock((LockStmt *) statement);
			break;
		case T_RuleStmt:
			check_owner(((RuleStmt *) statement)->relation, "to create a rule on it");
			break;
		case T_CreateTrigStmt:
			check_owner(((CreateTrigStmt *) statement)->relation, "to create a trigger on it");
			check_owner(((CreateTrigStmt *) statement)->constrrel, "to create a trigger on it");
			break;
		case T_CreateStmt:
			check_create_table((CreateStmt *) statement);
			break;
		case T_CreateForeignTableStmt:
			check_create_table(&((CreateForeignTableStmt *) statement)->base);
			break;
		case T_AlterTableStmt:
			check_alter_table((AlterTableStmt *) statement);
			break;
		default:
			break;
	}
}
