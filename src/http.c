/*
 * http.c
 *		HTTP calls that wait without blocking: the only file that knows libcurl.
 *
 * All transfers of a process share one curl multi handle.  Its sockets sit in one descriptor (watch.c),
 * so that the caller waits for thousands of calls with one descriptor in its WaitEventSet.
 *
 * Rules kept here: callbacks never raise errors (that would longjmp through libcurl); signals are
 * blocked around every call in which libcurl may start a resolver thread, because a signal handler of
 * PostgreSQL must not run on it; a request's body is never sent twice (see seek_callback).
 */
#include "postgres.h"

#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <curl/curl.h>

#include "lib/ilist.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "address.h"
#include "http.h"
#include "memory.h"
#include "watch.h"

#if LIBCURL_VERSION_NUM < 0x075800
#error "genjob needs libcurl 7.88 or later"
#endif

#define MAX_HEADERS (128 * 1024) /* bytes of an answer's headers */
#define MAX_SPARE_HANDLES 256
#define MIN_IDLE_CONNECTIONS 64 /* that are kept for further calls, whatever was needed of late */
#define MAX_IDLE_CONNECTIONS 1000
#define SETTLE_MS 5000 /* in which half of the peak of calls is forgotten */
#define MAX_IDLE_SECONDS 30L
/* Of calls that may wait for minutes, thousands of them; those that ask or download have libcurl's 16 kB. */
#define SUBMIT_RECEIVE_BUFFER 4096L
#define SMALL_SEND_BUFFER \
	16384L /* the least that libcurl takes; from 8.7 on it keeps it until the answer is there */
#define LARGE_SEND_BUFFER 65536L
#define SMALL_BODY 16384    /* is sent with the headers at once, and takes no buffer of 64 kB */
#define DEAD_PEER_MS 120000 /* unacknowledged data or keep-alives for so long: cut */

struct HttpTransfer
{
	dlist_node node; /* on starting or finished */
	bool is_listed;
	CURL *easy;
	struct curl_slist *headers;
	CURLcode refusal; /* what libcurl said of the request's options */
	const HttpRequest *request;
	size_t body_sent;
	int n_sendings; /* how often libcurl had a connection, and was about to send the request */
	HttpMeter *meter;
	HttpReply *reply;
	void *tag;       /* the caller's */
	bool overflowed; /* the body passed max_response */
	bool out_of_memory;
	bool refused_address; /* by request->public_only */
	bool refused_resending;
	bool has_small_body; /* which libcurl sends together with the headers */

	/* Of one whose answer had to wait for memory */
	dlist_node slow_node; /* on slow, while was_paused */
	bool was_paused;      /* once, and libcurl's timeout does not count any more */
	bool is_paused;
	size_t wanted;         /* bytes of memory, while is_paused */
	TimestampTz paused_at; /* while is_paused */
	TimestampTz due;       /* when the time without pauses is used up */
	char error_text[CURL_ERROR_SIZE];
};

static CURLM *multi = NULL;
static TimestampTz timer_due = 0;                         /* 0: libcurl has no timer */
static dlist_head starting = DLIST_STATIC_INIT(starting); /* libcurl does not know them yet */
static dlist_head finished = DLIST_STATIC_INIT(finished); /* it knows them no more */
static dlist_head slow = DLIST_STATIC_INIT(slow);         /* those that were paused */
static int n_paused = 0;
static CURL *spare_handles[MAX_SPARE_HANDLES];
static int n_spare_handles = 0;
static int n_transfers = 0;        /* that were started and not released */
static int peak_transfers = 0;     /* of late */
static TimestampTz settle_due = 0; /* when that is halved; 0: there are only few */

static void
block_signals(sigset_t *saved)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

/* ---------- callbacks of libcurl: no errors, no palloc ---------- */

static int
socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	uint32 events = 0;

	if (what == CURL_POLL_REMOVE)
	{
		watch_rest(fd);
		return 0;
	}
	if (what & CURL_POLL_IN)
		events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		events |= EPOLLOUT;
	return watch_for(fd, events) ? 0 : -1;
}

static int
timer_callback(CURLM *m, long timeout_ms, void *arg)
{
	timer_due = timeout_ms < 0 ? 0 : GetCurrentTimestamp() + timeout_ms * INT64CONST(1000);
	return 0;
}

