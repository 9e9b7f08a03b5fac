/*
 * dispatcher.c
 *		The process that runs the jobs of one database.
 *
 * Its loop: collect the answers that have come, report them, claim what there is room for, send it,
 * and wait for one thing out of three: its latch, the postmaster's death, and the one descriptor that
 * stands for all calls.  At most two transactions are needed a turn, and none is open in the wait.
 */
#include "postgres.h"

#include <sys/resource.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "dispatcher.h"
#include "queue/queue.h"
#include "schedule.h"
#include "settings.h"
#include "steps.h"

#define CLAIM_BATCH 500
#define REPORT_BATCH 200
#define REPORT_BYTES (64 * 1024 * 1024) /* of outputs in one transaction, if it has more than one */
#define TROUBLE_MIN_MS 100
#define TROUBLE_MAX_MS 30000
#define SPARE_DESCRIPTORS 32 /* for libraries, on top of what PostgreSQL keeps for files */

static int my_slot;
static WaitEventSet *wait_set;
static uint32 wait_event;
static MemoryContext turn_context;
static int descriptor_room; /* calls that the limit on open files allows */

/* What the next transaction has to look at */
static News news;
static bool look_at_extension = true;
static bool scan_all = true;
static bool look_for_orphans = true;
static bool other_version = false;
static TimestampTz due_read; /* run_at up to here has been read */
static TimestampTz next_rescan;

/* Trouble with the database */
static int claim_batch = CLAIM_BATCH;
static int troubles = 0; /* failed claim transactions in a row */
static TimestampTz trouble_until = 0;

/* Leaving */
static bool absent = false;
static TimestampTz leave_at = 0; /* 0: not leaving */

/* ---------- the process ---------- */

/*
 * Settings of the session: what the statements rely on, whatever a database or role sets for others.
 */
static void
configure_session(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"lock_timeout", "5s"},
		{"default_transaction_isolation", "read committed"},
		{"plan_cache_mode", "force_generic_plan"},
		{"enable_seqscan", "off"},
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		{"jit", "off"},
	};
	int i;

	for (i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * What is told to a server must not be forgotten by a crash of ours: a claim is on disk before its
 * call begins.
 */
static void
insist_on_durability(void)
{
	if (strcmp(GetConfigOption("synchronous_commit", false, false), "off") == 0)
		SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Raises the soft limit on open files to the hard one, and finds how many calls that leaves room for.
 */
static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		limit.rlim_cur = limit.rlim_max = 1024;
	if (limit.rlim_cur < limit.rlim_max)
	{
		rlim_t soft = limit.rlim_cur;

		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
			limit.rlim_cur = soft;
	}
	descriptor_room = (int) Min(limit.rlim_cur, 1000000) - max_safe_fds - SPARE_DESCRIPTORS;
	descriptor_room = Max(descriptor_room, 16);
}

static void
start_process(int slot)
{
	Oid database;

	my_slot = slot;
	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(database));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	shmem_slot_attach(slot);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);

	queue_is_mine = true;
	configure_session();
	insist_on_durability();
	raise_descriptor_limit();
	http_init();
	turn_context = AllocSetContextCreate(TopMemoryContext, "genjob turn", ALLOCSET_DEFAULT_SIZES);
	wait_event = compat_wait_event("GenjobDispatcherMain");
	wait_set = compat_create_wait_event_set(3);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, http_wait_fd(), NULL, NULL);
}

/* ---------- trouble ---------- */

static int64
backoff_us(int failures)
{
	return Min(TROUBLE_MIN_MS * INT64CONST(1000) << Min(failures, 12),
			   TROUBLE_MAX_MS * INT64CONST(1000));
}

/*
 * Shows an error of the database in genjob.workers and in the log.
 */
