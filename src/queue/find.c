/*
 * find.c
 *		Finding the jobs that are ready, and failing those that can never be.
 *
 * Finding only reads, and fills the schedule in memory; what is found may have changed by the time it
 * is claimed, which is why claiming looks again.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "commit.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "schedule.h"
#include "steps.h"

/* ---------- finding ---------- */

/*
 * Adds the rows of the last result (id, server, priority, run_at) to the schedule.
 */
static void
schedule_rows(uint64 n)
{
	uint64 i;

	for (i = 0; i < n; i++)
	{
		int64 id = DatumGetInt64(statement_not_null(i, 1));

		if (job_find(id) == NULL)
			schedule_add(id, statement_name(i, 2), DatumGetInt32(statement_not_null(i, 3)),
						 DatumGetTimestampTz(statement_not_null(i, 4)));
	}
}

/*
 * Takes notice of one changed row of FIND_CHANGED.
 */
static void
notice_change(uint64 row, int64 id, TimestampTz now)
{
	bool is_queued = DatumGetBool(statement_not_null(row, 3));
	bool is_running = DatumGetBool(statement_not_null(row, 4));
	TimestampTz run_at = DatumGetTimestampTz(statement_not_null(row, 7));
	Job *job = job_find(id);
	Datum expires_at;
	bool isnull;

	if (job != NULL && (!is_running || DatumGetInt32(statement_not_null(row, 5)) != job->attempt))
		follow_cancel(job);
	schedule_remove(id);
	if (!is_queued)
		return;
	expires_at = statement_value(row, 8, &isnull);
	if (!isnull)
		schedule_note_time(&schedule_times.expiry, DatumGetTimestampTz(expires_at));
	if (!isnull && DatumGetTimestampTz(expires_at) <= now)
		return;
	if (run_at <= now)
		schedule_add(id, statement_name(row, 2), DatumGetInt32(statement_not_null(row, 6)), run_at);
	else
		schedule_note_time(&schedule_times.due, run_at);
}

static int
compare_ids(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return (left > right) - (left < right);
}

/*
 * Looks at jobs that a commit told of: schedules them, forgets them, or ends their calls if they were
 * cancelled or deleted.
 */
void
queue_read_changed(const int64 *ids, int n, TimestampTz now)
{
	Datum args[1] = {PointerGetDatum(statement_int8_array(ids, n))};
	uint64 rows = statement_run(FIND_CHANGED, args, NULL);
	int64 *found = palloc(Max(rows, 1) * sizeof(int64));
	uint64 row;
	int i;

	for (row = 0; row < rows; row++)
	{
		found[row] = DatumGetInt64(statement_not_null(row, 1));
		notice_change(row, found[row], now);
	}
	if (rows == n)
		return;
	qsort(found, rows, sizeof(int64), compare_ids);
	for (i = 0; i < n; i++)
	{
		if (bsearch(&ids[i], found, rows, sizeof(int64), compare_ids) != NULL)
			continue;
		schedule_remove(ids[i]);
		if (job_find(ids[i]) != NULL)
			follow_cancel(job_find(ids[i]));
	}
}

/*
 * Looks at all claimed jobs, as queue_read_changed() does: nobody knows which were cancelled.
 */
void
queue_read_claimed(TimestampTz now)
{
	int n = 0;
	int state;
	int64 *ids;
	dlist_iter iter;

	for (state = 0; state < JOB_STATES; state++)
		n += job_count(state);
	if (n == 0)
		return;
	ids = palloc(n * sizeof(int64));
	for (n = 0, state = 0; state < JOB_STATES; state++)
	{
		dlist_foreach(iter, job_list(state))
			ids[n++] = dlist_container(Job, node, iter.cur)->id;
	}
	queue_read_changed(ids, n, now);
}

/*
 * Reads the best of a server's ready jobs in.
 */
void
queue_fill(ServerQueue *queue, TimestampTz now)
{
	Datum args[3] = {NameGetDatum(&queue->name), TimestampTzGetDatum(now),
					 Int32GetDatum(SCHEDULE_WINDOW)};
	uint64 rows = statement_run(FIND_READY, args, NULL);

	queue->has_more = rows == SCHEDULE_WINDOW;
	schedule_rows(rows);
}

/*
 * Reads the front of the queue anew, and when the rest is due or expires.
 */
void
queue_scan_all(TimestampTz now)
{
	NameData server = {""};
	Datum args[1] = {NameGetDatum(&server)};

	schedule_clear();
	while (statement_run(FIND_SERVER, args, NULL) > 0)
	{
		namestrcpy(&server, statement_name(0, 1));
		queue_fill(schedule_queue(NameStr(server)), now);
	}
	schedule_times.due = queue_next_due(now);
	schedule_times.expiry = queue_next_expiry();
}

/*
 * Schedules the jobs whose run_at came after one time and not after another.
 */
void
queue_read_due(TimestampTz after, TimestampTz now)
{
	Datum args[3] = {TimestampTzGetDatum(after), TimestampTzGetDatum(now),
					 Int32GetDatum(SCHEDULE_WINDOW)};
	uint64 rows = statement_run(FIND_DUE, args, NULL);

	if (rows == SCHEDULE_WINDOW)
		queue_scan_all(now);
	else
		schedule_rows(rows);
}

static TimestampTz
first_time(uint64 rows)
{
	TimestampTz first = 0;

	if (rows > 0)
		schedule_note_time(&first, DatumGetTimestampTz(statement_not_null(0, 1)));
	return first;
}

TimestampTz
queue_next_due(TimestampTz after)
{
	Datum args[1] = {TimestampTzGetDatum(after)};

	return first_time(statement_run(FIND_NEXT_DUE, args, NULL));
}

TimestampTz
queue_next_expiry(void)
{
	return first_time(statement_run(FIND_NEXT_EXPIRY, NULL, NULL));
}

/* ---------- failing what was never started ---------- */

static void
forget_and_wake(uint64 rows)
{
	int64 *ids = palloc(Max(rows, 1) * sizeof(int64));
	uint64 i;

	for (i = 0; i < rows; i++)
	{
		ids[i] = DatumGetInt64(statement_not_null(i, 1));
		schedule_remove(ids[i]);
		commit_note_ended(ids[i]);
	}
}

/*
 * Fails queued jobs that have expired; returns how many (at most 1000 a call).
 */
int
queue_expire(TimestampTz now)
{
	Datum args[1] = {TimestampTzGetDatum(now)};
	uint64 rows = statement_run(FAIL_EXPIRED, args, NULL);

	forget_and_wake(rows);
	return (int) rows;
}

/*
 * Fails due jobs of a server that cannot be used; returns how many (at most 1000 a call).
 */
int
queue_fail_waiting(const char *server_name, const char *error, TimestampTz now)
{
	NameData name;
	text *message = cstring_to_text(error);
	Datum args[3] = {NameGetDatum(&name), PointerGetDatum(message), TimestampTzGetDatum(now)};
	uint64 rows;

	namestrcpy(&name, server_name);
	rows = statement_run(FAIL_WAITING, args, NULL);
	forget_and_wake(rows);
	return (int) rows;
}
