/*
 * claimer.c
 *		Finding and claiming jobs: when there is a reason to look at the database, and what to look for.
 *
 * One transaction reads what has changed and claims jobs for which there is room.  Calls begin after its commit.
 * reasons.h has what is known between two looks.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/marker.h"
#include "base/settings.h"
#include "base/trace.h"
#include "life/cancelline.h"
#include "life/life.h"
#include "process/callbacks.h"
#include "process/claimer.h"
#include "process/reasons.h"
#include "process/retention.h"
#include "process/spool.h"
#include "process/unstarted.h"
#include "process/writers.h"
#include "queue/dependency.h"
#include "queue/ended.h"
#include "queue/queue.h"
#include "queue/trouble.h"
#include "schedule/putoff.h"
#include "schedule/memoryline.h"
#include "schedule/schedule.h"
#include "shared/standby.h"

#define CLAIM_BATCH 500
#define FOLLOW_UP_US USECS_PER_SEC /* before doing what a writer left */
#define ORPHANS_US USECS_PER_SEC   /* between two looks whether there is memory for orphans */
#define MAX_QUICK_TROUBLES 5       /* rows in a row that raise errors, before backing off */
#define START_MS 10                /* for reading saved answers, before others have their turn */

Claimer claimer = {
	.is_unknown = true,
	.weights_are_stale = true,
	.scan_since = DT_NOBEGIN,
	.orphans_at = DT_NOBEGIN,
	.presence = QUEUE_PRESENT,
	.batch = CLAIM_BATCH,
};

/* What one look does, in a transaction. */
typedef struct Claim
{
	Turn turns[CLAIM_BATCH];
	int n;
	int refused;         /* of these, jobs that found no room in memory */
	bool is_spool_only;  /* it reads only a part of the spool; the rest is for the next look */
	MonoTime orphans_at; /* becomes the claimer's, if the transaction commits */
} Claim;

/*
 * Prepares for the first look, which is at everything.
 */
void
claimer_init(int descriptors)
{
	claimer.max_calls = descriptors;
	dependency_start();
	claimer.news.bulk = (BulkChange){DT_NOEND, DT_NOEND};
	claimer.next_rescan = clock_mono() + genjob_rescan_interval * USECS_PER_SEC;
}

/*
 * Applies settings that were reloaded.
 */
void
claimer_reconfigured(void)
{
	MonoTime next = clock_mono() + genjob_rescan_interval * USECS_PER_SEC;

	claimer.next_rescan = Min(claimer.next_rescan, next);
}

/*
 * True if the last look failed.
 */
bool
claimer_is_troubled(void)
{
	return claimer.trouble_until != 0;
}

/*
 * True if the last look found that this database has no extension.
 */
bool
claimer_found_nothing(void)
{
	return claimer.presence == QUEUE_ABSENT;
}

/*
 * Returns how many more calls may begin.
 */
int
claimer_room(void)
{
	/* no call may begin before the standbys have its claim */
	if (!standby_has_all())
		return 0;
	/*
	 * results that cannot be written take places, too: buy nothing that cannot
	 * be stored
	 */
	return Min(genjob_max_in_flight - job_count_in_flight(),
			   claimer.max_calls - job_count(JOB_CALLING) - cancelline_count()) -
		   job_count(JOB_REPORTING);
}

/*
 * Looks at the extension, if it may have changed.  False if there is nothing to serve.
 */
static bool
check_extension(void)
{
	if (!claimer.is_unknown)
		return true;
	claimer.presence = queue_look();
	if (claimer.presence == QUEUE_OTHER_VERSION)
		shmem_set_my_error(
			"the extension is not of version " GENJOB_VERSION
			", as the loaded library is: run ALTER EXTENSION genjob UPDATE, or restart the server if the library on disk is newer");
	if (claimer.presence != QUEUE_PRESENT)
	{
		/* the next scan reads what changes until then */
		claimer.scan_since = DT_NOBEGIN;
		return false;
	}
	claimer.is_unknown = false;
	return true;
}

/*
 * Begins or continues to read the queue again, as far as needed.  One scan ends before the next begins.
 */
