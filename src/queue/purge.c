/*
 * purge.c
 *		Deletes jobs that were kept for as long as their server's option
 *		retention says.
 *
 * The SQL function genjob.purge_jobs() deletes them; genjob.purge() calls it,
 * too.  Here it runs in the dispatcher, as the owner of the tables.  So it
 * deletes only jobs that nobody needs any more, and only while no other role's
 * code that is attached to the tables would run as that owner.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/clock.h"
#include "queue/ended.h"
#include "queue/needed.h"
#include "queue/purge.h"
#include "queue/statement.h"
#include "queue/tables.h"
#include "server/server.h"

#define MAX_BYTES (4 * 1024 * 1024) /* of the jobs of a batch; one job may have more */
#define LOOK_US 5000                /* for looking who needs them */
/* For a row or a table that others are about to unlock */
#define LOCK_TIMEOUT "50ms"

/* clang-format off */

static const Statement find_servers = {0, {0},
	"SELECT s.srvname::text, hashtextextended(concat(s.oid, s.srvoptions), 0) FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw AND w.fdwname = 'genjob'"
	" WHERE s.srvoptions::text LIKE '%retention%' ORDER BY 1"};

/* a role may have set any number of bytes */
static const Statement find_due = {6, {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT4OID},
	"SELECT j.id, j.finished_at,"
	"  coalesce(pg_column_size(j.inputs), 0) + coalesce(pg_column_size(j.result), 0)"
	"  + coalesce((SELECT least(sum(greatest(o.bytes, 0)), 1e12) FROM @.gen_outputs o WHERE o.job_id = j.id AND o.url IS NULL), 0)::int8,"
	"  EXISTS (SELECT FROM @.gen_outputs o WHERE o.job_id = j.id AND o.url IS NOT NULL), j.owner::oid, j.server_oid"
	" FROM @.gen_jobs j WHERE j.server = $1 AND j.state = $2::@.gen_job_state"
	"  AND j.retained AND j.state IN ('succeeded', 'failed', 'cancelled') AND j.finished_at <= $3 AND (j.finished_at, j.id) > ($4, $5)"
	" ORDER BY j.finished_at, j.id LIMIT $6 FOR UPDATE OF j SKIP LOCKED"};

static const Statement find_next = {3, {TEXTOID, TEXTOID, TIMESTAMPTZOID},
	"SELECT finished_at FROM @.gen_jobs WHERE server = $1 AND state = $2::@.gen_job_state"
	" AND retained AND state IN ('succeeded', 'failed', 'cancelled') AND finished_at > $3 ORDER BY finished_at LIMIT 1"};

/* only a succeeded job may have retained false: only direct.c sets it */
static const Statement retain = {3, {TEXTARRAYOID, INT8OID, INT4OID},
	"WITH page AS MATERIALIZED (SELECT id, NOT retained AND state = 'succeeded' AND server = ANY ($1) AS is_wanted"
	"  FROM @.gen_jobs WHERE id > $2 ORDER BY id LIMIT $3),"
	" held AS MATERIALIZED (SELECT j.id FROM page p JOIN @.gen_jobs j ON j.id = p.id WHERE p.is_wanted FOR NO KEY UPDATE OF j SKIP LOCKED),"
	" done AS (UPDATE @.gen_jobs j SET retained = true FROM held h WHERE j.id = h.id RETURNING j.id)"
	" SELECT count(*)::int4, coalesce(max(id), $2), count(*) FILTER (WHERE is_wanted)::int4, (SELECT count(*)::int4 FROM done) FROM page"};

static const Statement purge_jobs = {2, {INT8ARRAYOID, BOOLOID},
	"SELECT deleted, waiting, ordered, problem FROM genjob.purge_jobs($1, $2)"};

/*
 * The tables whose rows change when a job is deleted, and so on.  A foreign
 * key with RESTRICT or NO ACTION runs no code of its table.
 */
#define REFERRING \
	"WITH RECURSIVE tab (oid, depth) AS (" \
	"  SELECT c.oid, 0 FROM pg_extension e JOIN pg_class c ON c.relnamespace = e.extnamespace" \
	"   AND c.relname IN ('gen_jobs', 'gen_outputs') WHERE e.extname = 'genjob'" \
	" UNION" \
	"  SELECT n.oid, 1 FROM tab CROSS JOIN LATERAL (" \
	"    SELECT i.inhrelid AS oid FROM pg_inherits i WHERE i.inhparent = tab.oid" \
	"   UNION ALL" \
	"    SELECT c.conrelid FROM pg_trigger t JOIN pg_constraint c ON c.oid = t.tgconstraint" \
	"     WHERE t.tgrelid = tab.oid AND c.contype = 'f' AND c.confrelid = tab.oid AND c.confdeltype IN ('c', 'n', 'd')) n)"

static const Statement find_referring = {0, {0}, REFERRING " SELECT DISTINCT oid FROM tab WHERE depth > 0"};

