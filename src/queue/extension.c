/*
 * extension.c
 *		Finds the extension and its tables, and locks the database so that only
 *		one dispatcher serves them.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/lsyscache.h"

#include "queue/environment.h"
#include "queue/plans.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/tables.h"

static const char find_extension[] =
	"SELECT n.nspname, e.extversion, n.oid FROM pg_catalog.pg_extension e"
	" JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'genjob'";

static uint64 looks = 0; /* calls of queue_look() */

/* A class of advisory locks that no SQL function can take. */
#define DISPATCHER_LOCK_CLASS 3

/*
 * Takes the lock of this database's dispatcher until the process ends; false if another has it.
 */
bool
queue_lock_database(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, DISPATCHER_LOCK_CLASS);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

static Oid
extension_table(const char *name, Oid namespace)
{
	Oid table = get_relname_relid(name, namespace);

	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(OidIsValid(get_extension_oid("genjob", true)) ? ERRCODE_UNDEFINED_TABLE
																	   : QUEUE_GONE),
				 errmsg("the extension genjob has no table \"%s\" in its schema", name),
				 errhint(
					 "Move it back with ALTER TABLE ... SET SCHEMA, or drop and create the extension.")));
	return table;
}

/*
 * Finds the extension and its schema, and continues as the owner of its tables.
 */
QueuePresence
queue_look(void)
{
	looks++;
	environment_reread();
	return queue_find_tables();
}

/*
 * Like queue_look(), for a session.  The caller must have fixed search_path.
 */
QueuePresence
queue_find_tables(void)
{
	bool isnull;
	char *found;
	Oid namespace;

	if (SPI_execute(find_extension, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for the extension");
	tables_set(InvalidOid, InvalidOid, InvalidOid, InvalidOid, InvalidOid, InvalidOid, InvalidOid);
	if (SPI_processed == 0)
		return QUEUE_ABSENT;
	found = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	if (strcmp(found, GENJOB_VERSION) != 0)
		return QUEUE_OTHER_VERSION;
	namespace = DatumGetObjectId(statement_value(0, 3, &isnull));
	statement_set_schema(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	tables_set(extension_table("gen_jobs", namespace), extension_table("gen_outputs", namespace),
			   extension_table("tenant_weights", get_namespace_oid("genjob", true)),
			   extension_table("owner_weights", get_namespace_oid("genjob", true)),
			   extension_table("callbacks", get_namespace_oid("genjob", true)),
			   extension_table("dependencies", get_namespace_oid("genjob", true)),
			   extension_table("sent", get_namespace_oid("genjob", true)));
	plans_set_tables(extension_table("gen_jobs", namespace),
					 extension_table("gen_outputs", namespace));
	tables_become_owner();
	return QUEUE_PRESENT;
}

/*
 * Returns how often queue_look() was called.  A caller that relies on what it
 * found must look again when this changes.
 */
uint64
queue_looks(void)
{
	return looks;
}
