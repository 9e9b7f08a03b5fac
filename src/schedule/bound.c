/*
 * bound.c
 *		Jobs that only their own server may run, because its fallback may not.
 *		They wait on a list of that server, out of the way of the jobs that the
 *		fallback takes.
 */
#include "postgres.h"

#include "utils/hsearch.h"

#include "schedule/bound.h"

typedef struct Bound
{
	int64 id; /* key */
	dlist_node node;
} Bound;

static HTAB *jobs = NULL;

static Bound *
find_bound(int64 id)
{
	return jobs ? hash_search(jobs, &id, HASH_FIND, NULL) : NULL;
}

/*
 * Puts a job at the end of a server's list, unless it is on one.
 */
void
bound_add(dlist_head *list, int64 id)
{
	HASHCTL by_id = {.keysize = sizeof(int64), .entrysize = sizeof(Bound)};
	Bound *bound;
	bool found;

	if (jobs == NULL)
		jobs = hash_create("genjob bound jobs", 64, &by_id, HASH_ELEM | HASH_BLOBS);
	bound = hash_search(jobs, &id, HASH_ENTER, &found);
	if (!found)
		dlist_push_tail(list, &bound->node);
}

bool
bound_has(int64 id)
{
	return find_bound(id) != NULL;
}

/*
 * Takes a job off its list, if it is on one.
 */
void
bound_remove(int64 id)
{
	Bound *bound = find_bound(id);

	if (bound == NULL)
		return;
	dlist_delete(&bound->node);
	hash_search(jobs, &id, HASH_REMOVE, NULL);
}

/*
 * Moves the first jobs of a list, at most max, into ids; returns their number.
 */
int
bound_take(dlist_head *list, int64 *ids, int max)
{
	int n;

	for (n = 0; n < max && !dlist_is_empty(list); n++)
	{
		ids[n] = dlist_container(Bound, node, dlist_head_node(list))->id;
		bound_remove(ids[n]);
	}
	return n;
}