static void
rescan_queue(TimestampTz now)
{
	claimer.scan_since = Min(claimer.scan_since, claimer.news.bulk.since);
	if (claimer.scan_since == DT_NOBEGIN || claimer.news.bulk.since != DT_NOEND)
		dependency_look_at_all();
	if (claimer.news.bulk.expiry != DT_NOEND && claimer.news.bulk.since != DT_NOBEGIN)
		queue_note_expiry(claimer.news.bulk.expiry);
	if (claimer.scan_since == DT_NOBEGIN)
	{
		queue_read_claimed(now);
		ended_expect(DT_NOBEGIN);
	}
	if (!claimer.scanning && claimer.scan_since != DT_NOEND)
	{
		queue_scan_begin(claimer.scan_since, now);
		claimer.scanning = true;
		claimer.scan_since = DT_NOEND;
	}
	if (claimer.scanning)
		claimer.scanning = queue_scan();
}

/*
 * Takes up what an earlier dispatcher left: spooled answers first, some in each transaction, then calls that were under
 * way.
 */
static void
take_up_orphans(Claim *claim)
{
	queue_put_condemned_aside();
	if (!claimer.spool_is_read && !spool_load())
	{
		claim->is_spool_only = true;
		return;
	}
	claimer.spool_is_read = true;
	/* no memory has become free since the last look */
	if (claimer.orphans_at != DT_NOBEGIN && queue_orphans_lack_memory())
	{
		claim->orphans_at = clock_mono() + ORPHANS_US;
		return;
	}
	claim->orphans_at = queue_read_orphans(claimer.orphans_at == DT_NOBEGIN);
	if (claim->orphans_at == 0)
		claim->orphans_at = DT_NOEND;
}

/*
 * Keeps jobs due although the calendar was set back, some in each look.
 */
static void
keep_due(TimestampTz now)
{
	bool is_first = claimer.due_read == 0;

	if (now < claimer.due_read)
	{
		claimer.set_back_from = Max(claimer.set_back_from, claimer.due_read);
		claimer.set_back_to = now - (clock_uptime() - claimer.due_read_at);
	}
	if (claimer.set_back_from != 0 || is_first)
	{
		int n = queue_keep_due(now, Max(claimer.set_back_from, now), claimer.set_back_to);

		if (n > 0)
			claimer.scan_since = DT_NOBEGIN;
		if (n < QUEUE_KEEP_DUE_BATCH)
			claimer.set_back_from = 0;
		else if (is_first)
			claimer.set_back_from = now; /* there may be more */
	}
	if (now < claimer.due_read)
		schedule_times.due = queue_next_due(now);
}

static void
read_queue(Claim *claim, TimestampTz now)
{
	ScheduleTimes *times = &schedule_times;

	if (claimer.orphans_at <= clock_mono())
	{
		take_up_orphans(claim);
		if (claim->is_spool_only)
			return;
		queue_forget_cancels();
	}
	queue_read_cancels();
	if (claimer.weights_are_stale)
		queue_read_weights();
	claimer.weights_are_stale = false;
	if (claimer.news.n_ids > 0)
		queue_read_changed(claimer.news.ids, claimer.news.n_ids, now);
	keep_due(now);
	if (times->due != 0 && times->due <= now)
	{
		if (!queue_read_due(claimer.due_read, now))
			claimer.scan_since = Min(claimer.scan_since, claimer.due_read);
		times->due = queue_next_due(now);
	}
	rescan_queue(now);
	queue_read_left_out(now);
	claimer.due_read = now;
	claimer.due_read_at = clock_uptime();
}

/*
 * Looks again at jobs that were postponed, and at jobs that were kept for
 * their own servers, as many as those servers have room for.
 */
static void
look_at_postponed(TimestampTz now, MonoTime mono)
{
	int64 ids[CLAIM_BATCH];
	int n = putoff_take(ids, CLAIM_BATCH, mono);

	n += memoryline_take_again(ids + n, CLAIM_BATCH - n, mono);
	n += schedule_release(ids + n, CLAIM_BATCH - n, mono);
	if (n > 0)
		queue_read_changed(ids, n, now);
}

static void
claim_work(void *arg)
{
	Claim *claim = arg;
	TimestampTz now = clock_now();
	MonoTime mono = clock_mono();
	int n;

	if (!check_extension())
		return;
	read_queue(claim, now);
	if (claim->is_spool_only)
		return;
	schedule_refresh();
	look_at_postponed(now, mono);
	do
	{
		queue_fill(now);
		n = schedule_take(claim->turns + claim->n, claimer.batch - claim->n,
						  claimer_room() - claim->n, mono);
		claim->n += n;
		claim->n -= n - queue_keep_home(claim->turns + claim->n - n, n);
	} while (n > 0 && claim->n < claimer.batch && lanes_next_hungry(NULL) != NULL);
	if (claim->n > 0)
		claim->refused = queue_claim(claim->turns, claim->n, now);
	if (queue_has_new_orphans())
		claim->orphans_at = clock_mono();
}

