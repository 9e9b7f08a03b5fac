/*
 * direct.c
 *		Claims and reports of the common kind, in which nothing is out of the ordinary, by statements that do no more than
 *		these need.
 *
 * They update rows without locking them first.  If another session has locked one, the statement is undone after a
 * moment, and for a while none is tried.  What they leave out, CLAIM and REPORT do, which skip locked rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/memory.h"
#include "queue/direct.h"
#include "queue/queue.h"
#include "queue/report.h"
#include "queue/statement.h"

/* For a row that others have locked */
#define LOCK_TIMEOUT "10ms"

/* After statements that were undone, one after the other */
static const Backoff after_undone = {USECS_PER_SEC, USECS_PER_MINUTE};

/* clang-format off */

/*
 * The first attempts of jobs that run at their own server, $4, whose option url has one address.  The columns are those
 * of CLAIM.
 */
static const Statement claim = {5, {INT8ARRAYOID, UUIDARRAYOID, TIMESTAMPTZOID, TEXTOID, INT4OID},
	"UPDATE @.gen_jobs j SET state = 'running', attempt = j.attempt + 1, claimed_elsewhere = false, started_at = $3,"
	"  idempotency_key = g.key, ran_on = NULL, backend = NULL"
	" FROM unnest($1, $2) g (id, key) WHERE j.id = g.id AND j.state = 'queued' AND j.server = $4 AND j.run_at <= $3"
	"  AND (j.expires_at IS NULL OR j.expires_at > $3) AND j.idempotency_key IS NULL AND j.remote IS NULL"
	"  AND pg_column_size(j.request) + coalesce(pg_column_size(j.inputs) / 3 * 4, 0) <= $5"
	" RETURNING j.id, j.server, j.request, j.inputs, j.priority, j.owner::oid, j.attempt, j.failures, j.max_attempts,"
	"  j.idempotency_key::text, j.started_at, NULL::text, NULL::jsonb, NULL, NULL, NULL, j.tenant, j.expires_at,"
	"  NULL::text, NULL::text, NULL::int4, j.server_oid, j.losses, j.depth, j.unknown_ends, j.put_off_since"};

/* The columns are those of REPORT. */
static const Statement report = {5, {INT8ARRAYOID, INT4ARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID},
	"UPDATE @.gen_jobs j SET state = 'succeeded', result = g.result, usage = g.usage::jsonb, error = NULL, remote = NULL,"
	"  finished_at = $5, losses = 0, put_off_since = NULL, idempotency_key = NULL"
	" FROM unnest($1, $2, $3, $4) g (id, attempt, result, usage)"
	" WHERE j.id = g.id AND j.state = 'running' AND j.attempt = g.attempt"
	" RETURNING j.id, j.on_done IS NOT NULL"};

/* clang-format on */

/* A statement that is run in a subtransaction. */
typedef struct Direct
{
	const Statement *statement;
	SPIPlanPtr *plan;
	Datum *args;
	uint64 rows;
	SPITupleTable *result;
} Direct;

static SPIPlanPtr claim_plan = NULL;
static SPIPlanPtr report_plan = NULL;
static int undone = 0; /* that many, one after the other */
static MonoTime not_before = 0;

static void
run_work(void *arg)
{
	Direct *direct = arg;
	int level = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	direct->rows = statement_execute(direct->statement, direct->plan, direct->args, NULL);
	direct->result = SPI_tuptable;
	AtEOXact_GUC(false, level);
}

/*
 * Returns how many rows were updated; SPI_tuptable has them.  0: none was.
 */
static uint64
run(const Statement *statement, SPIPlanPtr *plan, Datum *args)
{
	Direct direct = {statement, plan, args, 0, NULL};
	static uint64 schema_changes = 0;
	ErrorData *error;

	if (schema_changes != statement_schema_changes)
		claim_plan = report_plan = NULL;
	schema_changes = statement_schema_changes;

	if (!queue_guard(run_work, &direct, &error))
	{
		/* CLAIM or REPORT meets whatever it was, too */
		not_before = clock_mono() + backoff_delay(&after_undone, undone++);
		return 0;
	}
	undone = 0;
	SPI_tuptable = direct.result;
	return direct.rows;
}

/*
 * True if direct_claim() may find jobs of these turns.
 */
bool
direct_may_claim(const Turn *turns, int n)
{
	int i;

	for (i = 0; i < n; i++)
	{
		if (turns[i].queue != turns[0].home || turns[i].home != turns[0].home ||
			turns[i].home->wants_memory > 0 || turns[i].home->server->n_backends != 1)
			return false;
	}
	return n > 0 && clock_mono() >= not_before;
}

/*
 * Claims jobs of these turns, for which direct_may_claim() is true, with the keys.  Returns the number of rows, which may
 * be 0; they are as those of CLAIM.
 */
uint64
direct_claim(Turn *const *turns, int n, Datum keys, TimestampTz now)
{
	int64 *ids = palloc(n * sizeof(int64));
	Datum args[5];
	int i;

	for (i = 0; i < n; i++)
		ids[i] = turns[i]->id;
	args[0] = PointerGetDatum(statement_int8_array(ids, n));
	args[1] = keys;
	args[2] = TimestampTzGetDatum(now);
	args[3] = CStringGetTextDatum(NameStr(turns[0]->home->name));
	args[4] = Int32GetDatum(MEMORY_SMALL);
	return run(&claim, &claim_plan, args);
}

static bool
is_plain_success(const Job *job)
{
	const Verdict *verdict = job->verdict;

	return verdict->kind == VERDICT_DONE && verdict->error == NULL && !verdict->unknown &&
		   !job->report.must_cancel && !job->report.counts && job->report.run_at == 0 &&
		   job->put_off_since == 0 && job->unknown_ends == 0 && !report_is_large(job);
}

/*
 * Writes those of the jobs that have simply succeeded, as REPORT would.  Returns the number of rows, which may be 0; they
 * are as those of REPORT.
 */
uint64
direct_report(Job **jobs, int n, TimestampTz now)
{
	Job **plain = palloc(n * sizeof(Job *));
	int n_plain = 0;
	Datum args[5];
	int i;

	for (i = 0; i < n; i++)
	{
		if (is_plain_success(jobs[i]))
			plain[n_plain++] = jobs[i];
	}
	if (n_plain == 0 || clock_mono() < not_before)
		return 0;
	args[0] = report_column(plain, n_plain, REPORT_ID);
	args[1] = report_column(plain, n_plain, REPORT_ATTEMPT);
	args[2] = report_column(plain, n_plain, REPORT_RESULT);
	args[3] = report_column(plain, n_plain, REPORT_USAGE);
	args[4] = TimestampTzGetDatum(now);
	return run(&report, &report_plan, args);
}
