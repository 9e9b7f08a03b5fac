/*
 * callers.c
 *		Callers (processes that call on_done), as their dispatcher sees them in
 *		shared memory.
 *
 * A dispatcher reserves a slot for each caller that it starts, and releases
 * the slot when the process has ended.  So it learns which call crashed its
 * caller.  If the dispatcher ends first, the next one disowns its callers:
 * they leave as soon as they can, and release their slots themselves.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "shared/callers.h"
#include "shared/shmem.h"
#include "shared/shown.h"

typedef struct CallerSlot
{
	CallerInfo info;
	uint32 generation; /* of its reservation */
	Latch *latch;      /* NULL: the process does not run */
	bool must_leave;
	bool is_disowned; /* the caller itself must release the slot */
} CallerSlot;

typedef struct Callers
{
	uint32 generation;
	CallerSlot slots[FLEXIBLE_ARRAY_MEMBER]; /* max_worker_processes */
} Callers;

static Callers *callers = NULL;
static LWLock *lock;
static CallerSlot *mine = NULL;
static volatile sig_atomic_t is_told = false; /* this process has got SIGTERM */

Size
callers_size(void)
{
	return offsetof(Callers, slots) + max_worker_processes * sizeof(CallerSlot);
}

/*
 * Call it under AddinShmemInitLock.
 */
void
callers_startup(void)
{
	bool found;

	callers = ShmemInitStruct("genjob callers", callers_size(), &found);
	if (!found)
		memset(callers, 0, callers_size());
	lock = &(GetNamedLWLockTranche("genjob"))[2].lock;
}

/* ---------- for a dispatcher ---------- */

/*
 * Disowns the callers of an earlier dispatcher of this database: they leave.
 */
void
callers_disown(Oid database)
{
	int i;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (i = 0; i < max_worker_processes; i++)
	{
		CallerSlot *slot = &callers->slots[i];

		if (slot->info.database != database)
			continue;
		/* a caller that starts now finds that the slot is not its own */
		if (slot->latch == NULL)
			slot->info.database = InvalidOid;
		else
		{
			slot->must_leave = slot->is_disowned = true;
			SetLatch(slot->latch);
		}
	}
	LWLockRelease(lock);
}

/*
 * Returns how many disowned callers have not left yet.
 */
int
callers_count_disowned(Oid database)
{
	int n = 0;
	int i;

	LWLockAcquire(lock, LW_SHARED);
	for (i = 0; i < max_worker_processes; i++)
		n += callers->slots[i].info.database == database && callers->slots[i].is_disowned;
	LWLockRelease(lock);
	return n;
}

/*
 * Reserves a slot for a caller to be started; -1 when all are taken.
 */
int
callers_reserve(Oid database, Oid role, uint32 *generation)
{
	int i;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (i = 0; i < max_worker_processes && OidIsValid(callers->slots[i].info.database); i++)
		;
	if (i < max_worker_processes)
	{
		CallerSlot *slot = &callers->slots[i];

		memset(slot, 0, sizeof(*slot));
		slot->info.database = database;
		slot->info.role = role;
		slot->info.state = CALLER_STARTING;
		slot->generation = *generation = ++callers->generation;
	}
	LWLockRelease(lock);
	return i < max_worker_processes ? i : -1;
}

void
callers_release(int slot)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	callers->slots[slot].info.database = InvalidOid;
	LWLockRelease(lock);
}

void
callers_read(int slot, CallerInfo *info)
{
	LWLockAcquire(lock, LW_SHARED);
	*info = callers->slots[slot].info;
	LWLockRelease(lock);
}

/*
 * Wakes a caller, to look for something to call.
 */
void
callers_wake(int slot)
{
	LWLockAcquire(lock, LW_SHARED);
	if (callers->slots[slot].latch != NULL)
		SetLatch(callers->slots[slot].latch);
	LWLockRelease(lock);
}

/*
 * Tells a caller to leave after its present call.
 */
void
callers_dismiss(int slot)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	callers->slots[slot].must_leave = true;
	if (callers->slots[slot].latch != NULL)
		SetLatch(callers->slots[slot].latch);
	LWLockRelease(lock);
}

/* ---------- for a caller ---------- */

static void
detach_caller(int code, Datum arg)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	mine->latch = NULL;
	mine->info.has_failed = code != 0 && !is_told;
	if (mine->is_disowned)
		mine->info.database = InvalidOid;
	LWLockRelease(lock);
	mine = NULL;
}

/*
 * Makes this process the caller of its slot, until it exits.  False if another
 * process owns the slot now.
 */
bool
callers_attach(int slot, uint32 generation)
{
	bool is_mine;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	is_mine = OidIsValid(callers->slots[slot].info.database) &&
			  callers->slots[slot].generation == generation;
	if (is_mine)
	{
		mine = &callers->slots[slot];
		mine->latch = MyLatch;
		mine->info.state = CALLER_CONNECTING;
	}
	LWLockRelease(lock);
	if (is_mine)
		before_shmem_exit(detach_caller, (Datum) 0);
	return is_mine;
}

void
callers_set_state(CallerState state)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	mine->info.state = state;
	LWLockRelease(lock);
}

void
callers_begin_call(int64 callback)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	mine->info.callback = callback;
	mine->info.n_calls += callback != 0;
	mine->info.is_overdue = false;
	LWLockRelease(lock);
}

void
callers_end_call(void)
{
	callers_begin_call(0);
}

/*
 * Notes that the present call did not stop in time.  Takes no lock, so a
 * signal handler may call it.
 */
void
callers_note_overdue(void)
{
	if (mine != NULL)
		mine->info.is_overdue = true;
}

/*
 * Notes that somebody told this process to end.  A signal handler may call it.
 */
void
callers_note_told(void)
{
	is_told = true;
}

void
callers_set_error(const char *message)
{
	char kept[CALLERS_ERROR_LEN] = "";

	shown_keep_local(kept, message, sizeof(kept));
	LWLockAcquire(lock, LW_EXCLUSIVE);
	memcpy(mine->info.error, kept, sizeof(kept));
	LWLockRelease(lock);
}

bool
callers_must_leave(void)
{
	bool must_leave;

	LWLockAcquire(lock, LW_SHARED);
	must_leave = mine->must_leave;
	LWLockRelease(lock);
	return must_leave;
}
