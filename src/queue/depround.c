/*
 * depround.c
 *		The statements that tell dependents about the end of a job.
 *
 * genjob.dependencies has a row for each job that a waiting job still waits
 * for.  It says where to look, and how a job ended whose row may be gone.  The
 * statements read each time from gen_jobs whether a job has ended.  So they may
 * look twice at a job, or in another order than the commits.
 *
 * The statements skip rows of gen_jobs that another transaction has locked.  A
 * job waits only for jobs with lower ids, so there are no cycles.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "queue/depround.h"
#include "queue/direct.h"
#include "queue/statement.h"
#include "queue/uniquekey.h"

typedef enum RoundStatement
{
	ROUND_FORGET,
	ROUND_FORGET_ALL,
	ROUND_DROP,
	ROUND_REVIVE,
	ROUND_REVIVABLE,
	ROUND_REVIVE_ONE,
	ROUND_REGISTER,
	ROUND_TOUCHED,
	ROUND_NEXT,
	ROUND_CONTINUE,
	ROUND_RESOLVE,
	ROUND_FINISH,
	ROUND_DEPENDENTS,
	ROUND_USED,
	ROUND_PAGE,
	ROUND_PAGE_RETRIED,
	ROUND_SWEEP,
	ROUND_SEEN,
	ROUND_STATEMENTS
} RoundStatement;

#define UNFINISHED "('waiting', 'queued', 'running')"

/*
 * Plans are kept, and may be made while these tables are empty; a join would
 * then stay in the order that suits empty tables.  So the statements look rows
 * up by an array of keys, or in a subquery of one table; OFFSET 0 keeps the
 * planner from making that a join.  coalesce() avoids partial indexes that do
 * not begin with the key, which would be read as a whole.
 */
#define HAS_NO_OUTCOME "coalesce(d.outcome, '') = ''"
#define IS_WAITING(id) \
	"EXISTS (SELECT FROM @.gen_jobs p WHERE p.id = " id " AND p.state = 'waiting' OFFSET 0)"
#define IS_UNFINISHED(id) \
	"EXISTS (SELECT FROM @.gen_jobs p WHERE p.id = " id " AND p.state IN " UNFINISHED " OFFSET 0)"
#define HAS_NOT_SUCCEEDED \
	"(d.outcome IS NOT NULL OR NOT EXISTS" \
	" (SELECT FROM @.gen_jobs p WHERE p.id = d.parent_id AND p.state = 'succeeded' OFFSET 0))"
/* the job waits for a job that has not ended */
#define IS_HELD_UP(id) \
	"EXISTS (SELECT FROM genjob.dependencies d WHERE d.job_id = " id " AND " HAS_NO_OUTCOME \
	" AND " IS_UNFINISHED("d.parent_id") " OFFSET 0)"

/* clang-format off */

/* jobs j that did not run because of a job of $1 */
#define BLOCKED " FROM @.gen_jobs j WHERE j.blocked_by = ANY ($1) AND j.state IN ('failed', 'cancelled')"
/* the retried job may have succeeded by now, if somebody had j locked */
#define IS_RETRIED(id) \
	"EXISTS (SELECT FROM @.gen_jobs p WHERE p.id = " id " AND p.state NOT IN ('failed', 'cancelled') OFFSET 0)"
/* a job in after without a row had succeeded, or it would be blocked_by */
#define REVIVED "state = 'waiting', finished_at = NULL, error = NULL, blocked_by = NULL, failures = 0, follow_up = NULL," \
	" after = ARRAY(SELECT a.id FROM unnest(j.after) WITH ORDINALITY a (id, n) WHERE a.id = j.blocked_by" \
	"  OR EXISTS (SELECT FROM @.gen_jobs p WHERE p.id = a.id OFFSET 0) ORDER BY a.n)," \
	" expires_at = CASE WHEN j.expires_at > $2 THEN j.expires_at END"

