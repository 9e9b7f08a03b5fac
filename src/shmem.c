/*
 * shmem.c
 *		What genjob's processes share, and how they wake each other: the only file with shared memory,
 *		locks and other processes' latches.
 *
 * Nothing here must survive: after a crash of the server it begins empty and is filled from the
 * tables.  The pointers that it holds are to latches in shared memory, which every process maps at
 * the same address; there are none to what belongs to one process.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "shmem.h"
#include "shown.h"

#define MAX_WANTED 64 /* databases the launcher can be told of by name */
#define MAX_HOLDS 64
#define MAX_ACTIVITIES 16384
#define MAX_STATS 1024

typedef struct Slot
{
	Latch *latch; /* of the dispatcher; NULL when none is attached */
	WorkerInfo info;
	News news;
} Slot;

typedef struct Hold
{
	Oid database; /* invalid: free */
	int pid;      /* of the session that needs the database for itself */
	bool at_once;
} Hold;

typedef struct Waiter
{
	Oid database; /* invalid: free */
	int64 job;
	Latch *latch;
} Waiter;

typedef struct Shared
{
	/* All but meters and statistics is protected by this. */
	LWLock *lock;

	Latch *launcher;
	bool look_everywhere; /* the list of databases changed */
	int n_wanted;
	Oid wanted[MAX_WANTED];
	Hold holds[MAX_HOLDS];

	pg_atomic_uint32 n_waiters;
	int max_waiters;
	int max_slots;
	int activity_end;  /* entries from here on were never used */
	int activity_free; /* where to begin the search for a free one */
	Activity activities[MAX_ACTIVITIES];
	ServerStats stats[MAX_STATS];
	/* followed by max_slots Slots and max_waiters Waiters */
} Shared;

static Shared *shared = NULL;
static Slot *slots;
static Waiter *waiters;

static int my_slot = -1;
static Waiter *my_waiter = NULL;

/* ---------- creation ---------- */

static Size
shmem_size(void)
{
	return MAXALIGN(sizeof(Shared)) + MAXALIGN(max_worker_processes * sizeof(Slot)) +
		   MAXALIGN(MaxBackends * sizeof(Waiter));
}

void
shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size());
	RequestNamedLWLockTranche("genjob", 1);
}

void
shmem_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("genjob", shmem_size(), &found);
	slots = (Slot *) ((char *) shared + MAXALIGN(sizeof(Shared)));
	waiters = (Waiter *) ((char *) slots + MAXALIGN(max_worker_processes * sizeof(Slot)));
	if (!found)
	{
		memset(shared, 0, shmem_size());
		shared->lock = &(GetNamedLWLockTranche("genjob"))->lock;
		shared->max_slots = max_worker_processes;
		shared->max_waiters = MaxBackends;
		pg_atomic_init_u32(&shared->n_waiters, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* ---------- dispatchers ---------- */

static Slot *
slot_of_database(Oid database)
{
	int i;

	for (i = 0; i < shared->max_slots; i++)
	{
		if (slots[i].info.database == database)
			return &slots[i];
	}
	return NULL;
}

/*
 * A slot for the dispatcher of a database, the same one for as long as it is not freed; -1 when all
 * are taken.
 */
int
shmem_slot_create(Oid database)
{
	Slot *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = slot_of_database(database);
	if (slot == NULL && (slot = slot_of_database(InvalidOid)) != NULL)
	{
		memset(slot, 0, sizeof(Slot));
		slot->info.database = database;
		slot->info.state = WORKER_STARTING;
		slot->info.since = GetCurrentTimestamp();
		slot->news.untold = (Untold){DT_NOEND, DT_NOEND};
	}
	LWLockRelease(shared->lock);
	return slot ? slot - slots : -1;
}

void
shmem_slot_free(int slot)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slots[slot].info.database = InvalidOid;
	LWLockRelease(shared->lock);
}

/*
 * Leaves the slot.  What this dispatcher was told and has not read would be lost if it goes because it
 * has nothing to serve (the extension may have been created just now), so the launcher looks again.
 */
static void
slot_detach(int code, Datum arg)
{
	Slot *slot = &slots[my_slot];
	bool unread;
	int i;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot->latch = NULL;
	slot->info.pid = 0;
	unread = slot->news.n_ids > 0 || slot->news.untold.since != DT_NOEND || slot->news.recheck;
	for (i = 0; i < shared->activity_end; i++)
	{
		if (shared->activities[i].pid == MyProcPid)
			shared->activities[i].database = InvalidOid;
	}
	if (shared->launcher != NULL)
		SetLatch(shared->launcher);
	LWLockRelease(shared->lock);
	if (unread)
		shmem_wake_launcher(MyDatabaseId);
}

/*
 * Makes this process the dispatcher of its slot, until it exits.
 */
void
shmem_slot_attach(int slot)
{
	int owner;

	my_slot = slot;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	owner = slots[slot].info.pid;
	if (owner == 0)
	{
		slots[slot].latch = MyLatch;
		slots[slot].info.pid = MyProcPid;
	}
	LWLockRelease(shared->lock);
	if (owner != 0)
		ereport(FATAL, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("another genjob dispatcher serves this database"),
						errdetail("Its process has the PID %d.", owner)));
	before_shmem_exit(slot_detach, (Datum) 0);
}

