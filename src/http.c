/*
 * http.c
 *		HTTP calls that wait without blocking: with the folder http/ all that knows libcurl.
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
#include <pthread.h>
#include <signal.h>

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "http/transfer.h"
#include "memory.h"
#include "watch.h"

#if LIBCURL_VERSION_NUM < 0x075800
#error "genjob needs libcurl 7.88 or later"
#endif

#define MAX_HEADERS (128 * 1024) /* bytes of an answer's headers */
#define MIN_IDLE_CONNECTIONS 64  /* that are kept for further calls, whatever was needed of late */
#define MAX_IDLE_CONNECTIONS 1000
#define SETTLE_MS 5000   /* in which half of the peak of calls is forgotten */
#define SMALL_BODY 16384 /* is sent with the headers at once, and takes no buffer of 64 kB */

static CURLM *multi = NULL;
static TimestampTz timer_due = 0;                         /* 0: libcurl has no timer */
static dlist_head starting = DLIST_STATIC_INIT(starting); /* libcurl does not know them yet */
static dlist_head finished = DLIST_STATIC_INIT(finished); /* it knows them no more */
static int n_transfers = 0;                               /* that were started and not released */
static int peak_transfers = 0;                            /* of late */
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

/*
 * After how many ms http_work() must be called in any case; -1: none.
 */
long
http_wait_ms(void)
{
	TimestampTz due =
		settle_due == 0 || (timer_due != 0 && timer_due < settle_due) ? timer_due : settle_due;
	TimestampTz slow_due = pauses_next_overdue();

	if (!dlist_is_empty(&starting) || !dlist_is_empty(&finished) || pauses_next_to_end() != NULL)
		return 0;
	if (due == 0 || (slow_due != 0 && slow_due < due))
		due = slow_due;
	return due == 0 ? -1 : TimestampDifferenceMilliseconds(GetCurrentTimestamp(), due);
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
	pauses_forget(transfer);
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
 * Lets answers go on that waited for memory, as far as there is some.  What libcurl has kept of them comes at once, and
 * may have to wait again.
 */
static void
resume_transfers(void)
{
	HttpTransfer *transfer;
	int most = pauses_count();

	while (most-- > 0 && (transfer = pauses_next_to_end()) != NULL)
	{
		CURLcode code;

		if (!memory_may_receive(transfer->wanted))
			(void) memory_favour(transfer->tag);
		pauses_end(transfer);
		code = curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
		if (code != CURLE_OK)
			finish(transfer, code);
	}
}

/*
 * Ends those that were paused when their time is used up.
 */
static void
end_overdue(TimestampTz now)
{
	HttpTransfer *transfer;

	while ((transfer = pauses_next_to_cut(now)) != NULL)
		finish(transfer, CURLE_OPERATION_TIMEDOUT);
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
	transfer->refusal = handle_set_request(transfer);
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