/*
 * Forgets the jobs that the failed transaction claimed, but not those that wait for a standby.
 */
static void
destroy_claimed(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, job_list(JOB_CLAIMED))
	{
		Job *job = dlist_container(Job, node, iter.cur);

		if (job->is_committed)
			continue;
		if (job->request != NULL)
			limits_give_back(&job->place); /* orphans have taken no token */
		job_destroy(job);
	}
}

/*
 * Handles a failed claim.  Memory may be wrong now, so everything is read
 * again.  If one row is the cause, claiming one by one finds it; that row is
 * left alone for a while.
 */
static void
claim_failed(Claim *claim, const ErrorData *error)
{
	bool is_found = claim->n == 1 && trouble_is_of_row(error);
	int i;

	marker_end();
	if (is_found)
		trouble_show_job(TROUBLE_CLAIM, claim->turns[0].id, claim->turns[0].home->stats, error);
	else
		trouble_show(TROUBLE_CLAIM, error);
	destroy_claimed();
	for (i = 0; i < claim->n; i++)
		limits_give_back(&claim->turns[i].place);
	if (is_found)
		schedule_put_off(claim->turns[0].id, clock_mono() + TROUBLE_MAX_MS * INT64CONST(1000),
						 true);
	claimer.batch = 1;
	claimer.is_unknown = claimer.weights_are_stale = true;
	claimer.orphans_at = DT_NOBEGIN;
	claimer.scan_since = DT_NOBEGIN;
	claimer.scanning = false;
	if (!is_found || claimer.troubles++ > MAX_QUICK_TROUBLES)
		claimer.trouble_until = clock_mono() + trouble_backoff_us(claimer.troubles++);
	shmem_set_my_state(WORKER_TROUBLED);
}

static void
acquit_work(void *arg)
{
	queue_acquit_put_aside();
}

/*
 * Removes jobs that were put aside from the marker.
 */
static void
acquit_put_aside(void)
{
	Suspect suspect;
	ErrorData *error;
	int i = 0;

	if (marker_next_condemned(&i, &suspect) &&
		!queue_transact("putting jobs aside", acquit_work, NULL, &error))
		trouble_show(TROUBLE_FAIL, error);
}

/*
 * Makes the next look read orphans: there is one that is no Job in memory.
 */
void
claimer_expect_orphans(void)
{
	claimer.orphans_at = DT_NOBEGIN;
}

static void
forget_news(void)
{
	claimer.news.n_ids = 0;
	claimer.news.bulk = (BulkChange){DT_NOEND, DT_NOEND};
	claimer.news.recheck = false;
}

/* ---------- claiming ---------- */

/*
 * True if there is a reason for a claim transaction now.  An idle dispatcher has none.
 */
bool
claimer_must_look(MonoTime now)
{
	return reasons_find(now) != NULL;
}

/*
 * Returns when to look at the queue if nothing is reported before.
 */
MonoTime
claimer_next_look(MonoTime now)
{
	return reasons_next(now);
}

/*
 * Begins the rescans that are due now.
 */
void
claimer_note_time(MonoTime now)
{
	if (claimer.trouble_until > now)
		return;
	if (schedule_times.rescan != 0 && schedule_times.rescan <= now)
	{
		claimer.scan_since = DT_NOBEGIN;
		schedule_times.rescan = 0;
	}
	if (claimer.next_rescan > now)
		return;
	if (claimer.presence == QUEUE_OTHER_VERSION)
		claimer.news.recheck = true;
	else
	{
		queue_sweep_begin(clock_now());
		dependency_rescan();
	}
	claimer.next_rescan = now + genjob_rescan_interval * USECS_PER_SEC;
}

/*
 * Starts jobs whose answers an earlier process saved.  Stops after START_MS,
 * because such answers take long to read and others wait.
 */
static void
start_answered(void)
{
	MonoTime enough = clock_uptime() + START_MS * INT64CONST(1000);
	dlist_mutable_iter iter;

	claimer.has_more_to_start = false;
	dlist_foreach_modify(iter, job_list(JOB_CLAIMED))
	{
		Job *job = dlist_container(Job, node, iter.cur);

		if (job->request != NULL || job->is_read_apart)
			continue;
		if (claimer.has_more_to_start)
			return;
		if (!job->remote.is_unread)
			life_start(job);
		else if (!writers_take_saved(job))
			queue_read_again(job);
		claimer.has_more_to_start = clock_uptime() >= enough;
	}
	claimer.has_more_to_start = false;
}