static void
complain(const char *what, const ErrorData *error)
{
	shmem_slot_set_error(my_slot, error->message);
	ereport(LOG,
			(errcode(error->sqlerrcode), errmsg("genjob could not %s: %s", what, error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 errhint("It will be tried again.")));
}

/* ---------- reporting ---------- */

static void
report_work(void *arg)
{
	Job **jobs = arg;
	int n;

	for (n = 0; jobs[n] != NULL; n++)
		;
	queue_report(jobs, n, GetCurrentTimestamp());
}

static void
postpone_report(Job *job)
{
	job->report_at = GetCurrentTimestamp() + backoff_us(job->report_failures++);
}

static void
settle_report(Job *job)
{
	switch (job->outcome)
	{
		case REPORT_WRITTEN:
			steps_reported(job, GetCurrentTimestamp());
			job_destroy(job);
			break;
		case REPORT_FENCED:
			job_destroy(job);
			break;
		case REPORT_PENDING:
			postpone_report(job);
			break;
	}
}

/*
 * One verdict that failed with others or alone is kept, and tried again by itself; one that the table
 * cannot hold is simplified.
 */
static void
report_failed(Job *job, const ErrorData *error)
{
	int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	complain(psprintf("write the result of job " INT64_FORMAT, job->id), error);
	if (category == ERRCODE_DATA_EXCEPTION || category == ERRCODE_PROGRAM_LIMIT_EXCEEDED)
		steps_simplify(job);
	postpone_report(job);
}

/*
 * Writes the verdicts of n jobs (and a NULL behind them) in one transaction; where that fails, each in
 * its own, so that one row's fault touches no other.  False if any was not written.
 */
static bool
report_together(Job **jobs, int n)
{
	ErrorData *error;
	bool succeeded = true;
	int i;

	if (queue_transact("reporting results", report_work, jobs, &error))
	{
		for (i = 0; i < n; i++)
			settle_report(jobs[i]);
		return true;
	}
	if (n == 1)
	{
		report_failed(jobs[0], error);
		return false;
	}
	for (i = 0; i < n; i++)
	{
		Job *alone[2] = {jobs[i], NULL};

		succeeded &= report_together(alone, 1);
	}
	return succeeded;
}

static size_t
output_bytes(const Job *job)
{
	size_t bytes = 0;
	ListCell *cell;

	foreach(cell, job->verdict->outputs)
		bytes += ((Output *) lfirst(cell))->len;
	return bytes;
}

static void
report(void)
{
	Job *batch[REPORT_BATCH + 1];
	dlist_iter iter;
	TimestampTz now = GetCurrentTimestamp();
	size_t bytes = 0;
	int n = 0;

	dlist_foreach(iter, job_list(JOB_REPORTING))
	{
		Job *job = dlist_container(Job, node, iter.cur);

		if (job->report_at > now)
			continue;
		batch[n++] = job;
		bytes += output_bytes(job);
		if (n == REPORT_BATCH || bytes > REPORT_BYTES)
			break;
	}
	batch[n] = NULL;
	if (n > 0)
		report_together(batch, n);
}

/*
 * When the next verdict is to be written; 0: there is none.
 */
static TimestampTz
next_report(void)
{
	TimestampTz next = 0;
	dlist_iter iter;

	dlist_foreach(iter, job_list(JOB_REPORTING))
	{
		Job *job = dlist_container(Job, node, iter.cur);

		schedule_note_time(&next, Max(job->report_at, 1));
	}
	return next;
}

/* ---------- claiming ---------- */

/* What a claim transaction tried. */
typedef struct Claim
{
	int64 ids[CLAIM_BATCH];
	int n;
} Claim;

static int
room(void)
{
	return Min(genjob_max_in_flight, descriptor_room) - job_count(JOB_CALLING);
}

/*
 * Looks at the extension, if it may have changed.  False when there is nothing to serve.
 */
static bool
check_extension(void)
{
	QueuePresence presence;

	if (!look_at_extension)
		return true;
	presence = queue_look();
	absent = presence == QUEUE_ABSENT;
	other_version = presence == QUEUE_OTHER_VERSION;
	if (other_version)
		shmem_slot_set_error(my_slot,
							 "the extension is not of version " GENJOB_VERSION
							 ", as the loaded library is: run ALTER EXTENSION genjob UPDATE, or restart the server if the library on disk is newer");
	if (presence == QUEUE_PRESENT)
		look_at_extension = false;
	return presence == QUEUE_PRESENT;
}

static void
read_queue(TimestampTz now)
{
	ScheduleTimes *times = &schedule_times;

	if (look_for_orphans)
		queue_read_orphans();
	if (scan_all || news.rescan)
	{
		queue_read_claimed(now);
		queue_scan_all(now);
	}
	else
	{
		if (news.n_ids > 0)
			queue_read_changed(news.ids, news.n_ids, now);
		if (times->due != 0 && times->due <= now)
		{
			queue_read_due(due_read, now);
			times->due = queue_next_due(now);
		}
	}
	due_read = now;
}

static void
expire_and_fail(TimestampTz now)
{
	ServerQueue *queue;

	if (schedule_times.expiry != 0 && schedule_times.expiry <= now)
	{
		(void) queue_expire(now);
		schedule_times.expiry = queue_next_expiry();
		if (schedule_times.expiry != 0 && schedule_times.expiry <= now)
			schedule_times.expiry = now + USECS_PER_SEC;
	}
	while ((queue = schedule_next_without_server()) != NULL)
	{
		if (queue_fail_waiting(NameStr(queue->name), queue->complaint, now) == 0)
			schedule_drop_ready(queue);
	}
}

static void
claim_work(void *arg)
{
	Claim *claim = arg;
	TimestampTz now = GetCurrentTimestamp();
	ServerQueue *queue;

	if (!check_extension())
		return;
	read_queue(now);
	schedule_refresh();
	expire_and_fail(now);
	while ((queue = schedule_next_to_fill()) != NULL)
		queue_fill(queue, now);
	claim->n = schedule_take(claim->ids, claim_batch, room(), now);
	if (claim->n > 0)
		queue_claim(claim->ids, claim->n, now);
}

static void
destroy_claimed(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, job_list(JOB_CLAIMED))
		job_destroy(dlist_container(Job, node, iter.cur));
}

