/*
 * callbacks.c
 *		Starts and ends the processes that call on_done.
 *
 * A caller (caller.c) is connected as the owner of the jobs, so each role that
 * has calls needs at least one.  All roles together have at most
 * genjob.callback_workers.  A caller starts when there is work for it.  It
 * ends after some idle time, or when another role waits for a place.  Each
 * caller takes its calls from the table; the dispatcher only looks which roles
 * have some.  If a call ends its process, the dispatcher counts the failure.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/seldom.h"
#include "base/settings.h"
#include "process/caller.h"
#include "process/callbacks.h"
#include "process/worker.h"
#include "queue/calldue.h"
#include "queue/queue.h"
#include "queue/trouble.h"
#include "shared/callers.h"
#include "shared/shmem.h"
#include "shared/shown.h"

#define LOOK_US (10 * INT64CONST(1000)) /* between two looks at the table */
#define LATE_US \
	(20 * INT64CONST(1000))    /* how late calls may be before a role gets a second process */
#define SHARE_US USECS_PER_SEC /* how long a role keeps its place while others wait for one */
#define MAX_UNWRITTEN 64
#define WRITE_AGAIN_US USECS_PER_SEC

#define NO_CALLER "no background worker is free to call on_done: increase max_worker_processes"

typedef struct Caller
{
	BackgroundWorkerHandle *handle; /* NULL: none */
	int slot;
	Oid role;
	MonoTime started_at;
	bool is_dismissed;

	/* When it was last woken, from how many calls, and how often in a row it then made none */
	MonoTime woken_at;
	uint64 n_calls;
	int n_idle_wakes;
} Caller;

static const Backoff start_again = {USECS_PER_SEC, USECS_PER_MINUTE};
static const Backoff wake_again = {10 * INT64CONST(1000), 100 * INT64CONST(1000)};

static TimestampTz dispatcher_started_at;
static Caller callers[SETTINGS_MAX_CALLBACK_WORKERS];
static MonoTime look_at = MONO_EARLIEST; /* when to look at the table; 0: there is no reason */
static MonoTime looked_at = 0;
static MonoTime not_before = 0; /* no start before this: the last one failed */
static int start_failures = 0;  /* in a row */

static void
plan_look(MonoTime when)
{
	look_at = look_at == 0 ? when : Min(look_at, when);
}

/*
 * Ends the callers of an earlier dispatcher.
 */
void
callbacks_init(void)
{
	dispatcher_started_at = clock_now();
	callers_disown(MyDatabaseId);
}

/*
 * Notes that calls are due, or that a caller has nothing to do any more.
 */
void
callbacks_expect(void)
{
	plan_look(Max(looked_at + LOOK_US, 1));
}

/*
 * Applies reloaded settings: callers beyond genjob.callback_workers end after
 * their present call, or there may be room for more.
 */
void
callbacks_reconfigured(void)
{
	int n = 0;
	int i;

	for (i = 0; i < lengthof(callers); i++)
	{
		Caller *caller = &callers[i];

		if (caller->handle == NULL || caller->is_dismissed || ++n <= genjob_callback_workers)
			continue;
		caller->is_dismissed = true;
		callers_dismiss(caller->slot);
	}
	callbacks_expect();
}

/* ---------- callers that have ended ---------- */

/* What must be written after a caller has ended. */
typedef struct Ending
{
	int64 callback; /* 0: all calls of the role that are due */
	Oid role;
	const char *error;
	bool is_written;
} Ending;

/* Ends of calls whose rows somebody had locked. */
static Ending unwritten[MAX_UNWRITTEN];
static int nunwritten = 0;
static MonoTime write_at = 0; /* when to write them again */

static void
write_call_end(void *arg)
{
	Ending *ending = arg;

	ending->is_written = true;
	if (ending->callback != 0)
		ending->is_written = queue_fail_callback(ending->callback, ending->error, clock_now());
	else
		queue_block_callbacks(ending->role, ending->error, clock_now());
}

/*
 * Writes the end of a call.  False if that must wait, because somebody has
 * locked its row.
 */
static bool
try_write_end(Ending *ending)
{
	ErrorData *error;

	if (queue_transact("writing the outcome of a call", write_call_end, ending, &error))
		return ending->is_written;
	trouble_show(TROUBLE_FOLLOW, error);
	return true;
}

/*
 * Keeps the end of a call for later.  An end beyond MAX_UNWRITTEN is lost:
 * that call is then repeated as if it were new.
 */
static void
keep_end(const Ending *ending)
{
	int i;

	for (i = 0; i < nunwritten; i++)
	{
		if (unwritten[i].callback == ending->callback)
			return;
	}
	if (nunwritten == MAX_UNWRITTEN)
		return;
	unwritten[nunwritten] = *ending;
	unwritten[nunwritten++].error = MemoryContextStrdup(TopMemoryContext, ending->error);
	write_at = clock_mono() + WRITE_AGAIN_US;
}