void
shmem_slot_set_state(int slot, WorkerState state)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (slots[slot].info.state != state)
		slots[slot].info.since = GetCurrentTimestamp();
	slots[slot].info.state = state;
	LWLockRelease(shared->lock);
}

/*
 * Shows an error in genjob.workers.
 */
void
shmem_slot_set_error(int slot, const char *message)
{
	char kept[SHMEM_ERROR_LEN] = "";

	/* what may raise an error is done before the lock is taken */
	shown_keep_local(kept, message, sizeof(kept));
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	memcpy(slots[slot].info.error, kept, sizeof(kept));
	slots[slot].info.error_at = GetCurrentTimestamp();
	LWLockRelease(shared->lock);
}

void
shmem_set_my_error(const char *message)
{
	shmem_slot_set_error(my_slot, message);
}

void
shmem_set_my_state(WorkerState state)
{
	shmem_slot_set_state(my_slot, state);
}

WorkerState
shmem_slot_state(int slot)
{
	WorkerState state;

	LWLockAcquire(shared->lock, LW_SHARED);
	state = slots[slot].info.state;
	LWLockRelease(shared->lock);
	return state;
}

/*
 * Moves what this dispatcher has been told into *news.
 */
void
shmem_take_news(News *news)
{
	News *mine = &slots[my_slot].news;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	news->n_ids = mine->n_ids;
	memcpy(news->ids, mine->ids, mine->n_ids * sizeof(int64));
	news->untold = mine->untold;
	news->recheck = mine->recheck;
	mine->n_ids = 0;
	mine->untold = (Untold){DT_NOEND, DT_NOEND};
	mine->recheck = false;
	LWLockRelease(shared->lock);
}

/*
 * Tells the dispatcher of a database about committed changes and wakes it.  If there are more than ids, or than it has
 * room for, untold is what is known of all of them.  False when the database has no dispatcher.
 */
bool
shmem_tell_dispatcher(Oid database, const int64 *ids, int n_ids, Untold untold, bool more,
					  bool recheck)
{
	Slot *slot;
	bool told = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = slot_of_database(database);
	if (slot != NULL && slot->latch != NULL)
	{
		News *news = &slot->news;

		if (n_ids > SHMEM_NEWS_MAX - news->n_ids)
			more = true;
		else if (n_ids > 0)
		{
			memcpy(news->ids + news->n_ids, ids, n_ids * sizeof(int64));
			news->n_ids += n_ids;
		}
		if (more)
		{
			news->untold.since = Min(news->untold.since, untold.since);
			news->untold.expiry = Min(news->untold.expiry, untold.expiry);
		}
		news->recheck |= recheck;
		SetLatch(slot->latch);
		told = true;
	}
	LWLockRelease(shared->lock);
	return told;
}

/*
 * A palloc'd copy of what is known of all dispatchers; returns their number.
 */
int
shmem_read_workers(WorkerInfo **workers)
{
	int n = 0;
	int i;

	*workers = palloc(shared->max_slots * sizeof(WorkerInfo));
	LWLockAcquire(shared->lock, LW_SHARED);
	for (i = 0; i < shared->max_slots; i++)
	{
		if (OidIsValid(slots[i].info.database))
			(*workers)[n++] = slots[i].info;
	}
	LWLockRelease(shared->lock);
	return n;
}

/*
 * What is known of the dispatcher of a database; false if there never was one, or its database had no extension.
 */
bool
shmem_read_worker(Oid database, WorkerInfo *worker)
{
	const Slot *slot;

	LWLockAcquire(shared->lock, LW_SHARED);
	slot = slot_of_database(database);
	if (slot != NULL)
		*worker = slot->info;
	LWLockRelease(shared->lock);
	return slot != NULL;
}

