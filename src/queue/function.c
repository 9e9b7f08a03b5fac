/*
 * function.c
 *		The functions that on_done names: which one that is, and whether a role may be made to call it.
 *
 * The column is text that a session has checked, but the owner of the tables and a publisher of rows can write anything
 * there.  So whoever calls looks the function up again, by its name alone, and does not run the text.
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
 * Returns the function of that name, with its schema if is_qualified, that takes a row of a table; InvalidOid if there is
 * none.  Raises no error.
 */
Oid
function_look_up(const char *name, Oid table, bool is_qualified)
{
	Oid type = get_rel_type_id(table);
	List *words = NIL;
	List *names = NIL;
	ListCell *cell;

	if (!SplitIdentifierString(pstrdup(name), '.', &words) || list_length(words) < 1 ||
		list_length(words) > 2 || (is_qualified && list_length(words) < 2))
		return InvalidOid;
	foreach(cell, words)
		names = lappend(names, makeString(pstrdup(lfirst(cell))));
	return LookupFuncName(names, 1, &type, true);
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
 * Whether the function's owner has the power of role already, so that it gains nothing when role calls the function.
 */
bool
function_is_trusted(Oid function, Oid role)
{
	Oid owner = owner_of(function);

	return OidIsValid(owner) && (superuser_arg(owner) || has_privs_of_role(owner, role));
}

/*
 * Whether role may call it when its jobs have ended.  A superuser's jobs call functions of superusers alone: whoever
 * could write a row, or replace the function, would be one.
 */
bool
function_may_be_called(Oid function, Oid role)
{
	return !superuser_arg(role) || function_is_trusted(function, role);
}

/*
 * Returns its quoted name with its schema, palloc'd.
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
