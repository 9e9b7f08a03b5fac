/*
 * tables.c
 *		The role that the dispatcher works as, and the code attached to the
 *		tables.
 *
 * Code that a statement fires or evaluates (triggers, checks, generated
 * columns, index expressions) runs in the dispatcher.  So every statement runs
 * as the owner of the tables, a role with few rights, until its transaction
 * has ended.  The code must belong to that role or to a superuser; otherwise
 * the dispatcher refuses to work, and says what it found.  It checks again
 * after each change of the tables, of their functions, operators and types,
 * and of roles.  The lock on the tables prevents changes until the transaction
 * ends.
 *
 * The check leaves out what never runs in the dispatcher: policies (they do
 * not apply to the owner), and foreign keys to gen_jobs (its keys never
 * change).  Defaults and INSERT triggers of gen_jobs run in the dispatcher
 * only when it hands a job over, or orders the deletion of objects.  They are
 * checked then, and prevent only that.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "queue/attached.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/tables.h"
#include "server/server.h"

static Oid jobs_table = InvalidOid;
static Oid outputs_table = InvalidOid;
static Oid weights_tables[2] = {InvalidOid, InvalidOid};
static Oid dependencies_table = InvalidOid;
static Oid callbacks_table = InvalidOid;
static Oid sent_table = InvalidOid;
static Oid our_schema = InvalidOid; /* of gen_jobs, as found when it was locked last */
static object_access_hook_type next_object_access = NULL;

/* What the last check found */
static uint64 checked = 0;        /* attached_changes() then; the answer is valid while equal */
static bool has_deferred;         /* a constraint trigger fires at the end of a transaction */
static uint64 insert_checked = 0; /* the same for insert_stranger */
static char *insert_stranger;     /* others' code that an INSERT into gen_jobs would run; or NULL */
static char *keep_reason;         /* why no row of gen_outputs may be deleted; NULL: they may */
static char *
	key_constraints; /* deferrable foreign keys to gen_outputs, as SET CONSTRAINTS has them; or NULL */

static char owner_name[NAMEDATALEN] = "genjob_dispatcher"; /* as found last */

/*
 * Sets which tables these are; they may be invalid.
 */
void
tables_set(Oid jobs, Oid outputs, Oid tenant_weights, Oid owner_weights, Oid callbacks,
		   Oid dependencies, Oid sent)
{
	jobs_table = jobs;
	outputs_table = outputs;
	weights_tables[0] = tenant_weights;
	weights_tables[1] = owner_weights;
	dependencies_table = dependencies;
	callbacks_table = callbacks;
	sent_table = sent;
	our_schema = InvalidOid;
	attached_note_change();
}

bool
tables_are_known(void)
{
	return OidIsValid(jobs_table);
}

/* True if this is known to be gen_jobs. */
bool
tables_are(Oid jobs)
{
	return OidIsValid(jobs) && jobs == jobs_table;
}

/* ---------- foreign keys to gen_outputs ---------- */

static const char find_keys[] =
	"SELECT string_agg(DISTINCT format('%I.%I', n.nspname, c.conname), ', ') FILTER (WHERE c.condeferrable),"
	" array_agg(DISTINCT c.conrelid), min(format('foreign key %I of table %s', c.conname, c.conrelid::regclass))"
	" FROM pg_trigger t JOIN pg_constraint c ON c.oid = t.tgconstraint JOIN pg_namespace n ON n.oid = c.connamespace"
	" WHERE t.tgrelid = $1 AND c.contype = 'f' AND c.confrelid = $1";

static char *
keep_text(uint64 row, int column)
{
	char *text = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);

	return text != NULL ? MemoryContextStrdup(TopMemoryContext, text) : NULL;
}

/*
 * Finds out whether rows of gen_outputs may be deleted: code of tables that refer to it would run in the dispatcher.
 */