static const Statement statements[ROUND_STATEMENTS] = {
	/* dependencies of jobs that now wait for other jobs */
	[ROUND_FORGET] = {1, {INT8ARRAYOID}, "DELETE FROM genjob.dependencies WHERE job_id = ANY ($1)"},
	[ROUND_FORGET_ALL] = {0, {0}, "DELETE FROM genjob.dependencies"},
	/* dependencies of jobs that do not wait any more */
	[ROUND_DROP] = {1, {INT8ARRAYOID},
		"DELETE FROM genjob.dependencies x WHERE x.ctid = ANY (ARRAY(SELECT d.ctid FROM genjob.dependencies d"
		"  WHERE d.job_id = ANY ($1) AND NOT " IS_WAITING("d.job_id") " FOR UPDATE OF d SKIP LOCKED))"},
	/* jobs that did not run because of a job of $1, which is run again */
	[ROUND_REVIVE] = {3, {INT8ARRAYOID, TIMESTAMPTZOID, INT4OID},
		"WITH blocked AS MATERIALIZED (SELECT j.id, j.blocked_by" BLOCKED " AND j.unique_key IS NULL"
		"  AND " IS_RETRIED("j.blocked_by") " LIMIT $3),"
		" held AS MATERIALIZED (SELECT j.id FROM @.gen_jobs j WHERE j.id = ANY (ARRAY(SELECT b.id FROM blocked b))"
		"  AND j.blocked_by IS NOT NULL AND j.state IN ('failed', 'cancelled') FOR NO KEY UPDATE OF j SKIP LOCKED),"
		" done AS (UPDATE @.gen_jobs j SET " REVIVED " FROM held h WHERE j.id = h.id RETURNING j.id)"
		" SELECT b.id, b.blocked_by, b.id IN (SELECT d.id FROM done d) FROM blocked b"},
	/*
	 * Lists such jobs with a unique_key that no unfinished job has, to be set
	 * one by one.  Not if the retried job has ended: they must not run only
	 * because their key became free long after.
	 */
	[ROUND_REVIVABLE] = {2, {INT8ARRAYOID, INT4OID},
		"SELECT j.id, j.blocked_by, j.owner::oid, j.server, j.unique_key" BLOCKED " AND j.unique_key IS NOT NULL"
		"  AND " IS_UNFINISHED("j.blocked_by")
		"  AND NOT EXISTS (SELECT FROM @.gen_jobs k"
		"   WHERE k.owner = j.owner AND k.server = j.server AND k.unique_key = j.unique_key AND k.state IN " UNFINISHED ")"
		" LIMIT $2"},
	[ROUND_REVIVE_ONE] = {2, {INT8OID, TIMESTAMPTZOID},
		"WITH held AS MATERIALIZED (SELECT j.id FROM @.gen_jobs j WHERE j.id = $1 AND j.blocked_by IS NOT NULL AND j.state IN ('failed', 'cancelled') FOR NO KEY UPDATE SKIP LOCKED)"
		" UPDATE @.gen_jobs j SET " REVIVED " FROM held h WHERE j.id = h.id RETURNING j.id"},
	/* a job that the owner may not see, or a later one, counts as missing */
	[ROUND_REGISTER] = {1, {INT8ARRAYOID},
		"INSERT INTO genjob.dependencies (job_id, parent_id, outcome)"
		" SELECT c.id, c.parent, CASE WHEN p.id IS NULL OR c.parent >= c.id"
		"   OR NOT coalesce(pg_has_role(c.owner::oid, p.owner::oid, 'USAGE'), false) THEN 'missing'"
		"   WHEN p.state IN ('failed', 'cancelled') THEN p.state::text END"
		" FROM (SELECT DISTINCT j.id, j.owner, unnest(j.after) AS parent FROM @.gen_jobs j WHERE j.id = ANY ($1)"
		"   AND j.state = 'waiting' AND NOT EXISTS (SELECT FROM genjob.dependencies d WHERE d.job_id = j.id OFFSET 0)) c"
		" LEFT JOIN LATERAL (SELECT j.id, j.state, j.owner FROM @.gen_jobs j WHERE j.id = c.parent OFFSET 0) p ON true"
		" WHERE p.id IS NULL OR p.state <> 'succeeded' OR c.parent >= c.id"
		"  OR NOT coalesce(pg_has_role(c.owner::oid, p.owner::oid, 'USAGE'), false)"
		" ON CONFLICT (job_id, parent_id) DO NOTHING"},
	/*
	 * Jobs that wait for a job of $1 that has ended or is gone, with that job.
	 * If $2, also waiting jobs of $1 that wait for no unfinished job.
	 */
	[ROUND_TOUCHED] = {3, {INT8ARRAYOID, BOOLOID, INT4OID},
		"SELECT job_id, parent_id FROM (SELECT d.job_id, d.parent_id FROM genjob.dependencies d"
		"   WHERE d.parent_id = ANY ($1) AND d.outcome IS NULL AND NOT " IS_UNFINISHED("d.parent_id")
		"  UNION ALL SELECT j.id, NULL FROM @.gen_jobs j WHERE $2 AND j.id = ANY ($1) AND j.state = 'waiting'"
		"   AND NOT " IS_HELD_UP("j.id")
		"  LIMIT $3) t"},
	/* jobs that wait for one of $1, whether all that each waited for has succeeded, and how many of $1 it waits for: up to $2 in all */
	[ROUND_NEXT] = {2, {INT8ARRAYOID, INT4OID},
		"SELECT n.job_id, NOT EXISTS (SELECT FROM genjob.dependencies d WHERE d.job_id = n.job_id AND " HAS_NOT_SUCCEEDED " OFFSET 0), n.n FROM (SELECT f.job_id, count(*) AS n"
		"  FROM (SELECT d.job_id FROM genjob.dependencies d WHERE d.parent_id = ANY ($1) AND d.outcome IS NULL LIMIT $2) f GROUP BY f.job_id) n"},
	/* queues jobs of $1 whose dependencies all succeeded; by ctid: one lookup, and it leaves rows that changed since and may wait for others */
	[ROUND_CONTINUE] = {1, {INT8ARRAYOID},
		"WITH held AS MATERIALIZED (SELECT j.ctid AS place FROM @.gen_jobs j WHERE j.id = ANY ($1)"
		"  AND j.state = 'waiting' AND coalesce(cardinality(j.after), 0) > 0 AND j.after_rule <> 'failed'"
		"  AND NOT EXISTS (SELECT FROM genjob.dependencies d WHERE d.job_id = j.id AND " HAS_NOT_SUCCEEDED " OFFSET 0)"
		"  FOR NO KEY UPDATE OF j SKIP LOCKED),"
		" done AS (UPDATE @.gen_jobs j SET state = 'queued', finished_at = NULL, blocked_by = NULL, error = NULL"
		"  WHERE j.ctid = ANY (ARRAY(SELECT h.place FROM held h))"
		"  RETURNING j.id, j.state, j.server, j.owner, j.tenant, j.priority, j.run_at, j.expires_at, j.on_done),"
		" gone AS (DELETE FROM genjob.dependencies d WHERE d.job_id = ANY (ARRAY(SELECT n.id FROM done n)))"
		" SELECT n.id, n.state::text, n.server, n.owner::oid, n.tenant, n.priority, n.run_at, n.expires_at, n.on_done IS NOT NULL FROM done n"},
	/*
	 * Queues, fails or cancels those of the jobs $1 that wait for nothing any
	 * more; by ctid, as ROUND_CONTINUE does.  Cuts the errors that it quotes,
	 * which may quote others, and reads only the start of a huge one: each job quotes it.
	 */
	[ROUND_RESOLVE] = {2, {INT8ARRAYOID, TIMESTAMPTZOID},
		"WITH ready AS MATERIALIZED (SELECT j.id FROM @.gen_jobs j WHERE j.id = ANY ($1)"
		"  AND j.state = 'waiting' AND coalesce(cardinality(j.after), 0) > 0 AND NOT " IS_HELD_UP("j.id") "),"
		" held AS MATERIALIZED (SELECT j.ctid AS place FROM @.gen_jobs j WHERE j.id = ANY (ARRAY(SELECT r.id FROM ready r)) AND j.state = 'waiting' FOR NO KEY UPDATE OF j SKIP LOCKED),"
		/* no join: each row looks up its own dependencies by its id */
		" done AS (UPDATE @.gen_jobs j SET (state, finished_at, blocked_by, error) = (SELECT v.state::@.gen_job_state,"
		"  CASE WHEN v.state <> 'queued' THEN $2 END,"
		/* 0 for a missing job: its change must not revive this job */
		"  CASE WHEN v.state <> 'queued' THEN CASE WHEN v.missing IS NULL THEN v.bad ELSE 0 END END,"
		"  CASE WHEN v.state = 'cancelled' THEN 'was not needed: no job that it waited for has failed.'"
		"   WHEN v.state = 'failed' AND v.missing IS NOT NULL THEN"
		"    format('job %s, which this job should wait for, does not exist, was inserted later, or may not be seen by the owner of this job. Insert this job again without that id.', v.missing)"
		"   WHEN v.state = 'failed' THEN concat(format('job %s, which this job waited for, ', v.bad),"
		"    coalesce((SELECT CASE p.state WHEN 'cancelled' THEN 'was cancelled' ELSE 'failed' END || coalesce(': ' ||"
		"      CASE WHEN octet_length(p.error) > 100000 THEN left(p.error, 900) || ' ...' WHEN length(p.error) > 1000 THEN left(p.error, 500) || ' ... ' || right(p.error, 400) ELSE p.error END, '.')"
		"     FROM @.gen_jobs p WHERE p.id = v.bad AND coalesce(pg_has_role(j.owner::oid, p.owner::oid, 'USAGE'), false)),"
		"    'has not succeeded.')) END"
		"  FROM (SELECT o.missing, o.bad, CASE WHEN o.missing IS NOT NULL THEN 'failed'"
		"    WHEN j.after_rule = 'succeeded' AND o.bad IS NOT NULL THEN 'failed'"
		"    WHEN j.after_rule = 'failed' AND o.failed IS NOT TRUE THEN 'cancelled' ELSE 'queued' END AS state"
		"   FROM (SELECT min(e.parent_id) FILTER (WHERE e.outcome = 'missing') AS missing,"
		"     min(e.parent_id) FILTER (WHERE e.outcome IN ('failed', 'cancelled')) AS bad, bool_or(e.outcome = 'failed') AS failed"
		"    FROM (SELECT d.parent_id, coalesce(d.outcome, (SELECT p.state::text FROM @.gen_jobs p WHERE p.id = d.parent_id), 'missing')"
		"      AS outcome FROM genjob.dependencies d WHERE d.job_id = j.id OFFSET 0) e) o OFFSET 0) v)"
		"  WHERE j.ctid = ANY (ARRAY(SELECT h.place FROM held h))"
		"  RETURNING j.id, j.state, j.server, j.owner, j.tenant, j.priority, j.run_at, j.expires_at, j.on_done),"
		" gone AS (DELETE FROM genjob.dependencies d WHERE d.job_id = ANY (ARRAY(SELECT n.id FROM done n)))"
		" SELECT n.id, n.state::text, n.server, n.owner::oid, n.tenant, n.priority, n.run_at, n.expires_at, n.on_done IS NOT NULL FROM done n"
		" UNION ALL SELECT r.id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM ready r WHERE r.id NOT IN (SELECT n.id FROM done n)"},
	/*
	 * For each waiting job of $1, records how the parent in $2 ended, or
	 * deletes the dependency if the parent succeeded.  Only for parents that
	 * ROUND_RESOLVE has looked at; those that ended since come later.
	 */
	[ROUND_FINISH] = {2, {INT8ARRAYOID, INT8ARRAYOID},
		"WITH stale AS MATERIALIZED (SELECT d.place, d.parent_id, p.state FROM unnest($1, $2) g (id, parent)"
		"  CROSS JOIN LATERAL (SELECT d.ctid AS place, d.parent_id FROM genjob.dependencies d"
		"   WHERE d.job_id = g.id AND d.parent_id = g.parent AND " HAS_NO_OUTCOME " AND NOT " IS_UNFINISHED("d.parent_id")
		"   FOR UPDATE OF d SKIP LOCKED) d"
		"  LEFT JOIN LATERAL (SELECT j.state FROM @.gen_jobs j WHERE j.id = d.parent_id OFFSET 0) p ON true),"
		" gone AS (DELETE FROM genjob.dependencies d WHERE d.ctid = ANY (ARRAY(SELECT s.place FROM stale s WHERE s.state = 'succeeded'))),"
		" kept AS (UPDATE genjob.dependencies d SET outcome ="
		"   coalesce((SELECT p.state::text FROM @.gen_jobs p WHERE p.id = d.parent_id), 'missing')"
		"  WHERE d.ctid = ANY (ARRAY(SELECT s.place FROM stale s WHERE s.state IS DISTINCT FROM 'succeeded')))"
		" SELECT FROM stale"},
	[ROUND_DEPENDENTS] = {2, {INT8OID, INT4OID},
		"SELECT job_id FROM genjob.dependencies WHERE parent_id = $1 AND outcome IS NULL LIMIT $2"},
	[ROUND_USED] = {0, {0},
		"SELECT EXISTS (SELECT FROM genjob.dependencies) OR EXISTS (SELECT FROM @.gen_jobs WHERE state = 'waiting'),"
		" EXISTS (SELECT FROM @.gen_jobs WHERE blocked_by IS NOT NULL)"},
	[ROUND_PAGE] = {2, {INT8OID, INT4OID},
		"SELECT id FROM @.gen_jobs WHERE state = 'waiting' AND id > $1 ORDER BY id LIMIT $2"},
	/* lists jobs that blocked others, and whether they were retried; one index lookup each, however many they blocked */
	[ROUND_PAGE_RETRIED] = {2, {INT8OID, INT4OID},
		"WITH RECURSIVE b AS ((SELECT blocked_by AS id FROM @.gen_jobs WHERE blocked_by > $1 ORDER BY blocked_by LIMIT 1)"
		" UNION ALL SELECT (SELECT j.blocked_by FROM @.gen_jobs j WHERE j.blocked_by > b.id ORDER BY j.blocked_by LIMIT 1)"
		"  FROM b WHERE b.id IS NOT NULL)"
		" SELECT b.id, " IS_RETRIED("b.id") " FROM b WHERE b.id IS NOT NULL LIMIT $2"},
	/* dependencies of jobs between two ids that do not wait */
	[ROUND_SWEEP] = {2, {INT8OID, INT8OID},
		"DELETE FROM genjob.dependencies x WHERE x.ctid = ANY (ARRAY(SELECT d.ctid FROM genjob.dependencies d"
		"  WHERE d.job_id > $1 AND d.job_id <= $2 AND NOT " IS_WAITING("d.job_id") " FOR UPDATE OF d SKIP LOCKED))"},
	/* the jobs of $1 that the role $2 may see and KeptJobs $3 keeps */
	[ROUND_SEEN] = {3, {INT8ARRAYOID, OIDOID, INT4OID},
		"SELECT j.id FROM @.gen_jobs j WHERE j.id = ANY ($1)"
		" AND (j.state IN " UNFINISHED " OR $3 = 2 OR $3 = 1 AND j.state <> 'succeeded')"
		" AND pg_has_role($2, j.owner::oid, 'USAGE')"},
};

