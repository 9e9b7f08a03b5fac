/*
 * refusals.c
 *		Refuses commands on genjob's tables that would stop the queue.
 *
 * The owner may do with the tables what an owner may.  But all jobs stop if
 * somebody moves or renames a table, or changes a column, index or trigger of
 * genjob's, and the first to notice would be the people who wait for results.
 * Scripts of extensions may do it, and sessions with allow_system_table_mods.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "parser/parse_type.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "session/refusals.h"
#include "session/row.h"
#include "session/schemaowner.h"
#include "session/sqlapi.h"
#include "session/strangers.h"

#define STAYS "It belongs to the extension genjob, which runs no job without it."

/*
 * True if CREATE EXTENSION genjob made the object.
 */
static bool
is_member(Oid class, Oid object)
{
	Oid extension = get_extension_oid("genjob", true);

	return OidIsValid(extension) && OidIsValid(object) &&
		   getExtensionOfObject(class, object) == extension;
}

/*
 * Returns the table that a statement names if it is one of genjob's, else InvalidOid.
 */
static Oid
find_table(RangeVar *name)
{
	Oid table = name ? RangeVarGetRelid(name, NoLock, true) : InvalidOid;

	return OidIsValid(table) && is_member(RelationRelationId, table) &&
				   get_rel_relkind(table) == RELKIND_RELATION
			   ? table
			   : InvalidOid;
}

static bool
is_one_of(const char *name, const char *const *names)
{
	for (; *names != NULL; names++)
	{
		if (strcmp(name, *names) == 0)
			return true;
	}
	return false;
}

/*
 * True if a column came with an upgrade: then its number says nothing.  Before
 * the upgrade, a column of this name is a user's, and in the upgrade's way.
 */
static bool
is_added_column(const char *table, const char *column)
{
	static const char *const added_to_outputs[] = {"url", "etag", "store", "store_oid", NULL};
	int i;

	if (!sqlapi_is_updated())
		return false;
	if (strcmp(table, "gen_outputs") == 0)
		return is_one_of(column, added_to_outputs);
	if (strcmp(table, "gen_jobs") != 0)
		return false;
	for (i = ROW_FIRST_ADDED; i <= JOB_LAST_COLUMN; i++)
	{
		if (strcmp(column, row_added_name(i)) == 0)
			return true;
	}
	return false;
}

/*
 * True if a column is genjob's, not one that a user added.
 */
static bool
is_our_column(Oid table, const char *column)
{
	static const struct
	{
		const char *table;
		int columns;
	} sizes[] = {{"gen_jobs", ROW_FIRST_ADDED - 1},
				 {"gen_outputs", 6},
				 {"tenant_weights", 3},
				 {"owner_weights", 3},
				 {"callbacks", 8},
				 {"dependencies", 3},
				 {"sent", 3}};
	const char *name = get_rel_name(table);
	AttrNumber number = get_attnum(table, column);
	int i;

	for (i = 0; i < lengthof(sizes); i++)
	{
		if (strcmp(name, sizes[i].table) == 0)
			return (number > 0 && number <= sizes[i].columns) || is_added_column(name, column);
	}
	return false;
}

static void
refuse_command(const char *what, const char *name, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("cannot %s \"%s\"", what, name), errdetail(STAYS), errhint("%s", hint)));
}

static void
check_type(const char *what, List *name)
{
	Oid type = LookupTypeNameOid(NULL, makeTypeNameFromNameList(name), true);

	if (is_member(TypeRelationId, type))
		refuse_command(what, strVal(llast(name)), "Leave the type as it is.");
}

/*
 * Functions of the extension with SQL text name the schema of gen_jobs.  If
 * its owner renames the schema and creates another one with the old name,
 * these functions run what is in there, with the rights of their callers or of
 * the tables' owner.
 */
static void
check_rename_schema(const char *name)
{
	Oid schema = get_namespace_oid(name, true);

	if (strcmp(name, "genjob") == 0 && OidIsValid(get_extension_oid("genjob", true)))
		refuse_command("rename schema", name, "Leave the schema as it is.");
	if (!superuser() && OidIsValid(schema) &&
		is_member(RelationRelationId, get_relname_relid("gen_jobs", schema)))
		refuse_command("rename schema", name, "Ask a superuser to rename it.");
}

static void
check_rename(RenameStmt *statement)
{
	Oid table;

	switch (statement->renameType)
	{
		case OBJECT_TABLE:
			if (OidIsValid(find_table(statement->relation)))
				refuse_command("rename table", statement->relation->relname,
							   "Create a view with the name that you want.");
			break;
		case OBJECT_COLUMN:
		case OBJECT_ATTRIBUTE:
			table = find_table(statement->relation);
			/*
			 * a missing column of gen_outputs stops nothing silently: every
			 * job with an output names it
			 */
			if (OidIsValid(table) && is_our_column(table, statement->subname) &&
				strcmp(get_rel_name(table), "gen_outputs") != 0)
				refuse_command("rename column", statement->subname,
							   "Create a view with the name that you want.");
			break;
		case OBJECT_TYPE:
			check_type("rename type", castNode(List, statement->object));
			break;
		case OBJECT_SCHEMA:
			check_rename_schema(statement->subname);
			break;
		default:
			break;
	}
}

