/*
 * find.c
 *		Finds the jobs that are ready.
 *
 * Finding only reads, and fills the schedule in memory.  A job may change
 * before it is claimed, so the claim looks again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "schedule/putoff.h"
#include "queue/ended.h"
#include "queue/dependency.h"
#include "queue/failing.h"
#include "queue/find.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "schedule/schedule.h"
#include "shared/stats.h"
#include "life/life.h"
#include "schedule/weights.h"

#define FILL_LANES 100  /* lanes read by one statement */
#define FILLS 10        /* statements in a transaction */
#define SCAN_LANES 1000 /* lanes found by one statement */
#define MAX_DUE 2000

/* ---------- finding ---------- */

static void
schedule_row(uint64 row, int64 id, int column)
{
	Oid owner = DatumGetObjectId(statement_not_null(row, column + 1));
	char *tenant = TextDatumGetCString(statement_not_null(row, column + 2));

	schedule_add(id, statement_name(row, column), owner, tenant,
				 DatumGetInt32(statement_not_null(row, column + 3)),
				 DatumGetTimestampTz(statement_not_null(row, column + 4)),
				 statement_time_or_none(row, column + 5));
	pfree(tenant);
}

/*
 * Schedules a job that is queued and due.  If it has expired, only notes the
 * expiry.  The row's columns from column on are server, owner, tenant,
 * priority, run_at and expires_at.
 */
void
find_take_row(uint64 row, int64 id, int column, TimestampTz now)
{
	TimestampTz expires_at = statement_time_or_none(row, column + 5);

	if (expires_at != 0)
		queue_note_expiry(expires_at);
	if (expires_at == 0 || expires_at > now)
		schedule_row(row, id, column);
}

/*
 * Like find_take_row(), for a job that may be due later.
 */
void
find_take_queued(uint64 row, int64 id, int column, TimestampTz now)
{
	TimestampTz run_at = DatumGetTimestampTz(statement_not_null(row, column + 4));
	TimestampTz expires_at = statement_time_or_none(row, column + 5);

	if (expires_at != 0)
		queue_note_expiry(expires_at);
	if (run_at <= now)
		find_take_row(row, id, column, now);
	else
		schedule_note_time(&schedule_times.due, run_at);
}

/*
 * Polls the prediction that a running job waits for, because a commit reported
 * the job (genjob.poke(), or a change of the row); at most once a second.
 */
static void
poll_poked_job(Job *job)
{
	MonoTime at = Max(clock_mono(), job->poll.poked_at + USECS_PER_SEC);

	if (job->state != JOB_WAITING || !job->is_waking || job->wake_at <= at)
		return;
	job->poll.poked_at = at;
	job_wake_at(job, at);
}

/*
 * Acts on one row of FIND_CHANGED.
 */
static void
notice_change(uint64 row, int64 id, TimestampTz now)
{
	bool is_queued = DatumGetBool(statement_not_null(row, CHANGED_IS_QUEUED));
	bool is_running = DatumGetBool(statement_not_null(row, CHANGED_IS_RUNNING));
	bool is_waiting = DatumGetBool(statement_not_null(row, CHANGED_IS_WAITING));
	TimestampTz expires_at = statement_time_or_none(row, CHANGED_EXPIRES_AT);
	Job *job = job_find(id);

	if (DatumGetBool(statement_not_null(row, CHANGED_HAS_FOLLOW_UP)))
		ended_expect(DT_NOBEGIN);
	if (job != NULL && job->remote.token_digest != NULL && !is_running && !is_queued &&
		!is_waiting && !DatumGetBool(statement_not_null(row, CHANGED_IS_CANCELLED)))
		job->cancel.is_completed = true;
	if (job != NULL &&
		(!is_running || DatumGetInt32(statement_not_null(row, CHANGED_ATTEMPT)) != job->attempt))
		life_cancel(job);
	else if (job != NULL)
		poll_poked_job(job);
	schedule_remove(id);
	if (!is_running && !is_queued)
		stats_end_troubles(id);
	if (DatumGetBool(statement_not_null(row, CHANGED_IS_BLOCKED)))
		dependency_note_blocked();
	if (!is_running)
		dependency_note_news(id, is_waiting, !is_waiting && !is_queued);
	if (is_queued)
		find_take_queued(row, id, CHANGED_SERVER, now);
	else if (is_waiting && expires_at != 0)
		queue_note_expiry(expires_at);
}