/*
 * A claim transaction failed.  The picture in memory may be wrong now: it is read again.  If one row is
 * the cause, claiming one by one finds it, and it is left alone for a while.
 */
static void
claim_failed(const Claim *claim, const ErrorData *error)
{
	complain("claim jobs", error);
	destroy_claimed();
	if (claim->n == 1)
		schedule_shun(claim->ids[0], GetCurrentTimestamp() + TROUBLE_MAX_MS * INT64CONST(1000));
	claim_batch = 1;
	scan_all = look_at_extension = look_for_orphans = true;
	if (claim->n != 1)
		trouble_until = GetCurrentTimestamp() + backoff_us(troubles++);
	shmem_slot_set_state(my_slot, WORKER_TROUBLED);
}

static void
forget_news(void)
{
	news.n_ids = 0;
	news.rescan = news.recheck = false;
}

/*
 * Whether there is a reason for a claim transaction now.  An idle dispatcher has none.
 */
static bool
must_look(TimestampTz now)
{
	const ScheduleTimes *times = &schedule_times;

	if (trouble_until > now)
		return false;
	if (next_rescan <= now || (times->rescan != 0 && times->rescan <= now))
	{
		scan_all = look_for_orphans = true;
		schedule_times.rescan = 0;
		next_rescan = now + genjob_rescan_interval * USECS_PER_SEC;
	}
	if (look_at_extension && other_version && !news.recheck)
		return false;
	return look_at_extension || scan_all || news.n_ids > 0 || news.rescan || news.recheck ||
		   (times->due != 0 && times->due <= now) || (times->expiry != 0 && times->expiry <= now) ||
		   schedule_can_take(room(), now);
}

static void
claim(void)
{
	Claim *claim = palloc(sizeof(Claim));
	ErrorData *error;
	dlist_mutable_iter iter;

	claim->n = 0;
	look_at_extension |= news.recheck;
	if (!queue_transact("claiming jobs", claim_work, claim, &error))
	{
		claim_failed(claim, error);
		return;
	}
	forget_news();
	if (!look_at_extension)
		scan_all = look_for_orphans = false;
	troubles = 0;
	trouble_until = 0;
	claim_batch = Min(claim_batch * 2, CLAIM_BATCH);
	dlist_foreach_modify(iter, job_list(JOB_CLAIMED))
		steps_start(dlist_container(Job, node, iter.cur));
}

/* ---------- leaving ---------- */

/*
 * Decides whether and when to leave: with grace for the calls in flight, unless the database is about
 * to be dropped.
 */
static void
consider_leaving(TimestampTz now)
{
	bool at_once = false;
	bool held = shmem_is_held(MyDatabaseId, &at_once);

	if (leave_at == 0 && (ShutdownRequestPending || !genjob_enabled || held))
	{
		leave_at = now + genjob_shutdown_grace * USECS_PER_SEC;
		shmem_slot_set_state(my_slot, WORKER_STOPPING);
	}
	if (at_once)
		leave_at = now;
}

