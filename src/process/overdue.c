/*
 * overdue.c
 *		Failing jobs whose server has refused for too long, for a reason that
 *		waiting alone does not remove.
 *
 * Only one job at a time tries whether the provider still refuses, so the last
 * of many jobs would wait for as many tries.  So once the server has refused
 * for the option max_wait, all jobs fail that have been due for that long.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/clock.h"
#include "process/overdue.h"
#include "queue/queue.h"
#include "queue/trouble.h"
#include "schedule/schedule.h"

#define MANY 1000 /* most rows that one statement fails */

typedef struct Overdue
{
	ServerQueue *queue;
	TimestampTz now;
	int n; /* failed */
} Overdue;

static void
fail_overdue_jobs(void *arg)
{
	Overdue *overdue = arg;
	const Limits *limits = &overdue->queue->limits;
	int64 max_wait = limits->server->options.max_wait;
	const char *error =
		psprintf("server \"%s\" has accepted no job for longer than its option max_wait: %s. Fix the cause at the provider, then run genjob.retry().",
				 NameStr(overdue->queue->name), limits->stuck);

	overdue->n = queue_fail_overdue(NameStr(overdue->queue->name), error,
									overdue->now - max_wait * 1000, overdue->now);
}

/*
 * True if there is something for overdue_fail() to do.
 */
bool
overdue_is_due(void)
{
	return schedule_next_stuck(clock_now()) != NULL;
}

/*
 * Fails some of the jobs that have waited for too long.  If the database
 * refuses, tries again after the server's next refusal.
 */
void
overdue_fail(void)
{
	Overdue overdue = {.now = clock_now()};
	ErrorData *error;

	overdue.queue = schedule_next_stuck(overdue.now);
	if (overdue.queue == NULL)
		return;
	if (!queue_transact("failing jobs that have waited too long", fail_overdue_jobs, &overdue,
						&error))
	{
		overdue.n = 0;
		trouble_show(TROUBLE_FAIL, error);
	}
	overdue.queue->limits.fails_overdue = overdue.n == MANY;
}