/* clang-format on */

static SPIPlanPtr plans[ROUND_STATEMENTS];

static uint64
run_statement(RoundStatement id, Datum *args)
{
	static uint64 known_schema = 0;

	if (known_schema != statement_schema_changes)
		memset(plans, 0, sizeof(plans));
	known_schema = statement_schema_changes;
	return statement_execute(&statements[id], &plans[id], args, NULL);
}

static int
limit_of(const Round *round)
{
	return round->limit > 0 ? round->limit : PG_INT32_MAX;
}

/* A job with a unique_key that should wait again, and the job it waits for. */
typedef struct Revivable
{
	int64 id;
	int64 parent;
	Oid owner;
	char *server;
	char *key;
} Revivable;

/*
 * Sets jobs with a unique_key to waiting again, one by one: if two have the
 * same key, the second must not fail the first.  If an open transaction has
 * the key, reports the parent as locked: an UPDATE would wait.
 */
static void
revive_unique(Round *round, Datum ids)
{
	Datum args[2] = {ids, Int32GetDatum(limit_of(round))};
	int n = (int) run_statement(ROUND_REVIVABLE, args);
	Revivable *jobs = palloc(Max(n, 1) * sizeof(Revivable));
	int i;

	for (i = 0; i < n; i++)
		jobs[i] = (Revivable){.id = DatumGetInt64(statement_not_null(i, 1)),
							  .parent = DatumGetInt64(statement_not_null(i, 2)),
							  .owner = DatumGetObjectId(statement_not_null(i, 3)),
							  .server = TextDatumGetCString(statement_not_null(i, 4)),
							  .key = TextDatumGetCString(statement_not_null(i, 5))};
	for (i = 0; i < n; i++)
	{
		Datum one[2] = {Int64GetDatum(jobs[i].id), TimestampTzGetDatum(round->now)};
		Resolved later = {.id = jobs[i].parent};

		CHECK_FOR_INTERRUPTS();
		if (uniquekey_is_free(jobs[i].owner, jobs[i].server, jobs[i].key) &&
			run_statement(ROUND_REVIVE_ONE, one) > 0)
		{
			idlist_add(round->revived, jobs[i].id);
			round->n_done++;
		}
		else
			round->resolved(&later, round->arg);
	}
	round->found |= n > 0;
	round->has_more |= n == limit_of(round);
}

