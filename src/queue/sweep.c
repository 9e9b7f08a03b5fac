/*
 * sweep.c
 *		Looks for jobs that no commit reported, a little at a time.
 *
 * The safety net of genjob.rescan_interval.  A sweep reads past every row that
 * was ever queued and that VACUUM could not remove yet.  If an old transaction
 * or a forgotten replication slot blocks VACUUM, these are millions of dead
 * rows, at times that nobody knows.  So the sweep reads the queue by run_at,
 * latest first, in slices of time.  It widens the slices where rows are few.
 * It breaks off a slice that takes too long, and reads it in smaller ones.
 * Between its steps there is time for everything else.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "queue/find.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/trouble.h"

#define SLICE_ROWS 2000
#define TIED_LANES 1000 /* lanes found by one statement */
#define SLICE_MS 20     /* after which a slice is broken off */
#define EASY_US 2000    /* after a slice that took less, the next is twice as wide */
#define STEP_US 5000    /* of slices in one step */
#define PAUSE 20        /* after a step, times as long as the step took */
#define FIRST_WIDTH USECS_PER_SEC

static struct
{
	bool is_new;
	TimestampTz
		end; /* all jobs with this run_at or a later one have been looked at; DT_NOBEGIN: no sweep */
	int64 width;       /* of the next slice, us */
	bool is_narrowest; /* it cannot be divided: is read however long it takes */
	MonoTime next_at;  /* the next step */
} sweep = {.end = DT_NOBEGIN};

/*
 * Begins a sweep, unless one is under way.
 */
void
queue_sweep_begin(TimestampTz now)
{
	if (sweep.end != DT_NOBEGIN)
		return;
	sweep.is_new = true;
	sweep.end = now + 1;
	sweep.width = FIRST_WIDTH;
	sweep.is_narrowest = false;
	sweep.next_at = clock_mono();
}

/*
 * Returns when queue_sweep() has something to do; 0: never.
 */
MonoTime
queue_sweep_next(void)
{
	return sweep.end == DT_NOBEGIN ? 0 : sweep.next_at;
}

/*
 * Schedules a job that is not known.  The row's columns are those of
 * FIND_WAITING.
 */
static void
look_at_row(uint64 row, TimestampTz now)
{
	int64 id = DatumGetInt64(statement_not_null(row, 1));

	if (!schedule_knows(id) && job_find(id) == NULL)
		find_take_row(row, id, 2, now);
}

/*
 * Too many jobs share this run_at to read singly: rewinds their lanes to it, except lanes that still have rows to read.
 */
static void
rewind_lanes(TimestampTz run_at)
{
	NameData server = {0};
	Oid owner = InvalidOid;
	char *tenant = "";
	int32 priority = PG_INT32_MIN;
	uint64 rows;

	do
	{
		Datum args[7] = {CStringGetTextDatum(NameStr(server)),
						 ObjectIdGetDatum(owner),
						 CStringGetTextDatum(tenant),
						 Int32GetDatum(priority),
						 Int32GetDatum(TIED_LANES),
						 TimestampTzGetDatum(run_at),
						 TimestampTzGetDatum(run_at)};
		uint64 row;

		CHECK_FOR_INTERRUPTS();
		rows = statement_run(FIND_LANES, args, NULL);
		for (row = 0; row < rows; row++)
		{
			ServerQueue *queue = schedule_queue(statement_name(row, 1));
			Lane *lane;

			namestrcpy(&server, NameStr(queue->name));
			owner = DatumGetObjectId(statement_not_null(row, 2));
			tenant = TextDatumGetCString(statement_not_null(row, 3));
			priority = DatumGetInt32(statement_not_null(row, 4));
			lane = turns_lane(&queue->turns, owner, tenant, priority);
			if (lane != NULL && !lane->has_more)
				lane_rewind(lane, run_at);
		}
	} while (rows == TIED_LANES);
}

static uint64
run_limited(Datum *args)
{
	uint64 rows;

	if (!sweep.is_narrowest)
		enable_timeout_after(STATEMENT_TIMEOUT, SLICE_MS);
	rows = statement_run(FIND_WAITING, args, NULL);
	disable_timeout(STATEMENT_TIMEOUT, false);
	QueryCancelPending = false;
	return rows;
}

/*
 * Reads the slice before sweep.end, and moves that back.
 */
static void
read_slice(TimestampTz now)
{
	TimestampTz begin =
		sweep.end - MIN_TIMESTAMP <= sweep.width ? DT_NOBEGIN : sweep.end - sweep.width;
	Datum args[3] = {TimestampTzGetDatum(begin), TimestampTzGetDatum(sweep.end),
					 Int32GetDatum(SLICE_ROWS)};
	uint64 rows = run_limited(args);
	uint64 row;

	for (row = 0; row < rows; row++)
		look_at_row(row, now);
	if (rows == SLICE_ROWS)
	{
		TimestampTz last = DatumGetTimestampTz(statement_not_null(rows - 1, 6));

		if (last + 1 == sweep.end || last == DT_NOBEGIN)
			rewind_lanes(last);
		begin = last + 1 == sweep.end || last == DT_NOBEGIN ? last : last + 1;
	}
	sweep.end = begin;
	sweep.is_narrowest = false;
}

/*
 * Returns how long something took, by the system's clock: the dispatcher's may
 * run faster.
 */
static int64
us_since(instr_time began)
{
	instr_time taken;

	INSTR_TIME_SET_CURRENT(taken);
	INSTR_TIME_SUBTRACT(taken, began);
	return (int64) INSTR_TIME_GET_MICROSEC(taken);
}

static void
read_slices(void *arg)
{
	TimestampTz now = *(TimestampTz *) arg;
	TimestampTz due;
	instr_time began;
	instr_time slice_began;

	INSTR_TIME_SET_CURRENT(began);
	if (sweep.is_new)
	{
		queue_read_claimed(now);
		due = queue_next_due(now);
		/* this keeps an earlier time that was noted since the last look */
		if (due != 0)
			schedule_note_time(&schedule_times.due, due);
	}
	sweep.is_new = false;
	do
	{
		INSTR_TIME_SET_CURRENT(slice_began);
		read_slice(now);
		if (us_since(slice_began) < EASY_US && sweep.width < PG_INT64_MAX / 2)
			sweep.width *= 2;
	} while (sweep.end != DT_NOBEGIN && us_since(began) < STEP_US);
}

/*
 * Divides a slice that took too long.
 */
static void
divide_slice(void)
{
	sweep.is_narrowest = sweep.width == 1;
	sweep.width = Max(sweep.width / 8, 1);
}

/*
 * Reads some slices.  If the database refuses, the rest is left to the next sweep.
 */
void
queue_sweep(TimestampTz now)
{
	MonoTime began = clock_mono();
	ErrorData *error;

	if (!queue_transact("looking for jobs that no commit reported", read_slices, &now, &error))
	{
		disable_timeout(STATEMENT_TIMEOUT, false);
		QueryCancelPending = false;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			divide_slice();
		else
		{
			trouble_show(TROUBLE_SWEEP, error);
			sweep.end = DT_NOBEGIN;
		}
	}
	sweep.next_at = clock_mono() + PAUSE * (clock_mono() - began);
}