/*
 * Looks at jobs that a commit reported: schedules or forgets them, or ends their calls if they were cancelled or
 * deleted.
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
		found[row] = DatumGetInt64(statement_not_null(row, CHANGED_ID));
		notice_change(row, found[row], now);
	}
	if (rows == n)
		return;
	qsort(found, rows, sizeof(int64), compat_compare_int64);
	for (i = 0; i < n; i++)
	{
		if (bsearch(&ids[i], found, rows, sizeof(int64), compat_compare_int64) != NULL)
			continue;
		schedule_remove(ids[i]);
		stats_end_troubles(ids[i]);
		dependency_note_news(ids[i], false, true);
		if (job_find(ids[i]) != NULL)
		{
			job_find(ids[i])->cancel.row_is_gone = true;
			life_cancel(job_find(ids[i]));
		}
	}
}

/*
 * Looks at all claimed jobs, as queue_read_changed() does, because any of them may have been cancelled.
 */
void
queue_read_claimed(TimestampTz now)
{
	int n = 0;
	int state;
	int64 *ids;
	dlist_iter iter;

	for (state = 0; state < JOB_CANCELLING; state++)
		n += job_count(state);
	if (n == 0)
		return;
	ids = palloc(n * sizeof(int64));
	for (n = 0, state = 0; state < JOB_CANCELLING; state++)
	{
		dlist_foreach(iter, job_list(state))
			ids[n++] = dlist_container(Job, node, iter.cur)->id;
	}
	queue_read_changed(ids, n, now);
}

/* ---------- lanes ---------- */

/* Lanes read by one statement. */
typedef struct Filling
{
	Lane *lanes[FILL_LANES];
	int n_read[FILL_LANES];
	int sizes[FILL_LANES];
	int n;
} Filling;

static void
choose_lanes(Filling *filling)
{
	Lane *lane = NULL;

	memset(filling, 0, sizeof(*filling));
	while (filling->n < FILL_LANES && (lane = lanes_next_hungry(lane)) != NULL)
	{
		filling->sizes[filling->n] = lane_fill_size(lane);
		filling->lanes[filling->n++] = lane;
	}
}

static ArrayType *
make_array(Datum *datums, int n, Oid type)
{
	int16 len;
	bool by_value;
	char align;

	get_typlenbyvalalign(type, &len, &by_value, &align);
	return construct_array(datums, n, type, len, by_value, align);
}

static uint64
read_lanes(const Filling *filling, TimestampTz now)
{
	static const Oid types[] = {TEXTOID,        OIDOID,  TEXTOID, INT4OID,
								TIMESTAMPTZOID, INT8OID, INT4OID};
	Datum columns[lengthof(types)][FILL_LANES];
	Datum args[lengthof(types) + 1];
	int i;

	for (i = 0; i < filling->n; i++)
	{
		const Lane *lane = filling->lanes[i];

		columns[0][i] = CStringGetTextDatum(lane->server_name);
		columns[1][i] = ObjectIdGetDatum(lane->owner);
		columns[2][i] = CStringGetTextDatum(lane->tenant_name);
		columns[3][i] = Int32GetDatum(lane->priority);
		columns[4][i] = TimestampTzGetDatum(lane->last.run_at);
		columns[5][i] = Int64GetDatum(lane->last.id);
		columns[6][i] = Int32GetDatum(filling->sizes[i]);
	}
	for (i = 0; i < lengthof(types); i++)
		args[i] = PointerGetDatum(make_array(columns[i], filling->n, types[i]));
	args[lengthof(types)] = TimestampTzGetDatum(now);
	return statement_run(FIND_READY, args, NULL);
}

static void
fill_lanes(Filling *filling, TimestampTz now)
{
	uint64 rows = read_lanes(filling, now);
	uint64 row;
	int i;

	for (row = 0; row < rows; row++)
	{
		int64 number = DatumGetInt64(statement_not_null(row, 1));
		int64 id = DatumGetInt64(statement_not_null(row, 2));
		TimestampTz expires_at = statement_time_or_none(row, 4);
		bool expired = expires_at != 0 && expires_at <= now;

		if (expired)
			queue_note_expiry(expires_at);
		filling->n_read[number - 1]++;
		lane_read(filling->lanes[number - 1], id, DatumGetTimestampTz(statement_not_null(row, 3)),
				  expires_at, !expired && job_find(id) == NULL && !putoff_is_shunned(id));
	}
	for (i = 0; i < filling->n; i++)
		lane_filled(filling->lanes[i], filling->n_read[i] == filling->sizes[i]);
}

/*
 * Reads more jobs into the lanes that run low.
 */
void
queue_fill(TimestampTz now)
{
	Filling *filling = palloc(sizeof(Filling));
	int i;

	for (i = 0; i < FILLS; i++)
	{
		choose_lanes(filling);
		if (filling->n == 0)
			break;
		fill_lanes(filling, now);
	}
	pfree(filling);
}

/* ---------- everything ---------- */

/*
 * Returns the time in the first row of the last result; 0: there is no row.
 */