/*
 * The same of jobs without a unique_key; reports parents of locked rows, too.
 */
static void
revive_others(Round *round, Datum ids)
{
	Datum args[3] = {ids, TimestampTzGetDatum(round->now), Int32GetDatum(limit_of(round))};
	uint64 rows = run_statement(ROUND_REVIVE, args);
	uint64 row;

	for (row = 0; row < rows; row++)
	{
		Resolved later = {.id = DatumGetInt64(statement_not_null(row, 2))};

		if (DatumGetBool(statement_not_null(row, 3)))
		{
			idlist_add(round->revived, DatumGetInt64(statement_not_null(row, 1)));
			round->n_done++;
		}
		else
			round->resolved(&later, round->arg);
	}
	round->found |= rows > 0;
	round->has_more |= rows == limit_of(round);
}

/*
 * Handles what a change means for the job: it waits, or not, or others do.
 */
static void
look_at_changed(Round *round, Datum ids)
{
	(void) run_statement(ROUND_DROP, &ids);
	if (round->may_revive)
	{
		revive_others(round, ids);
		revive_unique(round, ids);
	}
	(void) run_statement(ROUND_REGISTER, &ids);
}

/* Jobs that may continue, because a job that they waited for has ended */
typedef struct Touched
{
	int n_jobs;
	int64 *jobs;
	int n_final;
	int64 *final;   /* of these, once for each ended parent */
	int64 *parents; /* the ended job that final[i] waited for */
} Touched;

