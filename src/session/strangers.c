/*
 * strangers.c
 *		Refuses statements of roles that do not own genjob's tables, if they
 *		name one of its tables, indexes or sequences besides the object that
 *		they change.
 *
 * PostgreSQL locks such an object first, and checks the privileges
 * afterwards.  A role without any right can thus wait for the lock behind a
 * transaction of its own, and everybody else waits behind that role.  This
 * file checks first, without a lock.
 *
 * The object that a statement changes, such as the table of ALTER TABLE, is
 * not checked here if PostgreSQL itself checks its owner before it locks it.
 * An object that gets only SELECT's lock (LIKE) is not checked either.  With
 * the privilege REFERENCES, a role may have a foreign key to gen_jobs.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "session/strangers.h"

/* ---------- owners ---------- */

/*
 * Returns the table of an index or of a TOAST table; any other relation
 * itself.
 */
static Oid
find_table(Oid relation)
{
	switch (get_rel_relkind(relation))
	{
		case RELKIND_INDEX:
		case RELKIND_PARTITIONED_INDEX:
			return find_table(IndexGetRelation(relation, true));
		case RELKIND_TOASTVALUE:
			/* its name is pg_toast_ and the number of the table */
			return atooid(get_rel_name(relation) + strlen("pg_toast_"));
		default:
			return relation;
	}
}

/*
 * True if CREATE EXTENSION genjob made the table.
 */
bool
strangers_is_genjobs(Oid table)
{
	Oid extension = get_extension_oid("genjob", true);

	return OidIsValid(extension) && OidIsValid(table) &&
		   getExtensionOfObject(RelationRelationId, table) == extension;
}

/*
 * True if CREATE EXTENSION genjob made the relation or its table, and the
 * current role does not own that.
 */
bool
strangers_is_anothers(Oid relation)
{
	Oid table = OidIsValid(relation) ? find_table(relation) : InvalidOid;

	return strangers_is_genjobs(table) && !compat_owns_relation(table, GetUserId());
}

/*
 * Returns the relation that name means, if it is genjob's and the current role
 * does not own it; else InvalidOid.  Without a schema, the name may mean
 * another relation when the statement runs: checks all schemas of the
 * search_path.
 */
static Oid
find_anothers(const RangeVar *name)
{
	Oid relation = InvalidOid;
	Oid *path;
	int n;
	int i;

	if (name == NULL)
		return InvalidOid;
	if (name->schemaname != NULL)
	{
		relation = RangeVarGetRelid(name, NoLock, true);
		return strangers_is_anothers(relation) ? relation : InvalidOid;
	}
	n = fetch_search_path_array(NULL, 0);
	path = palloc(n * sizeof(Oid));
	n = fetch_search_path_array(path, n);
	for (i = 0; i < n && !strangers_is_anothers(relation); i++)
		relation = get_relname_relid(name->relname, path[i]);
	pfree(path);
	return strangers_is_anothers(relation) ? relation : InvalidOid;
}

static const char *
kind_of(Oid relation)
{
	switch (get_rel_relkind(relation))
	{
		case RELKIND_INDEX:
			return "index";
		case RELKIND_SEQUENCE:
			return "sequence";
		case RELKIND_VIEW:
			return "view";
		default:
			return "table";
	}
}

/*
 * Raises an error unless relation is InvalidOid.  what is like "to create a
 * rule on it".
 */
static void
refuse_stranger(Oid relation, const char *what)
{
	if (OidIsValid(relation))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of %s %s %s", kind_of(relation),
							   get_rel_name(relation), what),
						errdetail("It would concern the jobs of all roles."),
						errhint("Ask an administrator to do it.")));
}

static void
check_owner(const RangeVar *name, const char *what)
{
	refuse_stranger(find_anothers(name), what);
}

/*
 * As check_owner(), for statements whose lock lets others write: checks only
 * what the name means now.  PostgreSQL itself makes such statements when a
 * role creates a table LIKE one of genjob's, under the same name.
 */
static void
check_owner_now(const RangeVar *name, const char *what)
{
	Oid relation = RangeVarGetRelid(name, NoLock, true);

	refuse_stranger(strangers_is_anothers(relation) ? relation : InvalidOid, what);
}

/*
 * Returns a relation of that name which is genjob's and which the current role
 * does not own; else InvalidOid.
 */
