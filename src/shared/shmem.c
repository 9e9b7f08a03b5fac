/*
 * shmem.c
 *		What dispatchers, the launcher and sessions tell each other, and how they wake each other.
 *
 * Nothing here must survive: after a crash of the server it begins empty and
 * is filled from the tables.  Its pointers lead only to latches in shared
 * memory, which every process maps at the same address, never to the memory of
 * one process.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "shared/callers.h"
#include "shared/shmem.h"
#include "shared/shown.h"

#define MAX_WANTED 64 /* databases that the launcher can be told of by OID */
#define MAX_EVICTIONS 64

typedef struct Slot
{
	Latch *latch; /* of the dispatcher; NULL when none is attached */
	WorkerInfo info;
	News news;
} Slot;

typedef struct Eviction
{
	Oid database; /* invalid: free */
	int pid;      /* of the session that needs the database for itself */
	bool at_once;
} Eviction;

typedef struct Shared
{
	/* Protects all of this, and the slots. */
	LWLock *lock;

	Latch *launcher;
	bool look_everywhere; /* the list of databases changed */
	int n_wanted;
	Oid wanted[MAX_WANTED];
	Eviction evictions[MAX_EVICTIONS];

	int max_slots;
	/* followed by max_slots Slots */
} Shared;

static Shared *shared = NULL;
static Slot *slots;

static int my_slot = -1;

/* ---------- creation ---------- */

static Size
shmem_size(void)
{
	return MAXALIGN(sizeof(Shared)) + MAXALIGN(max_worker_processes * sizeof(Slot));
}

void
shmem_request(void)
{
	RequestAddinShmemSpace(
		add_size(add_size(shmem_size(), figures_size()), add_size(callers_size(), waiters_size())));
	RequestNamedLWLockTranche("genjob", 4);
}

void
shmem_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("genjob", shmem_size(), &found);
	slots = (Slot *) ((char *) shared + MAXALIGN(sizeof(Shared)));
	if (!found)
	{
		memset(shared, 0, shmem_size());
		shared->lock = &(GetNamedLWLockTranche("genjob"))->lock;
		shared->max_slots = max_worker_processes;
	}
	figures_startup(&(GetNamedLWLockTranche("genjob"))[1].lock);
	callers_startup();
	waiters_startup(&(GetNamedLWLockTranche("genjob"))[3].lock);
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
 * Returns a slot for the dispatcher of a database, the same one until it is freed; -1 when all are taken.
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
		slot->news.bulk = (BulkChange){DT_NOEND, DT_NOEND};
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
 * Leaves the slot.  A dispatcher that has nothing to serve may go without
 * reading its news (the extension may have been created just now): then the
 * launcher looks again.
 */
static void
slot_detach(int code, Datum arg)
{
	Slot *slot = &slots[my_slot];
	bool unread;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot->latch = NULL;
	slot->info.pid = 0;
	unread = slot->news.n_ids > 0 || slot->news.bulk.since != DT_NOEND || slot->news.recheck;
	if (shared->launcher != NULL)
		SetLatch(shared->launcher);
	LWLockRelease(shared->lock);
	figures_end();
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

/*
 * Makes this process a helper of the dispatcher of a slot: its errors are shown there.
 */
void
shmem_slot_join(int slot)
{
	my_slot = slot;
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

	/* this may raise an error, so it comes before the lock */
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
 * Moves the news for this dispatcher into *news.
 */
void
shmem_take_news(News *news)
{
	News *mine = &slots[my_slot].news;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	news->n_ids = mine->n_ids;
	memcpy(news->ids, mine->ids, mine->n_ids * sizeof(int64));
	news->bulk = mine->bulk;
	news->recheck = mine->recheck;
	news->callbacks = mine->callbacks;
	news->follow_ups = mine->follow_ups;
	mine->n_ids = 0;
	mine->bulk = (BulkChange){DT_NOEND, DT_NOEND};
	mine->recheck = mine->callbacks = mine->follow_ups = false;
	LWLockRelease(shared->lock);
}

/*
 * Tells the dispatcher of a database about committed changes and wakes it.  bulk sums up all changes; it is used if there
 * are more than ids (more), or more than fit.  False when the database has no dispatcher.
 */
bool
shmem_tell_dispatcher(Oid database, const int64 *ids, int n_ids, BulkChange bulk, bool more,
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
			news->bulk.since = Min(news->bulk.since, bulk.since);
			news->bulk.expiry = Min(news->bulk.expiry, bulk.expiry);
		}
		news->recheck |= recheck;
		SetLatch(slot->latch);
		told = true;
	}
	LWLockRelease(shared->lock);
	return told;
}