static void
write_kept(void)
{
	int kept = 0;
	int i;

	for (i = 0; i < nunwritten; i++)
	{
		if (!try_write_end(&unwritten[i]))
			unwritten[kept++] = unwritten[i];
		else
			pfree((void *) unwritten[i].error);
	}
	if (kept < nunwritten)
		callbacks_expect();
	nunwritten = kept;
	write_at = kept > 0 ? clock_mono() + WRITE_AGAIN_US : 0;
}

/*
 * Returns why calls failed with their process; NULL: they did not.
 */
static const char *
describe_end(const CallerInfo *info)
{
	if (info->callback != 0 && info->is_overdue)
		return psprintf("the call took longer than genjob.callback_timeout (%d ms) and did not stop when it was cancelled, so its process was ended",
						genjob_callback_timeout);
	if (info->error[0] != '\0')
		return shown_read(info->error, sizeof(info->error));
	if (info->callback != 0)
		return "the process that made the call ended before the call did: see the server log";
	if (info->state == CALLER_CONNECTING)
		return "no process could connect as this role: see the server log";
	if (info->has_failed)
		return "the process that was to make the calls ended before: see the server log";
	return NULL;
}

static void
postpone_start(void)
{
	not_before = clock_mono() + backoff_delay(&start_again, start_failures++);
	plan_look(not_before);
}

static void
caller_ended(Caller *caller)
{
	CallerInfo info;
	Ending ending;

	callers_read(caller->slot, &info);
	callers_release(caller->slot);
	pfree(caller->handle);
	*caller = (Caller){NULL};
	if (info.state == CALLER_STARTING)
		postpone_start();
	else
		start_failures = 0;
	ending = (Ending){info.callback, info.role, describe_end(&info)};
	if (ending.error != NULL && !try_write_end(&ending))
		keep_end(&ending);
	callbacks_expect();
}

static void
collect_ended(void)
{
	pid_t pid;
	int i;

	for (i = 0; i < lengthof(callers); i++)
	{
		if (callers[i].handle != NULL &&
			GetBackgroundWorkerPid(callers[i].handle, &pid) == BGWH_STOPPED)
			caller_ended(&callers[i]);
	}
}

/* ---------- callers that are started ---------- */

static int
count_callers(Oid role)
{
	int n = 0;
	int i;

	for (i = 0; i < lengthof(callers); i++)
		n += callers[i].handle != NULL && (!OidIsValid(role) || callers[i].role == role);
	return n;
}

static void
report_shortage(void)
{
	static Seldom said;
	int64 unsaid;

	shmem_set_my_error(NO_CALLER);
	if (seldom_must_say(&said, 0, clock_mono(), &unsaid))
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("genjob: %s", NO_CALLER),
				 errhint("It will be tried again.%s", seldom_describe(unsaid))));
}

static bool
register_caller(Caller *caller, const CallerPost *post)
{
	const char *database = strchr(MyBgworkerEntry->bgw_name, ':');

	StaticAssertStmt(sizeof(CallerPost) <= BGW_EXTRALEN, "a caller's post must fit");
	return worker_register("caller", database ? database : "", post, sizeof(*post), (Datum) 0,
						   &caller->handle);
}

/*
 * Starts a caller for a role; false if none can be started now.
 */
static bool
start_caller(Oid role)
{
	CallerPost post = {.database = MyDatabaseId,
					   .role = role,
					   .dispatcher_started_at = dispatcher_started_at,
					   .clock_started_at = clock_started_at()};
	Caller *caller = callers;

	while (caller->handle != NULL)
		caller++;
	post.slot = callers_reserve(MyDatabaseId, role, &post.generation);
	if (post.slot < 0 || !register_caller(caller, &post))
	{
		if (post.slot >= 0)
			callers_release(post.slot);
		caller->handle = NULL;
		report_shortage();
		postpone_start();
		return false;
	}
	caller->slot = post.slot;
	caller->role = role;
	caller->started_at = clock_mono();
	caller->is_dismissed = false;
	caller->woken_at = 0;
	return true;
}

static bool
is_idle(const Caller *caller)
{
	CallerInfo info;

	callers_read(caller->slot, &info);
	return info.state == CALLER_IDLE && !caller->is_dismissed;
}

/*
 * Wakes an idle caller.  Where it made no call the last times, because somebody has locked the rows that are due, it
 * sleeps a little longer each time.
 */
