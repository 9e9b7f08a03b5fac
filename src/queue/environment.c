/*
 * environment.c
 *		The settings of a dispatcher's session, whatever ALTER DATABASE and
 *		ALTER ROLE set, and the settings that triggers of others see in it.
 *
 * The dispatcher fixes the settings that its statements rely on before it
 * connects, from a source that ranks above databases and roles.  PostgreSQL
 * then never applies theirs, not even for a moment.  Settings for display
 * (DateStyle, TimeZone, lc_*) stay as the database has them, for the triggers:
 * genjob's statements pass no times as text.
 *
 * A trigger of gen_jobs runs in the dispatcher as in a new session of a role
 * without settings of its own, with the search_path of the database.  The
 * dispatcher is connected as the bootstrap superuser, whose search_path is not
 * the database's.  What the trigger sets ends with the call.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "queue/environment.h"

#define OUR_SEARCH_PATH "pg_catalog, pg_temp"

static needs_fmgr_hook_type next_needs_hook = NULL;
static fmgr_hook_type next_hook = NULL;
static int depth = 0; /* of triggers within triggers */

static char *path_of_file;              /* the search_path without databases and roles */
static char *path_of_database = NULL;   /* the one that is set for this or all databases */
static bool file_is_overridden = false; /* PostgreSQL no longer keeps the file's search_path */

/* ---------- settings ---------- */

static const char *const settings[][2] = {
	/* who it is */
	{"role", "none"},
	{"row_security", "on"},
	{"session_replication_role", "origin"},
	/* transactions */
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"exit_on_error", "off"},
	/* time */
	{"statement_timeout", "0"},
	{"lock_timeout", "5s"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"transaction_timeout", "0"}, /* from PostgreSQL 17 on */
	/* room */
	{"temp_file_limit", "-1"},
	/* words */
	{"standard_conforming_strings", "on"},
	{"transform_null_equals", "off"},
	{"quote_all_identifiers", "off"},
	{"array_nulls", "on"},
	/* plans */
	{"plan_cache_mode", "force_generic_plan"},
	{"enable_seqscan", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"enable_bitmapscan", "on"},
	{"enable_nestloop", "on"},
	{"enable_tidscan", "on"},
	{"enable_sort", "on"},
	{"seq_page_cost", "1"},
	{"random_page_cost", "4"},
	{"cpu_tuple_cost", "0.01"},
	{"cpu_index_tuple_cost", "0.005"},
	{"cpu_operator_cost", "0.0025"},
	{"gin_fuzzy_search_limit", "0"}, /* else GIN returns some rows only */
	{"max_parallel_workers_per_gather", "0"},
	{"force_parallel_mode", "off"}, /* until PostgreSQL 15 */
	{"debug_parallel_query", "off"},
	{"jit", "off"},
};

/*
 * Fixes the settings that the statements rely on.  Call it before the process
 * connects to its database.
 */
