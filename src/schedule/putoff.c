/*
 * putoff.c
 *		Jobs that are looked at again later: their rows raise errors, or somebody has them locked.
 *
 * They are remembered one by one, for to search the whole queue for them would take the longer the more dead rows
 * it has, and whoever keeps a row locked keeps dead rows too.
 */
#include "postgres.h"

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
} PutOff;

static HTAB *jobs = NULL;
static pairingheap *heap = NULL; /* first to look at on top */

static int
compare(const pairingheap_node *a, const pairingheap_node *b, void *arg)
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
	heap = pairingheap_allocate(compare, NULL);
	MemoryContextSwitchTo(caller);
}

/*
 * Sets when putoff_take() returns the job.  A shunned job is left alone until then, whatever commits report.  False
 * when there are too many.
 */
bool
putoff_add(int64 id, MonoTime until, bool is_shunned)
{
	PutOff *job;
	bool found;

	if (jobs == NULL)
		create_tables();
	if (hash_get_num_entries(jobs) >= MAX_PUT_OFF && hash_search(jobs, &id, HASH_FIND, NULL) == NULL)
		return false;
	job = hash_search(jobs, &id, HASH_ENTER, &found);
	if (found)
		pairingheap_remove(heap, &job->node);
	job->until = until;
	job->is_shunned = is_shunned;
	pairingheap_add(heap, &job->node);
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
		PutOff *job = pairingheap_container(PutOff, node, pairingheap_remove_first(heap));

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
