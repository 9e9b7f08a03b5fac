/*
 * failing.c
 *		Fails jobs that were never started, because they have expired or their
 *		server cannot be used.
 *
 * Skips a row that somebody has locked, and tries it again later.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "queue/dependency.h"
#include "queue/ended.h"
#include "queue/failing.h"
#include "queue/find.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "schedule/schedule.h"
#include "shared/settle.h"

#define EXPIRE_BATCH 1000 /* jobs that are failed by one statement */
#define LOCKED_RETRY_US USECS_PER_SEC

static TimestampTz expired_to = DT_NOBEGIN; /* no queued job expires before this time */

/*
 * Moves expired_to back to a time of statement_time_or_none(), which says 1 for the time that is 0.
 */
static void
look_from(TimestampTz expires_at)
{
	expired_to = Min(expired_to, expires_at == 1 ? 0 : expires_at);
}

/*
 * Returns the first expires_at that is not before from; 0: there is none.
 */
static TimestampTz
next_expiry(TimestampTz from)
{
	Datum args[1] = {TimestampTzGetDatum(from)};

	return find_first_time(statement_run(FIND_NEXT_EXPIRY, args, NULL));
}

/*
 * Forgets what is known about expiry, and finds the first expires_at again.
 */
void
failing_forget(void)
{
	expired_to = DT_NOBEGIN;
	schedule_times.expiry = next_expiry(DT_NOBEGIN);
}

/*
 * Handles the failed rows of the last result (id, server, has_on_done): takes
 * the jobs off the schedule, and reports their ends.  may_have_waited: also
 * has their dependencies deleted, which must not count after a retry.
 */
static void
note_failed(uint64 rows, bool may_have_waited)
{
	uint64 row;

	for (row = 0; row < rows; row++)
	{
		JobEnd end = {.id = DatumGetInt64(statement_not_null(row, 1)),
					  .from = ROW_QUEUED,
					  .to = ROW_FAILED,
					  .server = statement_name(row, 2),
					  .has_on_done = DatumGetBool(statement_not_null(row, 3))};

		schedule_remove(end.id);
		job_ended(&end);
		if (may_have_waited)
			dependency_note_expired(end.id);
	}
}

/*
 * Call it when only locked rows are left of the expired jobs.  Plans to retry
 * these, less often the longer they stay locked: between them and now there
 * may be many dead rows.
 */
static void
expect_locked(TimestampTz now)
{
	TimestampTz locked = next_expiry(expired_to);

	schedule_times.expiry = locked;
	expired_to = now;
	if (locked == 0 || locked > now)
		return;
	look_from(locked);
	schedule_times.expiry = next_expiry(now + 1);
	schedule_note_time(&schedule_times.expiry,
					   now + Max(LOCKED_RETRY_US,
								 (now - Max(locked, now - 4 * USECS_PER_MINUTE)) / 8));
}

/*
 * Fails up to EXPIRE_BATCH waiting or queued jobs that have expired, and plans
 * the next look.
 */
void
queue_expire(TimestampTz now)
{
	Datum args[3] = {TimestampTzGetDatum(now), TimestampTzGetDatum(expired_to),
					 Int32GetDatum(EXPIRE_BATCH)};
	uint64 rows = statement_run(FAIL_EXPIRED, args, NULL);

	note_failed(rows, true);
	if (rows < EXPIRE_BATCH)
		expect_locked(now);
	else
		schedule_times.expiry = now;
}

/*
 * Notes when a queued job expires, or has expired.
 */
void
queue_note_expiry(TimestampTz expires_at)
{
	schedule_note_time(&schedule_times.expiry, expires_at);
	look_from(expires_at);
}

/*
 * Postpones a server's jobs that could not be failed because their rows are
 * locked.
 */
static void
put_off_locked(const char *server_name, TimestampTz now)
{
	Datum args[2] = {CStringGetTextDatum(server_name), TimestampTzGetDatum(now)};
	uint64 rows = statement_run(FIND_SERVERLESS, args, NULL);
	uint64 row;

	for (row = 0; row < rows; row++)
		schedule_put_off(DatumGetInt64(statement_not_null(row, 1)), clock_mono() + LOCKED_RETRY_US,
						 false);
}