static size_t
header_callback(char *line, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;

	/* a new status line: what came before was an interim answer */
	if (count > 5 && memcmp(line, "HTTP/", 5) == 0)
		transfer->reply->headers->len = 0;
	return bytes_append(transfer->reply->headers, line, size * count) ? size * count : 0;
}

static void
note_expected(HttpTransfer *transfer)
{
	curl_off_t expected = -1;

	curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &expected);
	if (expected > 0)
		pg_atomic_write_u64(&transfer->meter->expected, expected);
}

/*
 * Whether the answer may take so many bytes more.  Small ones always may.
 */
static bool
may_receive(HttpTransfer *transfer, size_t len)
{
	const Bytes *body = transfer->reply->body;

	transfer->wanted = bytes_capacity_for(body, len) - body->capacity;
	return transfer->wanted == 0 || body->len + len <= MEMORY_SMALL ||
		   memory_may_receive(transfer->wanted) ||
		   (!transfer->request->is_dispensable && memory_favour(transfer->tag));
}

/*
 * Leaves what comes with its server, which TCP holds back; libcurl gives the same data again afterwards.  The answer
 * has been paid for, so the time does not count.  But a server may have its own limit on how long it takes to send,
 * and then it cuts the call off: that is why claims leave half of the memory to answers.
 */
static size_t
pause_or_cut(HttpTransfer *transfer)
{
	if (transfer->request->is_dispensable)
	{
		transfer->out_of_memory = true;
		return CURL_WRITEFUNC_ERROR;
	}
	transfer->is_paused = true;
	transfer->paused_at = GetCurrentTimestamp();
	n_paused++;
	if (!transfer->was_paused)
		dlist_push_tail(&slow, &transfer->slow_node);
	transfer->was_paused = true;
	return CURL_WRITEFUNC_PAUSE;
}

static size_t
body_callback(char *data, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;
	Bytes *body = transfer->reply->body;
	size_t len = size * count;

	if (len > transfer->request->max_response - body->len)
	{
		transfer->overflowed = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (!may_receive(transfer, len))
		return pause_or_cut(transfer);
	if (pg_atomic_fetch_add_u64(&transfer->meter->received, len) == 0)
		note_expected(transfer);
	if (!bytes_append(body, data, len))
	{
		transfer->out_of_memory = true;
		return CURL_WRITEFUNC_ERROR;
	}
	return len;
}

static size_t
read_callback(char *buffer, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;
	size_t len = Min(size * count, transfer->request->body_len - transfer->body_sent);

	memcpy(buffer, transfer->request->body + transfer->body_sent, len);
	transfer->body_sent += len;
	pg_atomic_fetch_add_u64(&transfer->meter->sent, len);
	return len;
}

/*
 * When a kept-alive connection turns out to be dead, libcurl sends the request once more by itself
 * and rewinds the body here.  If any of it had left, nobody knows whether the server has it, and a call
 * costs money: refuse, and let the job's own rules for such an end decide.  A rewind of what was not
 * read yet is asked for by newer versions (8.7 on) when a handle is used again.
 */
static int
seek_callback(void *arg, curl_off_t offset, int origin)
{
	HttpTransfer *transfer = arg;

	return transfer->body_sent == 0 && offset == 0 ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
}

/*
 * The same where libcurl has the whole body, and asks nobody to rewind it: this is called before each sending.
 */
static bool
refuses_to_resend(HttpTransfer *transfer)
{
	long request_size = 0;

	if (!transfer->has_small_body)
		return false;
	curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &request_size);
	transfer->refused_resending = request_size > 0;
	return transfer->refused_resending;
}

/*
 * A peer that vanished without a word is found out by the kernel while a call waits for minutes.
 */
static int
sockopt_callback(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	unsigned int dead_peer_ms = DEAD_PEER_MS;

	(void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_peer_ms, sizeof(dead_peer_ms));
	return CURL_SOCKOPT_OK;
}

/*
 * Sees the address itself, after the name was resolved, so that no name leads where it must not.
 */