/* Lists the touched jobs; false if there are none. */
static bool
list_touched(Round *round, Datum ids, Touched *touched)
{
	Datum args[3] = {ids, BoolGetDatum(round->is_look), Int32GetDatum(limit_of(round))};
	uint64 rows = run_statement(ROUND_TOUCHED, args);
	uint64 row;

	touched->n_jobs = (int) rows;
	touched->jobs = palloc(Max(rows, 1) * sizeof(int64));
	touched->n_final = 0;
	touched->final = palloc(Max(rows, 1) * sizeof(int64));
	touched->parents = palloc(Max(rows, 1) * sizeof(int64));
	for (row = 0; row < rows; row++)
	{
		bool isnull;
		Datum parent = statement_value(row, 2, &isnull);

		touched->jobs[row] = DatumGetInt64(statement_not_null(row, 1));
		if (isnull)
			continue;
		touched->final[touched->n_final] = touched->jobs[row];
		touched->parents[touched->n_final++] = DatumGetInt64(parent);
	}
	round->has_more |= rows == limit_of(round);
	return rows > 0;
}

/*
 * Reports the rows of ROUND_CONTINUE or ROUND_RESOLVE.
 */
static void
take_rows(Round *round, uint64 rows)
{
	uint64 row;

	for (row = 0; row < rows; row++)
	{
		Resolved job = {.id = DatumGetInt64(statement_not_null(row, 1)), .row = row};
		bool isnull;
		Datum state = statement_value(row, 2, &isnull);

		round->n_done += !isnull;
		if (!isnull)
			job.state = TextDatumGetCString(state);
		round->resolved(&job, round->arg);
	}
}

