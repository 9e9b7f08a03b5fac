/*
 * dispatcher.c
 *		The process that runs the jobs of one database.
 *
 * Its loop: collect the answers that have come, report them, claim what there
 * is room for, send it, and wait for one of four things: its latch, the
 * postmaster's death, the one descriptor that stands for all calls, and the
 * one that tells of a calendar that was set.  A
 * turn needs only a few transactions, and none is open in the wait.
 */
#include "postgres.h"

#include <limits.h>
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
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "life/asking.h"
#include "process/callbacks.h"
#include "process/claimer.h"
#include "base/clock.h"
#include "base/compat.h"
#include "process/dispatcher.h"
#include "queue/environment.h"
#include "base/guard.h"
#include "base/marker.h"
#include "base/memory.h"
#include "queue/queue.h"
#include "process/overdue.h"
#include "process/reporter.h"
#include "schedule/schedule.h"
#include "base/settings.h"
#include "base/trace.h"
#include "process/spool.h"
#include "life/calls.h"
#include "life/cancel.h"
#include "life/cancelline.h"
#include "life/leftover.h"
#include "life/life.h"
#include "process/worker.h"
#include "process/writers.h"
#include "queue/trouble.h"

#define TRACED_TURN_US 5000 /* a turn that takes longer is traced */
#define COLLECT_MS 10       /* for reading answers, before anything else is looked at */
#define SEND_US 1000        /* between two sendings in that time */
#define RESCUE_US \
	(3 * USECS_PER_SEC)      /* of the time to leave, for writing what did not reach its store */
#define MOST_NAMED 100       /* jobs in a line of the log */
#define WAIT_EVENTS 4        /* latch, postmaster, calls, calendar */
#define SPARE_DESCRIPTORS 32 /* for libraries, on top of what PostgreSQL keeps for files */

static WaitEventSet *wait_set;
static int calendar_fd = -1; /* readable when the calendar was set; -1: the system cannot tell */
static uint32 wait_event;
static MemoryContext turn_context;

/* Leaving */
static MonoTime leave_at = 0; /* of clock_uptime(): a stall does not delay it; 0: not leaving */
static bool drops_database = false;

/* ---------- the process ---------- */

/*
 * Raises the soft limit on open files to the hard one, and finds how many calls that leaves room for.
 */
static int
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
	return Max((int) Min(limit.rlim_cur, 1000000) - max_safe_fds - SPARE_DESCRIPTORS, 16);
}

/*
 * Returns when a transaction must have ended, so that the server or this
 * process can stop.  0: at no time.
 */
static MonoTime
transaction_deadline(void)
{
	if (leave_at != 0)
		return leave_at + USECS_PER_SEC;
	return worker_stop_deadline();
}

/*
 * Reads secrets again, before a call; the old ones stay if that fails.
 */
static void
read_secrets(void (*read)(void *arg), void *arg)
{
	ErrorData *error;

	if (!queue_transact("reading secrets", read, arg, &error))
		trouble_show(TROUBLE_SECRETS, error);
}

static void
start_process(int slot)
{
	Oid database;

	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(database));
	shmem_slot_attach(slot);
	worker_start(database, transaction_deadline);
	calls_init(read_secrets);
	life_set_builder(writers_take_request);
	http_init();
	turn_context = AllocSetContextCreate(TopMemoryContext, "genjob turn", ALLOCSET_DEFAULT_SIZES);
	wait_event = compat_wait_event("GenjobDispatcherMain");
	wait_set = compat_create_wait_event_set(WAIT_EVENTS);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, http_wait_fd(), NULL, NULL);
	calendar_fd = clock_watch_calendar();
	if (calendar_fd >= 0)
		AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, calendar_fd, NULL, &calendar_fd);
}

/* ---------- leaving ---------- */

/*
 * Decides whether and when to leave.  Calls in flight may end first, unless the database is about to be dropped.
 */
static void
consider_leaving(void)
{
	MonoTime now = clock_uptime();
	bool at_once = false;
	bool is_evicted = shmem_is_evicted(MyDatabaseId, &at_once);

	if (leave_at == 0 && (ShutdownRequestPending || !genjob_enabled || is_evicted))
	{
		leave_at = now + genjob_shutdown_grace * USECS_PER_SEC;
		reporter_hurry();
		leftover_hurry();
		shmem_set_my_state(WORKER_STOPPING);
	}
	if (at_once)
		leave_at = now;
	drops_database = at_once;
}

