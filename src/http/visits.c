/*
 * visits.c
 *		Lets libcurl get on with each call, without any call taking the loop
 *		for itself.
 */
#include "postgres.h"

#include "http/tcp.h"
#include "http/transfer.h"
#include "http/watch.h"

#define MIN_READ 1024   /* bytes that libcurl reads at a time at least, if they are there */
#define LONG_US 2000    /* after which a visit ends as soon as libcurl lets us */
#define FLOOD_LOOKS 256 /* short visits to a socket between two calls of end_flood() */
#define FLOOD_BYTES \
	(1024 * 1024) /* may come without any data; beyond that, FLOOD_RATIO times the body's bytes */
/*
 * each byte may be a chunk, and each chunk three records of TLS, of up to 85
 * bytes each (TLS 1.2, CBC, SHA-384)
 */
#define FLOOD_RATIO 256

static MonoTime visit_enough =
	PG_INT64_MAX; /* when the present visit has taken long, by clock_uptime() */

/*
 * True if the present visit has taken so long that the rest must wait.
 * libcurl's callbacks call it, because chunks of one byte each are legal.
 */
bool
visits_take_long(void)
{
	return clock_uptime() > visit_enough;
}

static HttpTransfer *
find_by_socket(int fd)
{
	dlist_iter iter;

	dlist_foreach(iter, &http_active)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, active_node, iter.cur);

		if (transfer->fd == fd)
			return transfer;
	}
	return NULL;
}

/*
 * Ends a transfer that brought far more bytes than answer: chunks without
 * data, for example.  Counts only what was read for certain, over one
 * connection, because an answer that is ended here has been paid for.
 */
static void
end_flood(HttpTransfer *transfer)
{
	uint64 received = spill_received(transfer);
	uint64 connection = transfer->fd >= 0 ? watch_connection(transfer->fd) : 0;
	TcpBytes bytes;

	if (connection == 0 || !tcp_count(transfer->fd, &bytes))
		return;
	/* its request may have been sent again, over another connection */
	if (transfer->flood_connection != connection || received < transfer->flood_received)
	{
		transfer->flood_connection = connection;
		transfer->flood_bytes = bytes.most;
		transfer->flood_received = received;
	}
	else if (bytes.least > transfer->flood_bytes + FLOOD_BYTES +
							   FLOOD_RATIO * (received - transfer->flood_received))
	{
		transfer->flood = "more than a megabyte came without an answer in it";
		http_finish(transfer, CURLE_RECV_ERROR);
	}
}

/*
 * Resumes a transfer that was paused between two visits.
 */
static void
resume_heavy(HttpTransfer *transfer)
{
	CURLcode code;

	if (!transfer->is_heavy)
		return;
	heavy_forget(transfer);
	visit_enough = clock_uptime() + LONG_US;
	code = curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
	if (code != CURLE_OK)
		http_finish(transfer, code);
}

/*
 * Notes how long a visit to a transfer took.
 */
static void
note_visit(HttpTransfer *transfer, int64 us)
{
	http_take_done();
	if (!transfer->is_active)
		return;
	end_flood(transfer);
	heavy_note(transfer, us);
}

/*
 * Serves sockets that have something to do, each once, for a limited time.
 * The others come first in the next turn, ordered by who got least.
 */
void
visits_serve(const struct epoll_event *events, int n, MonoTime enough)
{
	MonoTime now = clock_uptime();
	int running;
	int i;

	for (i = 0; i < n && (i == 0 || now < enough); i++)
	{
		int fd = events[i].data.fd;
		MonoTime before = now;
		int flags = 0;
		int times;

		if (events[i].events & (EPOLLIN | EPOLLHUP))
			flags |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			flags |= CURL_CSELECT_OUT;
		if (events[i].events & EPOLLERR)
			flags |= CURL_CSELECT_ERR;
		visit_enough = before + LONG_US;
		curl_multi_socket_action(http_multi, fd, flags, &running);
		now = clock_uptime();
		times = watch_charge(fd, now - before);
		if (times > 0 && (now - before >= HEAVY_US || times % FLOOD_LOOKS == 0))
		{
			HttpTransfer *transfer = find_by_socket(fd);

			if (transfer != NULL)
				note_visit(transfer, now - before);
		}
	}
}

void
visits_run_timer(void)
{
	int running;

	if (http_timer_due == 0 || http_timer_due > clock_uptime())
		return;
	http_timer_due = 0;
	visit_enough = clock_uptime() + LONG_US;
	curl_multi_socket_action(http_multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

/*
 * Visits transfers that have much to read, each once, for as long as there is time; at least one.
 */
void
visits_heavy(MonoTime enough)
{
	int left = heavy_count();
	MonoTime before = clock_uptime();
	HttpTransfer *transfer;

	while (left-- > 0 && (transfer = heavy_next()) != NULL)
	{
		MonoTime now;

		resume_heavy(transfer);
		visits_run_timer();
		now = clock_uptime();
		note_visit(transfer, now - before);
		if (now >= enough)
			break;
		before = now;
	}
}

/*
 * Reads on in a transfer.  False once nothing is left of what came before its time was over.
 */
static bool
read_transfer(HttpTransfer *transfer)
{
	TcpBytes now;
	int running;

	if (transfer->is_heavy)
		resume_heavy(transfer);
	else
	{
		visit_enough = clock_uptime() + LONG_US;
		transfer->n_rest--;
		curl_multi_socket_action(http_multi, transfer->fd, CURL_CSELECT_IN, &running);
		http_take_done();
	}
	if (!transfer->is_timed || transfer->fd < 0)
		return false;
	if (transfer->is_heavy)
		return true;
	return transfer->n_rest >= 0 &&
		   !(tcp_count(transfer->fd, &now) && now.least > transfer->rest_came);
}

/*
 * Reads what had come of a transfer's answer when its time was over, until
 * enough; the rest another time.  True if the transfer ended, or its deadline
 * moved.
 */
bool
visits_read_rest(HttpTransfer *transfer, MonoTime enough)
{
	TcpBytes then;

	if (transfer->is_connecting || transfer->fd < 0)
		resume_heavy(transfer);
	if (!transfer->is_timed || transfer->is_connecting || transfer->fd < 0)
		return !transfer->is_timed;
	if (!transfer->has_rest)
	{
		(void) tcp_count(transfer->fd, &then);
		transfer->has_rest = true;
		transfer->rest_came = then.came;
		/* one read more finds the end of the connection */
		transfer->n_rest = then.unread / MIN_READ + 1;
	}
	while (read_transfer(transfer))
	{
		if (clock_uptime() < enough)
			continue;
		deadlines_read_on(transfer);
		return true;
	}
	return !transfer->is_timed;
}