static curl_socket_t
opensocket_callback(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	HttpTransfer *transfer = arg;
	bool private = address_is_private(&address->addr);
	curl_socket_t fd;

	transfer->reply->peer_is_private = private;
	if (private && transfer->request->public_only)
	{
		transfer->refused_address = true;
		return CURL_SOCKET_BAD;
	}
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd == CURL_SOCKET_BAD)
		return fd;
	if (!watch_opened(fd))
	{
		close(fd);
		return CURL_SOCKET_BAD;
	}
	return fd;
}

/*
 * Called for each socket of opensocket_callback(), also long after the transfer that opened it.
 */
static int
closesocket_callback(void *arg, curl_socket_t fd)
{
	watch_closed(fd);
	return close(fd);
}

/*
 * The same of a connection that was opened by an earlier call.
 */
static int
prereq_callback(void *arg, char *ip, char *local_ip, int port, int local_port)
{
	HttpTransfer *transfer = arg;
	bool private = address_is_private_text(ip);

	transfer->n_sendings++;
	transfer->reply->peer_is_private = private;
	transfer->refused_address = private && transfer->request->public_only;
	if (transfer->refused_address || refuses_to_resend(transfer))
		return CURL_PREREQFUNC_ABORT;
	if (transfer->has_small_body)
		pg_atomic_write_u64(&transfer->meter->sent, transfer->request->body_len);
	return CURL_PREREQFUNC_OK;
}

/* ---------- handles ---------- */

static void
set_callbacks(CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_callback);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_callback);
	curl_easy_setopt(easy, CURLOPT_READFUNCTION, read_callback);
	curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, seek_callback);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, sockopt_callback);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, opensocket_callback);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, closesocket_callback);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, prereq_callback);
}

/*
 * The same for every call.  Redirects are not followed and the environment's proxies are not used: a
 * paid call goes where the server's url says and nowhere else.
 */
static void
set_policy(CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "genjob/" GENJOB_VERSION);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 15L);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, MAX_IDLE_SECONDS);
}

/*
 * A handle with all that is the same for every call; NULL when memory is short.
 */
static CURL *
handle_take(void)
{
	CURL *easy;

	if (n_spare_handles > 0)
		return spare_handles[--n_spare_handles];
	easy = curl_easy_init();
	if (easy == NULL)
		return NULL;
	set_policy(easy);
	set_callbacks(easy);
	return easy;
}

/*
 * Keeps a handle for another call, which sets anew whatever differs between calls.  What it does not set makes a
 * handle worn: what only few calls set, and has a default that cannot be set; and what libcurl notes itself, such as
 * how often it has sent a request again, which it gives up after a few times, in some versions of all calls together.
 */
static void
handle_release(CURL *easy, bool is_worn)
{
	if (n_spare_handles >= MAX_SPARE_HANDLES)
	{
		curl_easy_cleanup(easy);
		return;
	}
	if (is_worn)
	{
		curl_easy_reset(easy);
		set_policy(easy);
		set_callbacks(easy);
	}
	/* it is written to also between calls, where an option is refused */
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
	spare_handles[n_spare_handles++] = easy;
}

/* ---------- the event loop ---------- */

/*
 * As many idle connections are kept as there were calls at a time of late.  libcurl's own limit is on idle and
 * used ones together, and to find one to close it looks at them all.
 */
static void
limit_idle_connections(void)
{
	long idle = Max(MIN_IDLE_CONNECTIONS, Min(peak_transfers, MAX_IDLE_CONNECTIONS));

	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, n_transfers + idle);
}

static void
note_peak(void)
{
	peak_transfers = Max(peak_transfers, n_transfers);
	if (settle_due == 0 && peak_transfers > MIN_IDLE_CONNECTIONS)
		settle_due = GetCurrentTimestamp() + SETTLE_MS * INT64CONST(1000);
}

/*
 * A few seconds after many calls at a time forgets half of their number, and again, until few are left.  What they
 * held was freed, but among things that stay, so malloc() would keep it for ever: it is given back.
 */
static void
settle(TimestampTz now)
{
	if (settle_due == 0 || settle_due > now)
		return;
#ifdef __GLIBC__
	if (n_transfers <= peak_transfers / 2)
		malloc_trim(0);
#endif
	peak_transfers = Max(peak_transfers / 2, n_transfers);
	settle_due = peak_transfers > MIN_IDLE_CONNECTIONS ? now + SETTLE_MS * INT64CONST(1000) : 0;
}

