/*
 * failing.c
 *		Failing jobs that were never started: they have expired, or their server cannot be used.
 *
 * A row that somebody has locked is skipped, and tried again later.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "queue/ended.h"
#include "queue/failing.h"
#include "queue/find.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "schedule/schedule.h"

#define EXPIRE_BATCH 1000 /* jobs that are failed by one statement */
#define LOCKED_RETRY_US USECS_PER_SEC

static TimestampTz expired_to = DT_NOBEGIN; /* no job that expired before is queued any more */

/*
 * Returns when the first job expires that does not before from; 0: none does.
 */
static TimestampTz
next_expiry(TimestampTz from)
{
	Datum args[1] = {TimestampTzGetDatum(from)};

	return find_first_time(statement_run(FIND_NEXT_EXPIRY, args, NULL));
}

/*
 * Forgets what is known of jobs that expire, and looks when the first does.
 */
void
failing_forget(void)
{
	expired_to = DT_NOBEGIN;
	schedule_times.expiry = next_expiry(DT_NOBEGIN);
}

/*
 * The rows of the last result (id, server, whether there is an on_done) were failed: takes their jobs off the schedule.
 */
static void
note_failed(uint64 rows)
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
	}
}

/*
 * Every job that has expired is failed, except those whose rows somebody has locked.  Retries these, less often the
 * longer it lasts: between them and now there may be many dead rows.
 */
static void
expect_locked(TimestampTz now)
{
	TimestampTz locked = next_expiry(expired_to);

	schedule_times.expiry = locked;
	expired_to = now;
	if (locked == 0 || locked > now)
		return;
	expired_to = locked;
	schedule_times.expiry = next_expiry(now + 1);
	schedule_note_time(&schedule_times.expiry,
					   now + Max(LOCKED_RETRY_US,
								 (now - Max(locked, now - 4 * USECS_PER_MINUTE)) / 8));
}

/*
 * Fails queued jobs that have expired, EXPIRE_BATCH at most, and says when there may be others.
 */
void
queue_expire(TimestampTz now)
{
	Datum args[3] = {TimestampTzGetDatum(now), TimestampTzGetDatum(expired_to),
					 Int32GetDatum(EXPIRE_BATCH)};
	uint64 rows = statement_run(FAIL_EXPIRED, args, NULL);

	note_failed(rows);
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
	expired_to = Min(expired_to, expires_at);
}

/*
 * Looks again, later, at jobs of a server that could not be failed because somebody has their rows locked.
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
 * Fails due jobs of a server that cannot be used; returns how many (at most 1000 a call).  If it is none, locked ones
 * are looked at again later.  is_missing: error says that there is no such server; jobs that see one are left alone.
 */
int
queue_fail_waiting(const char *server_name, const char *error, bool is_missing, TimestampTz now)
{
	Datum args[4] = {CStringGetTextDatum(server_name), CStringGetTextDatum(error),
					 TimestampTzGetDatum(now), BoolGetDatum(is_missing)};
	uint64 rows;

	rows = statement_run(FAIL_WAITING, args, NULL);
	note_failed(rows);
	if (rows == 0)
		put_off_locked(server_name, now);
	return (int) rows;
}

/*
 * Fails queued jobs of a server that were due, or refused, before a time; returns how many (at most 1000 a call).
 */
int
queue_fail_overdue(const char *server_name, const char *error, TimestampTz since, TimestampTz now)
{
	Datum args[4] = {CStringGetTextDatum(server_name), CStringGetTextDatum(error),
					 TimestampTzGetDatum(now), TimestampTzGetDatum(since)};
	uint64 rows = statement_run(FAIL_OVERDUE, args, NULL);

	note_failed(rows);
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
 * Fails one queued job; error NULL: because it has expired.  is_missing: error says that there is no such server.
 */
void
queue_fail_one(int64 id, const char *error, bool is_missing, TimestampTz now)
{
	Datum args[4] = {Int64GetDatum(id), error ? CStringGetTextDatum(error) : (Datum) 0,
					 TimestampTzGetDatum(now), BoolGetDatum(is_missing)};

	note_failed(statement_run(FAIL_ONE, args, error ? "    " : " n  "));
}

/*
 * Every job that has expired is failed, except those that could not be.
 */
void
queue_expect_expired(TimestampTz now)
{
	expect_locked(now);
}
