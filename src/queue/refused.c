/*
 * refused.c
 *		When a job could not be written, finds the values that its columns
 *		refuse.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "queue/queue.h"
#include "queue/statement.h"
#include "shared/shown.h"

/* A value to try without writing it. */
typedef struct Trial
{
	StatementId statement;
	Datum value;
} Trial;

static void
try_value(void *arg)
{
	Trial *trial = arg;

	statement_run(trial->statement, &trial->value, NULL);
}

static bool
is_refused(StatementId statement, Datum value)
{
	Trial trial = {statement, value};
	ErrorData *error;

	return !queue_guard(try_value, &trial, &error);
}

static bool
is_json_refused(char *json)
{
	return json != NULL && is_refused(TEST_JSON, CStringGetTextDatum(shown_from_utf8(json)));
}

/*
 * Finds the values of a job that could not be written which the columns refuse
 * by themselves, without triggers.  A QueueWork; arg is a QueueRefusals.
 */
void
queue_test_values(void *arg)
{
	QueueRefusals *refusals = arg;
	const Job *job = refusals->job;
	bool is_saving = job->state == JOB_SAVING;

	refusals->result = is_json_refused(is_saving ? queue_saved_answer(job) : job->verdict->result);
	refusals->usage = is_json_refused(is_saving ? job->remote.usage : job->verdict->usage);
	refusals->errors = !is_saving && is_refused(TEST_ERRORS, Int64GetDatum(job->id));
}