/*
 * Whether there can be no idle connection for another transfer, nor room for one after it.  Then libcurl is
 * spared the search through all of them, whose time grows with the square of the calls in flight.
 */
static void
choose_connection(CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, (long) (watch_count_opened() <= n_transfers));
	curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, (long) (n_transfers >= MAX_IDLE_CONNECTIONS));
}

/*
 * Sets a meter to nothing.
 */
void
http_meter_init(HttpMeter *meter)
{
	pg_atomic_init_u64(&meter->sent, 0);
	pg_atomic_init_u64(&meter->received, 0);
	pg_atomic_init_u64(&meter->expected, 0);
}

/*
 * Prepares this process for transfers; once.
 */
void
http_init(void)
{
	if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not initialize libcurl")));
	multi = curl_multi_init();
	if (multi == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
						errdetail("Failed while initializing libcurl.")));
	watch_init();
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_callback);
	limit_idle_connections();
}

/*
 * The descriptor that is readable when http_work() has something to do.
 */
int
http_wait_fd(void)
{
	return watch_descriptor();
}

/* ---------- answers that wait for memory ---------- */

/*
 * The paused transfer that is to go on, the one that has received most, so that what it holds is soon free; NULL while
 * there is no memory for it.
 */
static HttpTransfer *
next_to_resume(void)
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
static TimestampTz
next_overdue(void)
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
 * After how many ms http_work() must be called in any case; -1: none.
 */
long
http_wait_ms(void)
{
	TimestampTz due =
		settle_due == 0 || (timer_due != 0 && timer_due < settle_due) ? timer_due : settle_due;
	TimestampTz slow_due = next_overdue();

	if (!dlist_is_empty(&starting) || !dlist_is_empty(&finished) || next_to_resume() != NULL)
		return 0;
	if (due == 0 || (slow_due != 0 && slow_due < due))
		due = slow_due;
	return due == 0 ? -1 : TimestampDifferenceMilliseconds(GetCurrentTimestamp(), due);
}

/*
 * Takes a transfer off the list of those that were paused.
 */
static void
forget_pauses(HttpTransfer *transfer)
{
	if (!transfer->was_paused)
		return;
	dlist_delete(&transfer->slow_node);
	n_paused -= transfer->is_paused;
	transfer->is_paused = transfer->was_paused = false;
}

/*
 * Takes a transfer out of libcurl's hands, wherever it is; it may have ended well.
 */
static void
detach(HttpTransfer *transfer, bool is_well)
{
	if (transfer->easy == NULL)
		return;
	n_transfers--;
	curl_multi_remove_handle(multi, transfer->easy);
	handle_release(transfer->easy, !is_well || transfer->was_paused || transfer->n_sendings != 1 ||
									   transfer->request->ca_file != NULL);
	forget_pauses(transfer);
	curl_slist_free_all(transfer->headers);
	transfer->easy = NULL;
	transfer->headers = NULL;
}

static HttpError
classify(const HttpTransfer *transfer, CURLcode code)
{
	if (transfer->refused_address)
		return HTTP_FORBIDDEN;
	if (transfer->refused_resending)
		return HTTP_CUT;
	switch (code)
	{
		case CURLE_OK:
			return HTTP_OK;
		case CURLE_COULDNT_RESOLVE_HOST:
			return HTTP_RESOLVE;
		case CURLE_COULDNT_CONNECT:
			return HTTP_CONNECT;
		case CURLE_OPERATION_TIMEDOUT:
			return transfer->reply->sent ? HTTP_TIMEOUT : HTTP_CONNECT;
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
			return HTTP_UNTRUSTED;
		case CURLE_SSL_CONNECT_ERROR:
			return HTTP_TLS;
		case CURLE_GOT_NOTHING:
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_PARTIAL_FILE:
		case CURLE_SEND_FAIL_REWIND:
			return HTTP_CUT;
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_BAD_CONTENT_ENCODING:
			return HTTP_GARBLED;
		case CURLE_OUT_OF_MEMORY:
			return HTTP_MEMORY;
		case CURLE_WRITE_ERROR:
			return transfer->out_of_memory ? HTTP_MEMORY
				   : transfer->overflowed  ? HTTP_TOO_LARGE
										   : HTTP_GARBLED;
		default:
			return HTTP_OTHER;
	}
}

