/*
 * complete.c
 *		The answer of a job that was handed over: genjob.complete().
 *
 * A worker needs no right except to call this function: the token authorizes
 * it.  The payload of one call carried the token; the table has only its
 * digest.  This file reads and writes the row as the owner of the tables.  If
 * the token is wrong, the caller learns nothing about the job, not even
 * whether it exists.  The row ends in the caller's transaction; the commit
 * tells the dispatcher, as with any other change.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "base/digest.h"
#include "base/jsonb.h"
#include "queue/complete.h"
#include "queue/queue.h"
#include "queue/session.h"
#include "queue/statement.h"

#define MAX_ERROR 65536 /* bytes */

static int own_depth = 0; /* trigger depth in our own statement; 0: it does not run */

static int
trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

bool
complete_is_writing(void)
{
	return own_depth > 0 && trigger_depth() == own_depth;
}

/* A call of genjob.complete(). */
typedef struct Completion
{
	int64 job;
	char *token;
	Datum result;
	bool has_result;
	char *error; /* why the job failed; or NULL */
	bool is_taken;
} Completion;

/* clang-format off */

/* of a job that failed by an answer, remote is null: then the answer's own entry of attempt_errors has the digest */
#define DIGEST "CASE WHEN state = 'failed' THEN attempt_errors->-1->>'complete' ELSE remote->>'complete' END"

/*
 * Checks the token before any lock.  With a wrong token the caller must not
 * wait, nor get a transaction id, which would show that the job exists.
 */
static const Statement find_job = {1, {INT8OID},
	"SELECT " DIGEST " FROM @.gen_jobs WHERE id = $1 AND " DIGEST " IS NOT NULL"};

/*
 * After a restore, a job that was running in the dump is queued until it is
 * claimed.  Its answer may come earlier.
 */
static const Statement lock_job = {1, {INT8OID},
	"SELECT " DIGEST ", CASE WHEN state = 'queued' AND claimed_elsewhere THEN 'running' ELSE state::text END FROM @.gen_jobs WHERE id = $1 AND " DIGEST " IS NOT NULL FOR NO KEY UPDATE"};

/* the digest stays, to recognize a second answer of the attempt */
static const Statement end_job = {3, {INT8OID, JSONBOID, TEXTOID},
	"UPDATE @.gen_jobs SET state = CASE WHEN $3 IS NULL THEN 'succeeded' ELSE 'failed' END::@.gen_job_state, result = $2, error = $3,"
	" finished_at = clock_timestamp(), claimed_elsewhere = false, failures = failures + CASE WHEN $3 IS NULL THEN 0 ELSE 1 END, losses = 0, put_off_since = NULL, idempotency_key = NULL,"
	" remote = CASE WHEN $3 IS NULL THEN jsonb_build_object('complete', remote->'complete') END,"
	" attempt_errors = CASE WHEN $3 IS NULL THEN attempt_errors ELSE"
	"  CASE WHEN jsonb_typeof(attempt_errors) IS DISTINCT FROM 'array' THEN '[]'"
	"   WHEN jsonb_array_length(attempt_errors) >= 100 THEN attempt_errors - 0 ELSE attempt_errors END"
	"  || jsonb_build_array(jsonb_build_object('attempt', attempt, 'at', clock_timestamp(), 'error', $3, 'complete', remote->'complete')) END WHERE id = $1"};

/* clang-format on */

/* Plans of these statements, kept for the session */
static SPIPlanPtr find_plan = NULL;
static SPIPlanPtr lock_plan = NULL;
static SPIPlanPtr end_plan = NULL;

static uint64
run_statement(const Statement *statement, SPIPlanPtr *plan, Datum *args, const char *nulls)
{
	static uint64 known_schema = 0;

	if (known_schema != statement_schema_changes)
		find_plan = lock_plan = end_plan = NULL;
	known_schema = statement_schema_changes;
	return statement_execute(statement, plan, args, nulls);
}

/*
 * Compares two digests in constant time.
 */
static bool
is_same_digest(const char *one, const char *other)
{
	unsigned char differs = 0;
	size_t i;

	if (strlen(one) != 2 * DIGEST_BYTES || strlen(other) != 2 * DIGEST_BYTES)
		return false;
	for (i = 0; i < 2 * DIGEST_BYTES; i++)
		differs |= one[i] ^ other[i];
	return differs == 0;
}

static void
refuse_token(int64 job)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("job " INT64_FORMAT " does not wait for an answer with this token", job),
			 errdetail(
				 "There is no such job, or it has ended, or the token is of another job or of an earlier attempt."),
			 errhint(
				 "Give job and token as they were in the payload; a late answer is not accepted.")));
}

static void
end_completed_job(const Completion *completion)
{
	Datum args[3] = {Int64GetDatum(completion->job), completion->result,
					 completion->error ? CStringGetTextDatum(completion->error) : (Datum) 0};
	char nulls[] = {' ', completion->has_result ? ' ' : 'n', completion->error ? ' ' : 'n'};

	own_depth = trigger_depth() + 1;
	PG_TRY();
	{
		(void) run_statement(&end_job, &end_plan, args, nulls);
	}
	PG_FINALLY();
	{
		own_depth = 0;
	}
	PG_END_TRY();
}

/*
 * Raises an error unless a statement finds the job with the digest.
 */
static void
check_token(const Completion *completion, const char *digest, const Statement *statement,
			SPIPlanPtr *plan)
{
	Datum args[1] = {Int64GetDatum(completion->job)};
	char *wanted = "";

	if (run_statement(statement, plan, args, NULL) > 0)
		wanted = TextDatumGetCString(statement_not_null(0, 1));
	if (!is_same_digest(digest, wanted))
		refuse_token(completion->job);
}

static void
complete_work(void *arg)
{
	Completion *completion = arg;
	char *digest = digest_sha256_hex(completion->token, strlen(completion->token));
	char *state;

	check_token(completion, digest, &find_job, &find_plan);
	check_token(completion, digest, &lock_job, &lock_plan);
	state = TextDatumGetCString(statement_not_null(0, 2));
	if (strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0)
		return;
	if (strcmp(state, "running") != 0)
		refuse_token(completion->job);
	end_completed_job(completion);
	completion->is_taken = true;
}

PG_FUNCTION_INFO_V1(genjob_complete);

Datum
genjob_complete(PG_FUNCTION_ARGS)
{
	Completion completion = {0};
	ErrorData *error;
	Oid table;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	completion.job = PG_GETARG_INT64(0);
	completion.token = text_to_cstring(PG_GETARG_TEXT_PP(1));
	completion.has_result = !PG_ARGISNULL(2);
	if (completion.has_result)
	{
		completion.result = PG_GETARG_DATUM(2);
		(void) jsonb_print(DatumGetJsonbP(completion.result)); /* raises an error if it cannot be */
	}
	if (!PG_ARGISNULL(3))
		completion.error = text_to_cstring(PG_GETARG_TEXT_PP(3));
	if (completion.error != NULL && strlen(completion.error) > MAX_ERROR)
		ereport(ERROR, (errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
						errmsg("the error of a job is longer than %d bytes", MAX_ERROR),
						errhint("Give its first sentence, and the rest as the result.")));
	SPI_connect();
	(void) session_find_table("gen_jobs", &table);
	SPI_finish();
	error = queue_run_as_owner(table, complete_work, &completion);
	if (error != NULL)
		ThrowErrorData(error);
	PG_RETURN_BOOL(completion.is_taken);
}