/* what they fire afterwards runs as the role that deletes: here, the owner */
static const Statement find_triggers = {0, {0}, REFERRING
	" SELECT format('trigger %s of table %s runs code of role %s', quote_ident(t.tgname), t.tgrelid::regclass, quote_ident(r.rolname)),"
	"  CASE WHEN tab.depth = 0 THEN 'Give it to the owner of gen_jobs, or drop the trigger.'"
	"   ELSE 'Drop the trigger, or the ON DELETE of the foreign key; or have a role of yours call genjob.purge() instead.' END"
	" FROM tab JOIN pg_trigger t ON t.tgrelid = tab.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 24 <> 0"
	" CROSS JOIN LATERAL (SELECT t.tgfoid AS oid UNION SELECT d.refobjid FROM pg_depend d WHERE d.classid = 'pg_trigger'::regclass"
	"  AND d.objid = t.oid AND d.refclassid = 'pg_proc'::regclass) f"
	" JOIN pg_proc p ON p.oid = f.oid JOIN pg_roles r ON r.oid = p.proowner"
	" WHERE NOT r.rolsuper AND r.rolname <> current_user ORDER BY 1 LIMIT 1"};

/* clang-format on */

/*
 * Runs one of the statements above, whose plans are kept while the tables stay in their schema.
 */
static uint64
run_statement(const Statement *statement, Datum *args)
{
	static struct
	{
		const Statement *statement;
		SPIPlanPtr plan;
	} plans[8];
	static uint64 schema_changes = 0;
	int i;

	if (schema_changes != statement_schema_changes)
		memset(plans, 0, sizeof(plans));
	schema_changes = statement_schema_changes;
	for (i = 0; plans[i].statement != NULL && plans[i].statement != statement; i++)
		Assert(i < lengthof(plans) - 1);
	plans[i].statement = statement;
	return statement_execute(statement, &plans[i].plan, args, NULL);
}

/*
 * Lists the servers that may have the option retention or retention_failed:
 * PurgeServers, in the current memory context.
 */
List *
purge_list_servers(void)
{
	MemoryContext caller = CurrentMemoryContext;
	uint64 rows = tables_are_known() ? run_statement(&find_servers, NULL) : 0;
	List *servers = NIL;
	uint64 row;

	MemoryContextSwitchTo(caller);
	for (row = 0; row < rows; row++)
	{
		PurgeServer *server = palloc(sizeof(PurgeServer));

		namestrcpy(&server->name, statement_name(row, 1));
		server->digest = DatumGetInt64(statement_not_null(row, 2));
		servers = lappend(servers, server);
	}
	return servers;
}

/* ---------- what would run ---------- */

/*
 * Locks the tables that a deletion would change, so that nothing more is attached to them until the transaction ends.
 */
static void
lock_referring(void)
{
	uint64 rows = run_statement(&find_referring, NULL);
	Oid *tables = palloc(Max(rows, 1) * sizeof(Oid));
	uint64 row;

	for (row = 0; row < rows; row++)
		tables[row] = DatumGetObjectId(statement_not_null(row, 1));
	for (row = 0; row < rows; row++)
	{
		Relation relation = try_table_open(tables[row], RowExclusiveLock);

		if (relation != NULL)
			table_close(relation, NoLock);
	}
}

/*
 * Raises an error if a deletion would run code of another role as the owner of the tables.
 */
static void
refuse_strangers(bool with_objects)
{
	const char *stranger = with_objects ? tables_find_insert_stranger() : NULL;

	if (stranger != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s would run in the dispatcher", stranger),
				 errhint(
					 "Give it to the owner of gen_jobs, or drop it; until then objects are not deleted.")));
	lock_referring();
	if (run_statement(&find_triggers, NULL) == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("the option retention deletes no jobs: %s", statement_name(0, 1)),
					errhint("%s", statement_name(0, 2))));
}

/*
 * Makes deferrable foreign keys check at once: at the commit, one would fail
 * the whole batch.  Not by their names, because the tables' owner may lack
 * USAGE on the schemas of applications.
 */
