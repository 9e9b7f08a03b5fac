/*
 * environment.c
 *		What a dispatcher's session is like, whatever ALTER DATABASE and ALTER ROLE set for others; and what the triggers
 *		of others see while it runs them.
 *
 * Settings that genjob's statements rely on are fixed before the process connects, from a source that ranks above
 * those of databases and roles: these are then never applied, not even for a moment.  What only shows (DateStyle,
 * TimeZone, lc_*) stays as the database has it, for the triggers: genjob's statements pass no times as text.
 *
 * A trigger of gen_jobs runs in the dispatcher as it does in a session: with the search_path of the database.  What
 * it sets ends with the call.
 */
#include "postgres.h"

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
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "queue/environment.h"

#define OUR_SEARCH_PATH "pg_catalog, pg_temp"

static needs_fmgr_hook_type next_needs_hook = NULL;
static fmgr_hook_type next_hook = NULL;
static int depth = 0; /* of triggers within triggers */

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
	{"enable_nestloop", "on"},
	{"enable_tidscan", "on"},
	{"enable_sort", "on"},
	{"max_parallel_workers_per_gather", "0"},
	{"force_parallel_mode", "off"}, /* until PostgreSQL 15 */
	{"debug_parallel_query", "off"},
	{"jit", "off"},
};

/*
 * Fixes what the statements rely on.  To be called before the process connects to its database.
 */
void
environment_fix_settings(void)
{
	int i;

	for (i = 0; i < lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/*
 * value NULL: what was fixed before.
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
 * Takes back what a trigger has set for the session.
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
 * The user that a process without one has: that could not be said before there were catalogs.
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
 * Reads what is set for the database now, for triggers and for settings that are not fixed.  In a transaction.
 */
void
environment_reread(void)
{
	Relation relation = table_open(DbRoleSettingRelationId, AccessShareLock);

	ApplySetting(GetActiveSnapshot(), MyDatabaseId, InvalidOid, relation, PGC_S_DATABASE);
	table_close(relation, AccessShareLock);
}

/* ---------- triggers ---------- */

/*
 * Whether a function's own settings have a search_path.
 */
static bool
has_own_path(HeapTuple function)
{
	bool isnull;
	Datum settings = SysCacheGetAttr(PROCOID, function, Anum_pg_proc_proconfig, &isnull);
	Datum *elements;
	int n;
	int i;

	if (isnull)
		return false;
	deconstruct_array(DatumGetArrayTypeP(settings), TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  NULL, &n);
	for (i = 0; i < n; i++)
	{
		if (pg_strncasecmp(TextDatumGetCString(elements[i]), "search_path=", 12) == 0)
			return true;
	}
	return false;
}

/*
 * Whether a function is a trigger of others.  PostgreSQL's own and genjob's are in C.
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
 * Undoes what a trigger has set.  A function with settings of its own has closed its level before, and the one within
 * it: what it set without LOCAL has outlasted both.
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
 * Sets the database's search_path when a trigger begins, and undoes at its end what it has set.  If the trigger raises
 * an error, the end of the transaction does that.
 */
static void
surround(FmgrHookEventType event, FmgrInfo *function, Datum *level)
{
	bool has_path;

	/* another's hook cannot share *level: it is called for its own functions alone */
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
		(void) set_config_option("search_path", GetConfigOptionResetString("search_path"),
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Fixes what can only be set once the process is connected.
 */
void
environment_fix_session(void)
{
	fix_user();
	/* from the session: what RESET would give stays the database's, as triggers see it */
	SetConfigOption("search_path", OUR_SEARCH_PATH, PGC_SUSET, PGC_S_SESSION);
	next_needs_hook = needs_fmgr_hook;
	needs_fmgr_hook = needs_hook;
	next_hook = fmgr_hook;
	fmgr_hook = surround;
}
