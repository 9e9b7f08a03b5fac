/*
 * heavy.c
 *		Calls that have so much to read that they could take the loop for
 *		themselves: they take turns.
 *
 * libcurl reads a socket up to a hundred times at a visit.  If something is
 * left then, it comes back to that call at once, even in another call's visit.
 * With a few dozen such calls, nobody else moves for seconds.  So a call whose
 * visit took long is paused, and gets its next visit when its turn comes; in
 * between there is time for everything else.
 */
#include "postgres.h"

#include "http/transfer.h"


static dlist_head waiting = DLIST_STATIC_INIT(waiting); /* the next turn first */
static int n_waiting = 0;

/*
 * Puts a paused transfer at the end of the line for visits.  libcurl's
 * callbacks call it.
 */
void
heavy_wait(HttpTransfer *transfer)
{
	if (transfer->is_heavy)
		return;
	transfer->is_heavy = true;
	dlist_push_tail(&waiting, &transfer->heavy_node);
	n_waiting++;
}

/*
 * Notes how long a visit to an active transfer took.  After a long one, the transfer waits for its next visit.
 */
void
heavy_note(HttpTransfer *transfer, int64 us)
{
	if (us < HEAVY_US || !transfer->is_active || transfer->is_paused || transfer->is_full ||
		transfer->is_heavy || transfer->is_connecting)
		return;
	heavy_wait(transfer);
	/* both directions: with one alone, libcurl would visit it again at once */
	if (curl_easy_pause(transfer->easy, CURLPAUSE_ALL) != CURLE_OK)
		heavy_forget(transfer);
}

/*
 * Returns the next transfer to visit, or NULL.
 */
HttpTransfer *
heavy_next(void)
{
	if (dlist_is_empty(&waiting))
		return NULL;
	return dlist_container(HttpTransfer, heavy_node, dlist_head_node(&waiting));
}

/*
 * Takes a transfer off the line.
 */
void
heavy_forget(HttpTransfer *transfer)
{
	if (!transfer->is_heavy)
		return;
	dlist_delete(&transfer->heavy_node);
	n_waiting--;
	transfer->is_heavy = false;
}

int
heavy_count(void)
{
	return n_waiting;
}