static void
fire_at_once(void)
{
	if (SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not set constraints immediate");
}

/* ---------- a batch ---------- */

/* A job that was kept long enough. */
typedef struct DueJob
{
	PurgePlace place;
	int64 bytes;
	bool has_objects;
	Oid owner;
	Oid server_oid; /* InvalidOid: not known */
} DueJob;

/*
 * Copies what find_due has found, palloc'd.
 */
static DueJob *
read_due(uint64 rows)
{
	DueJob *due = palloc(Max(rows, 1) * sizeof(DueJob));
	bool isnull;
	uint64 row;

	for (row = 0; row < rows; row++)
	{
		due[row].place.id = DatumGetInt64(statement_not_null(row, 1));
		due[row].place.finished_at = DatumGetTimestampTz(statement_not_null(row, 2));
		due[row].bytes = DatumGetInt64(statement_not_null(row, 3));
		due[row].has_objects = DatumGetBool(statement_not_null(row, 4));
		due[row].owner = DatumGetObjectId(statement_not_null(row, 5));
		due[row].server_oid = DatumGetObjectId(statement_value(row, 6, &isnull));
		if (isnull)
			due[row].server_oid = InvalidOid;
	}
	return due;
}

/*
 * True if server may say how long the job is kept: the job was inserted for
 * it, or it may take that server's place.
 */
static bool
is_of_server(const DueJob *due, const Server *server)
{
	ServerComplaint complaint;

	return server != NULL &&
		   server_check_intended(server, due->server_oid, due->owner, tables_owner(), &complaint);
}

/*
 * Takes rows of find_due, up to MAX_BYTES and for LOOK_US: thousands of jobs
 * may refer to each.  Returns the ids of the jobs to delete, palloc'd, and
 * their number in *n.
 */
static int64 *
take_due(PurgeBatch *batch, uint64 rows, int *n, bool *has_objects)
{
	int64 *ids = palloc(Max(rows, 1) * sizeof(int64));
	const DueJob *due = read_due(rows);
	ServerComplaint complaint;
	const Server *server = server_get(batch->server, &complaint);
	MonoTime until = clock_uptime() + LOOK_US;
	int64 bytes = 0;
	uint64 row;

	*n = 0;
	*has_objects = false;
	for (row = 0; row < rows; row++)
	{
		bytes += due[row].bytes;
		if (row > 0 && (bytes > MAX_BYTES || clock_uptime() > until))
			break;
		batch->last = due[row].place;
		if (!is_of_server(&due[row], server))
			continue;
		*has_objects |= due[row].has_objects;
		if (needed_by_others(due[row].place.id))
			batch->any_kept = true;
		else
			ids[(*n)++] = due[row].place.id;
	}
	batch->n = (int) row;
	batch->has_more = row < rows || rows == batch->max;
	return ids;
}

static void
delete_jobs(PurgeBatch *batch, const int64 *ids, int n)
{
	Datum args[2] = {PointerGetDatum(statement_int8_array(ids, n)), BoolGetDatum(true)};
	bool isnull;
	Datum problem;

	batch->first = ids[0];
	ended_is_handing_over = true;
	PG_TRY();
	{
		(void) run_statement(&purge_jobs, args);
	}
	PG_FINALLY();
	{
		ended_is_handing_over = false;
	}
	PG_END_TRY();
	batch->deleted = DatumGetInt64(statement_not_null(0, 1));
	batch->waiting = DatumGetInt64(statement_not_null(0, 2));
	batch->ordered = DatumGetInt64(statement_not_null(0, 3));
	problem = statement_value(0, 4, &isnull);
	batch->problem = isnull ? NULL : SPI_palloc(VARSIZE_ANY_EXHDR(DatumGetTextPP(problem)) + 1);
	if (batch->problem != NULL)
		text_to_cstring_buffer(DatumGetTextPP(problem), batch->problem,
							   VARSIZE_ANY_EXHDR(DatumGetTextPP(problem)) + 1);
}

static Datum
names_array(const List *names)
{
	Datum *texts = palloc(Max(list_length(names), 1) * sizeof(Datum));
	ListCell *cell;
	int n = 0;

	foreach(cell, names)
		texts[n++] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * Makes the index gen_jobs_ended list the jobs of these servers that succeeded
 * before the server had the option; takes the next page of jobs by id.
 * Triggers of others do not fire, except those that are enabled ALWAYS:
 * nothing happens to a job.
 */
void
purge_retain(RetainBatch *batch)
{
	Datum args[3] = {names_array(batch->servers), Int64GetDatum(batch->last),
					 Int32GetDatum(batch->max)};

	batch->has_more = false;
	if (!tables_are_known())
		return;
	(void) set_config_option("session_replication_role", "replica", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) run_statement(&retain, args);
	batch->has_more = DatumGetInt32(statement_not_null(0, 1)) == batch->max;
	batch->last = DatumGetInt64(statement_not_null(0, 2));
	batch->n = DatumGetInt32(statement_not_null(0, 4));
	batch->stepped_over = batch->n < DatumGetInt32(statement_not_null(0, 3));
}

/*
 * Deletes the jobs of a batch that nobody needs and whose objects are gone.
 * For objects that are still there, orders jobs that delete them.
 */
void
purge_run(PurgeBatch *batch)
{
	Datum args[6] = {CStringGetTextDatum(batch->server),
					 CStringGetTextDatum(batch->state),
					 TimestampTzGetDatum(batch->before),
					 TimestampTzGetDatum(batch->after.finished_at),
					 Int64GetDatum(batch->after.id),
					 Int32GetDatum(batch->max)};
	bool has_objects;
	int64 *ids;
	int n;

	batch->next = DT_NOEND;
	if (!tables_are_known())
		return;
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	ids = take_due(batch, run_statement(&find_due, args), &n, &has_objects);
	if (n > 0)
	{
		refuse_strangers(has_objects);
		fire_at_once();
		delete_jobs(batch, ids, n);
	}
	if (!batch->has_more && run_statement(&find_next, args) > 0)
		batch->next = DatumGetTimestampTz(statement_not_null(0, 1));
}
