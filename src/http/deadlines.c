/*
 * deadlines.c
 *		How long a call may take: until it is connected, and until its last
 *		byte.
 *
 * libcurl cannot keep these deadlines: it looks at the clock before it looks
 * at a socket.  After a stall of the process it would take what had come
 * meanwhile for late.  Here deadlines go by clock_wire(), which stands still
 * with the process, and are checked only after the call's socket was read.
 *
 * libcurl still has its own limit on connecting, by which it divides the time
 * among the addresses of a name.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "http/transfer.h"

static pairingheap *timed = NULL; /* the transfer whose time ends first on top */
static dlist_head connecting = DLIST_STATIC_INIT(connecting);
static MonoTime known_stall = 0;

static int
compare_deadlines(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	MonoTime left = pairingheap_const_container(HttpTransfer, timed_node, a)->next_due;
	MonoTime right = pairingheap_const_container(HttpTransfer, timed_node, b)->next_due;

	return left == right ? 0 : left < right ? 1 : -1;
}

/*
 * Prepares this process; once.
 */
void
deadlines_init(void)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	timed = pairingheap_allocate(compare_deadlines, NULL);
	MemoryContextSwitchTo(caller);
	known_stall = clock_stall();
}

static void
start_deadline(HttpTransfer *transfer, MonoTime due)
{
	transfer->next_due = due;
	transfer->has_rest = false;
	transfer->is_timed = true;
	pairingheap_add(timed, &transfer->timed_node);
}

/*
 * Makes deadlines_next_over() return a transfer again, after all that are
 * overdue now.
 */
void
deadlines_read_on(HttpTransfer *transfer)
{
	pairingheap_remove(timed, &transfer->timed_node);
	transfer->next_due = clock_wire();
	pairingheap_add(timed, &transfer->timed_node);
}

static void
stop_deadline(HttpTransfer *transfer)
{
	if (transfer->is_timed)
		pairingheap_remove(timed, &transfer->timed_node);
	transfer->is_timed = false;
}

static void
leave_connecting(HttpTransfer *transfer)
{
	if (transfer->is_connecting)
		dlist_delete(&transfer->connecting_node);
	transfer->is_connecting = false;
}

/*
 * Starts the call's time.
 */
void
deadlines_begin(HttpTransfer *transfer)
{
	const HttpRequest *request = transfer->request;
	MonoTime now = clock_wire();

	transfer->due = now + request->timeout * INT64CONST(1000);
	transfer->is_connecting = true;
	transfer->stall = clock_stall();
	dlist_push_tail(&connecting, &transfer->connecting_node);
	start_deadline(transfer, Min(transfer->due, now + request->connect_timeout * INT64CONST(1000)));
}

/*
 * Notes that the call is connected, so that the limit on connecting ends.  Called by libcurl's callbacks.
 */
void
deadlines_connected(HttpTransfer *transfer)
{
	leave_connecting(transfer);
	stop_deadline(transfer);
	start_deadline(transfer, transfer->due);
}

/*
 * Stops the call's time while its answer stays with its server.  The answer
 * has been paid for.
 */
void
deadlines_pause(HttpTransfer *transfer)
{
	stop_deadline(transfer);
	transfer->paused_at = clock_wire();
}

void
deadlines_resume(HttpTransfer *transfer)
{
	transfer->due += clock_wire() - transfer->paused_at;
	start_deadline(transfer, transfer->due);
}

/*
 * Forgets the call.
 */
void
deadlines_end(HttpTransfer *transfer)
{
	leave_connecting(transfer);
	stop_deadline(transfer);
}

/*
 * Returns the first deadline; 0: there is none.
 */
MonoTime
deadlines_next(void)
{
	if (pairingheap_is_empty(timed))
		return 0;
	return pairingheap_container(HttpTransfer, timed_node, pairingheap_first(timed))->next_due;
}

/*
 * Returns a transfer whose deadline has passed, or NULL.  The caller must end
 * it, or move its deadline.
 */
HttpTransfer *
deadlines_next_over(MonoTime now)
{
	if (pairingheap_is_empty(timed) || deadlines_next() > now)
		return NULL;
	return pairingheap_container(HttpTransfer, timed_node, pairingheap_first(timed));
}

/*
 * Moves libcurl's own limit on connecting by the time that this process stood still.  Call it before libcurl works.
 */
void
deadlines_excuse_stall(void)
{
	MonoTime stall = clock_stall();
	dlist_iter iter;

	if (stall == known_stall)
		return;
	known_stall = stall;
	dlist_foreach(iter, &connecting)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, connecting_node, iter.cur);
		int64 ms = transfer->request->connect_timeout + (stall - transfer->stall) / 1000;

		curl_easy_setopt(transfer->easy, CURLOPT_CONNECTTIMEOUT_MS, (long) Min(ms, INT_MAX));
	}
}