/*
 * Starts claimed jobs, once the standbys have the claim, too.  What an earlier process began need not wait.
 */
void
claimer_start(void)
{
	bool may_begin = standby_has_all();
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, job_list(JOB_CLAIMED))
	{
		Job *job = dlist_container(Job, node, iter.cur);
		bool is_left = job->request == NULL;
		bool has_answer = job->remote.answer != NULL || job->remote.is_unread;

		job->is_committed = true;
		if (is_left ? !has_answer || job->cancel.stored_at != NULL : may_begin)
			life_start(job);
	}
	start_answered();
	/* this process must read what no other one can, as of a server that was dropped */
	if (queue_has_new_orphans())
		claimer.orphans_at = Min(claimer.orphans_at, clock_mono());
}

/*
 * Puts jobs that are claimed and wait for a standby back into the queue,
 * because this dispatcher ends, and the next one could not know that their
 * calls never began.
 */
void
claimer_give_back(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, job_list(JOB_CLAIMED))
	{
		Job *job = dlist_container(Job, node, iter.cur);

		if (job->request != NULL)
			life_give_back(job);
	}
}

/*
 * Looks at what has changed, claims what there is room for, and starts it.
 */
void
claimer_claim(void)
{
	Claim *claim = palloc(sizeof(Claim));
	ErrorData *error;

	claim->n = claim->refused = 0;
	claim->is_spool_only = false;
	claim->orphans_at = claimer.orphans_at;
	claimer.is_unknown |= claimer.news.recheck;
	claimer.weights_are_stale |= claimer.news.recheck;
	trace("looks at the tables: %s", reasons_find(clock_mono()));
	if (!queue_transact("claiming jobs", claim_work, claim, &error))
	{
		claim_failed(claim, error);
		return;
	}
	marker_end();
	if (claim->is_spool_only)
		return; /* nothing else was looked at */
	forget_news();
	if (!claimer.is_unknown && claimer.orphans_at == DT_NOBEGIN)
		acquit_put_aside();
	if (!claimer.is_unknown)
		claimer.orphans_at = claim->orphans_at;
	claimer.troubles = 0;
	claimer.trouble_until = 0;
	/* if memory refused jobs, try few more than it has room for */
	claimer.batch = claim->refused > 0 ? Max(claim->n - claim->refused, 1)
									   : Min(claimer.batch * 2, CLAIM_BATCH);
	claimer_start();
	/* read the queue again: the schedule has lost jobs */
	if (!claimer.is_unknown && !unstarted_fail())
		claimer.scan_since = DT_NOBEGIN;
}

/*
 * Follows up ends of jobs, sweeps for jobs that no commit reported, and
 * deletes jobs whose retention is over, each when it is time.
 */
void
claimer_sweep(MonoTime now)
{
	if (claimer.is_unknown || claimer.trouble_until > now)
		return;
	if (ended_next() != 0 && ended_next() <= now)
		ended_catch_up();
	if (queue_sweep_next() != 0 && queue_sweep_next() <= now)
		queue_sweep(clock_now());
	if (retention_next() != 0 && retention_next() <= now)
		retention_work();
}

/*
 * Shows what each server may be given now, and why it is not more.
 */
void
claimer_show(void)
{
	schedule_show(claimer_room(), clock_mono());
}

/*
 * Takes the news that commits have reported.
 */
void
claimer_take_news(void)
{
	static News fresh;

	shmem_take_news(&fresh);
	claimer.news.bulk.since = Min(claimer.news.bulk.since, fresh.bulk.since);
	claimer.news.bulk.expiry = Min(claimer.news.bulk.expiry, fresh.bulk.expiry);
	claimer.news.recheck |= fresh.recheck;
	if (fresh.callbacks)
		callbacks_expect();
	if (fresh.follow_ups)
		ended_expect(clock_mono() + FOLLOW_UP_US);
	if (fresh.n_ids > SHMEM_NEWS_MAX - claimer.news.n_ids)
		claimer.news.bulk.since = DT_NOBEGIN;
	else
	{
		memcpy(claimer.news.ids + claimer.news.n_ids, fresh.ids, fresh.n_ids * sizeof(int64));
		claimer.news.n_ids += fresh.n_ids;
	}
}
