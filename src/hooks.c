/*
 * hooks.c
 *		What genjob does when others' commands concern it.
 *
 * Catalog changes (servers, user mappings, the extension) are told to the dispatcher when they
 * commit.  A command that needs a database without sessions gets it without the dispatcher, which
 * comes back afterwards.  COMMIT PREPARED brings jobs of which no trigger in this session knows.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_user_mapping.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "commit.h"
#include "compat.h"
#include "hooks.h"
#include "refusals.h"
#include "settings.h"
#include "shmem.h"

#define HOLD_POLL_MS 20
#define HOLD_EXTRA_MS 5000 /* beyond genjob.shutdown_grace */

static object_access_hook_type next_object_access = NULL;
static ProcessUtility_hook_type next_utility = NULL;

static void
object_access(ObjectAccessType access, Oid class, Oid object, int subid, void *arg)
{
	if (next_object_access != NULL)
		next_object_access(access, class, object, subid, arg);
	if (access != OAT_POST_CREATE && access != OAT_POST_ALTER && access != OAT_DROP)
		return;
	switch (class)
	{
		case ExtensionRelationId:
			commit_note_extension();
			break;
		case ForeignServerRelationId:
		case ForeignDataWrapperRelationId:
		case UserMappingRelationId:
			commit_note_servers();
			break;
		case NamespaceRelationId:
			/* the extension's may have a new name */
			if (access == OAT_POST_ALTER)
				commit_note_servers();
			break;
		default:
			break;
	}
}

/* ---------- databases ---------- */

static const DefElem *
find_option(List *options, const char *name)
{
	ListCell *cell;

	foreach(cell, options)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, name) == 0)
			return lfirst_node(DefElem, cell);
	}
	return NULL;
}

/*
 * The database that a statement needs without other sessions, or NULL.
 */
static const char *
wanted_database(Node *statement, bool *at_once)
{
	const DefElem *option;

	*at_once = false;
	switch (nodeTag(statement))
	{
		case T_CreatedbStmt:
			option = find_option(((CreatedbStmt *) statement)->options, "template");
			return option != NULL && option->arg != NULL ? defGetString((DefElem *) option)
														 : "template1";
		case T_DropdbStmt:
			*at_once = true;
			return ((DropdbStmt *) statement)->dbname;
		case T_RenameStmt:
			return ((RenameStmt *) statement)->renameType == OBJECT_DATABASE
					   ? ((RenameStmt *) statement)->subname
					   : NULL;
		case T_AlterDatabaseStmt:
			option = find_option(((AlterDatabaseStmt *) statement)->options, "tablespace");
			return option != NULL ? ((AlterDatabaseStmt *) statement)->dbname : NULL;
		default:
			return NULL;
	}
}

/*
 * Has the dispatcher leave a database until this transaction ends.  Who does not own the database cannot do so:
 * the statement will fail by itself.
 */
static void
hold_database(Node *statement)
{
	bool at_once;
	const char *name = wanted_database(statement, &at_once);
	Oid database = name != NULL ? get_database_oid(name, true) : InvalidOid;
	MonoTime deadline;

	/* of the own database only a copy can be made */
	if (!OidIsValid(database) || (database == MyDatabaseId && !IsA(statement, CreatedbStmt)) ||
		!compat_owns_database(database, GetUserId()))
		return;
	commit_note_holds();
	/* a DROP DATABASE that other sessions will make fail must not cut calls */
	if (CountDBConnections(database) > 0)
		at_once = false;
	shmem_hold_database(database, at_once);
	deadline = clock_uptime() + (genjob_shutdown_grace * 1000 + HOLD_EXTRA_MS) * INT64CONST(1000);
	while (shmem_has_dispatcher(database) && clock_uptime() < deadline)
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, HOLD_POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

static bool
is_commit_prepared(Node *statement)
{
	return IsA(statement, TransactionStmt) &&
		   ((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED;
}

static void
utility(PlannedStmt *planned, const char *text, bool read_only_tree, ProcessUtilityContext context,
		ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest,
		QueryCompletion *completion)
{
	Node *statement = planned->utilityStmt;
	bool concerns_database = IsA(statement, CreatedbStmt) || IsA(statement, DropdbStmt) ||
							 IsA(statement, RenameStmt) || IsA(statement, AlterDatabaseStmt);
	/* looked at now: once it has run, a statement that ended the transaction may be freed */
	bool commits_prepared = is_commit_prepared(statement);
	ProcessUtility_hook_type next = next_utility ? next_utility : standard_ProcessUtility;

	refusals_check(statement);
	if (!concerns_database)
	{
		next(planned, text, read_only_tree, context, params, environment, dest, completion);
		if (!commits_prepared)
			return;
		if (!shmem_tell_dispatcher(MyDatabaseId, NULL, 0, (Untold){DT_NOBEGIN, DT_NOBEGIN}, true,
								   true))
			shmem_wake_launcher(MyDatabaseId);
		shmem_wake_waiters(MyDatabaseId, NULL, -1);
		return;
	}
	hold_database(statement);
	next(planned, text, read_only_tree, context, params, environment, dest, completion);
	commit_note_databases();
}

void
hooks_install(void)
{
	next_object_access = object_access_hook;
	object_access_hook = object_access;
	next_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
}