/*
 * Queues jobs that waited for a job of ids, and for nothing else.  True if no
 * other job was found that waits for them, as usual: the round is then done.
 */
static bool
continue_next(Round *round, Datum ids)
{
	Datum args[2] = {ids, Int32GetDatum(limit_of(round))};
	Snapshot snapshot = RegisterSnapshot(GetTransactionSnapshot());
	int n = (int) run_statement(ROUND_NEXT, args);
	int64 *ready = palloc(Max(n, 1) * sizeof(int64));
	int n_ready = 0;
	int64 n_found = 0;
	int rows;
	int i;

	for (i = 0; i < n; i++)
	{
		n_found += DatumGetInt64(statement_not_null(i, 3));
		if (DatumGetBool(statement_not_null(i, 2)))
			ready[n_ready++] = DatumGetInt64(statement_not_null(i, 1));
	}
	round->found |= n > 0;
	round->has_more |= n_found == limit_of(round);
	rows = n_ready > 0 ? (int) direct_continue(ready, n_ready, snapshot) : 0;
	UnregisterSnapshot(snapshot);
	for (i = 0; i < rows; i++)
		ready[i] = DatumGetInt64(statement_not_null(i, 1));
	take_rows(round, rows);
	if (rows > 0)
		round_forget(&(IdList){.ids = ready, .n = rows});
	return rows == n;
}