void
environment_fix_settings(void)
{
	int i;

	path_of_file =
		MemoryContextStrdup(TopMemoryContext, GetConfigOption("search_path", false, false));
	for (i = 0; i < lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/*
 * Restores a setting to value; NULL: to its reset value.
 */
static void
restore_setting(const char *name, const char *value)
{
	const char *present = GetConfigOption(name, true, false);

	if (present == NULL)
		return;
	if (value == NULL)
		value = GetConfigOptionResetString(name);
	if (strcmp(present, value) != 0)
		(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SET, true, 0,
								 false);
}

/*
 * Undoes what a trigger has set for the session.
 */
static void
restore_settings(void)
{
	int i;

	for (i = 0; i < lengthof(settings); i++)
		restore_setting(settings[i][0], NULL);
	restore_setting("search_path", OUR_SEARCH_PATH);
}

/*
 * Fixes the settings that need catalogs.  A process without a user runs as the
 * bootstrap superuser.
 */
static void
fix_user(void)
{
	StartTransactionCommand();
	SetConfigOption("session_authorization", GetUserNameFromId(BOOTSTRAP_SUPERUSERID, false),
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("client_encoding", GetDatabaseEncodingName(), PGC_USERSET, PGC_S_OVERRIDE);
	CommitTransactionCommand();
}

/*
 * Returns search_path among settings, text such as "search_path=a, b", as they
 * stand in catalogs; palloc'd.  NULL: it is not set.
 */
static char *
find_path(Datum array)
{
	static const char name[] = "search_path=";
	Datum *elements;
	int n;
	int i;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL,
					  &n);
	for (i = 0; i < n; i++)
	{
		char *setting = TextDatumGetCString(elements[i]);

		if (pg_strncasecmp(setting, name, strlen(name)) == 0)
			return setting + strlen(name);
	}
	return NULL;
}

/*
 * Returns the search_path that is set for all roles in a database; InvalidOid:
 * in all databases.  palloc'd; NULL: none is.
 */
static char *
read_path(Relation relation, Oid database)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;
	char *path = NULL;

	ScanKeyInit(&keys[0], Anum_pg_db_role_setting_setdatabase, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(database));
	ScanKeyInit(&keys[1], Anum_pg_db_role_setting_setrole, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(InvalidOid));
	scan = systable_beginscan(relation, DbRoleSettingDatidRolidIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;
		Datum array = heap_getattr(tuple, Anum_pg_db_role_setting_setconfig,
								   RelationGetDescr(relation), &isnull);

		if (!isnull)
			path = find_path(array);
	}
	systable_endscan(scan);
	return path;
}

/*
 * Applies what is set for the database now, for triggers and for settings that
 * are not fixed.  Call it in a transaction.
 */
void
environment_reread(void)
{
	Relation relation = table_open(DbRoleSettingRelationId, AccessShareLock);
	char *path = read_path(relation, MyDatabaseId);

	if (path == NULL)
		path = read_path(relation, InvalidOid);
	if (path_of_database != NULL)
		pfree(path_of_database);
	path_of_database = path ? MemoryContextStrdup(TopMemoryContext, path) : NULL;
	file_is_overridden |= path != NULL;
	ApplySetting(GetActiveSnapshot(), MyDatabaseId, InvalidOid, relation, PGC_S_DATABASE);
	table_close(relation, AccessShareLock);
}

/*
 * Returns the search_path of sessions of this database.
 */
static const char *
path_of_sessions(void)
{
	if (path_of_database != NULL)
		return path_of_database;
	return file_is_overridden ? path_of_file : GetConfigOptionResetString("search_path");
}

/* ---------- triggers ---------- */

/*
 * True if the function's SET clauses set search_path.
 */
static bool
has_own_path(HeapTuple function)
{
	bool isnull;
	Datum settings = SysCacheGetAttr(PROCOID, function, Anum_pg_proc_proconfig, &isnull);

	return !isnull && find_path(settings) != NULL;
}

/*
 * True if the function is a trigger function of others.  PostgreSQL's and
 * genjob's are in C.  *has_path: it sets search_path itself.
 */
static bool
is_others_trigger(Oid function, bool *has_path)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	bool is_trigger;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	is_trigger = form->prorettype == TRIGGEROID && form->prolang != INTERNALlanguageId &&
				 form->prolang != ClanguageId;
	*has_path = is_trigger && has_own_path(tuple);
	ReleaseSysCache(tuple);
	return is_trigger;
}

static bool
needs_hook(Oid function)
{
	bool has_path;

	return (next_needs_hook != NULL && next_needs_hook(function)) ||
		   is_others_trigger(function, &has_path);
}

/*
 * Undoes what a trigger has set.  If the function has SET clauses, PostgreSQL
 * has already closed their level and ours in it.  What the function set
 * without LOCAL is then still in force, and is restored.
 */
static void
undo_settings(int level)
{
	int next = NewGUCNestLevel();

	AtEOXact_GUC(false, Min(level, next));
	if (next <= level && depth == 0)
		restore_settings();
}

/*
 * When a trigger begins, sets the database's search_path.  When it ends,
 * undoes what the trigger has set.  After an error, the end of the transaction
 * does that.
 */
static void
surround_trigger(FmgrHookEventType event, FmgrInfo *function, Datum *level)
{
	bool has_path;

	/* another hook cannot share *level, so it gets only the other functions */
	if (!is_others_trigger(function->fn_oid, &has_path))
	{
		if (next_hook != NULL)
			next_hook(event, function, level);
		return;
	}
	depth += event == FHET_START ? 1 : -1;
	if (event == FHET_END)
		undo_settings(DatumGetInt32(*level));
	if (event != FHET_START)
		return;
	*level = Int32GetDatum(NewGUCNestLevel());
	if (!has_path)
		(void) set_config_option("search_path", path_of_sessions(), PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Fixes what can only be set once the process is connected.
 */
void
environment_fix_session(void)
{
	fix_user();
	file_is_overridden = strcmp(GetConfigOptionResetString("search_path"), path_of_file) != 0;
	SetConfigOption("search_path", OUR_SEARCH_PATH, PGC_SUSET, PGC_S_SESSION);
	next_needs_hook = needs_fmgr_hook;
	needs_fmgr_hook = needs_hook;
	next_hook = fmgr_hook;
	fmgr_hook = surround_trigger;
}
