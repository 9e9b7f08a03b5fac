/*
 * parked.c
 *		Ended calls whose answers cannot be handed out yet: they are in files
 *		(spill.c), or must still be decoded (decode.c).
 */
#include "postgres.h"

#include "base/memory.h"
#include "http/decode.h"
#include "http/transfer.h"

#define DECODE_BYTES (2 * 1024 * 1024) /* read and put out in a turn: some 10 ms */

static dlist_head parked = DLIST_STATIC_INIT(parked);
static HttpTransfer *returning = NULL; /* the parked one that is being read back, or decoded */
static Decoding *decoding = NULL;      /* of the returning one */

static void
park_transfer(HttpTransfer *transfer)
{
	dlist_push_tail(&parked, &transfer->node);
	transfer->is_listed = true;
}

/*
 * Counts the memory that decoding has taken.
 */
static void
count_decoded(HttpTransfer *transfer, size_t bytes)
{
	memory_resize(MEMORY_ANSWERS, transfer->request->account, transfer->decoded, bytes);
	transfer->decoded = bytes;
}

/*
 * True if decoding may take this many bytes of the memory in all.
 */
static bool
may_decode(void *arg, size_t bytes)
{
	HttpTransfer *transfer = arg;
	size_t more = bytes - Min(bytes, transfer->decoded);

	if (bytes > MEMORY_SMALL && !memory_may_receive(transfer->request->account, more) &&
		(transfer->request->is_dispensable || !memory_favour(transfer->tag)))
		return false;
	count_decoded(transfer, bytes);
	return true;
}

/*
 * Parks an answer that takes long to decode.  Decoding goes on in a moment.
 * But while another answer is being read back or decoded, this one waits, and
 * begins again.
 */
static void
go_on_later(HttpTransfer *transfer, Decoding *begun)
{
	park_transfer(transfer);
	if (returning == NULL)
	{
		returning = transfer;
		decoding = begun;
		return;
	}
	decode_forget(begun);
	count_decoded(transfer, 0);
}

/*
 * Decodes a part of an answer that is in memory; when it is done, hands the
 * transfer out.  If there is no memory for that, the transfer waits for twice
 * as much as was not enough.
 */
static void
decode_answer(HttpTransfer *transfer, Decoding *begun)
{
	HttpReply *reply = transfer->reply;
	DecodeEnd end = DECODE_DONE;

	if (!transfer->request->is_signed && decode_is_due(reply))
		end = decode_body(reply, &begun, DECODE_BYTES, transfer->request->max_response, may_decode,
						  transfer);
	if (end == DECODE_GOES_ON)
	{
		go_on_later(transfer, begun);
		return;
	}
	count_decoded(transfer, 0);
	if (end == DECODE_DONE)
		http_complete(transfer);
	else if (transfer->request->is_dispensable)
	{
		reply->error = HTTP_MEMORY;
		http_complete(transfer);
	}
	else
	{
		transfer->decoding = 2 * Max(transfer->decoding, reply->body->len);
		park_transfer(transfer);
	}
}

/*
 * Takes over a call that has ended, to hand it out now or later.
 */
void
parked_take(HttpTransfer *transfer)
{
	if (transfer->is_spilled)
		park_transfer(transfer);
	else
		decode_answer(transfer, NULL);
}

/*
 * True if answers may wait for memory.  While one is being decoded, the others
 * wait for their turn.
 */
bool
parked_exist(void)
{
	return decoding == NULL && !dlist_is_empty(&parked);
}

/*
 * Returns the transfer whose answer is read back next: one for which there is
 * memory, else one that may pass the limit.  NULL: none.
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

static void
leave_list(HttpTransfer *transfer)
{
	dlist_delete(&transfer->node);
	transfer->is_listed = false;
}

/*
 * Decodes some more of the returning answer.
 */
static void
decode_more(void)
{
	HttpTransfer *transfer = returning;
	Decoding *begun = decoding;

	returning = NULL;
	decoding = NULL;
	leave_list(transfer);
	decode_answer(transfer, begun);
}

/*
 * Reads a piece of one answer back, or decodes it.
 */
void
parked_take_back(void)
{
	HttpTransfer *transfer;
	SpillResult result;

	if (decoding != NULL)
	{
		decode_more();
		return;
	}
	transfer = returning ? returning : next_to_take_back();
	if (transfer == NULL)
		return;
	if (returning == NULL &&
		!memory_may_receive(transfer->request->account, transfer->spilled + transfer->decoding))
		(void) memory_favour(transfer->tag);
	result = transfer->is_spilled ? spill_take_back(transfer) : SPILL_BACK;
	returning = result == SPILL_MORE ? transfer : NULL;
	if (result == SPILL_MORE)
		return;
	leave_list(transfer);
	if (result == SPILL_FAILED && transfer->reply->error == HTTP_OK)
		transfer->reply->error = HTTP_MEMORY;
	decode_answer(transfer, NULL);
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
parked_forget(HttpTransfer *transfer)
{
	if (returning == transfer)
	{
		returning = NULL;
		decode_forget(decoding);
		decoding = NULL;
	}
	count_decoded(transfer, 0);
}