/* Removes the touched jobs that are among the n sorted ids of done. */
static void
leave_out_resolved(Touched *touched, const int64 *done, int n)
{
	int n_jobs = touched->n_jobs;
	int n_final = touched->n_final;
	int i;

	touched->n_jobs = touched->n_final = 0;
	for (i = 0; i < n_jobs; i++)
	{
		if (bsearch(&touched->jobs[i], done, n, sizeof(int64), compat_compare_int64) == NULL)
			touched->jobs[touched->n_jobs++] = touched->jobs[i];
	}
	for (i = 0; i < n_final; i++)
	{
		if (bsearch(&touched->final[i], done, n, sizeof(int64), compat_compare_int64) != NULL)
			continue;
		touched->final[touched->n_final] = touched->final[i];
		touched->parents[touched->n_final++] = touched->parents[i];
	}
}

/*
 * Queues or ends the touched jobs that wait for nothing any more.  Leaves in
 * *touched the jobs that may still wait.
 */
static void
resolve_touched(Round *round, Touched *touched)
{
	Datum args[2] = {PointerGetDatum(statement_int8_array(touched->jobs, touched->n_jobs)),
					 TimestampTzGetDatum(round->now)};
	int rows = (int) run_statement(ROUND_CONTINUE, args);
	int64 *done = palloc(Max(rows, 1) * sizeof(int64));
	int row;

	for (row = 0; row < rows; row++)
		done[row] = DatumGetInt64(statement_not_null(row, 1));
	take_rows(round, rows);
	qsort(done, rows, sizeof(int64), compat_compare_int64);
	leave_out_resolved(touched, done, rows);
	if (touched->n_jobs == 0)
		return;
	args[0] = PointerGetDatum(statement_int8_array(touched->jobs, touched->n_jobs));
	take_rows(round, run_statement(ROUND_RESOLVE, args));
}

