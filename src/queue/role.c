/*
 * role.c
 *		Does for the role genjob_dispatcher what the install script cannot do
 *		in SQL.
 */
#include "postgres.h"

#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

extern PGDLLEXPORT Datum genjob_grant_unrecorded(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(genjob_grant_unrecorded);

/*
 * Runs a GRANT that must not count as the extension's, such as one on objects
 * of others.  In a script PostgreSQL would record it as privileges that every
 * CREATE EXTENSION brings, and pg_dump would leave out other privileges on the
 * object.
 */
Datum
genjob_grant_unrecorded(PG_FUNCTION_ARGS)
{
	char *grant = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool in_script = creating_extension;

	if (!superuser() || !in_script)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("this function is for the scripts of the extension genjob")));
	SPI_connect();
	PG_TRY();
	{
		creating_extension = false;
		if (SPI_execute(grant, false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not execute: %s", grant);
	}
	PG_FINALLY();
	{
		creating_extension = in_script;
	}
	PG_END_TRY();
	SPI_finish();
	PG_RETURN_VOID();
}
