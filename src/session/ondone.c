/*
 * ondone.c
 *		The column on_done: the function that genjob calls when the job has
 *		ended.
 *
 * The session's search_path finds the function now, and the row keeps its name
 * with its schema: a worker has another search_path.  Refuses here, where it
 * costs nothing, what the worker would refuse later.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "queue/function.h"
#include "session/ondone.h"

#define MAX_NAME (4 * NAMEDATALEN + 8) /* bytes: two names in quotes, with each byte doubled */
#define SIGNATURE_HINT \
	"It must be a function that takes one argument of type %s, as in CREATE FUNCTION %s(job %s) ..."

/*
 * True if a function of that name exists, whatever its arguments.
 */
static bool
name_is_known(const char *name)
{
	List *names = compat_name_list(name);
	Oid schema =
		list_length(names) == 2 ? get_namespace_oid(strVal(linitial(names)), true) : InvalidOid;

	if (OidIsValid(schema) && !compat_may_use_schema(schema, GetUserId()))
		return false;
	return FuncnameGetCandidates(names, -1, NIL, false, false, false, true) != NULL;
}

/*
 * Returns the function of that name that takes a row of the table.
 */
static Oid
find_function(const char *name, Relation relation)
{
	char *type_name = format_type_be(relation->rd_rel->reltype);
	Oid function;

	if (strlen(name) > MAX_NAME || !function_is_name(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME), errmsg("on_done is not the name of a function"),
				 errhint(
					 "Write the name alone, with its schema or without: done, or \"app\".done.")));
	function = function_look_up(name, RelationGetRelid(relation), false);
	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 name_is_known(name) ? errmsg("function %s does not take a row of gen_jobs", name)
									 : errmsg("function %s(%s) does not exist", name, type_name),
				 errdetail("The column on_done names it."),
				 errhint(SIGNATURE_HINT, type_name, name, type_name)));
	if (get_func_prokind(function) != PROKIND_FUNCTION)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s is not a function", name),
						errdetail("The column on_done names it."),
						errhint(SIGNATURE_HINT, type_name, name, type_name)));
	if (isAnyTempNamespace(get_func_namespace(function)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("function %s is temporary", name),
				 errdetail("The column on_done names it, and it is called in another session."),
				 errhint("Create it in a schema that stays.")));
	return function;
}

/*
 * Raises an error unless role may call the function with a row of the table.
 */
static void
check_privileges(Oid function, const char *name, Oid role, Relation relation)
{
	const char *role_name = quote_identifier(GetUserNameFromId(role, false));
	const char *schema = get_namespace_name(get_func_namespace(function));

	if (!compat_may_execute(function, role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", name),
				 errdetail(
					 "The column on_done names it, and the job's owner must be able to call it."),
				 errhint("GRANT EXECUTE ON FUNCTION %s TO %s.", format_procedure(function),
						 role_name)));
	if (!compat_may_use_schema(get_func_namespace(function), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for schema %s", schema),
				 errdetail(
					 "The column on_done names a function in it, which the job's owner must be able to call."),
				 errhint("GRANT USAGE ON SCHEMA %s TO %s.", quote_identifier(schema), role_name)));
	if (pg_class_aclcheck(RelationGetRelid(relation), role, ACL_SELECT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", RelationGetRelationName(relation)),
				 errdetail("on_done gives a function the job's row, as its owner may read it."),
				 errhint("GRANT SELECT ON %s TO %s.", RelationGetRelationName(relation),
						 role_name)));
}

/*
 * Raises an error if a call by this name could mean another function.
 */
static void
check_ambiguity(Oid function, const char *name, Relation relation)
{
	if (!compat_may_use_schema(get_func_namespace(function), GetUserId()) ||
		!function_is_ambiguous(function, RelationGetRelid(relation)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_AMBIGUOUS_FUNCTION), errmsg("function %s is not unique", name),
			 errdetail(
				 "Another function of that name and schema has defaults for all arguments but the first."),
			 errhint("Rename either of them.")));
}

/*
 * True if the function may be called as role; is_others_choice: somebody else chose it.
 */
static bool
may_be_chosen(Oid function, Oid role, bool is_others_choice)
{
	return is_others_choice ? function_is_trusted(function, role)
							: function_may_be_called(function, role);
}

/*
 * Raises an error unless the current role may make role call the function.
 */
static void
check_trust(Oid function, const char *name, Oid role)
{
	const char *role_name = quote_identifier(GetUserNameFromId(role, false));
	const char *owner = function_owner_name(function);

	if (may_be_chosen(function, role, !has_privs_of_role(GetUserId(), role)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("jobs of role \"%s\" do not call function %s of role \"%s\"", role_name, name,
					owner),
			 superuser_arg(role)
				 ? errdetail("The function's owner could replace it and act as a superuser.")
				 : errdetail("The function's owner could act as the job's owner."),
			 errhint("ALTER FUNCTION %s OWNER TO %s if you trust it, or insert the job as role %s.",
					 format_procedure(function), role_name, quote_identifier(owner))));
}

/*
 * Checks the function that a row of the table names, if any, and adds its schema to the name.
 */
void
ondone_check(Row *row, Relation relation)
{
	Oid owner = DatumGetObjectId(row->values[JOB_OWNER]);
	char *name;
	Oid function;

	if (row->nulls[JOB_ON_DONE])
		return;
	name = TextDatumGetCString(row->values[JOB_ON_DONE]);
	function = find_function(name, relation);
	check_privileges(function, name, owner, relation);
	check_ambiguity(function, name, relation);
	check_trust(function, name, owner);
	row_set(row, JOB_ON_DONE, CStringGetTextDatum(function_name(function)));
}

/*
 * As ondone_check(), for a row from replication or a restore.  Does not refuse
 * the row: removes a function that the job's owner would not trust.
 */
void
ondone_filter(Row *row, Relation relation)
{
	Oid owner = DatumGetObjectId(row->values[JOB_OWNER]);
	char *name;
	Oid function;

	if (row->nulls[JOB_ON_DONE] || row->nulls[JOB_OWNER])
		return;
	name = TextDatumGetCString(row->values[JOB_ON_DONE]);
	function = function_look_up(name, RelationGetRelid(relation), true);
	if (OidIsValid(function) && may_be_chosen(function, owner, true))
		return;
	ereport(WARNING,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("genjob: on_done of job " INT64_FORMAT
					", which its owner did not set, was removed",
					DatumGetInt64(row->values[JOB_ID])),
			 errdetail(
				 "It must name, with its schema, a function f(gen_jobs) of a superuser, of the job's owner, or of a role that is a member of the owner.")));
	row_set_null(row, JOB_ON_DONE);
}