/*
 * Looks at changed jobs, and lets jobs that waited for them continue or end.
 */
void
round_run(Round *round)
{
	Datum ids = PointerGetDatum(statement_int8_array(round->ids, round->n));
	Touched touched;

	round->has_more = round->found = false;
	round->n_done = 0;
	if (round->is_look)
		look_at_changed(round, ids);
	else if (continue_next(round, ids))
		return;
	if (!list_touched(round, ids, &touched))
		return;
	round->found = true;
	resolve_touched(round, &touched);
	if (round->is_final && touched.n_final > 0)
	{
		Datum args[2] = {PointerGetDatum(statement_int8_array(touched.final, touched.n_final)),
						 PointerGetDatum(statement_int8_array(touched.parents, touched.n_final))};

		round->n_done += (int) run_statement(ROUND_FINISH, args);
	}
}

/*
 * Forgets what jobs waited for.
 */
void
round_forget(const IdList *jobs)
{
	Datum args[1] = {PointerGetDatum(statement_int8_array(jobs->ids, jobs->n))};

	(void) run_statement(ROUND_FORGET, args);
}

void
round_forget_all(void)
{
	(void) run_statement(ROUND_FORGET_ALL, NULL);
}

/*
 * True if any job waits; *has_blocked: if one did not run because of another.
 */
bool
round_is_used(bool *has_blocked)
{
	(void) run_statement(ROUND_USED, NULL);
	*has_blocked = DatumGetBool(statement_not_null(0, 2));
	return DatumGetBool(statement_not_null(0, 1));
}

/*
 * Lists up to max jobs that wait for one; returns their number.
 */
int
round_list_dependents(int64 job, int64 *ids, int max)
{
	Datum args[2] = {Int64GetDatum(job), Int32GetDatum(max)};
	int n = (int) run_statement(ROUND_DEPENDENTS, args);
	int i;

	for (i = 0; i < n; i++)
		ids[i] = DatumGetInt64(statement_not_null(i, 1));
	return n;
}

/*
 * Lists up to max waiting jobs above *from, which moves on; returns their
 * number.  Deletes the dependencies of other jobs in this range.
 */
int
round_page(int64 *from, int64 *ids, int max)
{
	Datum args[2] = {Int64GetDatum(*from), Int32GetDatum(max)};
	int n = (int) run_statement(ROUND_PAGE, args);
	int i;

	for (i = 0; i < n; i++)
		ids[i] = DatumGetInt64(statement_not_null(i, 1));
	args[1] = Int64GetDatum(n == max ? ids[n - 1] : PG_INT64_MAX);
	*from = DatumGetInt64(args[1]);
	(void) run_statement(ROUND_SWEEP, args);
	return n;
}

/*
 * Reads up to max jobs that blocked others, with ids above *from, and moves
 * *from on.  Lists those that were retried.  False after the last jobs.
 */
bool
round_page_retried(int64 *from, int64 *ids, int *n, int max)
{
	Datum args[2] = {Int64GetDatum(*from), Int32GetDatum(max)};
	int rows = (int) run_statement(ROUND_PAGE_RETRIED, args);
	int row;

	*n = 0;
	for (row = 0; row < rows; row++)
	{
		*from = DatumGetInt64(statement_not_null(row, 1));
		if (DatumGetBool(statement_not_null(row, 2)))
			ids[(*n)++] = *from;
	}
	return rows == max;
}

/*
 * Keeps ids of jobs that kept names and the role may see; returns how many.
 */
int
round_keep_seen(int64 *ids, int n, Oid role, KeptJobs kept)
{
	Datum args[3] = {PointerGetDatum(statement_int8_array(ids, n)), ObjectIdGetDatum(role),
					 Int32GetDatum(kept)};
	int seen = (int) run_statement(ROUND_SEEN, args);
	int i;

	for (i = 0; i < seen; i++)
		ids[i] = DatumGetInt64(statement_not_null(i, 1));
	return seen;
}
