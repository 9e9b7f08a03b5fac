/*
 * tables.c
 *		As whom the dispatcher works on the tables, and what hangs on them.
 *
 * Whatever a statement fires or evaluates (triggers, checks, generated columns, expressions of indexes) runs in the
 * dispatcher.  So every statement runs as the owner of the tables, a role with few rights, until its transaction has
 * ended.  And what would run must belong to that role or to a superuser: else the dispatcher refuses to work, and says
 * what it found.  It looks once for each change of the tables, their functions, operators and types, and of roles; the
 * lock on the tables keeps changes out until the transaction ends.
 *
 * What never runs in the dispatcher is nobody's concern here: policies (they do not hold for the owner), foreign keys that
 * refer to gen_jobs (its keys never change).  Defaults and triggers of an INSERT into gen_jobs run there only when a job is
 * handed over: they are looked at then, and keep no more than that from being done.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/tables.h"

#define MAX_WATCHED 128

static Oid jobs_table = InvalidOid;
static Oid outputs_table = InvalidOid;
static Oid weights_tables[2] = {InvalidOid, InvalidOid};
static Oid dependencies_table = InvalidOid;
static Oid callbacks_table = InvalidOid;

/* What the last check found */
static uint64 changes = 1;        /* that concern it, so far */
static uint64 checked = 0;        /* of these; equal to changes: the answer is good */
static bool has_deferred;         /* a constraint trigger fires at the end of a transaction */
static uint64 insert_checked = 0; /* of changes, as checked is */
static char *insert_stranger;     /* what an INSERT into gen_jobs would run of others; or NULL */
static char *keep_reason;         /* why no row of gen_outputs may be deleted; NULL: they may */
static char *
	key_constraints; /* deferrable foreign keys to gen_outputs, as SET CONSTRAINTS has them; or NULL */

/* What an invalidation must name to concern the check; too much of it: all do */
static struct
{
	int cache; /* RELOID: id is the OID; else a hash value */
	uint32 id;
} watched[MAX_WATCHED];
static int n_watched;
static bool knows_what = false; /* to watch */

static char owner_name[NAMEDATALEN] = "genjob_dispatcher"; /* as found last */

/* ---------- when to look again ---------- */

static void
watch(int cache, uint32 id)
{
	int i;

	for (i = 0; i < Min(n_watched, MAX_WATCHED); i++)
	{
		if (watched[i].cache == cache && watched[i].id == id)
			return;
	}
	if (n_watched < MAX_WATCHED)
	{
		watched[n_watched].cache = cache;
		watched[n_watched].id = id;
	}
	n_watched++;
}

static bool
is_watched(int cache, uint32 id)
{
	int i;

	if (id == 0 || !knows_what || n_watched > MAX_WATCHED)
		return true;
	for (i = 0; i < n_watched; i++)
	{
		if (watched[i].cache == cache && watched[i].id == id)
			return true;
	}
	return false;
}

static void
relation_changed(Datum arg, Oid relation)
{
	if (is_watched(RELOID, relation))
		changes++;
}

static void
object_changed(Datum arg, int cache, uint32 hash)
{
	if (is_watched(cache, hash))
		changes++;
}

/* A role is a superuser no more, say. */
static void
anything_changed(Datum arg, int cache, uint32 hash)
{
	changes++;
}

/*
 * Has this process hear of what may change the check's answer; once.
 */
void
tables_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(OPEROID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(CLAOID, anything_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, anything_changed, (Datum) 0);
}

/*
 * Says which tables it is about; they may be invalid.
 */
void
tables_set(Oid jobs, Oid outputs, Oid tenant_weights, Oid owner_weights, Oid callbacks,
		   Oid dependencies)
{
	jobs_table = jobs;
	outputs_table = outputs;
	weights_tables[0] = tenant_weights;
	weights_tables[1] = owner_weights;
	dependencies_table = dependencies;
	callbacks_table = callbacks;
	changes++;
}

bool
tables_are_known(void)
{
	return OidIsValid(jobs_table);
}

