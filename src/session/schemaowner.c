/*
 * schemaowner.c
 *		Refuses statements by which the owner of the schema of genjob's tables
 *		would stop the jobs of all roles.
 *
 * PostgreSQL lets the owner of a schema drop it with all that is in it,
 * whoever owns that, reindex all tables in it, and say who may use it.  Until
 * such a statement has all its locks, everybody else waits behind it.  By
 * default the owner of the database owns the schema public.
 *
 * DROP of a single table or index is strangers.c's.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "utils/acl.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "queue/session.h"
#include "session/schemaowner.h"
#include "session/strangers.h"

/*
 * Returns gen_jobs if the schema has genjob's tables, else InvalidOid.
 */
static Oid
find_jobs(const char *schema_name)
{
	Oid schema = get_namespace_oid(schema_name, true);
	Oid table = OidIsValid(schema) ? get_relname_relid("gen_jobs", schema) : InvalidOid;

	return strangers_is_genjobs(table) ? table : InvalidOid;
}

/*
 * Returns the schema of genjob's tables, or InvalidOid.
 */
static Oid
find_schema(void)
{
	CatCList *found = SearchSysCacheList1(RELNAMENSP, CStringGetDatum("gen_jobs"));
	Oid schema = InvalidOid;
	int i;

	for (i = 0; i < found->n_members; i++)
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(&found->members[i]->tuple);

		if (strangers_is_genjobs(form->oid))
			schema = form->relnamespace;
	}
	ReleaseSysCacheList(found);
	return schema;
}

static void
refuse_schema(const char *what, const char *schema_name, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be superuser to %s schema \"%s\"", what, schema_name),
			 errdetail("It has the tables of genjob: this would concern the jobs of all roles."),
			 errhint("%s", hint)));
}

static void
check_drop(const DropStmt *statement)
{
	ListCell *cell;

	if (statement->removeType != OBJECT_SCHEMA)
		return;
	foreach(cell, statement->objects)
	{
		const char *name = strVal(lfirst(cell));

		if (OidIsValid(find_jobs(name)))
			refuse_schema("drop", name, "Drop your own objects in it one by one.");
	}
}

static Oid
schema_owner(Oid schema)
{
	HeapTuple tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for schema %u", schema);
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
check_drop_owned(const DropOwnedStmt *statement)
{
	Oid schema = find_schema();
	ListCell *cell;

	foreach(cell, statement->roles)
	{
		if (OidIsValid(schema) &&
			get_rolespec_oid(lfirst_node(RoleSpec, cell), true) == schema_owner(schema))
			refuse_schema("drop", get_namespace_name(schema),
						  "Drop your own objects one by one, or ask a superuser to give the schema to another role.");
	}
}

/*
 * Returns the schema with tables of genjob that a statement reindexes, or
 * NULL.  Since PostgreSQL 17, members of pg_maintain may reindex any schema
 * and the whole database.
 */
static const char *
reindexed_schema(const ReindexStmt *statement)
{
	Oid schema = find_schema();

	if (!OidIsValid(schema))
		return NULL;
	if (statement->kind == REINDEX_OBJECT_SCHEMA)
		return OidIsValid(find_jobs(statement->name)) || strcmp(statement->name, "genjob") == 0
				   ? statement->name
				   : NULL;
#ifdef ACL_MAINTAIN
	if (statement->kind == REINDEX_OBJECT_DATABASE)
		return get_namespace_name(schema);
#endif
	return NULL;
}

/*
 * The owner of the database may reindex all of it anyway.
 */
static void
check_reindex(const ReindexStmt *statement)
{
	const char *schema;
	ListCell *cell;
	bool concurrently = false;

	if (compat_owns_database(MyDatabaseId, GetUserId()) ||
		(schema = reindexed_schema(statement)) == NULL)
		return;
	foreach(cell, statement->params)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "concurrently") == 0)
			concurrently = defGetBoolean(option);
	}
	if (!concurrently)
		refuse_schema("reindex", schema, "REINDEX (CONCURRENTLY) keeps nobody waiting.");
}

static bool
names_usage(const GrantStmt *statement)
{
	ListCell *cell;

	foreach(cell, statement->privileges)
	{
		const AccessPriv *privilege = lfirst_node(AccessPriv, cell);

		if (privilege->priv_name == NULL || strcmp(privilege->priv_name, "usage") == 0)
			return true;
	}
	return statement->privileges == NIL; /* ALL */
}

static bool
names_role(const GrantStmt *statement, Oid role)
{
	ListCell *cell;

	foreach(cell, statement->grantees)
	{
		const RoleSpec *grantee = lfirst_node(RoleSpec, cell);

		if (grantee->roletype != ROLESPEC_PUBLIC && get_rolespec_oid(grantee, true) == role)
			return true;
	}
	return false;
}

/*
 * Checks REVOKE: the dispatcher works as the owner of the tables, which needs USAGE.
 */
static void
check_revoke(const GrantStmt *statement)
{
	ListCell *cell;

	if (statement->is_grant || statement->grant_option || statement->objtype != OBJECT_SCHEMA ||
		statement->targtype != ACL_TARGET_OBJECT || !names_usage(statement))
		return;
	foreach(cell, statement->objects)
	{
		const char *name = strVal(lfirst(cell));
		Oid jobs = find_jobs(name);

		if (OidIsValid(jobs) && names_role(statement, session_table_owner(jobs)))
			refuse_schema("revoke USAGE from the owner of gen_jobs on", name,
						  "Leave it; it gives no other role anything.");
	}
}

/*
 * Raises an error for a statement that concerns all that is in the schema.
 */
void
schemaowner_check(Node *statement)
{
	if (superuser())
		return;
	switch (nodeTag(statement))
	{
		case T_DropStmt:
			check_drop((DropStmt *) statement);
			break;
		case T_DropOwnedStmt:
			check_drop_owned((DropOwnedStmt *) statement);
			break;
		case T_ReindexStmt:
			check_reindex((ReindexStmt *) statement);
			break;
		case T_GrantStmt:
			check_revoke((GrantStmt *) statement);
			break;
		default:
			break;
	}
}
