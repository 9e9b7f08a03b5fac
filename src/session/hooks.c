/*
 * hooks.c
 *		Hooks for commands of others that concern genjob.
 *
 * They tell the dispatcher about changes of catalogs (servers, user mappings,
 * the extension) when these commit.  They stop the dispatcher while a command
 * needs a database without sessions.  They wake it after COMMIT PREPARED: no
 * trigger of this session has seen those jobs.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "shared/commit.h"
#include "base/compat.h"
#include "session/hooks.h"
#include "session/refusals.h"
#include "session/wholelocks.h"
#include "base/settings.h"
#include "server/validator.h"
#include "shared/shmem.h"

#define HOLD_POLL_MS 20
#define EVICT_EXTRA_MS 5000 /* beyond genjob.shutdown_grace */

static object_access_hook_type next_object_access = NULL;
static ProcessUtility_hook_type next_utility = NULL;

/* ---------- triggers and foreign keys on our tables ---------- */

/*
 * True if the relation belongs to the extension.
 */
static bool
belongs_to_genjob(Oid relation)
{
	Oid extension = get_extension_oid("genjob", true);

	return OidIsValid(extension) && OidIsValid(relation) &&
		   getExtensionOfObject(RelationRelationId, relation) == extension;
}

/*
 * Returns a copy of the catalog row that this command has just inserted, or
 * NULL.
 */
static HeapTuple
new_tuple(Oid catalog, Oid index, AttrNumber column, Oid object)
{
	Relation relation = table_open(catalog, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object));
	scan = systable_beginscan(relation, index, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return tuple;
}

/*
 * Refuses a trigger of a role that does not own the table, whatever it has been granted.  Triggers run in the
 * dispatcher, and their conditions may call anything.
 */
static void
check_new_trigger(Oid trigger)
{
	HeapTuple tuple = new_tuple(TriggerRelationId, TriggerOidIndexId, Anum_pg_trigger_oid, trigger);
	Form_pg_trigger form;

	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_trigger) GETSTRUCT(tuple);
	if (!form->tgisinternal && belongs_to_genjob(form->tgrelid) &&
		!compat_owns_relation(form->tgrelid, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of table %s to create a trigger on it",
							   get_rel_name(form->tgrelid)),
						errdetail("genjob's dispatcher would run it for the jobs of all roles."),
						errhint("Ask an administrator to create it.")));
}

/*
 * Refuses a foreign key of another role to a table of genjob, except gen_jobs:
 * the key's action on DELETE would run in the dispatcher.  A foreign key to
 * gen_jobs never has an action to run there.
 */
static void
check_new_constraint(Oid constraint)
{
	HeapTuple tuple =
		new_tuple(ConstraintRelationId, ConstraintOidIndexId, Anum_pg_constraint_oid, constraint);
	Form_pg_constraint form;

	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_constraint) GETSTRUCT(tuple);
	if (form->contype == CONSTRAINT_FOREIGN && belongs_to_genjob(form->confrelid) &&
		strcmp(get_rel_name(form->confrelid), "gen_jobs") != 0 &&
		!compat_owns_relation(form->confrelid, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of table %s to refer to it by a foreign key",
							   get_rel_name(form->confrelid)),
						errdetail("genjob's dispatcher replaces its rows when a job runs again."),
						errhint("Refer to gen_jobs (id) instead.")));
}

static Oid
type_owner(Oid type)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	owner = ((Form_pg_type) GETSTRUCT(tuple))->typowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Refuses foreign keys from columns whose type belongs to a role that is no
 * superuser.  PostgreSQL checks a foreign key as the owner of the referenced
 * table, and would run the casts of that type.
 */
static void
check_key_types(Oid constraint)
{
	HeapTuple tuple =
		new_tuple(ConstraintRelationId, ConstraintOidIndexId, Anum_pg_constraint_oid, constraint);
	Form_pg_constraint form =
		HeapTupleIsValid(tuple) ? (Form_pg_constraint) GETSTRUCT(tuple) : NULL;
	AttrNumber columns[INDEX_MAX_KEYS];
	AttrNumber referred[INDEX_MAX_KEYS];
	AttrNumber set_columns[INDEX_MAX_KEYS];
	Oid operators[3][INDEX_MAX_KEYS];
	int n;
	int n_set;
	int i;

	if (form == NULL || form->contype != CONSTRAINT_FOREIGN || !belongs_to_genjob(form->confrelid))
		return;
	DeconstructFkConstraintRow(tuple, &n, columns, referred, operators[0], operators[1],
							   operators[2], &n_set, set_columns);
	for (i = 0; i < n; i++)
	{
		Oid type = getBaseType(get_atttype(form->conrelid, columns[i]));

		if (type >= FirstNormalObjectId && !superuser_arg(type_owner(type)))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("a column of type %s cannot refer to table %s", format_type_be(type),
							get_rel_name(form->confrelid)),
					 errdetail("Casts of the type would run with the rights of that table's owner."),
					 errhint("Give the column the type of the referenced column, %s.",
							 format_type_be(get_atttype(form->confrelid, referred[i])))));
	}
}