static void
tell_news(Oid database, bool callbacks, bool follow_ups)
{
	Slot *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = slot_of_database(database);
	if (slot != NULL && slot->latch != NULL)
	{
		slot->news.callbacks |= callbacks;
		slot->news.follow_ups |= follow_ups;
		SetLatch(slot->latch);
	}
	LWLockRelease(shared->lock);
}

/*
 * Tells the dispatcher of a database, if there is one, that calls of on_done are due, or that a process that makes them
 * is idle.
 */
void
shmem_tell_callbacks(Oid database)
{
	tell_news(database, true, false);
}

/*
 * Tells the dispatcher of a database, if there is one, that ended jobs have
 * follow-ups.
 */
void
shmem_tell_follow_ups(Oid database)
{
	tell_news(database, false, true);
}

/*
 * Tells the dispatcher of a database, if there is one, that settings changed;
 * InvalidOid: those of all databases.
 */
void
shmem_tell_settings(Oid database)
{
	int i;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < shared->max_slots; i++)
	{
		Slot *slot = &slots[i];

		if (slot->latch == NULL || (OidIsValid(database) && slot->info.database != database))
			continue;
		slot->news.recheck = true;
		SetLatch(slot->latch);
	}
	LWLockRelease(shared->lock);
}

/*
 * Copies what is known of all dispatchers into *workers, palloc'd; returns
 * their number.
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
 * Reads what is known of the dispatcher of a database; false if there never was one, or its database had no extension.
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
 * Makes this process the launcher.  It begins with a look at all databases.
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
 * Makes the launcher check if a database needs a dispatcher; InvalidOid:
 * checks all databases.
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
 * Takes the next database to look at: InvalidOid for all of them.  False when there is none.
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

/* ---------- evictions ---------- */

static void
end_evictions_at_exit(int code, Datum arg)
{
	shmem_end_evictions();
}

/*
 * Asks the dispatcher of a database to leave, at once or when its calls have ended, and keeps it away
 * until this session calls shmem_end_evictions() or ends.  Wait for shmem_has_dispatcher() to become
 * false.
 */
void
shmem_evict(Oid database, bool at_once)
{
	static bool registered = false;
	int i;

	if (!registered)
		before_shmem_exit(end_evictions_at_exit, (Datum) 0);
	registered = true;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < MAX_EVICTIONS && OidIsValid(shared->evictions[i].database); i++)
		;
	if (i < MAX_EVICTIONS)
		shared->evictions[i] = (Eviction){database, MyProcPid, at_once};
	LWLockRelease(shared->lock);
	if (i == MAX_EVICTIONS)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("too many databases are being copied, renamed or dropped at once"),
						errhint("Try again later.")));
	(void) shmem_tell_dispatcher(database, NULL, 0, (BulkChange){DT_NOEND, DT_NOEND}, false, true);
}

void
shmem_end_evictions(void)
{
	bool any = false;
	int i;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < MAX_EVICTIONS; i++)
	{
		if (OidIsValid(shared->evictions[i].database) && shared->evictions[i].pid == MyProcPid)
		{
			shared->evictions[i].database = InvalidOid;
			any = true;
		}
	}
	LWLockRelease(shared->lock);
	if (any)
		shmem_wake_launcher(InvalidOid);
}

bool
shmem_is_evicted(Oid database, bool *at_once)
{
	bool is_evicted = false;
	int i;

	*at_once = false;
	LWLockAcquire(shared->lock, LW_SHARED);
	for (i = 0; i < MAX_EVICTIONS; i++)
	{
		if (shared->evictions[i].database == database)
		{
			is_evicted = true;
			*at_once |= shared->evictions[i].at_once;
		}
	}
	LWLockRelease(shared->lock);
	return is_evicted;
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