/*
 * Returns how much would be lost, or paid for again, if this process left now.  Polls and the like do not count.
 */
static int
count_unfinished(void)
{
	return life_count_storing() + job_count(JOB_CALLING) - asking_count() + job_count(JOB_SAVING) +
		   job_count(JOB_REPORTING) + cancel_count_unfinished() + leftover_count_unfinished();
}

static bool
may_leave(void)
{
	return claimer_found_nothing() ||
		   (leave_at != 0 && (leave_at <= clock_uptime() || count_unfinished() == 0));
}

/* ---------- the loop ---------- */

/*
 * Sends the calls of jobs that waited for the end of another job's call: what
 * follows in the turn takes milliseconds, and their server would have nothing
 * to do.  *next: when to do so again.
 */
static void
send_woken(MonoTime *next)
{
	if (leave_at == 0)
		life_wake_due(clock_mono());
	http_send_started();
	*next = clock_uptime() + SEND_US;
}

/*
 * Moves all calls on, then for COLLECT_MS the jobs whose calls have ended.  If
 * some are left, http_wait_ms() returns 0.
 */
static void
collect_answers(void)
{
	MonoTime send_at = 0;
	MonoTime enough;
	void *call;
	HttpReply *reply;

	http_work();
	while (http_take_full(&call))
		life_poured(call);
	calls_show_streams();
	enough = clock_uptime() + COLLECT_MS * INT64CONST(1000);
	while (http_take_finished(&call, &reply))
	{
		MonoTime now;

		if (!writers_take_answer(call, reply))
			life_answered(call, reply);
		now = clock_uptime();
		if (now >= send_at)
			send_woken(&send_at);
		if (now >= enough)
			break;
	}
	send_woken(&send_at);
}

static void
run_turn(void)
{
	collect_answers();
	writers_work();
	claimer_take_news();
	consider_leaving();
	reporter_write();
	if (leave_at == 0)
		overdue_fail();
	if (leave_at == 0)
		claimer_note_time(clock_mono());
	if (leave_at == 0 && claimer_must_look(clock_mono()))
		claimer_claim();
	if (leave_at == 0)
	{
		claimer_start();
		claimer_sweep(clock_mono());
		callbacks_work();
		life_wake(clock_mono());
	}
	else
		life_rescue(clock_uptime() + RESCUE_US >= leave_at);
	life_wake_cancels(clock_mono());
	collect_answers();
}

/*
 * Like run_turn(), but logs how long it took, if that was long.
 */
static void
traced_turn(void)
{
	MonoTime began = clock_uptime();
	int64 worked = clock_processor();
	int64 took;

	run_turn();
	took = clock_uptime() - began;
	if (took >= TRACED_TURN_US)
		trace("a turn took " INT64_FORMAT " ms, " INT64_FORMAT " of them on the processor",
			  took / 1000, (clock_processor() - worked) / 1000);
}

/*
 * Returns how much memory large bodies take, as text; empty if there are none.
 */
static char *
describe_memory(void)
{
	return memory_held() == 0 ? "" : psprintf(", %zu kB of bodies", memory_held() / 1024);
}

static void
show_state(void)
{
	int calls = job_count_in_flight();

	claimer_show();
	pgstat_report_activity(STATE_IDLE, psprintf("%d call%s in flight%s", calls,
												calls == 1 ? "" : "s", describe_memory()));
	if (leave_at == 0 && !claimer_is_troubled())
		shmem_set_my_state(reporter_is_blocked() ? WORKER_BLOCKED
						   : calls > 0           ? WORKER_BUSY
												 : WORKER_IDLE);
}

/*
 * Returns how many ms of the time to leave are left; of those in which outputs may still go into a store, if some do.
 */
static long
leave_ms(void)
{
	MonoTime end = life_count_storing() > 0 ? leave_at - RESCUE_US : leave_at;

	return leave_at != 0 ? clock_ms_between(clock_uptime(), end) : INT_MAX;
}

/*
 * Returns how many ms the dispatcher may sleep.
 */
