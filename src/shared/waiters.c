/*
 * waiters.c
 *		Sessions that wait for a job to end, and how they are woken.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "base/compat.h"
#include "shared/shmem.h"

typedef struct Waiter
{
	Oid database; /* invalid: free */
	int64 job;
	Latch *latch;
} Waiter;

typedef struct SharedWaiters
{
	LWLock *lock;
	pg_atomic_uint32 n_waiters;
	int max_waiters;
	Waiter waiters[FLEXIBLE_ARRAY_MEMBER];
} SharedWaiters;

static SharedWaiters *shared = NULL;
static Waiter *my_waiter = NULL;

Size
waiters_size(void)
{
	return MAXALIGN(offsetof(SharedWaiters, waiters) + MaxBackends * sizeof(Waiter));
}

/*
 * Call it under AddinShmemInitLock; lock protects the waiters.
 */
void
waiters_startup(LWLock *lock)
{
	bool found;

	shared = ShmemInitStruct("genjob waiters", waiters_size(), &found);
	if (found)
		return;
	memset(shared, 0, waiters_size());
	shared->lock = lock;
	shared->max_waiters = MaxBackends;
	pg_atomic_init_u32(&shared->n_waiters, 0);
}

static void
wait_end_at_exit(int code, Datum arg)
{
	shmem_wait_end();
}

/*
 * Until shmem_wait_end(), this session's latch is set whenever the job may
 * have ended (0: any job of the database).  Look at the job after this call,
 * then wait.
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
	for (i = 0; i < shared->max_waiters && OidIsValid(shared->waiters[i].database); i++)
		;
	if (i < shared->max_waiters)
	{
		my_waiter = &shared->waiters[i];
		*my_waiter = (Waiter){MyDatabaseId, job, MyLatch};
		pg_atomic_fetch_add_u32(&shared->n_waiters, 1);
	}
	LWLockRelease(shared->lock);
	if (my_waiter == NULL)
		elog(ERROR, "too many sessions wait for jobs");
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

/*
 * Wakes the sessions that wait for one of these jobs; n < 0: for any.  Call after the change that they
 * wait for has been committed.  Sorts jobs.
 */
void
shmem_wake_waiters(Oid database, int64 *jobs, int n)
{
	int i;

	pg_memory_barrier();
	if (n == 0 || pg_atomic_read_u32(&shared->n_waiters) == 0)
		return;
	if (n > 0)
		qsort(jobs, n, sizeof(int64), compat_compare_int64);
	LWLockAcquire(shared->lock, LW_SHARED);
	for (i = 0; i < shared->max_waiters; i++)
	{
		if (shared->waiters[i].database == database &&
			(n < 0 || shared->waiters[i].job == 0 ||
			 bsearch(&shared->waiters[i].job, jobs, n, sizeof(int64), compat_compare_int64) != NULL))
			SetLatch(shared->waiters[i].latch);
	}
	LWLockRelease(shared->lock);
}
