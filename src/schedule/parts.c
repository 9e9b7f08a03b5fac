/*
 * parts.c
 *		How many of the places of genjob.max_in_flight, and how much of
 *		genjob.max_memory, the servers of one role may have together.
 *
 * A role with USAGE on the wrapper creates as many servers as it likes, and
 * says how many calls each may have and for how long.  Without a limit, calls
 * that never end would take all places, and no job of any other server would
 * start.  So the servers of a role that is no superuser have, together, at
 * most PART times as many calls as they leave free.  Servers of superusers
 * have what their options say.
 *
 * Each look at the queues counts the calls of each role.  Their memory is
 * counted as it is taken: base/memory.c has a like rule for the
 * account of a role as for that of a server.
 */
#include "postgres.h"

#include "utils/hsearch.h"

#include "schedule/parts.h"

#define PART 3 /* a role's servers may have this many times the places that are free */

/* The calls that the servers of one role have. */
typedef struct OwnerCalls
{
	Oid role; /* key */
	int calls;
} OwnerCalls;

/* The memory that the servers of one role take. */
typedef struct OwnerMemory
{
	Oid role; /* key */
	MemoryAccount requests;
	MemoryAccount answers;
} OwnerMemory;

static HTAB *accounts = NULL; /* of each role that has, or had, a server: few */
static HTAB *counts = NULL;   /* NULL: all servers with something to do belong to superusers */

static bool
is_limited(const ServerQueue *queue)
{
	return queue->server != NULL && !queue->server->owner_is_superuser;
}

static void
count_calls(const ServerQueue *queue, int calls)
{
	HASHCTL by_role = {.keysize = sizeof(Oid),
					   .entrysize = sizeof(OwnerCalls),
					   .hcxt = CurrentMemoryContext};
	OwnerCalls *entry;
	bool found;

	if (counts == NULL)
		counts = hash_create("genjob calls of owners", 16, &by_role,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	entry = hash_search(counts, &queue->server->owner, HASH_ENTER, &found);
	entry->calls = (found ? entry->calls : 0) + calls;
}

/*
 * Counts the calls of each role's servers, in the current memory context,
 * until parts_end().
 */
void
parts_begin(void)
{
	dlist_iter iter;

	counts = NULL;
	dlist_foreach(iter, queues_active())
	{
		const ServerQueue *queue = dlist_container(ServerQueue, node, iter.cur);

		if (is_limited(queue))
			count_calls(queue, queue->limits.in_flight);
	}
}

/*
 * True if the queue's server may have one of room places that are free.
 */
bool
parts_may_take(const ServerQueue *queue, int64 room)
{
	const OwnerCalls *entry = counts != NULL && is_limited(queue)
								  ? hash_search(counts, &queue->server->owner, HASH_FIND, NULL)
								  : NULL;

	return entry == NULL || entry->calls < PART * room;
}

/*
 * Notes that the queue's server has got a place.
 */
void
parts_note_taken(const ServerQueue *queue)
{
	if (is_limited(queue))
		count_calls(queue, 1);
}

void
parts_end(void)
{
	if (counts != NULL)
		hash_destroy(counts);
	counts = NULL;
}

/*
 * Counts the memory of the queue's server as that of its owner.
 */
void
parts_join_account(ServerQueue *queue)
{
	OwnerMemory *entry = NULL;
	bool found;

	if (is_limited(queue))
	{
		HASHCTL by_role = {.keysize = sizeof(Oid), .entrysize = sizeof(OwnerMemory)};

		if (accounts == NULL)
			accounts = hash_create("genjob memory of owners", 16, &by_role, HASH_ELEM | HASH_BLOBS);
		entry = hash_search(accounts, &queue->server->owner, HASH_ENTER, &found);
		if (!found)
			*entry = (OwnerMemory){.role = queue->server->owner};
	}
	memory_set_whole(&queue->requests, entry ? &entry->requests : NULL);
	memory_set_whole(&queue->answers, entry ? &entry->answers : NULL);
}
