/*
 * keepdue.c
 *		Jobs that are not due any more because the calendar was set back.
 *
 * run_at is a time of the calendar.  Without this, a job that was due would
 * wait again for as long as the calendar was set back, and so would a retry.
 * A time that the application chose, and that had not come, stays.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/trouble.h"

#define LOOKED_AT 100000
#define LOOKED_AT_FIRST \
	1000 /* when a dispatcher starts, and does not know whether the calendar was set back */

typedef struct KeepDue
{
	TimestampTz now;
	TimestampTz seen;
	TimestampTz set_at;
	int n; /* rows that were changed */
} KeepDue;

static void
keep_work(void *arg)
{
	KeepDue *keep = arg;
	int most = keep->seen > keep->now ? LOOKED_AT : LOOKED_AT_FIRST;
	Datum args[5] = {TimestampTzGetDatum(keep->now), TimestampTzGetDatum(keep->seen),
					 TimestampTzGetDatum(keep->set_at), Int32GetDatum(most),
					 Int32GetDatum(QUEUE_KEEP_DUE_BATCH)};

	keep->n = (int) statement_run(KEEP_DUE, args, NULL);
}

/*
 * Makes jobs due that were due at seen, the latest time of the calendar that
 * this dispatcher knows, and moves retries by as much as the calendar.  set_at:
 * the earliest time of the new calendar; a job from after that may be meant for
 * later.  seen = now: looks for such jobs although no dispatcher has seen a
 * later time.  Returns how many rows it changed, at most QUEUE_KEEP_DUE_BATCH;
 * the caller must read the queue again, and call again if there may be more.
 * If the database refuses, they wait.
 */
int
queue_keep_due(TimestampTz now, TimestampTz seen, TimestampTz set_at)
{
	KeepDue keep = {now, seen, set_at, 0};
	ErrorData *error;

	if (queue_guard(keep_work, &keep, &error))
		return keep.n;
	trouble_show(TROUBLE_CLAIM, error);
	return 0;
}