static Oid
find_in_any_schema(const char *name)
{
	CatCList *found = SearchSysCacheList1(RELNAMENSP, CStringGetDatum(name));
	Oid relation = InvalidOid;
	int i;

	for (i = 0; i < found->n_members && !strangers_is_anothers(relation); i++)
		relation = ((Form_pg_class) GETSTRUCT(&found->members[i]->tuple))->oid;
	ReleaseSysCacheList(found);
	return strangers_is_anothers(relation) ? relation : InvalidOid;
}

/*
 * Checks an index that PostgreSQL looks up in the schema of a table.  The
 * table may move before the statement runs: checks all schemas.
 */
static void
check_index_name(const char *name, const char *what)
{
	if (name != NULL)
		refuse_stranger(find_in_any_schema(name), what);
}

/* ---------- objects that are named by lists ---------- */

/*
 * Checks the object of COMMENT, SECURITY LABEL and ALTER EXTENSION ... ADD.
 */
static void
check_object(ObjectType type, Node *object, const char *what)
{
	List *names;

	switch (type)
	{
		case OBJECT_TABLE:
		case OBJECT_INDEX:
		case OBJECT_SEQUENCE:
		case OBJECT_VIEW:
		case OBJECT_MATVIEW:
		case OBJECT_FOREIGN_TABLE:
			check_owner_now(makeRangeVarFromNameList(castNode(List, object)), what);
			break;
		case OBJECT_COLUMN:
		case OBJECT_TABCONSTRAINT:
		case OBJECT_TRIGGER:
		case OBJECT_RULE:
		case OBJECT_POLICY:
			names = castNode(List, object);
			if (list_length(names) > 1)
				check_owner_now(makeRangeVarFromNameList(
									list_copy_head(names, list_length(names) - 1)),
								what);
			break;
		default:
			break;
	}
}

static void
check_published(List *objects)
{
	ListCell *cell;

	foreach(cell, objects)
	{
		const PublicationTable *table = lfirst_node(PublicationObjSpec, cell)->pubtable;

		if (table != NULL)
			check_owner_now(table->relation, "to publish it");
	}
}

static void
check_counted(CreateStatsStmt *statement)
{
	ListCell *cell;

	foreach(cell, statement->relations)
	{
		if (IsA(lfirst(cell), RangeVar))
			check_owner_now(lfirst(cell), "to create statistics of it");
	}
}

/* ---------- tables that refer to genjob's ---------- */

static bool
may_refer_to(Oid table)
{
	return pg_class_aclcheck(table, GetUserId(), ACL_REFERENCES) == ACLCHECK_OK ||
		   pg_attribute_aclcheck_all(table, GetUserId(), ACL_REFERENCES, ACLMASK_ANY) ==
			   ACLCHECK_OK;
}

static void
check_constraint(const Constraint *constraint)
{
	Oid table =
		constraint->contype == CONSTR_FOREIGN ? find_anothers(constraint->pktable) : InvalidOid;

	if (OidIsValid(table) && !may_refer_to(table))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(table));
	check_index_name(constraint->indexname, "to make a constraint of it");
}

static void
check_constraints(List *constraints)
{
	ListCell *cell;

	foreach(cell, constraints)
	{
		if (IsA(lfirst(cell), Constraint))
			check_constraint(lfirst_node(Constraint, cell));
	}
}

/*
 * Checks a column or a constraint of CREATE TABLE, or what a command of ALTER TABLE names.
 */
static void
check_element(Node *element)
{
	if (element == NULL)
		return;
	switch (nodeTag(element))
	{
		case T_ColumnDef:
			check_constraints(((ColumnDef *) element)->constraints);
			break;
		case T_Constraint:
			check_constraint((Constraint *) element);
			break;
		case T_PartitionCmd:
			check_owner(((PartitionCmd *) element)->name, "to attach or detach it");
			break;
		case T_RangeVar:
			check_owner((RangeVar *) element, "to inherit from it");
			break;
		case T_ReplicaIdentityStmt:
			check_index_name(((ReplicaIdentityStmt *) element)->name, "to identify rows by it");
			break;
		default:
			break;
	}
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
	{
		const AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		check_element(command->def);
		if (command->subtype == AT_ClusterOn)
			check_index_name(command->name, "to cluster by it");
	}
}

/* ---------- statements that need more than a privilege ---------- */

/*
 * Checks DROP.  PostgreSQL checks the owner before it locks a relation, but
 * accepts the owner of its schema, too.
 */
