/*
 * depsession.c
 *		Jobs that wait for others, in a session that ends or inserts some.
 *
 * In the same transaction, the session follows the jobs that it changed, as
 * the owner of the tables, with a fixed search_path.  So it learns nothing,
 * and other people's triggers get no more rights than in the dispatcher.  The
 * commit tells the dispatcher of the same jobs.  The dispatcher looks again,
 * because the session may have failed, or another transaction may have
 * committed since.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/trace.h"
#include "queue/attached.h"
#include "queue/dependency.h"
#include "queue/depround.h"
#include "queue/ended.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/tables.h"
#include "shared/commit.h"

#define ROUNDS 100 /* how far a chain is followed */

static int own_depth = 0; /* trigger depth in this file's statements; 0: none runs */

/*
 * True if this file's own statement fired the trigger that runs.
 */
bool
dependency_is_own_statement(void)
{
	return own_depth > 0 &&
		   DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) == own_depth;
}

/* The jobs that this transaction has noted */
static IdList noted;
static IdList rewired;       /* jobs whose old dependencies do not count any more */
static TimestampTz noted_in; /* when that transaction began */
static bool is_sure;         /* look even if no job waits yet */

/*
 * Notes a job that this transaction changes, for dependency_follow().  always:
 * look even if no job waits yet; this job may wait, or others for it.
 */
void
dependency_note_own(int64 id, bool always)
{
	/* replication fires no statement trigger: the dispatcher looks later */
	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return;
	if (noted_in != GetCurrentTransactionStartTimestamp())
		noted.n = rewired.n = 0;
	if (noted.n == 0)
		is_sure = false;
	noted_in = GetCurrentTransactionStartTimestamp();
	is_sure |= always;
	idlist_add(&noted, id);
}

/*
 * Notes that a job's old dependencies do not count any more.  Call
 * dependency_note_own() next.
 */
void
dependency_note_rewired(int64 id)
{
	if (noted_in != GetCurrentTransactionStartTimestamp())
		noted.n = rewired.n = 0;
	noted_in = GetCurrentTransactionStartTimestamp();
	idlist_add(&rewired, id);
}

/*
 * True if a job of this database waits, or did lately.  Otherwise ends affect no other job, and cost nothing.
 */
static bool
is_used(void)
{
	Oid oid = get_relname_relid("dependencies", get_namespace_oid("genjob", true));
	Relation table = OidIsValid(oid) ? try_table_open(oid, AccessShareLock) : NULL;
	bool used = table != NULL && RelationGetNumberOfBlocks(table) > 0;

	if (table != NULL)
		table_close(table, NoLock);
	return used;
}

static void
note_resolved(const Resolved *job, void *arg)
{
	JobEnd end = {.id = job->id, .from = ROW_WAITING, .is_of_session = true};

	commit_note_job(job->id);
	if (job->state == NULL || strcmp(job->state, "queued") == 0)
		return;
	end.to = rowstate_parse(job->state);
	end.server = statement_name(job->row, ROUND_SERVER);
	end.has_on_done = DatumGetBool(statement_not_null(job->row, ROUND_HAS_ON_DONE));
	job_ended(&end);
}

/*
 * Runs one round over the noted jobs.  Notes the jobs that the round changed.
 */
static void
follow_once(void)
{
	int n = noted.n;
	int64 *ids = palloc(n * sizeof(int64));
	IdList revived = {0};
	Round round = {.ids = ids,
				   .n = n,
				   .is_look = true,
				   .may_revive = true,
				   .now = clock_now(),
				   .revived = &revived,
				   .resolved = note_resolved};
	int i;

	memcpy(ids, noted.ids, n * sizeof(int64));
	noted.n = 0;
	round_run(&round);
	for (i = 0; i < revived.n; i++)
	{
		commit_note_job(revived.ids[i]);
		idlist_add(&noted, revived.ids[i]);
	}
	free(revived.ids);
	pfree(ids);
}

/* Work to do as the owner of the tables. */
typedef struct OwnWork
{
	Oid table; /* gen_jobs */
	QueueWork work;
	void *arg;
} OwnWork;

static void
work_as_owner(void *arg)
{
	static bool initialized = false;
	OwnWork *own = arg;

	if (!initialized)
	{
		attached_init();
		tables_init();
	}
	initialized = true;
	if (!tables_are(own->table) && queue_find_tables() != QUEUE_PRESENT)
		return;
	tables_become_owner();
	own->work(own->arg);
}

/*
 * Runs work as the owner of the tables, with a fixed search_path, in a
 * subtransaction.  Restores the caller's user and settings.  Returns NULL, or
 * why it failed.
 */
