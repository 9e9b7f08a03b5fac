/*
 * validator.c
 *		Checks the OPTIONS of CREATE and ALTER SERVER and USER MAPPING.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "utils/guc.h"

#include "server/options.h"
#include "server/storecheck.h"
#include "server/unusable.h"
#include "server/validator.h"

#define MAX_VALUE (256 * 1024) /* bytes of an option */

static const List *altered = NIL; /* DefElems of the ALTER SERVER that runs; NIL: of none */

/*
 * Tells which options the ALTER SERVER that runs next changes; NIL: none
 * runs.  Returns what it was told before: the caller must put that back, also
 * after an error.
 */
const List *
validator_note_altered(const List *options)
{
	const List *before = altered;

	altered = options;
	return before;
}

static bool
is_new(const char *name)
{
	ListCell *cell;

	foreach(cell, altered)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, name) == 0)
			return true;
	}
	return altered == NIL;
}

/*
 * Refuses long values: the dispatcher reads them again at every change, and
 * merges some into every request.  Servers that already have longer values
 * still work.
 */
static void
check_lengths(List *defs)
{
	ListCell *cell;

	foreach(cell, defs)
	{
		DefElem *def = lfirst_node(DefElem, cell);
		size_t len = strlen(defGetString(def));

		if (len > MAX_VALUE && is_new(def->defname))
			ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
							errmsg("the value of option \"%s\" is too long", def->defname),
							errdetail("It has %zu bytes; the limit is %d.", len, MAX_VALUE),
							errhint("Put large values into the requests of jobs.")));
	}
}

/*
 * True if combinations must be checked.  Not if ALTER SERVER changes no option
 * that concerns() names: whatever a server has, it can be paused.  Not if pg_dump has
 * written the statement, which sets check_function_bodies: a server that the
 * dump has comes back.
 */
static bool
must_combine(bool (*concerns)(const char *option))
{
	ListCell *cell;

	if (!check_function_bodies)
		return false;
	foreach(cell, altered)
	{
		if (concerns(lfirst_node(DefElem, cell)->defname))
			return true;
	}
	return altered == NIL;
}

PG_FUNCTION_INFO_V1(genjob_validator);

/*
 * PostgreSQL calls it with all options that an object will have.
 */
Datum
genjob_validator(PG_FUNCTION_ARGS)
{
	List *defs = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid catalog = PG_GETARG_OID(1);
	ServerOptions server;
	MappingOptions mapping;

	check_lengths(defs);
	if (catalog == ForeignServerRelationId)
	{
		options_parse_server(defs, &server);
		if (must_combine(unusable_concerns))
			unusable_refuse(defs, &server);
		if (must_combine(storecheck_concerns))
			storecheck_refuse(defs, &server);
	}
	else if (catalog == UserMappingRelationId)
	{
		options_parse_mapping(defs, &mapping);
		if (check_function_bodies)
			storecheck_refuse_mapping(defs);
	}
	else if (defs != NIL)
		ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
						errmsg("invalid option \"%s\"", linitial_node(DefElem, defs)->defname),
						errhint("Options belong to CREATE SERVER and CREATE USER MAPPING.")));
	PG_RETURN_VOID();
}