/* ---------- launcher ---------- */

static void
launcher_detach(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->launcher = NULL;
	LWLockRelease(shared->lock);
}

/*
 * Makes this process the launcher, which begins by looking everywhere.
 */
void
shmem_launcher_attach(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->launcher = MyLatch;
	shared->look_everywhere = true;
	LWLockRelease(shared->lock);
	before_shmem_exit(launcher_detach, (Datum) 0);
}

/*
 * Has the launcher look whether a database needs a dispatcher; InvalidOid: whether any does.
 */
void
shmem_wake_launcher(Oid database)
{
	int i;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < shared->n_wanted && shared->wanted[i] != database; i++)
		;
	if (!OidIsValid(database) || i == MAX_WANTED)
		shared->look_everywhere = true;
	else if (i == shared->n_wanted)
		shared->wanted[shared->n_wanted++] = database;
	if (shared->launcher != NULL)
		SetLatch(shared->launcher);
	LWLockRelease(shared->lock);
}

/*
 * The next database to look at: InvalidOid for all of them.  False when there is none.
 */
bool
shmem_launcher_take(Oid *database)
{
	bool any;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	any = shared->look_everywhere || shared->n_wanted > 0;
	if (shared->look_everywhere)
		*database = InvalidOid;
	else if (any)
		*database = shared->wanted[--shared->n_wanted];
	shared->look_everywhere = false;
	LWLockRelease(shared->lock);
	return any;
}

/* ---------- holds ---------- */

static void
release_holds_at_exit(int code, Datum arg)
{
	shmem_release_holds();
}

/*
 * Asks the dispatcher of a database to leave, at once or when its calls have ended, and keeps it away
 * until this session calls shmem_release_holds() or ends.  Wait for shmem_has_dispatcher() to become
 * false.
 */
void
shmem_hold_database(Oid database, bool at_once)
{
	static bool registered = false;
	int i;

	if (!registered)
		before_shmem_exit(release_holds_at_exit, (Datum) 0);
	registered = true;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < MAX_HOLDS && OidIsValid(shared->holds[i].database); i++)
		;
	if (i < MAX_HOLDS)
		shared->holds[i] = (Hold){database, MyProcPid, at_once};
	LWLockRelease(shared->lock);
	if (i == MAX_HOLDS)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("too many databases are being copied, renamed or dropped at once"),
						errhint("Try again later.")));
	(void) shmem_tell_dispatcher(database, NULL, 0, (Untold){DT_NOEND, DT_NOEND}, false, true);
}

void
shmem_release_holds(void)
{
	bool any = false;
	int i;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < MAX_HOLDS; i++)
	{
		if (OidIsValid(shared->holds[i].database) && shared->holds[i].pid == MyProcPid)
		{
			shared->holds[i].database = InvalidOid;
			any = true;
		}
	}
	LWLockRelease(shared->lock);
	if (any)
		shmem_wake_launcher(InvalidOid);
}

bool
shmem_is_held(Oid database, bool *at_once)
{
	bool held = false;
	int i;

	*at_once = false;
	LWLockAcquire(shared->lock, LW_SHARED);
	for (i = 0; i < MAX_HOLDS; i++)
	{
		if (shared->holds[i].database == database)
		{
			held = true;
			*at_once |= shared->holds[i].at_once;
		}
	}
	LWLockRelease(shared->lock);
	return held;
}

bool
shmem_has_dispatcher(Oid database)
{
	Slot *slot;
	bool present;

	LWLockAcquire(shared->lock, LW_SHARED);
	slot = slot_of_database(database);
	present = slot != NULL && slot->info.pid != 0;
	LWLockRelease(shared->lock);
	return present;
}

/* ---------- sessions that wait for a job ---------- */

static void
wait_end_at_exit(int code, Datum arg)
{
	shmem_wait_end();
}

/*
 * From now until shmem_wait_end() this session's latch is set whenever the job may have ended.  Look
 * at the job after this call, then wait.
 */
void
shmem_wait_begin(int64 job)
{
	static bool registered = false;
	int i;

	if (!registered)
		before_shmem_exit(wait_end_at_exit, (Datum) 0);
	registered = true;
	shmem_wait_end();
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < shared->max_waiters && OidIsValid(waiters[i].database); i++)
		;
	if (i < shared->max_waiters)
	{
		my_waiter = &waiters[i];
		*my_waiter = (Waiter){MyDatabaseId, job, MyLatch};
		pg_atomic_fetch_add_u32(&shared->n_waiters, 1);
	}
	LWLockRelease(shared->lock);
	if (my_waiter == NULL)
		elog(ERROR, "no place is left to wait for a job");
}

