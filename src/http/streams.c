/*
 * streams.c
 *		Streams that can be shown while they come.
 *
 * Whoever shows them is told of those that have brought something since: a few times a second, and for a short time
 * only, for it is a service and no job waits for it.
 */
#include "postgres.h"

#include "http/transfer.h"

#define PASS_MS 250       /* between two passes */
#define PASS_MOST_US 5000 /* of one; whoever has had no turn then waits for the next */

static dlist_head fresh = DLIST_STATIC_INIT(fresh); /* have brought something */
static MonoTime next_pass = 0;                      /* of clock_uptime() */
static MonoTime pass_ends = 0;                      /* while one is under way; else 0 */

/*
 * Notes that a stream has brought something.  For libcurl's callbacks.
 */
void
streams_note(HttpTransfer *transfer)
{
	if (!transfer->is_fresh && !transfer->is_spilled)
		dlist_push_tail(&fresh, &transfer->fresh_node);
	transfer->is_fresh |= !transfer->is_spilled;
}

/*
 * Forgets a stream that has ended, or need not be shown any more.
 */
void
streams_forget(HttpTransfer *transfer)
{
	if (transfer->is_fresh)
		dlist_delete(&transfer->fresh_node);
	transfer->is_fresh = false;
}

/*
 * Returns when the next pass is due; 0: there is nothing to show.
 */
MonoTime
streams_next_pass(void)
{
	return dlist_is_empty(&fresh) ? 0 : Max(next_pass, 1);
}

/*
 * Returns the next stream that has brought something, with all of its body so far; false if none is due.
 */
bool
http_take_stream(void **tag, const char **body, size_t *len)
{
	MonoTime now = clock_uptime();
	HttpTransfer *transfer;

	if (pass_ends == 0 && now >= next_pass && !dlist_is_empty(&fresh))
	{
		pass_ends = now + PASS_MOST_US;
		next_pass = now + PASS_MS * INT64CONST(1000);
	}
	if (dlist_is_empty(&fresh) || now >= pass_ends)
	{
		pass_ends = 0;
		return false;
	}
	transfer = dlist_container(HttpTransfer, fresh_node, dlist_head_node(&fresh));
	streams_forget(transfer);
	*tag = transfer->tag;
	*body = transfer->reply->body->data;
	*len = transfer->reply->body->len;
	return true;
}