static void
enlist(dlist_head *list, HttpTransfer *transfer)
{
	dlist_push_tail(list, &transfer->node);
	transfer->is_listed = true;
}

/*
 * Notes how a transfer has ended, which libcurl then forgets.
 */
static void
finish(HttpTransfer *transfer, CURLcode code)
{
	HttpReply *reply = transfer->reply;
	long request_size = 0;
	long status = 0;

	/* before that, libcurl may still tell of the call that had the handle before */
	if (transfer->n_sendings > 0)
	{
		curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &request_size);
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	}
	reply->sent = request_size > 0;
	reply->status = (int) status;
	reply->error = classify(transfer, code);
	reply->error_text = transfer->error_text;
	if (reply->error == HTTP_OK)
		transfer->error_text[0] = '\0';
	else if (transfer->error_text[0] == '\0')
		strlcpy(transfer->error_text, curl_easy_strerror(code), CURL_ERROR_SIZE);
	if (bytes_append(reply->body, "", 1))
		reply->body->len--;
	else if (reply->error == HTTP_OK)
		reply->error = HTTP_MEMORY;
	detach(transfer, reply->error == HTTP_OK);
	enlist(&finished, transfer);
}

/*
 * Gives libcurl the transfers that were started, but for those whose options it did not take.  One that was there
 * already would be a fault of ours; so what else it may refuse is for want of memory.
 */
static void
begin_transfers(void)
{
	while (!dlist_is_empty(&starting))
	{
		HttpTransfer *transfer =
			dlist_container(HttpTransfer, node, dlist_pop_head_node(&starting));

		CURLcode code = transfer->refusal;

		transfer->is_listed = false;
		if (code == CURLE_BAD_FUNCTION_ARGUMENT)
			strlcpy(transfer->error_text, "the URL is too long", CURL_ERROR_SIZE);
		if (code == CURLE_OK && curl_multi_add_handle(multi, transfer->easy) != CURLM_OK)
			code = CURLE_OUT_OF_MEMORY;
		if (code != CURLE_OK)
			finish(transfer, code);
	}
}

/*
 * Lets answers go on that waited for memory, as far as there is some.  What libcurl has kept of them comes at once.
 */
static void
resume_transfers(void)
{
	HttpTransfer *transfer;
	int most = n_paused;

	while (most-- > 0 && (transfer = next_to_resume()) != NULL)
	{
		CURLcode code;

		if (!memory_may_receive(transfer->wanted))
			(void) memory_favour(transfer->tag);
		transfer->is_paused = false;
		n_paused--;
		transfer->due += GetCurrentTimestamp() - transfer->paused_at;
		code = curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
		if (code != CURLE_OK)
			finish(transfer, code);
	}
}

/*
 * Keeps the time for transfers that were paused in place of libcurl, which counts the pauses, too.
 */
static void
end_overdue(TimestampTz now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &slow)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, slow_node, iter.cur);

		if (transfer->is_paused)
			curl_easy_setopt(transfer->easy, CURLOPT_TIMEOUT_MS, 0L);
		else if (transfer->due <= now)
			finish(transfer, CURLE_OPERATION_TIMEDOUT);
	}
}

/*
 * Lets libcurl do what its sockets and timers ask for, and collects what has ended.  Never blocks.
 */
void
http_work(void)
{
	struct epoll_event events[256];
	sigset_t saved;
	TimestampTz now;
	CURLMsg *message;
	int running;
	int n;
	int i;

	n = watch_collect(events, lengthof(events));
	limit_idle_connections();
	block_signals(&saved);
	begin_transfers();
	resume_transfers();
	for (i = 0; i < n; i++)
	{
		int flags = 0;

		if (events[i].events & (EPOLLIN | EPOLLHUP))
			flags |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			flags |= CURL_CSELECT_OUT;
		if (events[i].events & EPOLLERR)
			flags |= CURL_CSELECT_ERR;
		curl_multi_socket_action(multi, events[i].data.fd, flags, &running);
	}
	now = GetCurrentTimestamp();
	settle(now);
	if (timer_due != 0 && timer_due <= now)
	{
		timer_due = 0;
		curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	while ((message = curl_multi_info_read(multi, &n)) != NULL)
	{
		HttpTransfer *transfer = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &transfer);
		finish(transfer, message->data.result);
	}
	end_overdue(now);
	restore_signals(&saved);
}

