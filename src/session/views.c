/*
 * views.c
 *		What the views of the schema genjob show, from shared memory: calls in flight, dispatchers,
 *		servers and their addresses.
 */
#include "postgres.h"

#include <math.h>

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "queue/session.h"
#include "base/settings.h"
#include "shared/shmem.h"
#include "shared/shown.h"
#include "session/views.h"

static const char *
phase_name(Activity *activity)
{
	switch ((ActivityPhase) pg_atomic_read_u32(&activity->phase))
	{
		case ACTIVITY_CALLING:
			return pg_atomic_read_u64(&activity->meter.received) > 0 ? "receiving" : "calling";
		case ACTIVITY_WAITING:
			return "waiting";
		case ACTIVITY_POLLING:
			return "polling";
		case ACTIVITY_DOWNLOADING:
			return "downloading";
		case ACTIVITY_STORING:
			return "storing";
		case ACTIVITY_FETCHING:
			return "fetching";
		case ACTIVITY_SAVING:
			return "saving";
	}
	return "?";
}

/*
 * True if the role may read what servers answered to other owners, and errors of their jobs: it may read all
 * statistics, or has the rights of the server's owner.
 */
static bool
may_read_words(Oid server)
{
	ForeignServer *catalog;

	if (has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		return true;
	catalog = OidIsValid(server) ? GetForeignServerExtended(server, FSV_MISSING_OK) : NULL;
	return catalog != NULL && has_privs_of_role(GetUserId(), catalog->owner);
}

/*
 * Returns the progress that the provider reports, or else how much of the answer has come; -1 if neither is known.
 */
static double
activity_progress(Activity *activity)
{
	uint64 told = pg_atomic_read_u64(&activity->progress);
	uint64 expected = pg_atomic_read_u64(&activity->meter.expected);

	if (told != ACTIVITY_NO_PROGRESS)
		return told / 1000000.0;
	if (expected == 0 || pg_atomic_read_u32(&activity->phase) != ACTIVITY_CALLING)
		return -1;
	return (double) pg_atomic_read_u64(&activity->meter.received) / expected;
}

PG_FUNCTION_INFO_V1(genjob_activity);

Datum
genjob_activity(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool sees_all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	Activity *activities;
	int n = shmem_read_activity(MyDatabaseId, &activities);
	int i;

	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < n; i++)
	{
		Activity *activity = &activities[i];
		uint64 received = pg_atomic_read_u64(&activity->meter.received);
		double progress = activity_progress(activity);
		int64 tokens = (int64) pg_atomic_read_u64(&activity->tokens);
		bool is_own = has_privs_of_role(GetUserId(), activity->owner);
		char *tail = is_own ? shmem_read_activity_text(activity) : NULL;
		Datum values[] = {
			Int64GetDatum(activity->job),
			NameGetDatum(&activity->server),
			ObjectIdGetDatum(activity->owner),
			Int32GetDatum(activity->attempt),
			CStringGetTextDatum(phase_name(activity)),
			Float8GetDatum(progress),
			Int64GetDatum(pg_atomic_read_u64(&activity->meter.sent)),
			Int64GetDatum(received),
			TimestampTzGetDatum(activity->started_at),
			Int32GetDatum(activity->pid),
			Int64GetDatum(tokens),
			tail ? CStringGetTextDatum(tail) : (Datum) 0,
			CStringGetTextDatum(shown_read(activity->remote_state, ACTIVITY_STATE_LEN)),
		};
		bool nulls[lengthof(values)] = {false,
										false,
										false,
										false,
										false,
										progress < 0,
										false,
										false,
										false,
										false,
										tokens == 0,
										tail == NULL,
										activity->remote_state[0] == '\0'};

		if (sees_all || is_own)
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

static const char *
worker_state_name(WorkerState state)
{
	switch (state)
	{
		case WORKER_STARTING:
			return "starting";
		case WORKER_IDLE:
			return "idle";
		case WORKER_BUSY:
			return "busy";
		case WORKER_TROUBLED:
			return "troubled";
		case WORKER_BLOCKED:
			return "blocked";
		case WORKER_STOPPING:
			return "stopping";
		case WORKER_STOPPED:
			return "stopped";
		case WORKER_FAILED:
			return "failed";
		case WORKER_ABSENT:
			return "absent";
	}
	return "?";
}

/*
 * Returns what stops a dispatcher, as far as the role may know: its last error
 * and a trigger that does not always fire; NULL: nothing.
 */
static char *
describe_faults(WorkerInfo *worker, bool has_error)
{
	char *error = has_error ? shown_read(worker->error, sizeof(worker->error)) : NULL;
	char *trigger = worker->database == MyDatabaseId ? session_find_disabled(false) : NULL;

	if (error != NULL && trigger != NULL)
		return psprintf("%s; %s", error, trigger);
	return error != NULL ? error : trigger;
}

PG_FUNCTION_INFO_V1(genjob_workers);

Datum
genjob_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool sees_all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	WorkerInfo *workers;
	int n = shmem_read_workers(&workers);
	int i;

	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < n; i++)
	{
		WorkerInfo *worker = &workers[i];
		bool has_error = worker->error[0] != '\0' && sees_all;
		char *faults = describe_faults(worker, has_error);
		Datum values[] = {
			ObjectIdGetDatum(worker->database),
			Int32GetDatum(worker->pid),
			CStringGetTextDatum(worker_state_name(worker->state)),
			TimestampTzGetDatum(worker->since),
			CStringGetTextDatum(faults ? faults : ""),
			TimestampTzGetDatum(worker->error_at),
		};
		bool nulls[] = {false, worker->pid == 0, false, false, faults == NULL, !has_error};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * Returns why no job of this database starts, whatever its server; NULL: nothing known stops them all.
 */
static const char *
why_none(void)
{
	WorkerInfo worker;
	bool at_once;

	if (RecoveryInProgress())
		return "this server is a standby: jobs are run on the primary";
	if (!genjob_enabled)
		return "genjob.enabled is off: no job is started until it is on";
	if (shmem_is_evicted(MyDatabaseId, &at_once))
		return "a command that copies, renames or drops the database keeps the dispatcher away";
	if (!shmem_read_worker(MyDatabaseId, &worker))
		return "no dispatcher serves this database yet: the server's log says if none can be started";
	if (worker.state == WORKER_BLOCKED && worker.pid == 0)
		return shown_read(worker.error, sizeof(worker.error));
	if (worker.state == WORKER_FAILED)
		return "the dispatcher has ended with an error and will be started again: the server's log says which";
	if (worker.pid == 0)
		return "the dispatcher is being started";
	if (worker.state != WORKER_TROUBLED)
		return session_find_disabled(true);
	return may_read_words(InvalidOid)
			   ? shown_read(worker.error, sizeof(worker.error))
			   : "the last look at the queue failed: genjob.workers shows members of pg_read_all_stats why";
}

PG_FUNCTION_INFO_V1(genjob_standstill);

Datum
genjob_standstill(PG_FUNCTION_ARGS)
{
	const char *reason = why_none();

	if (reason == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(reason));
}

/*
 * Returns why jobs of a server wait, as far as the role may know; NULL: they do not.
 */
static char *
describe_hold(const ServerStats *stats, bool is_troubled)
{
	bool sees_words = may_read_words(stats->server);
	char *reason =
		shown_read(sees_words ? stats->held_reason : stats->held_plain, STATS_REASON_LEN);
	const char *trouble = "a statement on a job raised an error, perhaps in a trigger of gen_jobs";

	if (!is_troubled)
		return *reason == '\0' ? NULL : reason;
	if (sees_words)
		trouble = shown_read(stats->trouble, STATS_REASON_LEN);
	return *reason == '\0' || strcmp(reason, trouble) == 0 ? pstrdup(trouble)
														   : psprintf("%s; %s", reason, trouble);
}

PG_FUNCTION_INFO_V1(genjob_server_stats);

Datum
genjob_server_stats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = GetCurrentTimestamp();
	ServerStats *all;
	int n = shmem_read_stats(MyDatabaseId, &all);
	int i;

	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < n; i++)
	{
		ServerStats *stats = &all[i];
		bool never = isnan(stats_percentile(stats, 0.5));
		bool is_troubled = stats->trouble_until > now;
		char *reason = describe_hold(stats, is_troubled);
		Datum values[] = {
			ObjectIdGetDatum(stats->server),
			Int32GetDatum(stats->in_flight),
			Int64GetDatum(stats->succeeded),
			Int64GetDatum(stats->failed),
			Int64GetDatum(stats->retried),
			Int64GetDatum(stats_ended_last_minute(stats, now)),
			Float8GetDatum(stats_percentile(stats, 0.5)),
			Float8GetDatum(stats_percentile(stats, 0.95)),
			Float8GetDatum(stats_percentile(stats, 0.99)),
			TimestampTzGetDatum(stats->held_until),
			reason ? CStringGetTextDatum(reason) : (Datum) 0,
			Int32GetDatum(stats->allowed),
			Float8GetDatum(stats_tokens(stats, now)),
			BoolGetDatum(is_troubled),
			Int64GetDatum(stats->unknown_ends),
		};
		bool nulls[] = {
			false,
			false,
			false,
			false,
			false,
			false,
			never,
			never,
			never,
			stats->held_until <= now,
			reason == NULL,
			stats->n_backends == 0,
			stats->n_backends == 0 || stats->tokens < 0,
			false,
			false,
		};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

static const char *
health_name(BackendHealth health)
{
	switch (health)
	{
		case BACKEND_OK:
			return "ok";
		case BACKEND_HELD:
			return "held";
		case BACKEND_BROKEN:
			return "broken";
		case BACKEND_PROBING:
			return "probing";
	}
	return "?";
}

static void
put_backend(ReturnSetInfo *result, const ServerStats *stats, int number, bool sees_words)
{
	const BackendStats *backend = &stats->backends[number];
	const char *error =
		sees_words
			? shown_read(backend->error, sizeof(backend->error))
			: "it could not be reached: members of pg_read_all_stats and the owner of the server see why";
	Datum values[] = {
		ObjectIdGetDatum(stats->server),
		Int32GetDatum(number + 1),
		CStringGetTextDatum(health_name(backend->health)),
		Int32GetDatum(backend->in_flight),
		Int32GetDatum(backend->max_in_flight),
		Int32GetDatum(backend->failures),
		TimestampTzGetDatum(backend->until),
		CStringGetTextDatum(error),
	};
	bool nulls[] = {
		false, false, false, false, false, false, backend->until == 0, backend->error[0] == '\0',
	};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(genjob_backends);

Datum
genjob_backends(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ServerStats *all;
	int n = shmem_read_stats(MyDatabaseId, &all);
	int i;
	int j;

	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < n; i++)
	{
		bool sees_words = may_read_words(all[i].server);

		for (j = 0; j < Min(all[i].n_backends, STATS_BACKENDS); j++)
			put_backend(result, &all[i], j, sees_words);
	}
	return (Datum) 0;
}
