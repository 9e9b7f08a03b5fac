/*
 * streams.c
 *		Streams that can be shown while they come.
 *
 * http_take_stream() returns the streams that have brought something since the
 * last time: a few times a second, and for a short time only, because no job
 * waits for it.
 */
#include "postgres.h"

#include "http/transfer.h"

#define PASS_MS 250       /* between two passes */
#define PASS_MOST_US 5000 /* of one pass; a stream without a turn waits for the next */

static dlist_head fresh = DLIST_STATIC_INIT(fresh); /* streams that have brought something */
static MonoTime next_pass = 0;                      /* of clock_uptime() */
static MonoTime pass_ends = 0;                      /* when this pass ends; 0: none is under way */

/*
 * Notes that a stream has brought something.  libcurl's callbacks call it.
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
 * Returns the next stream that has brought something, with all of its body so
 * far; false if none is due.
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