static long
wait_ms(void)
{
	MonoTime now = clock_mono();
	MonoTime next = leave_at != 0 ? 0 : claimer_next_look(now);
	MonoTime wake_due = leave_at != 0 ? life_next_rescue() : life_next_wake(now);
	MonoTime cancel_due = cancelline_next_time(now);
	MonoTime report_due = reporter_next();
	MonoTime writers_due = writers_next();
	MonoTime callbacks_due = leave_at != 0 ? 0 : callbacks_next();
	long most_ms = leave_ms();
	long http_ms = http_wait_ms();
	long ms;

	if (leave_at == 0 && overdue_is_due())
		return 0;
	if (report_due != 0)
		schedule_note_time(&next, report_due);
	if (callbacks_due != 0)
		schedule_note_time(&next, callbacks_due);
	if (writers_due != 0)
		schedule_note_time(&next, writers_due);
	if (wake_due != 0)
		schedule_note_time(&next, wake_due);
	if (cancel_due != 0)
		schedule_note_time(&next, cancel_due);
	ms = next != 0 ? clock_real_ms(now, next) : most_ms;
	ms = Min(ms, most_ms);
	return http_ms >= 0 ? Min(ms, http_ms) : ms;
}

static void
wait_for_events(void)
{
	WaitEvent events[WAIT_EVENTS];
	long ms = wait_ms();
	int n;
	int i;

	clock_attended(ms);
	n = WaitEventSetWait(wait_set, ms, events, lengthof(events), wait_event);
	clock_attended(0);
	for (i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		/* the next turn compares what is due with the calendar; on_done keeps its times otherwise */
		if (events[i].user_data == &calendar_fd && clock_take_set(calendar_fd))
			callbacks_expect();
	}
	if (worker_is_to_reload())
	{
		worker_reload();
		claimer_reconfigured();
		callbacks_reconfigured();
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
 * Moves on the jobs of all calls that have ended.
 */
static void
collect_last_answers(void)
{
	void *call;
	HttpReply *reply;

	http_work();
	while (http_take_finished(&call, &reply))
		life_answered(call, reply);
}

/*
 * True if there is time for one more transaction, as far as is known.
 */
static bool
may_write(void)
{
	return transaction_deadline() == 0 || clock_uptime() < transaction_deadline();
}

/*
 * Logs which jobs' submissions end with this process: they have been sent, and
 * what has come of their answers is not kept.
 */
static void
say_cut(void)
{
	StringInfoData ids;
	dlist_iter iter;
	int n = 0;

	initStringInfo(&ids);
	dlist_foreach(iter, job_list(JOB_CALLING))
	{
		const Job *job = dlist_container(Job, node, iter.cur);

		if (job->step != STEP_SUBMIT || job->call.transfer == NULL)
			continue;
		if (n++ < MOST_NAMED)
			appendStringInfo(&ids, "%s" INT64_FORMAT, n > 1 ? ", " : "", job->id);
	}
	if (n == 0)
		return;
	ereport(LOG,
			(errmsg_plural("genjob cuts the call of %d job, because the dispatcher must end: %s%s",
						   "genjob cuts the calls of %d jobs, because the dispatcher must end: %s%s",
						   n, n, ids.data, n > MOST_NAMED ? ", ..." : ""),
			 errdetail("The answers had not come whole when genjob.shutdown_grace had passed%s.",
					   describe_memory()),
			 errhint(
				 "The servers' option on_unknown says what follows: the calls are repeated with the same Idempotency-Key, or the jobs fail. If the tables were locked, answers that could not be written may have taken the memory for these.")));
}

/*
 * Writes what it can before this process leaves.  The rest is spooled for the next one, unless there will be none.
 */
static void
write_before_leaving(void)
{
	int left = INT_MAX;
	int unwritten;

	claimer_give_back();
	reporter_hurry();
	/* what was saved may have to be reported next */
	while ((unwritten = 2 * job_count(JOB_SAVING) + job_count(JOB_REPORTING)) > 0 &&
		   unwritten < left && may_write())
	{
		left = unwritten;
		reporter_write();
	}
	if (drops_database)
	{
		spool_discard();
		return;
	}
	say_cut();
	spool_write();
}

/*
 * Entry point of the background worker.
 */
void
genjob_dispatcher_main(Datum slot)
{
	start_process(DatumGetInt32(slot));
	writers_init(DatumGetInt32(slot));
	callbacks_init();
	claimer_init(raise_descriptor_limit());
	MemoryContextSwitchTo(turn_context);
	lock_database();
	marker_init();
	spool_init();
	for (;;)
	{
		traced_turn();
		if (may_leave())
			break;
		show_state();
		MemoryContextReset(turn_context);
		wait_for_events();
	}
	collect_last_answers();
	callbacks_finish();
	writers_finish(leave_at != 0 ? leave_at : clock_uptime());
	write_before_leaving();
	shmem_set_my_state(claimer_found_nothing() ? WORKER_ABSENT : WORKER_STOPPED);
	proc_exit(0);
}