static void
check_dropped(DropStmt *statement)
{
	ListCell *cell;

	if (statement->removeType != OBJECT_TABLE && statement->removeType != OBJECT_INDEX &&
		statement->removeType != OBJECT_SEQUENCE && statement->removeType != OBJECT_VIEW)
		return;
	foreach(cell, statement->objects)
	{
		Oid relation = find_anothers(makeRangeVarFromNameList(lfirst_node(List, cell)));

		if (OidIsValid(relation) && compat_owns_schema(get_rel_namespace(relation), GetUserId()))
			refuse_stranger(relation, "to drop it");
	}
}

/* ---------- maintenance ---------- */

/*
 * True if an option is given and not turned off.
 */
static bool
has_option(List *options, const char *name)
{
	ListCell *cell;
	bool is_on = false;

	foreach(cell, options)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0)
			is_on = defGetBoolean(option);
	}
	return is_on;
}

/*
 * Checks a statement that shuts others out of a table while it works, and that
 * the privilege MAINTAIN (PostgreSQL 17 and later) permits.  PostgreSQL lets the
 * owner of the database do it, too, in all versions.
 */
static void
check_maintained(const RangeVar *name, const char *what)
{
	if (name != NULL && !compat_owns_database(MyDatabaseId, GetUserId()))
		check_owner(name, what);
}

#ifdef ACL_MAINTAIN
/*
 * Checks a table that VACUUM FULL of all tables would rewrite if the role may
 * maintain it.
 */
static void
check_if_maintained(const char *name)
{
	Oid table = find_in_any_schema(name);

	if (OidIsValid(table) && pg_class_aclcheck(table, GetUserId(), ACL_MAINTAIN) == ACLCHECK_OK)
		refuse_stranger(table, "to rewrite it");
}
#endif

static void
check_vacuum(const VacuumStmt *statement)
{
	ListCell *cell;

	if (!has_option(statement->options, "full"))
		return;
	foreach(cell, statement->rels)
		check_maintained(lfirst_node(VacuumRelation, cell)->relation, "to rewrite it");
#ifdef ACL_MAINTAIN
	if (statement->rels == NIL && !compat_owns_database(MyDatabaseId, GetUserId()))
	{
		check_if_maintained("gen_jobs");
		check_if_maintained("gen_outputs");
	}
#endif
}

/* ---------- all ---------- */

static void
check_other_statement(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_AlterObjectDependsStmt:
			check_owner(((AlterObjectDependsStmt *) statement)->relation,
						"to make it depend on an extension");
			break;
		case T_AlterExtensionContentsStmt:
			check_object(((AlterExtensionContentsStmt *) statement)->objtype,
						 ((AlterExtensionContentsStmt *) statement)->object,
						 "to change its extension");
			break;
		case T_CommentStmt:
			check_object(((CommentStmt *) statement)->objtype, ((CommentStmt *) statement)->object,
						 "to comment on it");
			break;
		case T_SecLabelStmt:
			check_object(((SecLabelStmt *) statement)->objtype,
						 ((SecLabelStmt *) statement)->object, "to label it");
			break;
		case T_CreatePublicationStmt:
			check_published(((CreatePublicationStmt *) statement)->pubobjects);
			break;
		case T_AlterPublicationStmt:
			if (((AlterPublicationStmt *) statement)->action == AP_AddObjects)
				check_published(((AlterPublicationStmt *) statement)->pubobjects);
			break;
		case T_VacuumStmt:
			check_vacuum((VacuumStmt *) statement);
			break;
		case T_ReindexStmt:
			if (!has_option(((ReindexStmt *) statement)->params, "concurrently"))
				check_maintained(((ReindexStmt *) statement)->relation, "to reindex it");
			break;
		default:
			break;
	}
}

/*
 * Raises an error if a statement would wait for a lock on a table or index of
 * genjob's to which the current role has no right.
 */
void
strangers_check(Node *statement)
{
	if (superuser())
		return;
	switch (nodeTag(statement))
	{
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
		case T_ClusterStmt:
			check_index_name(((ClusterStmt *) statement)->indexname, "to cluster by it");
			check_maintained(((ClusterStmt *) statement)->relation, "to rewrite it");
			break;
		case T_DropStmt:
			check_dropped((DropStmt *) statement);
			break;
		case T_CreateStatsStmt:
			check_counted((CreateStatsStmt *) statement);
			break;
		default:
			check_other_statement(statement);
			break;
	}
}