/* Whether it is known that this is gen_jobs. */
bool
tables_are(Oid jobs)
{
	return OidIsValid(jobs) && jobs == jobs_table;
}

/* ---------- what hangs on the tables ---------- */

/* The columns of what FIND_CODE finds */
typedef enum CodeColumn
{
	CODE_CLASS = 1, /* of the object that runs, or belongs to what runs */
	CODE_OBJECT,
	CODE_OWNER,      /* of it; null if it has none */
	CODE_HOOK_CLASS, /* of what runs it */
	CODE_HOOK,
	CODE_TABLE /* on which that hangs */
} CodeColumn;

/*
 * Everything that may run when rows of the tables $1 are read, written or deleted, with what it depends on.  $2: with
 * the tables that refer to them, and so on.  Of rows of $3, gen_jobs, what $5 says is done, as bits of tgtype; $4 are those
 * that are only read.  PostgreSQL's own objects are not in pg_depend.
 */
/* clang-format off */
static const char find_code[] =
	"WITH RECURSIVE tab (oid) AS ("
	"  SELECT unnest($1)"
	" UNION"
	"  SELECT n.oid FROM tab CROSS JOIN LATERAL ("
	"    SELECT i.inhrelid AS oid FROM pg_inherits i WHERE i.inhparent = tab.oid"
	"   UNION ALL"
	"    SELECT c.conrelid FROM pg_trigger t JOIN pg_constraint c ON c.oid = t.tgconstraint"
	"     WHERE $2 AND t.tgrelid = tab.oid AND c.contype = 'f' AND c.confrelid = tab.oid) n"
	"), hook (classid, objid, tab) AS ("
	"  SELECT 'pg_class'::regclass::oid, oid, oid FROM tab"
	" UNION ALL"
	"  SELECT 'pg_trigger'::regclass, t.oid, tab.oid FROM tab JOIN pg_trigger t ON t.tgrelid = tab.oid"
	"   WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND tab.oid <> ALL ($4)"
	"   AND t.tgtype & CASE WHEN tab.oid = $3 THEN $5 ELSE 28 END <> 0"
	" UNION ALL"
	"  SELECT 'pg_constraint'::regclass, c.oid, tab.oid FROM tab JOIN pg_constraint c ON c.conrelid = tab.oid"
	" UNION ALL"
	"  SELECT 'pg_attrdef'::regclass, d.oid, tab.oid FROM tab JOIN pg_attrdef d ON d.adrelid = tab.oid"
	"   JOIN pg_attribute a ON a.attrelid = tab.oid AND a.attnum = d.adnum"
	"   WHERE (tab.oid <> $3 OR $5 & 4 <> 0) AND tab.oid <> ALL ($4) OR a.attgenerated <> ''"
	" UNION ALL"
	"  SELECT 'pg_class'::regclass, i.indexrelid, tab.oid FROM tab JOIN pg_index i ON i.indrelid = tab.oid"
	" UNION ALL"
	"  SELECT 'pg_rewrite'::regclass, r.oid, tab.oid FROM tab JOIN pg_rewrite r ON r.ev_class = tab.oid"
	" UNION ALL"
	"  SELECT 'pg_statistic_ext'::regclass, s.oid, tab.oid FROM tab JOIN pg_statistic_ext s ON s.stxrelid = tab.oid"
	"), reach (classid, objid, hook_class, hook, tab) AS ("
	"  SELECT classid, objid, classid, objid, tab FROM hook"
	" UNION"
	"  SELECT n.classid, n.objid, r.hook_class, r.hook, r.tab FROM reach r CROSS JOIN LATERAL ("
	"    SELECT d.refclassid AS classid, d.refobjid AS objid FROM pg_depend d"
	"     WHERE d.classid = r.classid AND d.objid = r.objid AND d.deptype <> 'e'"
	"     AND (d.refclassid = ANY ('{pg_proc, pg_operator, pg_opclass, pg_opfamily}'::regclass[])"
	"      OR d.refclassid = 'pg_type'::regclass AND r.classid <> ALL ('{pg_proc, pg_operator}'::regclass[])"
	"      OR d.refclassid = 'pg_class'::regclass AND r.classid = 'pg_rewrite'::regclass)"
	"   UNION ALL"
	"    SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c"
	"     WHERE r.classid = 'pg_type'::regclass AND c.contypid = r.objid"
	"   UNION ALL"
	"    SELECT 'pg_proc'::regclass, p.amproc FROM pg_amproc p"
	"     WHERE r.classid = 'pg_opfamily'::regclass AND p.amprocfamily = r.objid"
	"   UNION ALL"
	"    SELECT 'pg_operator'::regclass, o.amopopr FROM pg_amop o"
	"     WHERE r.classid = 'pg_opfamily'::regclass AND o.amopfamily = r.objid) n)"
	" SELECT classid, objid, CASE classid"
	"   WHEN 'pg_proc'::regclass THEN (SELECT proowner FROM pg_proc o WHERE o.oid = objid)"
	"   WHEN 'pg_operator'::regclass THEN (SELECT oprowner FROM pg_operator o WHERE o.oid = objid)"
	/* neither composite types nor enums run anything */
	"   WHEN 'pg_type'::regclass THEN (SELECT typowner FROM pg_type o WHERE o.oid = objid AND typtype NOT IN ('c', 'e'))"
	"   WHEN 'pg_opclass'::regclass THEN (SELECT opcowner FROM pg_opclass o WHERE o.oid = objid)"
	"   WHEN 'pg_opfamily'::regclass THEN (SELECT opfowner FROM pg_opfamily o WHERE o.oid = objid)"
	"   WHEN 'pg_class'::regclass THEN (SELECT relowner FROM pg_class o WHERE o.oid = objid) END,"
	"  hook_class, hook, tab FROM reach ORDER BY tab <> $3, hook_class, hook, classid, objid";