static void
check_keys(Oid owner)
{
	Oid types[1] = {OIDOID};
	Datum args[1] = {ObjectIdGetDatum(outputs_table)};
	AttachedSearch search = {.with_referring = true, .events = TRIGGER_TYPE_UPDATE};
	bool isnull;
	char *key;

	if (key_constraints != NULL)
		pfree(key_constraints);
	if (keep_reason != NULL)
		pfree(keep_reason);
	key_constraints = keep_reason = NULL;
	if (SPI_execute_with_args(find_keys, 1, types, args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the foreign keys to gen_outputs");
	search.tables = statement_value(0, 2, &isnull);
	if (isnull)
		return;
	key_constraints = keep_text(0, 1);
	key = keep_text(0, 3);
	if (attached_find_stranger(&search, owner) < 0)
	{
		pfree(key);
		has_deferred = true; /* assumed: these tables may have deferred triggers */
	}
	else
		keep_reason = key;
}

/*
 * Returns why no row of gen_outputs may be deleted; NULL: they may.
 */
const char *
tables_keep_outputs(void)
{
	return keep_reason;
}

/*
 * Checks the foreign keys to gen_outputs now.
 */
void
tables_check_outputs_keys(void)
{
	if (key_constraints != NULL &&
		SPI_execute(psprintf("SET CONSTRAINTS %s IMMEDIATE", key_constraints), false, 0) !=
			SPI_OK_UTILITY)
		elog(ERROR, "could not check the foreign keys to gen_outputs");
}

/* ---------- as whom ---------- */

/*
 * Forgets the tables, because they were dropped or moved.  The next transaction looks for them.
 */
static void
refuse_missing(void)
{
	tables_set(InvalidOid, InvalidOid, InvalidOid, InvalidOid, InvalidOid, InvalidOid, InvalidOid);
	ereport(ERROR, (errcode(QUEUE_GONE), errmsg("the tables of genjob were moved or dropped")));
}

/*
 * Raises an error when a statement is about to look for a table in another
 * schema that now has the name of ours.  The owner of a schema may rename it
 * at any time, and no lock prevents that.
 */
static void
search_schema(ObjectAccessType access, Oid class, Oid object, int part, void *arg)
{
	char *name;

	if (next_object_access != NULL)
		next_object_access(access, class, object, part, arg);
	if (access != OAT_NAMESPACE_SEARCH || !OidIsValid(our_schema) || object == our_schema)
		return;
	name = get_namespace_name(object);
	if (name != NULL && strcmp(name, statement_schema()) == 0)
		refuse_missing();
}

/*
 * Ends the check of schemas that tables_become_owner() began, because a
 * session goes on with its own statements.
 */
void
tables_leave(void)
{
	our_schema = InvalidOid;
}

/*
 * Installs the check of schemas (search_schema()).  Call it once per process.
 */
void
tables_init(void)
{
	next_object_access = object_access_hook;
	object_access_hook = search_schema;
}

static bool
fires_later(Relation relation)
{
	const TriggerDesc *triggers = relation->trigdesc;
	int i;

	for (i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		if (triggers->triggers[i].tgdeferrable && !triggers->triggers[i].tgisinternal)
			return true;
	}
	return false;
}

/*
 * Locks a table until the transaction ends, so that nothing more is attached to it.  Returns its owner.
 */
static Oid
lock_table(Oid table, const char *name, bool *later)
{
	Relation relation = try_table_open(table, RowExclusiveLock);
	Oid owner;

	/* statements name it by its schema */
	if (relation == NULL || strcmp(RelationGetRelationName(relation), name) != 0 ||
		get_relname_relid(name, get_namespace_oid(statement_schema(), true)) != table)
		refuse_missing();
	owner = relation->rd_rel->relowner;
	*later |= fires_later(relation);
	table_close(relation, NoLock);
	return owner;
}

static void
check_owner(Oid table, Oid table_owner, Oid owner)
{
	if (table_owner == owner)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" belongs to role \"%s\", but gen_jobs to role \"%s\"",
					get_rel_name(table), server_role_name(table_owner), server_role_name(owner)),
			 errdetail("A dispatcher works as the owner of its tables."),
			 errhint("ALTER TABLE %s OWNER TO %s.",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
												get_rel_name(table)),
					 quote_identifier(server_role_name(owner)))));
}

static Oid
owner_of(Oid table)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		refuse_missing();
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * True if a table that is newer than 0.1.0 stayed with a trusted role when the
 * other tables got a new owner.
 */
