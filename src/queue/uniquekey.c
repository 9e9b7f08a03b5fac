/*
 * uniquekey.c
 *		Tells whether an unfinished job has a unique_key, committed or not.
 *
 * An insert into the index gen_jobs_unique waits for open transactions that
 * have inserted the same key.  A dispatcher must not wait for anybody's
 * transaction.  So it looks first, with a snapshot that sees uncommitted rows.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "queue/statement.h"
#include "queue/tables.h"
#include "queue/uniquekey.h"

static void
set_text(ScanKey key, AttrNumber column, const char *text)
{
	ScanKeyEntryInitialize(key, 0, column, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, CStringGetTextDatum(text));
}

/*
 * False if an unfinished job of the owner and the server has the key, or would if its transaction committed.
 */
bool
uniquekey_is_free(Oid owner, const char *server, const char *key)
{
	Oid table = tables_jobs();
	Oid index = get_relname_relid("gen_jobs_unique", get_rel_namespace(table));
	SnapshotData everything;
	Relation relation;
	SysScanDesc scan;
	ScanKeyData keys[3];
	bool is_free;

	if (!OidIsValid(index))
		return true;
	relation = table_open(table, AccessShareLock);
	ScanKeyInit(&keys[0], get_attnum(table, "owner"), BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(owner));
	set_text(&keys[1], get_attnum(table, "server"), server);
	set_text(&keys[2], get_attnum(table, "unique_key"), key);
	InitDirtySnapshot(everything);
	scan = systable_beginscan(relation, index, true, &everything, lengthof(keys), keys);
	is_free = !HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(relation, NoLock);
	return is_free;
}