/* ---------- transfers ---------- */

/*
 * A request of either kind sets all that the other kind may have left in the handle.
 */
static CURLcode
set_method(CURL *easy, const HttpRequest *request, bool has_small_body)
{
	/* libcurl takes either for the order to POST */
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, has_small_body ? request->body : NULL);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_len);
	curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE,
					 has_small_body ? SMALL_SEND_BUFFER : LARGE_SEND_BUFFER);
	if (strcmp(request->method, "GET") == 0)
	{
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
		curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long) CURL_MAX_WRITE_SIZE);
		return curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
	}
	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, SUBMIT_RECEIVE_BUFFER);
	return curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
}

/*
 * Sets what differs between calls.  If that is not CURLE_OK, the call must not be made: an option that libcurl refused
 * is in some versions (8.22) still that of the call before, so that it would go to another server.
 */
static CURLcode
set_request(CURL *easy, const HttpRequest *request, HttpTransfer *transfer)
{
	CURLcode url = curl_easy_setopt(easy, CURLOPT_URL, request->url);
	CURLcode method = set_method(easy, request, transfer->has_small_body);
	CURLcode ca_file = CURLE_OK;

	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) request->timeout);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) request->connect_timeout);
	if (request->ca_file != NULL)
		ca_file = curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca_file);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error_text);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
	return url != CURLE_OK ? url : method != CURLE_OK ? method : ca_file;
}

static struct curl_slist *
copy_headers(List *headers)
{
	/* never wait for a "100 Continue": many servers do not send one */
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	ListCell *cell;

	foreach(cell, headers)
	{
		const HttpHeader *header = lfirst(cell);
		char *line = psprintf("%s: %s", header->name, header->value);
		struct curl_slist *longer = list ? curl_slist_append(list, line) : NULL;

		pfree(line);
		if (longer == NULL)
		{
			curl_slist_free_all(list);
			return NULL;
		}
		list = longer;
	}
	return list;
}

/*
 * Begins a call.  The transfer and its reply live in owner, which must outlive them; tag comes back
 * when the call has ended.  NULL when memory is short.  The caller ends it with http_abort(), also
 * after http_take_finished() has given it.
 */
HttpTransfer *
http_start(const HttpRequest *request, HttpMeter *meter, MemoryContext owner, void *tag)
{
	HttpTransfer *transfer = MemoryContextAllocZero(owner, sizeof(HttpTransfer));
	HttpReply *reply = MemoryContextAllocZero(owner, sizeof(HttpReply));

	reply->headers = bytes_create(owner, MAX_HEADERS);
	reply->body = bytes_create(owner, request->max_response + 1);
	transfer->request = request;
	transfer->meter = meter;
	transfer->reply = reply;
	transfer->tag = tag;
	transfer->due = GetCurrentTimestamp() + request->timeout * INT64CONST(1000);
	transfer->has_small_body = request->body_len > 0 && request->body_len <= SMALL_BODY;
	transfer->headers = copy_headers(request->headers);
	transfer->easy = handle_take();
	if (transfer->easy == NULL || transfer->headers == NULL)
	{
		if (transfer->easy != NULL)
			handle_release(transfer->easy, false);
		curl_slist_free_all(transfer->headers);
		return NULL;
	}
	transfer->refusal = set_request(transfer->easy, request, transfer);
	choose_connection(transfer->easy);
	n_transfers++;
	note_peak();
	enlist(&starting, transfer);
	return transfer;
}

/*
 * Hands out a call that has ended, once each; false when there is none.
 */
bool
http_take_finished(void **tag, HttpReply **reply)
{
	HttpTransfer *transfer;

	if (dlist_is_empty(&finished))
		return false;
	transfer = dlist_container(HttpTransfer, node, dlist_pop_head_node(&finished));
	transfer->is_listed = false;
	*tag = transfer->tag;
	*reply = transfer->reply;
	return true;
}

/*
 * Ends a call wherever it is; one that is under way is cut.  Does nothing to one that was taken.
 */
void
http_abort(HttpTransfer *transfer)
{
	sigset_t saved;

	if (transfer->is_listed)
		dlist_delete(&transfer->node);
	transfer->is_listed = false;
	block_signals(&saved);
	detach(transfer, false);
	restore_signals(&saved);
}