/* clang-format on */

static Oid
code_oid(uint64 row, CodeColumn column)
{
	bool isnull;
	Datum datum = statement_value(row, column, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(datum);
}

static Datum
oid_array(const Oid *oids, int n)
{
	Datum *datums = palloc(Max(n, 1) * sizeof(Datum));
	int i;

	for (i = 0; i < n; i++)
		datums[i] = ObjectIdGetDatum(oids[i]);
	return PointerGetDatum(construct_array(datums, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/*
 * Finds what runs when rows of the tables, an oid[], are touched, those of gen_jobs as events (bits of tgtype) says, and
 * leaves it in SPI_tuptable.
 */
static void
run_find_code(Datum tables, bool with_referring, int events)
{
	Oid types[5] = {OIDARRAYOID, BOOLOID, OIDOID, OIDARRAYOID, INT4OID};
	Datum args[5] = {tables, BoolGetDatum(with_referring),
					 ObjectIdGetDatum(with_referring ? InvalidOid : jobs_table),
					 oid_array(weights_tables, with_referring ? 0 : lengthof(weights_tables)),
					 Int32GetDatum(events)};

	if (SPI_execute_with_args(find_code, lengthof(types), types, args, NULL, true, 0) !=
		SPI_OK_SELECT)
		elog(ERROR, "could not read what hangs on the tables");
}

static void
watch_object(uint64 row)
{
	Oid object = code_oid(row, CODE_OBJECT);

	switch (code_oid(row, CODE_CLASS))
	{
		case RelationRelationId:
			watch(RELOID, object);
			break;
		case ProcedureRelationId:
			watch(PROCOID, GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(object)));
			break;
		case OperatorRelationId:
			watch(OPEROID, GetSysCacheHashValue1(OPEROID, ObjectIdGetDatum(object)));
			break;
		case TypeRelationId:
			watch(TYPEOID, GetSysCacheHashValue1(TYPEOID, ObjectIdGetDatum(object)));
			break;
		default:
			break;
	}
}

/*
 * Watches all that was found.  Returns the first row of what belongs to a role that is neither a superuser nor the
 * tables' owner; -1: there is none.
 */
static int64
find_stranger(Oid owner)
{
	int64 stranger = -1;
	uint64 row;

	for (row = 0; row < SPI_processed; row++)
	{
		Oid role = code_oid(row, CODE_OWNER);

		watch_object(row);
		if (stranger < 0 && OidIsValid(role) && role != owner && !superuser_arg(role))
			stranger = row;
	}
	return stranger;
}

static const char *
role_name(Oid role)
{
	const char *name = GetUserNameFromId(role, true);

	return name != NULL ? name : "?";
}

/*
 * What runs the object, in words without its table.
 */
static char *
describe_hook(uint64 row)
{
	Oid table = code_oid(row, CODE_TABLE);
	ObjectAddress hook = {code_oid(row, CODE_HOOK_CLASS), code_oid(row, CODE_HOOK), 0};
	char *words = getObjectDescription(&hook, true);
	char *suffix;

	if (words == NULL)
		return "what was dropped";
	if (hook.objectId == table)
		return "a column";
	if (hook.classId == RelationRelationId)
		return psprintf("index \"%s\"", get_rel_name(hook.objectId));
	suffix = strstr(words, hook.classId == AttrDefaultRelationId ? " of table " : " on table ");
	if (suffix != NULL)
		*suffix = '\0';
	/* the name, as messages have it */
	suffix = strrchr(words, ' ');
	if (suffix == NULL || suffix[1] == '"')
		return words;
	*suffix = '\0';
	return psprintf("%s \"%s\"", words, suffix + 1);
}

static const char *
describe_use(Oid class)
{
	switch (class)
	{
		case ProcedureRelationId:
			return "runs a function";
		case OperatorRelationId:
			return "runs an operator";
		case TypeRelationId:
			return "has a type";
		case RelationRelationId:
			return "uses a table";
		default:
			return "uses an operator class";
	}
}

static void
refuse(uint64 row, Oid owner)
{
	ObjectAddress object = {code_oid(row, CODE_CLASS), code_oid(row, CODE_OBJECT), 0};
	char *hook = describe_hook(row);
	char *words = getObjectDescription(&object, true);
	const char *role = role_name(code_oid(row, CODE_OWNER));

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("%s of table \"%s\" %s of role \"%s\"", hook,
					get_rel_name(code_oid(row, CODE_TABLE)), describe_use(object.classId), role),
			 errdetail("A dispatcher would run %s as role \"%s\".", words ? words : "it",
					   role_name(owner)),
			 errhint("ALTER %s OWNER TO \"%s\" if you trust it, or drop the %s.",
					 words ? words : "it", role_name(owner), hook)));
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
 * Whether a row of gen_outputs may be deleted: what tables that refer to it do then runs in the dispatcher.
 */
static void
check_keys(Oid owner)
{
	Oid types[1] = {OIDOID};
	Datum args[1] = {ObjectIdGetDatum(outputs_table)};
	Datum tables;
	bool isnull;
	char *key;

	if (key_constraints != NULL)
		pfree(key_constraints);
	if (keep_reason != NULL)
		pfree(keep_reason);
	key_constraints = keep_reason = NULL;
	if (SPI_execute_with_args(find_keys, 1, types, args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the foreign keys to gen_outputs");
	tables = statement_value(0, 2, &isnull);
	if (isnull)
		return;
	key_constraints = keep_text(0, 1);
	key = keep_text(0, 3);
	run_find_code(tables, true, TRIGGER_TYPE_UPDATE);
	if (find_stranger(owner) < 0)
	{
		pfree(key);
		has_deferred = true; /* it may be: what these tables fire is their owners' affair */
	}
	else
		keep_reason = key;
}

/*
 * Why no row of gen_outputs may be deleted; NULL: they may.
 */
const char *
tables_keep_outputs(void)
{
	return keep_reason;
}

/*
 * Has foreign keys to gen_outputs object now, if they do.
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
 * The tables were dropped, with their extension, or moved: the next transaction looks for them.
 */
static void
gone(void)
{
	tables_set(InvalidOid, InvalidOid, InvalidOid, InvalidOid, InvalidOid, InvalidOid);
	ereport(ERROR, (errcode(QUEUE_GONE), errmsg("the tables of genjob are not where they were")));
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
 * Locks a table until the transaction ends, so that nothing more is hung on it.  Returns its owner.
 */
static Oid
lock_table(Oid table, const char *name, bool *later)
{
	Relation relation = try_table_open(table, RowExclusiveLock);
	Oid owner;

	/* statements name it by its schema */
	if (relation == NULL || strcmp(RelationGetRelationName(relation), name) != 0 ||
		get_relname_relid(name, get_namespace_oid(statement_schema(), true)) != table)
		gone();
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
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("table \"%s\" belongs to role \"%s\", but gen_jobs to role \"%s\"",
						   get_rel_name(table), role_name(table_owner), role_name(owner)),
					errdetail("A dispatcher works as the owner of its tables."),
					errhint("ALTER TABLE %s OWNER TO %s.",
							quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
													   get_rel_name(table)),
							quote_identifier(role_name(owner)))));
}

static Oid
owner_of(Oid table)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		gone();
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Whether a table that came after 0.1.0 stayed with a role that may be trusted when the other tables were given away.
 */
static bool
is_left_behind(Oid role, Oid owner)
{
	return role != owner &&
		   (superuser_arg(role) || role == get_role_oid("genjob_dispatcher", true));
}

/*
 * An error when a table belongs to another role, or something hangs on them that must not run as their owner.
 */
static void
check(Oid owner)
{
	Oid tables[6] = {jobs_table, outputs_table, weights_tables[0]};
	Oid later[] = {weights_tables[1], callbacks_table, dependencies_table};
	int n = 3;
	uint64 seen = changes;
	int64 stranger;
	int i;

	strlcpy(owner_name, role_name(owner), sizeof(owner_name));
	knows_what = false;
	n_watched = 0;
	for (i = 0; i < lengthof(later); i++)
	{
		watch(RELOID, later[i]);
		if (!is_left_behind(owner_of(later[i]), owner))
			tables[n++] = later[i];
	}
	for (i = 0; i < n; i++)
	{
		watch(RELOID, tables[i]);
		check_owner(tables[i], owner_of(tables[i]), owner);
	}
	run_find_code(oid_array(tables, n), false, TRIGGER_TYPE_UPDATE);
	stranger = find_stranger(owner);
	if (stranger >= 0)
		refuse(stranger, owner);
	check_keys(owner);
	knows_what = true;
	checked = seen;
}

/*
 * What a role that is not trusted has hung on gen_jobs that an INSERT would run, in words; NULL: there is nothing.
 */
const char *
tables_find_insert_stranger(void)
{
	uint64 seen = changes;
	int64 row;

	if (insert_checked == changes)
		return insert_stranger;
	if (insert_stranger != NULL)
		pfree(insert_stranger);
	insert_stranger = NULL;
	run_find_code(oid_array(&jobs_table, 1), false, TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE);
	row = find_stranger(owner_of(jobs_table));
	if (row >= 0)
		insert_stranger =
			MemoryContextStrdup(TopMemoryContext,
								psprintf("%s of table gen_jobs, of role \"%s\",",
										 describe_hook(row), role_name(code_oid(row, CODE_OWNER))));
	insert_checked = seen;
	return insert_stranger;
}

/*
 * As whom the dispatcher works, and whom all may trust with their jobs.
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
 * Locks the tables and makes their owner the current user, until the transaction ends and the caller changes that back;
 * an error when something hangs on them that must not run so.  Does nothing while there are no tables.
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
	check_owner(outputs_table, lock_table(outputs_table, "gen_outputs", &later), owner);
	GetUserIdAndSecContext(&saved_user, &context);
	context |= SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS;
	SetUserIdAndSecContext(owner, context);
	if (checked != changes)
	{
		has_deferred = later;
		check(owner);
	}
	/* PostgreSQL lets no trigger fire later in a restricted operation */
	if (!has_deferred)
		SetUserIdAndSecContext(owner, context | SECURITY_RESTRICTED_OPERATION);
}

/*
 * Fires what was to fire at the commit, so that nothing of it is left then.
 */
void
tables_fire_deferred(void)
{
	if (tables_are_known() && has_deferred &&
		SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not fire deferred triggers");
}
