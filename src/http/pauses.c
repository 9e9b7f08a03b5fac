/*
 * pauses.c
 *		Answers that wait for memory, and those that stand in their way.
 *
 * An answer for which there is no memory stays with its server, until others
 * have ended.  An answer that has memory and does not move while others wait
 * must give the memory back: what has come goes into a file (spill.c).  If it
 * cannot go there, and the answer has been silent for long, the call is cut.
 */
#include "postgres.h"

#include "http/transfer.h"
#include "base/memory.h"

#define STILL_MS 2000   /* without a byte: the answer does not move */
#define SILENT_MS 60000 /* without a byte: cut if others need its memory or its file's room */
#define RETRY_MS 1000   /* before a file that could not be written is tried again */

static dlist_head paused = DLIST_STATIC_INIT(paused);
static int n_paused = 0;

/*
 * Notes that a transfer is paused.  libcurl's callbacks call it.
 */
void
pauses_begin(HttpTransfer *transfer)
{
	transfer->is_paused = transfer->was_paused = true;
	n_paused++;
	dlist_push_tail(&paused, &transfer->paused_node);
	deadlines_pause(transfer);
}

static void
leave_paused(HttpTransfer *transfer)
{
	dlist_delete(&transfer->paused_node);
	n_paused--;
	transfer->is_paused = false;
}

/*
 * Notes that a transfer is resumed.
 */
void
pauses_end(HttpTransfer *transfer)
{
	leave_paused(transfer);
	transfer->received_at = clock_wire();
	deadlines_resume(transfer);
}

/*
 * Forgets the call.
 */
void
pauses_forget(HttpTransfer *transfer)
{
	if (transfer->is_paused)
		leave_paused(transfer);
}

/*
 * Returns how many transfers are paused.
 */
int
pauses_count(void)
{
	return n_paused;
}

static bool
may_go_on(const HttpTransfer *transfer)
{
	if (transfer->is_spilled)
		return spill_has_room(MEMORY_SMALL) &&
			   clock_wire() - transfer->paused_at >= RETRY_MS * INT64CONST(1000);
	return memory_may_receive(transfer->request->account, transfer->wanted);
}

/*
 * Returns the paused transfer to resume.  If there is memory for some, it is
 * the one that has received most, so that its memory is soon free.  If there
 * is memory for none, it is the one that may pass the limit.  NULL: none.
 */
HttpTransfer *
pauses_next_to_end(void)
{
	HttpTransfer *best = NULL;
	HttpTransfer *largest = NULL;
	dlist_iter iter;

	dlist_foreach(iter, &paused)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, paused_node, iter.cur);
		size_t len = transfer->reply->body->len;

		if ((best == NULL || len > best->reply->body->len) && may_go_on(transfer))
			best = transfer;
		if (!transfer->is_spilled && sluice_may_be_favoured(transfer) &&
			(largest == NULL || len > largest->reply->body->len))
			largest = transfer;
	}
	if (best == NULL && largest != NULL && memory_could_favour(largest->tag))
		return largest;
	return best;
}

/*
 * Makes a transfer that stands still give back its memory.  True if it must be cut instead.
 */
static bool
reclaim_memory(HttpTransfer *transfer, MonoTime now)
{
	MonoTime silence = now - transfer->received_at;
	bool holds_memory = transfer->reply->body->capacity > MEMORY_SMALL;
	bool is_in_the_way;

	if (transfer->is_paused || transfer->is_full || transfer->is_moving ||
		silence < STILL_MS * INT64CONST(1000) || (!holds_memory && !transfer->is_spilled))
		return false;
	/* of an answer in pieces, another call can ask for the rest */
	is_in_the_way = holds_memory ? transfer->is_pouring || !spill_begin(transfer)
								 : !spill_has_room(MEMORY_SMALL);
	if (transfer->is_spilled)
		memory_unfavour(transfer->tag);
	return is_in_the_way && silence >= SILENT_MS * INT64CONST(1000);
}

/*
 * Makes active transfers that stand still give back their memory, because
 * others wait.  Returns a transfer that must be cut; NULL: none.
 */
HttpTransfer *
pauses_relieve(const dlist_head *active, MonoTime now)
{
	dlist_iter iter;

	dlist_foreach(iter, (dlist_head *) active)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, active_node, iter.cur);

		if (reclaim_memory(transfer, now))
			return transfer;
	}
	return NULL;
}