ErrorData *
queue_run_as_owner(Oid table, QueueWork work, void *arg)
{
	OwnWork own = {table, work, arg};
	MemoryContext caller = CurrentMemoryContext;
	ErrorData *error = NULL;
	Oid user;
	int context;
	int level;

	GetUserIdAndSecContext(&user, &context);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	/* plans that are made while the table is small are kept when it is large */
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	/* enable_seqscan = off may raise costs enough for JIT and workers */
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	(void) set_config_option("max_parallel_workers_per_gather", "0", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	/* the error outlives this */
	MemoryContextSwitchTo(caller);
	(void) queue_guard(work_as_owner, &own, &error);
	tables_leave();
	SetUserIdAndSecContext(user, context);
	AtEOXact_GUC(false, level);
	SPI_finish();
	return error;
}

static void
follow_noted(void *arg)
{
	int rounds = ROUNDS;

	if (rewired.n > 0)
		round_forget(&rewired);
	while (noted.n > 0 && rounds-- > 0)
		follow_once();
}

/*
 * Looks at the jobs that this transaction's last statement on gen_jobs has noted: jobs that waited for ended jobs
 * continue or fail, and new jobs begin to wait.
 */
void
dependency_follow(Oid table)
{
	ErrorData *error = NULL;
	bool is_rewired = rewired.n > 0;

	if (noted.n == 0 || own_depth > 0)
		return;
	if (noted_in != GetCurrentTransactionStartTimestamp() || (!is_sure && !is_used()))
	{
		noted.n = 0;
		return;
	}
	own_depth = DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) + 1;
	PG_TRY();
	{
		error = queue_run_as_owner(table, follow_noted, NULL);
	}
	PG_FINALLY();
	{
		own_depth = 0;
		noted.n = rewired.n = 0;
	}
	PG_END_TRY();
	if (error == NULL)
		return;
	/* only this session can delete a job's old dependencies */
	if (is_rewired || ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	trace_quietly("the dispatcher will look at waiting jobs: %s", error->message);
}

static void
forget_all(void *arg)
{
	round_forget_all();
}

/*
 * Forgets all dependencies, because all jobs are gone.
 */
void
dependency_forget_all(Oid table)
{
	ErrorData *error = is_used() ? queue_run_as_owner(table, forget_all, NULL) : NULL;

	if (error != NULL && ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
}

/* Ids to filter: keep those that the role may see. */
typedef struct Keeping
{
	int64 *ids;
	int n;
	Oid role;
	KeptJobs kept;
} Keeping;

static void
keep_seen(void *arg)
{
	Keeping *keeping = arg;

	keeping->n = round_keep_seen(keeping->ids, keeping->n, keeping->role, keeping->kept);
}

/*
 * Keeps the ids of jobs that the role may see and kept names; returns how many
 * are left.
 */
int
dependency_keep_seen(Oid table, Oid role, int64 *ids, int n, KeptJobs kept)
{
	Keeping keeping = {ids, n, role, kept};
	ErrorData *error;

	if (n == 0)
		return 0;
	error = queue_run_as_owner(table, keep_seen, &keeping);
	if (error == NULL)
		return keeping.n;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	/*
	 * Nothing was checked.  KEEP_ALL keeps all ids; the others keep none,
	 * since the claim postpones a job that must wait.
	 */
	return kept == KEEP_ALL ? n : 0;
}

/* The URLs of stored objects, and the jobs that brought them. */
typedef struct Making
{
	List *urls;   /* of char * */
	Datum result; /* bigint[], in context */
	MemoryContext context;
} Making;

/* clang-format off */
/* jobs may share a URL if the store's option key has no job and no attempt */
static const Statement find_makers = {1, {TEXTARRAYOID},
	"SELECT coalesce(array_agg(DISTINCT o.job_id), '{}') FROM unnest($1) u (url)"
	" CROSS JOIN LATERAL (SELECT job_id FROM @.gen_outputs g WHERE g.url = u.url LIMIT 100) o"};
/* clang-format on */

static void
find_all_makers(void *arg)
{
	static SPIPlanPtr plan = NULL;
	static uint64 schema_changes = 0;
	Making *making = arg;
	Datum *urls = palloc(list_length(making->urls) * sizeof(Datum));
	MemoryContext caller;
	Datum args[1];
	ListCell *cell;
	int n = 0;

	foreach(cell, making->urls)
		urls[n++] = CStringGetTextDatum(lfirst(cell));
	args[0] = PointerGetDatum(construct_array(urls, n, TEXTOID, -1, false, TYPALIGN_INT));
	if (schema_changes != statement_schema_changes)
		plan = NULL;
	schema_changes = statement_schema_changes;
	statement_execute(&find_makers, &plan, args, NULL);
	caller = MemoryContextSwitchTo(making->context);
	making->result = PointerGetDatum(DatumGetArrayTypePCopy(statement_not_null(0, 1)));
	MemoryContextSwitchTo(caller);
}

/*
 * Finds the jobs that stored the objects at urls.  Returns their number, and
 * their ids in *ids, palloc'd.  If the search fails, returns 0 and leaves *ids
 * unset.
 */
int
dependency_find_makers(Oid table, List *urls, int64 **ids)
{
	Making making = {.urls = urls, .context = CurrentMemoryContext};
	ErrorData *error = queue_run_as_owner(table, find_all_makers, &making);
	ArrayType *found;
	int n;

	if (error != NULL && ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	if (error != NULL || making.result == (Datum) 0)
		return 0;
	found = DatumGetArrayTypeP(making.result);
	n = ArrayGetNItems(ARR_NDIM(found), ARR_DIMS(found));
	*ids = palloc(Max(n, 1) * sizeof(int64));
	if (n > 0)
		memcpy(*ids, ARR_DATA_PTR(found), n * sizeof(int64));
	return n;
}