static void
wake_idle(Caller *caller)
{
	CallerInfo info;
	MonoTime when;

	callers_read(caller->slot, &info);
	when = caller->woken_at + backoff_delay(&wake_again, caller->n_idle_wakes);
	if (caller->woken_at == 0 || info.n_calls != caller->n_calls)
		caller->n_idle_wakes = 0;
	else if (when > clock_mono())
	{
		plan_look(when);
		return;
	}
	caller->n_idle_wakes++;
	caller->n_calls = info.n_calls;
	caller->woken_at = clock_mono();
	callers_wake(caller->slot);
}

/*
 * False if the role has no idle caller to be woken.
 */
static bool
wake_caller(Oid role)
{
	int i;

	for (i = 0; i < lengthof(callers); i++)
	{
		if (callers[i].handle != NULL && callers[i].role == role && is_idle(&callers[i]))
		{
			wake_idle(&callers[i]);
			return true;
		}
	}
	return false;
}

/*
 * Ends a caller, to make room for a role that has none: an idle one, or else the one that has had its place for
 * longest.
 */
static void
end_one_caller(void)
{
	Caller *oldest = NULL;
	int i;

	for (i = 0; i < lengthof(callers); i++)
	{
		Caller *caller = &callers[i];

		if (caller->handle == NULL)
			continue;
		/* a caller is about to end */
		if (caller->is_dismissed)
			return;
		if (is_idle(caller))
		{
			oldest = caller;
			break;
		}
		if (oldest == NULL || caller->started_at < oldest->started_at)
			oldest = caller;
	}
	if (oldest == NULL)
		return;
	if (!is_idle(oldest) && oldest->started_at + SHARE_US > clock_mono())
	{
		plan_look(oldest->started_at + SHARE_US);
		return;
	}
	oldest->is_dismissed = true;
	callers_dismiss(oldest->slot);
}

static bool
has_place(void)
{
	return count_callers(InvalidOid) + callers_count_disowned(MyDatabaseId) <
		   Min(genjob_callback_workers, SETTINGS_MAX_CALLBACK_WORKERS);
}

/*
 * Starts callers for calls that are due: first for roles that have no caller,
 * then for roles that need one more.
 */
static void
serve_roles(const CallbackRole *roles, int n, TimestampTz now)
{
	int i;

	for (i = 0; i < n && roles[i].due <= now; i++)
	{
		if (wake_caller(roles[i].role) || count_callers(roles[i].role) > 0)
			continue;
		if (!has_place())
			end_one_caller();
		else if (not_before > clock_mono() || !start_caller(roles[i].role))
			return;
	}
	for (i = 0; i < n && roles[i].due <= now && has_place() && not_before <= clock_mono(); i++)
	{
		if (roles[i].due > now - LATE_US)
			plan_look(clock_mono() + LATE_US);
		else if (!wake_caller(roles[i].role) && roles[i].room > count_callers(roles[i].role) &&
				 !start_caller(roles[i].role))
			return;
	}
}

/* ---------- the loop's part ---------- */

/* What a look at the table found. */
typedef struct Look
{
	TimestampTz now;
	CallbackRole *roles;
	int n;
} Look;

static void
look_work(void *arg)
{
	Look *look = arg;

	look->n = queue_find_callbacks(look->now, &look->roles);
}

static void
look_at_table(void)
{
	Look look = {.now = clock_now()};
	ErrorData *error;
	int i;

	look_at = 0;
	looked_at = clock_mono();
	if (!queue_transact("looking for calls of on_done", look_work, &look, &error))
	{
		trouble_show(TROUBLE_FOLLOW, error);
		plan_look(clock_mono() + USECS_PER_SEC);
		return;
	}
	for (i = 0; i < look.n && look.roles[i].due <= look.now; i++)
		;
	if (i < look.n)
		plan_look(clock_mono_at(look.roles[i].due));
	serve_roles(look.roles, look.n, look.now);
}

/*
 * Starts and wakes callers for the calls that are due, and clears up after
 * callers that have ended.
 */
void
callbacks_work(void)
{
	collect_ended();
	if (write_at != 0 && write_at <= clock_mono())
		write_kept();
	if (look_at != 0 && look_at <= clock_mono())
		look_at_table();
}

/*
 * Returns when to call callbacks_work() if nothing is reported before; 0: never.
 */
MonoTime
callbacks_next(void)
{
	MonoTime next = look_at == 0 ? 0 : Max(look_at, 1);

	if (write_at != 0 && (next == 0 || write_at < next))
		next = write_at;
	return next;
}

/*
 * Ends all callers, because this dispatcher ends.  Their calls are repeated
 * later.
 */
void
callbacks_finish(void)
{
	int i;

	for (i = 0; i < lengthof(callers); i++)
	{
		if (callers[i].handle != NULL)
			TerminateBackgroundWorker(callers[i].handle);
	}
}