/* ---------- commands of others ---------- */

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
			/* the extension's schema may have a new name */
			if (access == OAT_POST_ALTER)
				commit_note_servers();
			break;
		case TriggerRelationId:
			if (access == OAT_POST_CREATE && !superuser())
				check_new_trigger(object);
			break;
		case ConstraintRelationId:
			if (access == OAT_POST_CREATE && !superuser())
				check_new_constraint(object);
			if (access == OAT_POST_CREATE)
				check_key_types(object);
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
 * Returns the database that a statement needs without other sessions, or
 * NULL.  *at_once: calls in flight need not end first.
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
 * Stops the dispatcher of the database that the statement needs, until this
 * transaction ends.  Does nothing if the role does not own that database: its
 * statement will fail anyway.
 */
static void
evict_dispatcher(Node *statement)
{
	bool at_once;
	const char *name = wanted_database(statement, &at_once);
	Oid database = name != NULL ? get_database_oid(name, true) : InvalidOid;
	MonoTime deadline;

	/* our own database can only be copied */
	if (!OidIsValid(database) || (database == MyDatabaseId && !IsA(statement, CreatedbStmt)) ||
		!compat_owns_database(database, GetUserId()))
		return;
	commit_note_eviction();
	/* other sessions will make DROP DATABASE fail: do not cut calls for it */
	if (CountDBConnections(database) > 0)
		at_once = false;
	shmem_evict(database, at_once);
	deadline = clock_uptime() + (genjob_shutdown_grace * 1000 + EVICT_EXTRA_MS) * INT64CONST(1000);
	while (shmem_has_dispatcher(database) && clock_uptime() < deadline)
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, HOLD_POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/*
 * Notes that ALTER DATABASE or ALTER ROLE has changed settings, if they are of
 * all roles: triggers in a dispatcher see these.
 */
static void
note_settings(Node *statement)
{
	const char *database = NULL;

	if (IsA(statement, AlterDatabaseSetStmt))
		database = ((AlterDatabaseSetStmt *) statement)->dbname;
	else if (IsA(statement, AlterRoleSetStmt) && ((AlterRoleSetStmt *) statement)->role == NULL)
		database = ((AlterRoleSetStmt *) statement)->database;
	else
		return;
	commit_note_settings(database ? get_database_oid(database, true) : InvalidOid);
}

static const List *
find_altered(Node *statement)
{
	return IsA(statement, AlterForeignServerStmt) ? ((AlterForeignServerStmt *) statement)->options
												  : NIL;
}

static bool
is_commit_prepared(Node *statement)
{
	return IsA(statement, TransactionStmt) &&
		   ((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED;
}

/*
 * Runs a statement; tells the validator what it alters.
 */
static void
run_altering_statement(PlannedStmt *planned, const char *text, bool read_only_tree,
					   ProcessUtilityContext context, ParamListInfo params,
					   QueryEnvironment *environment, DestReceiver *dest,
					   QueryCompletion *completion)
{
	const List *altered = validator_note_altered(find_altered(planned->utilityStmt));

	PG_TRY();
	{
		(next_utility ? next_utility : standard_ProcessUtility)(planned, text, read_only_tree,
																context, params, environment, dest,
																completion);
	}
	PG_FINALLY();
	{
		(void) validator_note_altered(altered);
	}
	PG_END_TRY();
}

static void
watch_utility(PlannedStmt *planned, const char *text, bool read_only_tree,
			  ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
			  DestReceiver *dest, QueryCompletion *completion)
{
	Node *statement = planned->utilityStmt;
	bool concerns_database = IsA(statement, CreatedbStmt) || IsA(statement, DropdbStmt) ||
							 IsA(statement, RenameStmt) || IsA(statement, AlterDatabaseStmt);
	/*
	 * look now: a statement that ends the transaction may be freed once it has
	 * run
	 */
	bool commits_prepared = is_commit_prepared(statement);
	bool sets = IsA(statement, AlterDatabaseSetStmt) || IsA(statement, AlterRoleSetStmt);
	bool shuts_out;
	List *held;

	refusals_check(statement);
	shuts_out = !refusals_are_off() && wholelocks_concerns(statement);
	if (shuts_out)
		planned = wholelocks_begin(planned, &held);
	if (!concerns_database)
	{
		run_altering_statement(planned, text, read_only_tree, context, params, environment, dest,
							   completion);
		if (shuts_out)
			wholelocks_finish(held);
		if (sets)
			note_settings(statement);
		if (!commits_prepared)
			return;
		if (!shmem_tell_dispatcher(MyDatabaseId, NULL, 0, (BulkChange){DT_NOBEGIN, DT_NOBEGIN},
								   true, true))
			shmem_wake_launcher(MyDatabaseId);
		shmem_wake_waiters(MyDatabaseId, NULL, -1);
		return;
	}
	evict_dispatcher(statement);
	run_altering_statement(planned, text, read_only_tree, context, params, environment, dest,
						   completion);
	commit_note_databases();
}

void
hooks_install(void)
{
	next_object_access = object_access_hook;
	object_access_hook = object_access;
	next_utility = ProcessUtility_hook;
	ProcessUtility_hook = watch_utility;
}