TimestampTz
find_first_time(uint64 rows)
{
	TimestampTz first = 0;

	if (rows > 0)
		schedule_note_time(&first, DatumGetTimestampTz(statement_not_null(0, 1)));
	return first;
}

/* The last lane that a scan has found. */
static struct
{
	TimestampTz since;
	NameData server;
	Oid owner;
	char *tenant; /* malloc'd */
	int32 priority;
} scanned;

/*
 * Begins to read the front of the queue again; queue_scan() continues.  since:
 * no job with an earlier run_at has come in; DT_NOBEGIN: unknown.  Finds when
 * the next job is due and, with DT_NOBEGIN, when the first one expires.
 */
void
queue_scan_begin(TimestampTz since, TimestampTz now)
{
	scanned.since = since;
	memset(&scanned.server, 0, sizeof(scanned.server));
	free(scanned.tenant);
	scanned.tenant = NULL;
	scanned.owner = InvalidOid;
	scanned.priority = PG_INT32_MIN;
	if (since == DT_NOBEGIN)
	{
		lanes_begin_scan();
		failing_forget();
	}
	schedule_times.due = queue_next_due(now);
}

static void
read_lane_again(uint64 row, char *tenant)
{
	ServerQueue *queue = schedule_queue(statement_name(row, 1));
	Lane *lane = turns_lane(&queue->turns, scanned.owner, tenant, scanned.priority);

	if (lane == NULL)
		return;
	if (scanned.since == DT_NOBEGIN)
		lane_reset(lane, DatumGetTimestampTz(statement_not_null(row, 5)),
				   DatumGetInt64(statement_not_null(row, 6)));
	else
		lane_rewind(lane, scanned.since);
}

/*
 * Finds the next lanes of the table and marks them for reading; false after the last ones.
 */
bool
queue_scan(void)
{
	Datum args[7] = {CStringGetTextDatum(NameStr(scanned.server)),
					 ObjectIdGetDatum(scanned.owner),
					 CStringGetTextDatum(scanned.tenant ? scanned.tenant : ""),
					 Int32GetDatum(scanned.priority),
					 Int32GetDatum(SCAN_LANES),
					 TimestampTzGetDatum(scanned.since),
					 TimestampTzGetDatum(DT_NOEND)};
	uint64 rows = statement_run(FIND_LANES, args, NULL);
	char *tenant = NULL;
	uint64 row;

	for (row = 0; row < rows; row++)
	{
		namestrcpy(&scanned.server, statement_name(row, 1));
		scanned.owner = DatumGetObjectId(statement_not_null(row, 2));
		tenant = TextDatumGetCString(statement_not_null(row, 3));
		scanned.priority = DatumGetInt32(statement_not_null(row, 4));
		read_lane_again(row, tenant);
	}
	free(scanned.tenant);
	scanned.tenant = tenant ? strdup(tenant) : NULL;
	if (rows == SCAN_LANES)
		return true;
	if (scanned.since == DT_NOBEGIN)
		schedule_drop_unseen();
	return false;
}

/*
 * Reads how many turns each owner and each tenant gets.
 */
void
queue_read_weights(void)
{
	uint64 rows = statement_run(FIND_WEIGHTS, NULL, NULL);
	uint64 row;

	weights_forget();
	for (row = 0; row < rows; row++)
		weights_set_tenant(statement_name(row, 1), TextDatumGetCString(statement_not_null(row, 2)),
						   DatumGetFloat8(statement_not_null(row, 3)));
	rows = statement_run(FIND_OWNER_WEIGHTS, NULL, NULL);
	for (row = 0; row < rows; row++)
		weights_set_owner(statement_name(row, 1), DatumGetObjectId(statement_not_null(row, 2)),
						  DatumGetFloat8(statement_not_null(row, 3)));
	schedule_weights_changed();
}

/*
 * Schedules the jobs whose run_at is later than after, but not than now.  If
 * they are too many, schedules none and returns false: read the whole queue.
 */
bool
queue_read_due(TimestampTz after, TimestampTz now)
{
	Datum args[3] = {TimestampTzGetDatum(after), TimestampTzGetDatum(now), Int32GetDatum(MAX_DUE)};
	uint64 rows = statement_run(FIND_DUE, args, NULL);
	uint64 row;

	for (row = 0; row < rows && rows < MAX_DUE; row++)
	{
		int64 id = DatumGetInt64(statement_not_null(row, 1));

		if (job_find(id) == NULL)
			find_take_row(row, id, 2, now);
	}
	return rows < MAX_DUE;
}

TimestampTz
queue_next_due(TimestampTz after)
{
	Datum args[1] = {TimestampTzGetDatum(after)};

	return find_first_time(statement_run(FIND_NEXT_DUE, args, NULL));
}
