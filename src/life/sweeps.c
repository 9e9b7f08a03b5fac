/*
 * sweeps.c
 *		When which object store is swept of uploads that nobody knows.
 *
 * While jobs use a store, it is swept every SWEEP_US (leftover.c does it).
 */
#include "postgres.h"

#include "base/clock.h"
#include "life/leftover.h"
#include "life/store.h"
#include "life/sweeps.h"
#include "schedule/schedule.h"

#define MAX_STORES 64

/*
 * Between two sweeps of a store.  The first must come after the jobs of an
 * earlier process were taken up.
 */
#define FIRST_SWEEP_US (10 * USECS_PER_MINUTE)
#define SWEEP_US (4 * USECS_PER_HOUR)
#define PAST_US (2 * LEFTOVER_STALE_S * USECS_PER_SEC)

/*
 * When the next sweep of a store is due.  If the store's options change, the
 * place where uploads were begun before is swept for another PAST_US.
 */
typedef struct Sweep
{
	NameData store;
	NameData server; /* whose outputs go there */
	Server *seen;    /* the store's server, with the options of then; referenced */
	MonoTime due;
	MonoTime until; /* 0: seen has the present options */
} Sweep;

static Sweep sweeps[MAX_STORES];
static int n_sweeps = 0;

static bool
is_sweep_of(const Sweep *sweep, const Job *job)
{
	return strcmp(NameStr(sweep->store), NameStr(job->store->queue->name)) == 0 &&
		   strcmp(NameStr(sweep->server), NameStr(job->server->name)) == 0;
}

/*
 * True if a sweep by the options of a looks at the same uploads as one by
 * those of b.
 */
static bool
are_swept_alike(const Server *a, const Server *b)
{
	StorePlace place = storeplace_of(&a->options);

	return a == b || (storeplace_is_of(&place, b) && strcmp(a->options.key, b->options.key) == 0);
}

/*
 * Marks which sweeps of the job's store are by its present options; adds one
 * if none is, and there is room.
 */
static void
note_present(const Job *job, MonoTime now)
{
	Server *present = job->store->server;
	bool found = false;
	int i;

	for (i = 0; i < n_sweeps; i++)
	{
		Sweep *sweep = &sweeps[i];

		if (!is_sweep_of(sweep, job))
			continue;
		if (are_swept_alike(sweep->seen, present))
		{
			sweep->until = 0;
			found = true;
		}
		else if (sweep->until == 0)
			sweep->until = now + PAST_US;
	}
	if (found || n_sweeps == MAX_STORES)
		return;
	sweeps[n_sweeps] = (Sweep){.store = job->store->queue->name,
							   .server = job->server->name,
							   .seen = server_hold(present),
							   .due = now + FIRST_SWEEP_US};
	n_sweeps++;
}

/*
 * Notes that a job uses its store.  Sweeps the store, if it is time.
 */
void
sweeps_note_store(const Job *job)
{
	const JobStore *store = job->store;
	MonoTime now = clock_mono();
	int i;

	if (store == NULL || store->server == NULL || store->server->options.key == NULL)
		return;
	note_present(job, now);
	for (i = n_sweeps - 1; i >= 0; i--)
	{
		Sweep *sweep = &sweeps[i];

		if (!is_sweep_of(sweep, job) || now < sweep->due)
			continue;
		sweep->due = now + SWEEP_US;
		leftover_sweep(job, sweep->seen);
		if (sweep->until != 0 && sweep->until < now)
		{
			server_release(sweep->seen);
			*sweep = sweeps[--n_sweeps];
		}
	}
}
