/*
 * sent.c
 *		genjob.sent: what went into calls whose end is not known, so that the
 *		same can be sent again (life/same.c).
 *
 * The key of a row is the call's Idempotency-Key.  The row means nothing once
 * its job has another key.  So it may stay after its job is deleted or
 * changed, until the next dispatcher starts.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "queue/jobrow.h"
#include "queue/report.h"
#include "queue/sent.h"
#include "queue/statement.h"

typedef enum SentStatement
{
	SENT_READ,
	SENT_KEEP,
	SENT_FORGET,
	SENT_FORGET_STALE,
	SENT_STATEMENTS
} SentStatement;

/* clang-format off */

static const Statement statements[SENT_STATEMENTS] = {
	[SENT_READ] = {1, {TEXTARRAYOID},
		"SELECT job_id, key::text, made_of FROM genjob.sent WHERE key = ANY ($1::uuid[])"},
	[SENT_KEEP] = {3, {TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID},
		"INSERT INTO genjob.sent (key, job_id, made_of) SELECT g.key::uuid, g.id, g.made_of"
		" FROM unnest($1, $2, $3) g (key, id, made_of) ON CONFLICT (key) DO NOTHING"},
	[SENT_FORGET] = {1, {TEXTARRAYOID},
		"DELETE FROM genjob.sent WHERE key = ANY ($1::uuid[])"},
	[SENT_FORGET_STALE] = {0, {0},
		"DELETE FROM genjob.sent s WHERE NOT EXISTS (SELECT FROM @.gen_jobs j WHERE j.id = s.job_id AND j.idempotency_key = s.key)"},
};

/* clang-format on */

static SPIPlanPtr plans[SENT_STATEMENTS];
static uint64 plans_of = 0; /* statement_schema_changes when they were made */

static uint64
run_statement(SentStatement statement, Datum *args)
{
	if (plans_of != statement_schema_changes)
		memset(plans, 0, sizeof(plans));
	plans_of = statement_schema_changes;
	return statement_execute(&statements[statement], &plans[statement], args, NULL);
}

static Datum
text_array(Datum *texts, int n)
{
	return PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * Reads what went into the calls with the keys of these jobs.
 */
void
queue_read_sent(Job **jobs, int n)
{
	Datum *keys = palloc(Max(n, 1) * sizeof(Datum));
	Datum args[1];
	uint64 rows;
	uint64 row;
	int n_keys = 0;
	int i;

	for (i = 0; i < n; i++)
	{
		if (jobs[i]->idempotency_key != NULL)
			keys[n_keys++] = CStringGetTextDatum(jobs[i]->idempotency_key);
	}
	if (n_keys == 0)
		return;
	args[0] = text_array(keys, n_keys);
	rows = run_statement(SENT_READ, args);
	for (row = 0; row < rows; row++)
	{
		Job *job = job_find(DatumGetInt64(statement_not_null(row, 1)));

		if (job != NULL && job->idempotency_key != NULL &&
			strcmp(job->idempotency_key, jobrow_text(row, 2)) == 0)
			job->sent = MemoryContextStrdup(job->context, jobrow_text(row, 3));
	}
}

/*
 * For jobs that were written: keeps what was sent if the job keeps its key,
 * else deletes it.
 */
void
queue_keep_sent(Job **jobs, int n)
{
	Datum *kept = palloc(n * sizeof(Datum));
	int64 *ids = palloc(n * sizeof(int64));
	Datum *made_of = palloc(n * sizeof(Datum));
	Datum *over = palloc(n * sizeof(Datum));
	int n_kept = 0;
	int n_over = 0;
	int i;

	for (i = 0; i < n; i++)
	{
		const Job *job = jobs[i];
		bool isnull;

		if (job->sent == NULL || job->idempotency_key == NULL || job->write.outcome != WRITE_DONE)
			continue;
		if (job->verdict->unknown)
		{
			made_of[n_kept] = report_text(pstrdup(job->sent), &isnull);
			ids[n_kept] = job->id;
			kept[n_kept++] = CStringGetTextDatum(job->idempotency_key);
		}
		else
			over[n_over++] = CStringGetTextDatum(job->idempotency_key);
	}
	if (n_kept > 0)
	{
		Datum args[3] = {text_array(kept, n_kept),
						 PointerGetDatum(statement_int8_array(ids, n_kept)),
						 text_array(made_of, n_kept)};

		run_statement(SENT_KEEP, args);
	}
	if (n_over > 0)
	{
		Datum args[1] = {text_array(over, n_over)};

		run_statement(SENT_FORGET, args);
	}
}

/*
 * Forgets calls whose keys no job has any more.
 */
void
queue_forget_stale_sent(void)
{
	run_statement(SENT_FORGET_STALE, NULL);
}
