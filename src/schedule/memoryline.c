/*
 * memoryline.c
 *		The line of servers whose next jobs find no room in memory.
 *
 * What a request takes is known only when its row is read, so a queue joins
 * the line when a claim refused its job.  The queue that has waited longest
 * goes first.  A server has its share: one that holds its requests for long
 * must leave room for others, and a server without a request in memory need
 * not wait in the line (memory_is_first()).
 */
#include "postgres.h"

#include "base/memory.h"
#include "schedule/memoryline.h"
#include "schedule/putoff.h"

static uint64 refused = 0; /* queues that were refused memory, so far */

/*
 * Notes that a job of the queue was claimed, and takes bytes of memory.
 * Nobody knows what the next job needs.  After a large job the queue goes to
 * the end of the line for memory.
 */
void
memoryline_note_given(ServerQueue *queue, size_t bytes)
{
	queue->wants_memory = 0;
	if (bytes > MEMORY_SMALL)
		queue->waits_for_memory = 0;
}

/*
 * Notes that there was no memory for a job of the queue that needs bytes.  The
 * queue waits for what its first such job needs.
 */
void
memoryline_note_refused(ServerQueue *queue, size_t bytes)
{
	if (queue->wants_memory != 0)
		return;
	queue->wants_memory = bytes;
	if (queue->waits_for_memory == 0)
		queue->waits_for_memory = ++refused;
}

/*
 * Returns the queue that has waited longest for memory and for nothing else.  No other queue may claim large bodies
 * before it; otherwise a large job could starve.  A queue that waits for its own calls blocks nobody.  NULL: there is
 * none.
 */
ServerQueue *
memoryline_first(MonoTime now)
{
	ServerQueue *first = NULL;
	dlist_iter iter;

	dlist_foreach(iter, queues_active())
	{
		ServerQueue *queue = dlist_container(ServerQueue, node, iter.cur);

		if (queue->wants_memory > 0 &&
			(first == NULL || queue->waits_for_memory < first->waits_for_memory) &&
			schedule_could_take(queue, now) &&
			memory_waits_for_others(&queue->requests, queue->wants_memory))
			first = queue;
	}
	return first;
}

/*
 * True if there is memory for a job that putoff.c keeps for lack of it.
 * Queues that wait for memory go first: their jobs wait for nothing else.
 */
bool
memoryline_has_room_again(MonoTime now)
{
	size_t wanted = putoff_wants_memory();

	return wanted > 0 && memory_may_claim(NULL, wanted) && memoryline_first(now) == NULL;
}

/*
 * Moves jobs that putoff.c keeps, and for which there is memory now, into ids,
 * at most max; returns their number.
 */
int
memoryline_take_again(int64 *ids, int max, MonoTime now)
{
	bool any_size;
	size_t room;

	if (!memoryline_has_room_again(now))
		return 0;
	room = memory_room_for_claims(&any_size);
	return putoff_take_for_memory(ids, max, room, any_size);
}

/*
 * True if the queue's next job must wait for memory.  first is memoryline_first().
 */
bool
memoryline_holds_back(const ServerQueue *queue, const ServerQueue *first)
{
	if (queue->wants_memory == 0 || memory_is_first(&queue->requests, queue->wants_memory))
		return false;
	return (first != NULL && queue != first) ||
		   !memory_may_claim(&queue->requests, queue->wants_memory);
}

/*
 * Puts the turns of servers that wait for memory first.  Returns how many
 * bytes of large bodies may be claimed in all; 0 if only other servers wait.
 * *any_size: the first large body may exceed that.
 */
size_t
memoryline_sort(Turn *turns, int n, bool *any_size)
{
	size_t room = memory_room_for_claims(any_size);
	int n_first = 0;
	int i;

	for (i = 0; i < n; i++)
	{
		Turn turn = turns[i];

		if (turn.home->wants_memory == 0)
			continue;
		memmove(&turns[n_first + 1], &turns[n_first], (i - n_first) * sizeof(Turn));
		turns[n_first++] = turn;
	}
	if (n_first > 0)
	{
		const ServerQueue *home = turns[0].home;

		return memory_is_first(&home->requests, home->wants_memory) ? Max(room, home->wants_memory)
																	: room;
	}
	if (memoryline_first(clock_mono()) == NULL)
		return room;
	*any_size = false;
	return 0;
}
