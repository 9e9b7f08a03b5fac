/*
 * putoff.c
 *		Jobs that are looked at again later: their rows raise errors, somebody
 *		has locked them, or there was no memory for what they refer to.
 *
 * They are remembered one by one.  A search for them through the whole queue
 * takes longer the more dead rows it has, and whoever keeps a row locked keeps
 * dead rows, too.
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "schedule/putoff.h"

#define MAX_PUT_OFF 10000

typedef struct PutOff
{
	int64 id; /* key */
	pairingheap_node node;
	MonoTime until;
	bool is_shunned;
	size_t bytes; /* of memory that it waits for; 0: none */
	dlist_node memory_node;
} PutOff;

static HTAB *jobs = NULL;
static pairingheap *heap = NULL;                              /* first to look at on top */
static dlist_head for_memory = DLIST_STATIC_INIT(for_memory); /* first come, first served */

static int
compare_times(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	MonoTime left = pairingheap_const_container(PutOff, node, a)->until;
	MonoTime right = pairingheap_const_container(PutOff, node, b)->until;

	return left == right ? 0 : left < right ? 1 : -1;
}

static void
create_tables(void)
{
	HASHCTL by_id = {.keysize = sizeof(int64), .entrysize = sizeof(PutOff)};
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	jobs = hash_create("genjob jobs put off", 64, &by_id, HASH_ELEM | HASH_BLOBS);
	heap = pairingheap_allocate(compare_times, NULL);
	MemoryContextSwitchTo(caller);
}

static void
remove_job(PutOff *job)
{
	if (job->bytes > 0)
		dlist_delete(&job->memory_node);
	pairingheap_remove(heap, &job->node);
}

/*
 * Sets when putoff_take() returns the job; with bytes,
 * putoff_take_for_memory() may return it earlier.  Until then a shunned job is
 * left alone, whatever commits report.  False if there are too many jobs.
 */
bool
putoff_add(int64 id, MonoTime until, bool is_shunned, size_t bytes)
{
	PutOff *job;
	bool found;

	if (jobs == NULL)
		create_tables();
	if (hash_get_num_entries(jobs) >= MAX_PUT_OFF && hash_search(jobs, &id, HASH_FIND, NULL) == NULL)
		return false;
	job = hash_search(jobs, &id, HASH_ENTER, &found);
	if (found)
		remove_job(job);
	job->until = until;
	job->is_shunned = is_shunned;
	job->bytes = bytes;
	pairingheap_add(heap, &job->node);
	if (bytes > 0)
		dlist_push_tail(&for_memory, &job->memory_node);
	return true;
}

bool
putoff_is_shunned(int64 id)
{
	const PutOff *job;

	if (putoff_next() == 0)
		return false;
	job = hash_search(jobs, &id, HASH_FIND, NULL);
	return job != NULL && job->is_shunned && job->until > clock_mono();
}

/*
 * Moves jobs whose time has come into ids, at most max; returns their number.
 */
int
putoff_take(int64 *ids, int max, MonoTime now)
{
	int n = 0;

	while (n < max && putoff_next() != 0 && putoff_next() <= now)
	{
		PutOff *job = pairingheap_container(PutOff, node, pairingheap_first(heap));

		remove_job(job);
		ids[n++] = job->id;
		hash_search(jobs, &job->id, HASH_REMOVE, NULL);
	}
	return n;
}

/*
 * Returns how many bytes the job needs that has waited longest for memory; 0:
 * none waits for it.
 */
size_t
putoff_wants_memory(void)
{
	if (dlist_is_empty(&for_memory))
		return 0;
	return dlist_container(PutOff, memory_node, dlist_head_node(&for_memory))->bytes;
}

/*
 * Moves the jobs that have waited longest for memory into ids: at most max,
 * and as many as fit into room bytes.  any_size: the first may be larger.
 * Returns their number.
 */
int
putoff_take_for_memory(int64 *ids, int max, size_t room, bool any_size)
{
	int n = 0;

	while (n < max && putoff_wants_memory() > 0)
	{
		PutOff *job = dlist_container(PutOff, memory_node, dlist_head_node(&for_memory));

		if (job->bytes > room && !any_size)
			break;
		any_size = false;
		room -= Min(room, job->bytes);
		remove_job(job);
		ids[n++] = job->id;
		hash_search(jobs, &job->id, HASH_REMOVE, NULL);
	}
	return n;
}

/*
 * Returns when the first job comes back; 0: there are none.
 */
MonoTime
putoff_next(void)
{
	if (heap == NULL || pairingheap_is_empty(heap))
		return 0;
	return pairingheap_container(PutOff, node, pairingheap_first(heap))->until;
}
