/*
 * parked.c
 *		Calls that have ended, but whose answers are not in memory as they are to be handed out: they are in
 *		files (spill.c), or must still be decoded (decode.c).
 */
#include "postgres.h"

#include "base/memory.h"
#include "http/decode.h"
#include "http/transfer.h"

static dlist_head parked = DLIST_STATIC_INIT(parked);
static HttpTransfer *returning = NULL; /* of these, the one that is being read back */

static void
park(HttpTransfer *transfer)
{
	dlist_push_tail(&parked, &transfer->node);
	transfer->is_listed = true;
}

/*
 * True if decoding may take bytes more of the memory.
 */
static bool
may_decode(void *arg, size_t bytes)
{
	HttpTransfer *transfer = arg;

	return bytes <= MEMORY_SMALL || memory_may_receive(transfer->request->account, bytes) ||
		   (!transfer->request->is_dispensable && memory_favour(transfer->tag));
}

/*
 * Decodes an answer that is in memory, and hands the transfer out.  If there is no memory for that, the transfer waits
 * until twice as much is free as was not enough.
 */
static void
decode(HttpTransfer *transfer)
{
	HttpReply *reply = transfer->reply;

	if (transfer->request->is_signed || !decode_is_due(reply) ||
		decode_body(reply, transfer->request->max_response, may_decode, transfer) == DECODE_DONE)
		http_complete(transfer);
	else if (transfer->request->is_dispensable)
	{
		reply->error = HTTP_MEMORY;
		http_complete(transfer);
	}
	else
	{
		transfer->decoding = 2 * Max(transfer->decoding, reply->body->len);
		park(transfer);
	}
}

/*
 * Takes over a call that has ended, to hand it out now or later.
 */
void
parked_take(HttpTransfer *transfer)
{
	if (transfer->is_spilled)
		park(transfer);
	else
		decode(transfer);
}

bool
parked_exist(void)
{
	return !dlist_is_empty(&parked);
}

/*
 * Returns the transfer whose answer is read back next: one for which there is memory, or one that may exceed it.  NULL:
 * none.
 */
static HttpTransfer *
next_to_take_back(void)
{
	HttpTransfer *first = NULL;
	dlist_iter iter;

	dlist_foreach(iter, &parked)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, node, iter.cur);

		if (memory_may_receive(transfer->request->account, transfer->spilled + transfer->decoding))
			return transfer;
		if (first == NULL && memory_could_favour(transfer->tag))
			first = transfer;
	}
	return first;
}

/*
 * Reads a piece of one answer back.
 */
void
parked_take_back(void)
{
	HttpTransfer *transfer = returning ? returning : next_to_take_back();
	SpillResult result;

	if (transfer == NULL)
		return;
	if (returning == NULL &&
		!memory_may_receive(transfer->request->account, transfer->spilled + transfer->decoding))
		(void) memory_favour(transfer->tag);
	result = transfer->is_spilled ? spill_take_back(transfer) : SPILL_BACK;
	returning = result == SPILL_MORE ? transfer : NULL;
	if (result == SPILL_MORE)
		return;
	dlist_delete(&transfer->node);
	transfer->is_listed = false;
	if (result == SPILL_FAILED && transfer->reply->error == HTTP_OK)
		transfer->reply->error = HTTP_MEMORY;
	decode(transfer);
}

/*
 * True if parked_take_back() has something to do.
 */
bool
parked_is_due(void)
{
	return returning != NULL || next_to_take_back() != NULL;
}

/*
 * Forgets a transfer whose call is given up.
 */
void
parked_forget(const HttpTransfer *transfer)
{
	if (returning == transfer)
		returning = NULL;
}
