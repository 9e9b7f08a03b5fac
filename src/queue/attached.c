/*
 * attached.c
 *		Finds the code attached to the tables: what runs when their rows are
 *		touched, who owns it, and when to look again.
 *
 * Follows triggers, constraints, generated columns, index expressions, rules,
 * statistics and types through pg_depend to the functions, operators and types
 * that they use.  Invalidations of these objects say when to look again.
 */
#include "postgres.h"

#include "catalog/objectaddress.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "queue/attached.h"
#include "queue/statement.h"
#include "server/server.h"

#define MAX_WATCHED 128

static uint64 changes = 1; /* counts changes of what was found */

/*
 * The watched objects.  If n_watched exceeds MAX_WATCHED, every invalidation
 * counts as a change.
 */
static struct
{
	int cache; /* RELOID: id is the OID; else a hash value */
	uint32 id;
} watched[MAX_WATCHED];
static int n_watched;
static bool knows_what = false; /* false: every invalidation counts */

/* ---------- when to look again ---------- */

/*
 * Counts an object's invalidations as changes from now on.  id is its hash
 * value in the cache; for RELOID, its OID.
 */
void
attached_watch(int cache, uint32 id)
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

/* For example, a role is not a superuser any more. */
static void
anything_changed(Datum arg, int cache, uint32 hash)
{
	changes++;
}

/*
 * Registers the invalidation callbacks.  Call it once per process.
 */
void
attached_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(OPEROID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(CLAOID, anything_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, anything_changed, (Datum) 0);
}

/*
 * Returns a counter that grows whenever something that was found may have
 * changed.
 */
uint64
attached_changes(void)
{
	return changes;
}

void
attached_note_change(void)
{
	changes++;
}

/*
 * Forgets what was watched; until attached_end(), any change counts.
 */
void
attached_begin(void)
{
	knows_what = false;
	n_watched = 0;
}

void
attached_end(void)
{
	knows_what = true;
}

/* ---------- what is there ---------- */

/* The columns of find_code's result */
typedef enum CodeColumn
{
	CODE_CLASS = 1, /* of the object that runs, or that running code uses */
	CODE_OBJECT,
	CODE_OWNER,      /* of that object; null if it has none */
	CODE_HOOK_CLASS, /* of the trigger, index, ... that runs it */
	CODE_HOOK,
	CODE_TABLE /* that has this trigger, index, ... */
} CodeColumn;

/*
 * Lists what may run when rows of the tables $1 are read, written or deleted,
 * and what that code uses.  $2: follow foreign keys to referring tables, too.
 * $3 is gen_jobs; $5 says which events touch its rows, in bits of tgtype.
 * $4: tables that are only read.  pg_depend has no PostgreSQL objects.
 */
/* clang-format off */
static const Statement find_code = {5, {OIDARRAYOID, BOOLOID, OIDOID, OIDARRAYOID, INT4OID},
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
	"  hook_class, hook, tab FROM reach ORDER BY tab <> $3, hook_class, hook, classid, objid"};
/* clang-format on */

static Oid
code_oid(uint64 row, CodeColumn column)
{
	bool isnull;
	Datum datum = statement_value(row, column, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(datum);
}

/*
 * Returns a palloc'd oid[].
 */
Datum
attached_oids(const Oid *oids, int n)
{
	Datum *datums = palloc(Max(n, 1) * sizeof(Datum));
	int i;

	for (i = 0; i < n; i++)
		datums[i] = ObjectIdGetDatum(oids[i]);
	return PointerGetDatum(construct_array(datums, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/*
 * Runs the search and leaves the result in SPI_tuptable.  Sets work_mem low:
 * the planner expects millions of rows where there are dozens, so the executor
 * would allocate hash tables of work_mem, which may be gigabytes.
 */
static void
run_find_code(const AttachedSearch *search)
{
	int level = NewGUCNestLevel();
	static SPIPlanPtr plan = NULL;
	Datum args[5] = {search->tables, BoolGetDatum(search->with_referring),
					 ObjectIdGetDatum(search->jobs),
					 attached_oids(search->read_only, search->n_read_only),
					 Int32GetDatum(search->events)};

	(void) set_config_option("work_mem", "64kB", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
	(void) statement_execute(&find_code, &plan, args, NULL);
	AtEOXact_GUC(false, level);
}

static void
watch_object(uint64 row)
{
	Oid object = code_oid(row, CODE_OBJECT);

	switch (code_oid(row, CODE_CLASS))
	{
		case RelationRelationId:
			attached_watch(RELOID, object);
			break;
		case ProcedureRelationId:
			attached_watch(PROCOID, GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(object)));
			break;
		case OperatorRelationId:
			attached_watch(OPEROID, GetSysCacheHashValue1(OPEROID, ObjectIdGetDatum(object)));
			break;
		case TypeRelationId:
			attached_watch(TYPEOID, GetSysCacheHashValue1(TYPEOID, ObjectIdGetDatum(object)));
			break;
		default:
			break;
	}
}

/*
 * Finds what runs, and watches it.  Returns the first row whose owner is
 * neither a superuser nor the tables' owner, or -1.  Pass the row to the
 * functions below.
 */
int64
attached_find_stranger(const AttachedSearch *search, Oid owner)
{
	int64 stranger = -1;
	uint64 row;

	run_find_code(search);
	for (row = 0; row < SPI_processed; row++)
	{
		Oid role = code_oid(row, CODE_OWNER);

		watch_object(row);
		if (stranger < 0 && OidIsValid(role) && role != owner && !superuser_arg(role))
			stranger = row;
	}
	return stranger;
}

/*
 * Returns the kind and name of what runs the row's object, without the table.
 */
char *
attached_describe(uint64 row)
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
	/* messages quote the name */
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

/*
 * Returns the name of the object's owner.
 */
const char *
attached_owner_name(uint64 row)
{
	return server_role_name(code_oid(row, CODE_OWNER));
}

/*
 * Raises the error that says what was found.
 */
void
attached_refuse(uint64 row, Oid owner)
{
	ObjectAddress object = {code_oid(row, CODE_CLASS), code_oid(row, CODE_OBJECT), 0};
	char *hook = attached_describe(row);
	char *words = getObjectDescription(&object, true);
	const char *role = attached_owner_name(row);

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("%s of table \"%s\" %s of role \"%s\"", hook,
					get_rel_name(code_oid(row, CODE_TABLE)), describe_use(object.classId), role),
			 errdetail("A dispatcher would run %s as role \"%s\".", words ? words : "it",
					   server_role_name(owner)),
			 errhint("ALTER %s OWNER TO \"%s\" if you trust it, or drop the %s.",
					 words ? words : "it", server_role_name(owner), hook)));
}