static bool
is_left_behind(Oid role, Oid owner)
{
	return role != owner &&
		   (superuser_arg(role) || role == get_role_oid("genjob_dispatcher", true));
}

static int64
find_stranger(const Oid *tables, int n, Oid owner, int events)
{
	AttachedSearch search = {.tables = attached_oids(tables, n),
							 .jobs = jobs_table,
							 .events = events,
							 .read_only = weights_tables,
							 .n_read_only = lengthof(weights_tables)};

	return attached_find_stranger(&search, owner);
}

/*
 * Raises an error if a table belongs to another role, or code is attached that must not run as the tables' owner.
 */
static void
check_tables(Oid owner)
{
	Oid tables[7] = {jobs_table, outputs_table, weights_tables[0]};
	Oid later[] = {weights_tables[1], callbacks_table, dependencies_table, sent_table};
	int n = 3;
	uint64 seen = attached_changes();
	int64 stranger;
	int i;

	strlcpy(owner_name, server_role_name(owner), sizeof(owner_name));
	attached_begin();
	for (i = 0; i < lengthof(later); i++)
	{
		attached_watch(RELOID, later[i]);
		if (!is_left_behind(owner_of(later[i]), owner))
			tables[n++] = later[i];
	}
	for (i = 0; i < n; i++)
	{
		attached_watch(RELOID, tables[i]);
		check_owner(tables[i], owner_of(tables[i]), owner);
	}
	stranger = find_stranger(tables, n, owner, TRIGGER_TYPE_UPDATE);
	if (stranger >= 0)
		attached_refuse(stranger, owner);
	check_keys(owner);
	attached_end();
	checked = seen;
}

/*
 * Describes code of an untrusted role that an INSERT into gen_jobs would run;
 * NULL: there is none.
 */
const char *
tables_find_insert_stranger(void)
{
	uint64 seen = attached_changes();
	int64 row;

	if (insert_checked == seen)
		return insert_stranger;
	if (insert_stranger != NULL)
		pfree(insert_stranger);
	insert_stranger = NULL;
	row = find_stranger(&jobs_table, 1, owner_of(jobs_table),
						TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE);
	if (row >= 0)
		insert_stranger =
			MemoryContextStrdup(TopMemoryContext,
								psprintf("%s of table gen_jobs, of role \"%s\",",
										 attached_describe(row), attached_owner_name(row)));
	insert_checked = seen;
	return insert_stranger;
}

/*
 * Returns the table gen_jobs; InvalidOid while it is not known.
 */
Oid
tables_jobs(void)
{
	return jobs_table;
}

/*
 * Returns the role that the dispatcher works as; all roles trust it with their
 * jobs.  InvalidOid while the tables are not known.
 */
Oid
tables_owner(void)
{
	return tables_are_known() ? owner_of(jobs_table) : InvalidOid;
}

const char *
tables_owner_name(void)
{
	return owner_name;
}

/*
 * Locks the tables until the transaction ends.  Makes their owner the current
 * user; the caller must change that back.  Raises an error if code is attached
 * that must not run as the owner.  Does nothing while there are no tables.
 */
void
tables_become_owner(void)
{
	bool later = false;
	Oid saved_user;
	int context;
	Oid owner;

	if (!tables_are_known())
		return;
	owner = lock_table(jobs_table, "gen_jobs", &later);
	our_schema = get_rel_namespace(jobs_table);
	check_owner(outputs_table, lock_table(outputs_table, "gen_outputs", &later), owner);
	GetUserIdAndSecContext(&saved_user, &context);
	context |= SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS;
	SetUserIdAndSecContext(owner, context);
	if (checked != attached_changes())
	{
		has_deferred = later;
		check_tables(owner);
	}
	/* in a restricted operation PostgreSQL refuses deferred triggers */
	if (!has_deferred)
		SetUserIdAndSecContext(owner, context | SECURITY_RESTRICTED_OPERATION);
}

/*
 * Fires deferred triggers now.  In later statements of the transaction, they
 * fire with the statement, so that none is left at the commit.
 */
void
tables_fire_deferred(void)
{
	if (tables_are_known() && has_deferred &&
		SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not fire deferred triggers");
}