/*
 * Locks due jobs of a queue whose server cannot be used, and fails them;
 * returns how many (at most 1000 a call).  id: only this job; NULL: all.
 * Looks at the server again once the rows are locked: somebody may have mended
 * it together with the jobs.
 */
static int
fail_serverless(ServerQueue *queue, const int64 *id, TimestampTz now)
{
	Datum args[3] = {CStringGetTextDatum(NameStr(queue->name)), TimestampTzGetDatum(now),
					 Int64GetDatum(id ? *id : 0)};
	uint64 rows = statement_run(LOCK_SERVERLESS, args, id ? "   " : "  n");
	int64 *ids = palloc((rows + 1) * sizeof(int64));
	uint64 row;

	for (row = 0; row < rows; row++)
		ids[row] = DatumGetInt64(statement_not_null(row, 1));
	if (rows == 0)
		return 0;
	settle_caches();
	schedule_refresh();
	if (queue->server != NULL)
		return 0;
	args[0] = PointerGetDatum(statement_int8_array(ids, rows));
	args[1] = CStringGetTextDatum(queue->complaint);
	args[2] = TimestampTzGetDatum(now);
	rows = statement_run(FAIL_LOCKED, args, NULL);
	note_failed(rows, false);
	return (int) rows;
}

/*
 * Fails due jobs of a queue whose server cannot be used; returns how many (at
 * most 1000 a call).  0: the server can be used now, or the rows are locked
 * and the jobs are postponed.
 */
int
queue_fail_waiting(ServerQueue *queue, TimestampTz now)
{
	int n = fail_serverless(queue, NULL, now);

	if (n == 0 && queue->server == NULL)
		put_off_locked(NameStr(queue->name), now);
	return n;
}

/*
 * Fails queued jobs of a server that were due, or first postponed, at or
 * before since; returns how many (at most 1000 a call).
 */
int
queue_fail_overdue(const char *server_name, const char *error, TimestampTz since, TimestampTz now)
{
	Datum args[4] = {CStringGetTextDatum(server_name), CStringGetTextDatum(error),
					 TimestampTzGetDatum(now), TimestampTzGetDatum(since)};
	uint64 rows = statement_run(FAIL_OVERDUE, args, NULL);

	note_failed(rows, false);
	return (int) rows;
}

/*
 * Lists jobs that cannot run, with their servers: due jobs of server_name or, if that is NULL, jobs that have expired.
 * At most max; returns their number.
 */
int
queue_list_unstarted(const char *server_name, TimestampTz now, int64 *ids, NameData *servers,
					 int max)
{
	Datum args[2];
	uint64 rows;
	int i;

	if (server_name != NULL)
	{
		args[0] = CStringGetTextDatum(server_name);
		args[1] = TimestampTzGetDatum(now);
		rows = statement_run(FIND_SERVERLESS, args, NULL);
	}
	else
	{
		args[0] = TimestampTzGetDatum(now);
		args[1] = Int32GetDatum(max);
		rows = statement_run(FIND_EXPIRED, args, NULL);
	}
	for (i = 0; i < Min(rows, max); i++)
	{
		ids[i] = DatumGetInt64(statement_not_null(i, 1));
		namestrcpy(&servers[i], statement_name(i, 2));
	}
	return i;
}

/*
 * Fails one job: a due job of queue, whose server cannot be used, or, if queue
 * is NULL, a job that has expired.
 */
void
queue_fail_one(int64 id, ServerQueue *queue, TimestampTz now)
{
	Datum args[2] = {Int64GetDatum(id), TimestampTzGetDatum(now)};

	if (queue != NULL)
		(void) fail_serverless(queue, &id, now);
	else
		note_failed(statement_run(EXPIRE_ONE, args, NULL), true);
}

/*
 * Call it when all expired jobs have been failed that could be.
 */
void
queue_expect_expired(TimestampTz now)
{
	expect_locked(now);
}