static void
check_schema(AlterObjectSchemaStmt *statement)
{
	if (statement->objectType == OBJECT_TABLE && OidIsValid(find_table(statement->relation)))
		refuse_command("move table", statement->relation->relname,
					   "Rename its schema, or create a view in the other one.");
	if (statement->objectType == OBJECT_TYPE)
		check_type("move type", castNode(List, statement->object));
}

static void
check_alter_table(AlterTableStmt *statement)
{
	Oid table = statement->objtype == OBJECT_TABLE ? find_table(statement->relation) : InvalidOid;
	ListCell *cell;

	if (!OidIsValid(table))
		return;
	foreach(cell, statement->cmds)
	{
		const AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);
		bool is_ours = command->name != NULL && is_our_column(table, command->name);

		if (command->subtype == AT_DropColumn && is_ours)
			refuse_command("drop column", command->name,
						   "Set it to null in rows to delete its content.");
		if (command->subtype == AT_AlterColumnType && is_ours)
			refuse_command("alter the type of column", command->name,
						   "Create a view with the type that you want.");
		if (command->subtype == AT_ForceRowSecurity)
			refuse_command("force row-level security on table", statement->relation->relname,
						   "Have applications use a role that does not own the table.");
	}
}

/*
 * Checks DROP TRIGGER; name is the table's name, then the trigger's.
 */
static void
check_drop_trigger(List *name)
{
	static const char *const triggers[] = {"genjob_before_insert",   "genjob_before_update",
										   "genjob_before_delete",   "genjob_after_truncate",
										   "genjob_after_change",    "genjob_after_weights",
										   "genjob_after_callbacks", NULL};
	List *table = list_copy_head(name, list_length(name) - 1);
	const char *trigger = strVal(llast(name));

	if (is_one_of(trigger, triggers) && OidIsValid(find_table(makeRangeVarFromNameList(table))))
		refuse_command("drop trigger", trigger, "Leave it, or DROP EXTENSION genjob.");
}

static void
check_drop_index(List *name)
{
	/* the indexes of sql/schema.sql; test/sql/refusals.sql compares */
	static const char *const indexes[] = {"gen_jobs_ready",      "gen_jobs_due",
										  "gen_jobs_expiring",   "gen_jobs_running",
										  "gen_jobs_cancelling", "gen_jobs_unique",
										  "gen_jobs_request",    "gen_jobs_follow_up",
										  "gen_jobs_waiting",    "gen_jobs_blocked",
										  "gen_jobs_ended",      "gen_jobs_needed",
										  "gen_outputs_url",     "dependencies_parent",
										  "callbacks_due",       NULL};
	Oid index = RangeVarGetRelid(makeRangeVarFromNameList(name), NoLock, true);
	const char *index_name = strVal(llast(name));

	if (!OidIsValid(index) || get_rel_relkind(index) != RELKIND_INDEX ||
		!is_one_of(index_name, indexes) ||
		!is_member(RelationRelationId, IndexGetRelation(index, true)))
		return;
	refuse_command("drop index", index_name, "REINDEX INDEX CONCURRENTLY rebuilds it.");
}

static void
check_drop(DropStmt *statement)
{
	ListCell *cell;

	foreach(cell, statement->objects)
	{
		if (statement->removeType == OBJECT_TRIGGER)
			check_drop_trigger(lfirst_node(List, cell));
		else if (statement->removeType == OBJECT_INDEX)
			check_drop_index(lfirst_node(List, cell));
	}
}

/*
 * True in a script of an extension, and with allow_system_table_mods.
 */
bool
refusals_are_off(void)
{
	return creating_extension || allowSystemTableMods;
}

/*
 * Raises an error for a statement that would stop the queue silently.
 */
void
refusals_check(Node *statement)
{
	/* these run in an aborted transaction, too, which must read no catalog */
	if (IsA(statement, TransactionStmt) || refusals_are_off())
		return;
	strangers_check(statement);
	schemaowner_check(statement);
	switch (nodeTag(statement))
	{
		case T_RenameStmt:
			check_rename((RenameStmt *) statement);
			break;
		case T_AlterObjectSchemaStmt:
			check_schema((AlterObjectSchemaStmt *) statement);
			break;
		case T_AlterTableStmt:
			check_alter_table((AlterTableStmt *) statement);
			break;
		case T_DropStmt:
			check_drop((DropStmt *) statement);
			break;
		default:
			break;
	}
}
