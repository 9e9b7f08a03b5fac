/*
 * pauses.c
 *		Calls whose answers wait, or have waited, for memory.
 *
 * An answer has been paid for, so the time in which it was left with its server does not count.  libcurl counts it:
 * so once a call was paused, its time is kept here.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "http/transfer.h"
#include "memory.h"

static dlist_head slow = DLIST_STATIC_INIT(slow); /* those that were paused */
static int n_paused = 0;

/*
 * Takes notice that a transfer is paused.  Called by libcurl's callbacks.
 */
void
pauses_begin(HttpTransfer *transfer)
{
	transfer->is_paused = true;
	transfer->paused_at = GetCurrentTimestamp();
	n_paused++;
	if (!transfer->was_paused)
		dlist_push_tail(&slow, &transfer->slow_node);
	transfer->was_paused = true;
}

/*
 * Takes notice that it goes on.
 */
void
pauses_end(HttpTransfer *transfer)
{
	transfer->is_paused = false;
	n_paused--;
	transfer->due += GetCurrentTimestamp() - transfer->paused_at;
}

/*
 * Takes a transfer off the list of those that were paused.
 */
void
pauses_forget(HttpTransfer *transfer)
{
	if (!transfer->was_paused)
		return;
	dlist_delete(&transfer->slow_node);
	n_paused -= transfer->is_paused;
	transfer->is_paused = transfer->was_paused = false;
}

/*
 * How many are paused.
 */
int
pauses_count(void)
{
	return n_paused;
}

/*
 * The paused transfer that is to go on, the one that has received most, so that what it holds is soon free; NULL while
 * there is no memory for it.
 */
HttpTransfer *
pauses_next_to_end(void)
{
	HttpTransfer *best = NULL;
	dlist_iter iter;

	if (n_paused == 0)
		return NULL;
	dlist_foreach(iter, &slow)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, slow_node, iter.cur);

		if (transfer->is_paused &&
			(best == NULL || transfer->reply->body->len > best->reply->body->len))
			best = transfer;
	}
	return memory_may_receive(best->wanted) || memory_could_favour(best->tag) ? best : NULL;
}

/*
 * When the next of the transfers that were paused, and are no more, runs out of time; 0: there is none.
 */
TimestampTz
pauses_next_overdue(void)
{
	TimestampTz next = 0;
	dlist_iter iter;

	dlist_foreach(iter, &slow)
	{
		const HttpTransfer *transfer = dlist_container(HttpTransfer, slow_node, iter.cur);

		if (!transfer->is_paused && (next == 0 || transfer->due < next))
			next = transfer->due;
	}
	return next;
}

/*
 * Keeps the time of those that were paused in place of libcurl: one that is no more, and whose time is used up, or
 * NULL.  Not to be called by a callback.
 */
HttpTransfer *
pauses_next_to_cut(TimestampTz now)
{
	dlist_iter iter;

	dlist_foreach(iter, &slow)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, slow_node, iter.cur);

		if (transfer->is_paused)
			curl_easy_setopt(transfer->easy, CURLOPT_TIMEOUT_MS, 0L);
		else if (transfer->due <= now)
			return transfer;
	}
	return NULL;
}
