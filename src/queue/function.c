/*
 * function.c
 *		Finds the function that on_done names, and whether a role may be made
 *		to call it.
 *
 * A session has checked the text in the column.  But the owner of the tables
 * and replication can write any text.  So the caller looks the function up
 * again by its name, and does not run the text.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "queue/function.h"

/*
 * Returns the parts of the name of a function, with or without its schema; NIL if it is no such name.
 */
static List *
name_words(const char *name)
{
	List *words = NIL;

	if (!SplitIdentifierString(pstrdup(name), '.', &words) || list_length(words) > 2)
		return NIL;
	return words;
}

bool
function_is_name(const char *name)
{
	return name_words(name) != NIL;
}

/*
 * Like LookupFuncName(), but needs no USAGE on the schema and raises no error.
 */
static Oid
look_up_in(const char *schema, const char *name, Oid type)
{
	Oid namespace = get_namespace_oid(schema, true);
	oidvector *types = buildoidvector(&type, 1);

	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
						   PointerGetDatum(types), ObjectIdGetDatum(namespace));
}

/*
 * Returns the function of that name, with its schema if is_qualified, that takes a row of a table; InvalidOid if there is
 * none.  Raises no error.
 */
Oid
function_look_up(const char *name, Oid table, bool is_qualified)
{
	Oid type = get_rel_type_id(table);
	List *words = name_words(name);

	if (list_length(words) == 2)
		return look_up_in(linitial(words), lsecond(words), type);
	if (words == NIL || is_qualified)
		return InvalidOid;
	return LookupFuncName(list_make1(makeString(linitial(words))), 1, &type, true);
}

/*
 * True if a call with one argument could also mean another function of the
 * same schema, whose further arguments have defaults.  The current user must
 * have USAGE on the schema.
 */
bool
function_is_ambiguous(Oid function, Oid table)
{
	Oid type = get_rel_type_id(table);
	List *names = list_make2(makeString(get_namespace_name(get_func_namespace(function))),
							 makeString(get_func_name(function)));
	FuncCandidateList candidate = FuncnameGetCandidates(names, 1, NIL, true, true, false, true);

	for (; candidate != NULL; candidate = candidate->next)
	{
		if (candidate->args[0] == type && !OidIsValid(candidate->oid))
			return true;
	}
	return false;
}

static Oid
owner_of(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/*
 * True if the function's owner already has role's privileges, and so gains
 * nothing when role calls the function.
 */
bool
function_is_trusted(Oid function, Oid role)
{
	Oid owner = owner_of(function);

	return OidIsValid(owner) && (superuser_arg(owner) || has_privs_of_role(owner, role));
}

/*
 * True if role may call the function when its jobs have ended.  A superuser's
 * jobs call only functions of superusers: otherwise anybody who can write a
 * row, or replace the function, would become a superuser.
 */
bool
function_may_be_called(Oid function, Oid role)
{
	return !superuser_arg(role) || function_is_trusted(function, role);
}

/*
 * Returns the function's quoted name with its schema, palloc'd.
 */
char *
function_name(Oid function)
{
	return quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
									  get_func_name(function));
}

const char *
function_owner_name(Oid function)
{
	const char *name = GetUserNameFromId(owner_of(function), true);

	return name != NULL ? name : "?";
}
