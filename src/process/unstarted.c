/*
 * unstarted.c
 *		Failing jobs that can never be run: they have expired, or have no server.
 *
 * One statement fails many of them.  One row can make it raise an error,
 * because users' triggers fire.  Then each job gets a transaction of its own,
 * and the job that raises the error is left alone for a while.  So it keeps no
 * other job from being claimed.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/clock.h"
#include "schedule/putoff.h"
#include "queue/queue.h"
#include "queue/trouble.h"
#include "process/unstarted.h"

#define MAX_LISTED 1000
#define PASS_MS 50 /* how long answers may wait */

static int troubles = 0;
static MonoTime not_before = 0; /* the last try raised an error */

typedef struct Unstarted
{
	ServerQueue *queue; /* whose server cannot be used; NULL: jobs that have expired */
	TimestampTz now;
	int64 ids[MAX_LISTED];
	NameData servers[MAX_LISTED]; /* that they are queued for */
	int n;
	int64 id; /* of the job to fail now */
} Unstarted;

/*
 * Lists the jobs, and looks up their servers, whose statistics say which ones refuse.
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
fail_one_work(void *arg)
{
	Unstarted *jobs = arg;

	queue_fail_one(jobs->id, jobs->queue, jobs->now);
}

static void
write_failures(void *arg)
{
	Unstarted *jobs = arg;

	if (jobs->queue == NULL)
		queue_expect_expired(jobs->now);
}

/*
 * Fails jobs one by one, after a statement for many raised an error.  queue:
 * the jobs of it, because its server cannot be used; NULL: expired jobs.
 * False if the database refused, and no row is the cause.
 */
static bool
fail_singly(ServerQueue *queue, TimestampTz now)
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
		if (queue_transact("failing a job that cannot be run", fail_one_work, jobs, &error))
			continue;
		trouble_show_job(TROUBLE_FAIL, jobs->id, stats, error);
		if (!trouble_is_of_row(error))
			return false;
		schedule_put_off(jobs->id, clock_mono() + TROUBLE_MAX_MS * INT64CONST(1000), true);
	}
	/* if there are more, the next look comes at once */
	return i < jobs->n ||
		   queue_transact("failing jobs that cannot be run", write_failures, jobs, &error);
}

/* ---------- many ---------- */

/*
 * Returns when there may be jobs that have expired, or have no server; 0: not known.
 */
MonoTime
unstarted_next(void)
{
	MonoTime earliest = Max(not_before, 1);

	if (schedule_next_without_server() != NULL)
		return earliest;
	return schedule_times.expiry != 0 ? Max(clock_mono_at(schedule_times.expiry), earliest) : 0;
}

static void
expire_work(void *arg)
{
	TimestampTz now = *(TimestampTz *) arg;

	if (schedule_times.expiry != 0 && schedule_times.expiry <= now)
		queue_expire(now);
}

/* Fails some; the next transaction fails more, because there may be many. */
static void
fail_serverless_jobs(void *arg)
{
	TimestampTz now = *(TimestampTz *) arg;
	ServerQueue *queue = schedule_next_without_server();

	if (queue != NULL && queue_fail_waiting(queue, now) == 0 && queue->server == NULL)
		schedule_drop(queue);
}

/*
 * Continues one by one after a statement for many jobs failed; false if that does not help.
 */
static bool
go_on_singly(QueueWork work, TimestampTz now)
{
	ServerQueue *queue = work == fail_serverless_jobs ? schedule_next_without_server() : NULL;

	if (work == fail_serverless_jobs && queue == NULL)
		return true;
	return fail_singly(queue, now);
}

/*
 * Fails jobs that can never run, in transactions of its own.  False if the
 * database refused: then read the queue again.
 */
bool
unstarted_fail(void)
{
	static const QueueWork works[] = {expire_work, fail_serverless_jobs};
	TimestampTz now = clock_now();
	MonoTime next = unstarted_next();
	bool failed = false;
	ErrorData *error;
	int i;

	if (next == 0 || next > clock_mono())
		return true;
	for (i = 0; i < lengthof(works); i++)
	{
		if (queue_transact("failing jobs that cannot be run", works[i], &now, &error))
			continue;
		if (trouble_is_of_row(error) && go_on_singly(works[i], now))
			continue;
		trouble_show(TROUBLE_FAIL, error);
		failed = true;
	}
	not_before = failed ? clock_mono() + trouble_backoff_us(troubles) : 0;
	troubles = failed ? troubles + 1 : 0;
	return !failed;
}