void
shmem_wait_end(void)
{
	if (my_waiter == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_waiter->database = InvalidOid;
	pg_atomic_fetch_sub_u32(&shared->n_waiters, 1);
	LWLockRelease(shared->lock);
	my_waiter = NULL;
}

static int
compare_ids(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return (left > right) - (left < right);
}

/*
 * Wakes the sessions that wait for one of these jobs; n < 0: for any.  Call after the change that they
 * wait for has been committed.  Sorts jobs.
 */
void
shmem_wake_waiters(Oid database, int64 *jobs, int n)
{
	int i;

	pg_memory_barrier();
	if (pg_atomic_read_u32(&shared->n_waiters) == 0)
		return;
	if (n > 0)
		qsort(jobs, n, sizeof(int64), compare_ids);
	LWLockAcquire(shared->lock, LW_SHARED);
	for (i = 0; i < shared->max_waiters; i++)
	{
		if (waiters[i].database == database &&
			(n < 0 || bsearch(&waiters[i].job, jobs, n, sizeof(int64), compare_ids) != NULL))
			SetLatch(waiters[i].latch);
	}
	LWLockRelease(shared->lock);
}

/* ---------- calls in flight ---------- */

/*
 * An entry for a call of this dispatcher in genjob.activity; NULL when all are taken, which costs
 * nothing but its line there.
 */
Activity *
shmem_activity_add(Oid owner, int64 job, int attempt, const char *server)
{
	Activity *activity = NULL;
	int i;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (i = shared->activity_free; i < shared->activity_end; i++)
	{
		if (!OidIsValid(shared->activities[i].database))
			break;
	}
	if (i < MAX_ACTIVITIES)
	{
		activity = &shared->activities[i];
		activity->database = MyDatabaseId;
		activity->owner = owner;
		activity->job = job;
		activity->attempt = attempt;
		activity->pid = MyProcPid;
		activity->started_at = GetCurrentTimestamp();
		namestrcpy(&activity->server, server);
		pg_atomic_init_u32(&activity->phase, ACTIVITY_CALLING);
		pg_atomic_init_u64(&activity->progress, ACTIVITY_NO_PROGRESS);
		http_meter_init(&activity->meter);
		shared->activity_free = i + 1;
		shared->activity_end = Max(shared->activity_end, i + 1);
	}
	LWLockRelease(shared->lock);
	return activity;
}

void
shmem_activity_remove(Activity *activity)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	activity->database = InvalidOid;
	shared->activity_free = Min(shared->activity_free, activity - shared->activities);
	LWLockRelease(shared->lock);
}

/*
 * A palloc'd copy of the calls in flight of one database; returns their number.
 */
int
shmem_read_activity(Oid database, Activity **activities)
{
	int max = Max(shared->activity_end, 1);
	int n = 0;
	int i;

	*activities = palloc(max * sizeof(Activity));
	LWLockAcquire(shared->lock, LW_SHARED);
	for (i = 0; i < max; i++)
	{
		if (shared->activities[i].database == database)
			(*activities)[n++] = shared->activities[i];
	}
	LWLockRelease(shared->lock);
	return n;
}

/* ---------- what servers did ---------- */

/*
 * The statistics of a server of this database, made on first use.  When there are too many servers,
 * the last entry is shared by all that came too late.
 */
ServerStats *
shmem_stats_find(Oid server)
{
	ServerStats *stats = NULL;
	int i;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < MAX_STATS; i++)
	{
		stats = &shared->stats[i];
		if (stats->database == MyDatabaseId && stats->server == server)
			break;
		if (!OidIsValid(stats->database) || i == MAX_STATS - 1)
		{
			stats->database = MyDatabaseId;
			stats->server = server;
			break;
		}
	}
	LWLockRelease(shared->lock);
	return stats;
}

/*
 * A palloc'd copy of the statistics of one database's servers; returns their number.
 */
int
shmem_read_stats(Oid database, ServerStats **stats)
{
	int max = 0;
	int n = 0;
	int i;

	while (max < MAX_STATS && OidIsValid(shared->stats[max].database))
		max++;
	*stats = palloc(Max(max, 1) * sizeof(ServerStats));
	for (i = 0; i < max; i++)
	{
		if (shared->stats[i].database == database)
			(*stats)[n++] = shared->stats[i];
	}
	return n;
}