static bool
may_leave(TimestampTz now)
{
	return absent ||
		   (leave_at != 0 &&
			(leave_at <= now || (job_count(JOB_CALLING) == 0 && job_count(JOB_REPORTING) == 0)));
}

/* ---------- the loop ---------- */

static void
collect_answers(void)
{
	void *job;
	HttpReply *reply;

	http_work();
	while (http_take_finished(&job, &reply))
		steps_answered(job, reply);
}

static void
take_news(void)
{
	static News fresh;

	shmem_take_news(my_slot, &fresh);
	news.rescan |= fresh.rescan || fresh.n_ids > SHMEM_NEWS_MAX - news.n_ids;
	news.recheck |= fresh.recheck;
	if (!news.rescan)
	{
		memcpy(news.ids + news.n_ids, fresh.ids, fresh.n_ids * sizeof(int64));
		news.n_ids += fresh.n_ids;
	}
}

static void
turn(void)
{
	TimestampTz now;

	collect_answers();
	take_news();
	consider_leaving(GetCurrentTimestamp());
	report();
	now = GetCurrentTimestamp();
	if (leave_at == 0 && must_look(now))
		claim();
	collect_answers();
}

static void
show_state(void)
{
	int calls = job_count(JOB_CALLING);

	pgstat_report_activity(STATE_IDLE, psprintf("%d calls in flight", calls));
	if (leave_at == 0 && trouble_until == 0)
		shmem_slot_set_state(my_slot, calls > 0 ? WORKER_BUSY : WORKER_IDLE);
}

/*
 * When the queue has to be looked at, if nobody tells of anything before.
 */
static TimestampTz
next_look(TimestampTz now)
{
	TimestampTz times[] = {schedule_times.due, schedule_times.expiry, schedule_times.rescan,
						   schedule_next_hold_end(now)};
	TimestampTz next = next_rescan;
	int i;

	if (trouble_until > now)
		return trouble_until;
	if (schedule_can_take(room(), now))
		return now;
	for (i = 0; i < lengthof(times); i++)
	{
		if (times[i] != 0)
			schedule_note_time(&next, times[i]);
	}
	return next;
}

/*
 * How many ms the dispatcher may sleep.
 */
static long
wait_ms(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = leave_at != 0 ? leave_at : next_look(now);
	TimestampTz report_due = next_report();
	long http_ms = http_wait_ms();
	long ms;

	if (report_due != 0)
		schedule_note_time(&next, report_due);
	ms = TimestampDifferenceMilliseconds(now, next);
	return http_ms >= 0 ? Min(ms, http_ms) : ms;
}

static void
wait(void)
{
	WaitEvent events[3];
	int n = WaitEventSetWait(wait_set, wait_ms(), events, lengthof(events), wait_event);
	int i;

	for (i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
	/* pg_cancel_backend() has nothing to cancel between transactions */
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		insist_on_durability();
		next_rescan =
			Min(next_rescan, GetCurrentTimestamp() + genjob_rescan_interval * USECS_PER_SEC);
	}
}

static void
lock_work(void *arg)
{
	*(bool *) arg = queue_lock_database();
}

/*
 * Makes sure that no other dispatcher serves this database; if one does, ends this process, which the
 * launcher starts again later.
 */
static void
lock_database(void)
{
	bool locked = false;
	ErrorData *error;

	if (!queue_transact("starting", lock_work, &locked, &error))
		ThrowErrorData(error);
	if (!locked)
		ereport(FATAL, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("another genjob dispatcher serves this database")));
}

/*
 * Entry point of the background worker.
 */
void
genjob_dispatcher_main(Datum slot)
{
	start_process(DatumGetInt32(slot));
	next_rescan = GetCurrentTimestamp() + genjob_rescan_interval * USECS_PER_SEC;
	MemoryContextSwitchTo(turn_context);
	lock_database();
	for (;;)
	{
		turn();
		if (may_leave(GetCurrentTimestamp()))
			break;
		show_state();
		MemoryContextReset(turn_context);
		wait();
	}
	shmem_slot_set_state(my_slot, absent ? WORKER_ABSENT : WORKER_STOPPED);
	proc_exit(0);
}
