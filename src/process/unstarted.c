/*
 * unstarted.c
 *		Failing jobs that can never be run, one by one.
 *
 * They are failed many in one statement, which one row can make fail: others' triggers fire.  Then each gets a
 * transaction of its own, and the one that refuses is left alone for a while.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/clock.h"
#include "schedule/putoff.h"
#include "queue/queue.h"
#include "queue/trouble.h"
#include "process/unstarted.h"

#define MAX_LISTED 1000
#define PASS_MS 50 /* in which answers may wait */

typedef struct Unstarted
{
	ServerQueue *queue; /* whose server cannot be used; NULL: jobs that have expired */
	TimestampTz now;
	int64 ids[MAX_LISTED];
	NameData servers[MAX_LISTED]; /* that they are queued for */
	int n;
	int64 id; /* that is failed now */
} Unstarted;

/*
 * Lists the jobs, and looks up their servers, in whose statistics it is said which of them refuse: no commit may have
 * told of them yet.
 */
static void
list_work(void *arg)
{
	Unstarted *jobs = arg;
	int i;

	jobs->n = queue_list_unstarted(jobs->queue ? NameStr(jobs->queue->name) : NULL, jobs->now,
								   jobs->ids, jobs->servers, MAX_LISTED);
	for (i = 0; i < jobs->n; i++)
		(void) schedule_queue(NameStr(jobs->servers[i]));
	schedule_refresh();
}

static void
fail_work(void *arg)
{
	Unstarted *jobs = arg;

	queue_fail_one(jobs->id, jobs->queue ? jobs->queue->complaint : NULL, jobs->now);
}

static void
settle_work(void *arg)
{
	Unstarted *jobs = arg;

	if (jobs->queue == NULL)
		queue_expect_expired(jobs->now);
}

/*
 * Fails what is left of a statement that raised an error: jobs of a queue whose server cannot be used, or NULL: those
 * that have expired.  False if the database refused otherwise than for a row.
 */
bool
unstarted_fail_singly(ServerQueue *queue, TimestampTz now)
{
	Unstarted *jobs = palloc(sizeof(Unstarted));
	MonoTime enough = clock_uptime() + PASS_MS * INT64CONST(1000);
	ErrorData *error;
	int i;

	jobs->queue = queue;
	jobs->now = now;
	if (!queue_transact("failing jobs that cannot be run", list_work, jobs, &error))
		return false;
	for (i = 0; i < jobs->n && clock_uptime() < enough; i++)
	{
		ServerStats *stats;

		CHECK_FOR_INTERRUPTS();
		jobs->id = jobs->ids[i];
		if (putoff_is_shunned(jobs->id))
			continue;
		stats = schedule_queue(NameStr(jobs->servers[i]))->stats;
		if (queue_transact("failing a job that cannot be run", fail_work, jobs, &error))
			continue;
		trouble_show_job(TROUBLE_FAIL, jobs->id, stats, error);
		if (!trouble_is_of_row(error))
			return false;
		schedule_put_off(jobs->id, clock_mono() + TROUBLE_MAX_MS * INT64CONST(1000), true);
	}
	/* where there are more, the next look comes at once */
	return i < jobs->n ||
		   queue_transact("failing jobs that cannot be run", settle_work, jobs, &error);
}
