/*
 * http.c
 *		HTTP calls that wait without blocking.  Only the folder http/ knows
 *		libcurl.
 *
 * All transfers of a process share one curl multi handle.  Its sockets sit in
 * one descriptor (watch.c), so that the caller waits for thousands of calls
 * with one descriptor in its WaitEventSet.
 *
 * Callbacks never raise errors: that would longjmp through libcurl.  Signals
 * are blocked around every call in which libcurl may start a resolver thread:
 * a signal handler of PostgreSQL must not run on it.  A request is never sent
 * twice, unless the server certainly took nothing of it (seek_callback(),
 * resend_request()).
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>

#include "utils/memutils.h"

#include "http/transfer.h"
#include "base/memory.h"
#include "http/watch.h"

#if LIBCURL_VERSION_NUM < 0x075800
#error "genjob needs libcurl 7.88 or later"
#endif

#define MAX_HEADERS (128 * 1024) /* bytes of an answer's headers */
#define SMALL_BODY 16384 /* is sent with the headers at once, and takes no buffer of 64 kB */

/* How the loop's time is shared */
#define MAX_EVENTS 1024 /* served in one turn, ordered by who got least */
#define SERVE_MS \
	25             /* for sockets that have a little to do, in batches that make few transactions */
#define HEAVY_MS 4 /* for sockets that have much, and for overdue transfers */
#define RELIEVE_MS 250 /* between two looks for transfers that stand still */

CURLM *http_multi = NULL;
MonoTime http_timer_due = 0; /* of clock_uptime(), as libcurl's own clock; 0: it has no timer */
static dlist_head starting = DLIST_STATIC_INIT(starting); /* libcurl does not know them yet */
dlist_head http_active = DLIST_STATIC_INIT(http_active);  /* libcurl knows them */
static dlist_head finished = DLIST_STATIC_INIT(finished); /* libcurl does not know them any more */
static int n_transfers = 0;                               /* started and not released */
static MonoTime relieve_due = 0; /* when to look again for transfers that stand still */

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
	HttpTransfer *transfer = NULL;

	/* libcurl's own handles have none */
	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &transfer);
	if (transfer != NULL && (what != CURL_POLL_REMOVE || transfer->fd == fd))
		transfer->fd = what == CURL_POLL_REMOVE ? -1 : fd;
	if (what == CURL_POLL_REMOVE)
	{
		if (transfer != NULL && (transfer->is_paused || transfer->is_heavy || transfer->is_full))
			watch_pause(fd);
		else
			watch_rest(fd, transfer ? transfer->origin : 0);
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
	http_timer_due = timeout_ms < 0 ? 0 : clock_uptime() + timeout_ms * INT64CONST(1000);
	return 0;
}

/* ---------- the event loop ---------- */

/*
 * Sets a meter to zero.
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
	http_multi = curl_multi_init();
	if (http_multi == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
						errdetail("Failed while initializing libcurl.")));
	watch_init();
	deadlines_init();
	curl_multi_setopt(http_multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
	curl_multi_setopt(http_multi, CURLMOPT_TIMERFUNCTION, timer_callback);
	idle_limit(http_multi, n_transfers);
}

/*
 * Returns the descriptor that is readable when http_work() has something to do.
 */
int
http_wait_fd(void)
{
	return watch_descriptor();
}

static void
note_sooner(long *ms, MonoTime now, MonoTime due)
{
	long until = clock_ms_between(now, due);

	if (due != 0 && (*ms < 0 || until < *ms))
		*ms = until;
}

/*
 * Returns after how many ms http_work() must be called at the latest; -1:
 * never.
 */
long
http_wait_ms(void)
{
	MonoTime now = clock_uptime();
	long ms = -1;

	if (!dlist_is_empty(&starting) || !dlist_is_empty(&finished) || pauses_next_to_end() != NULL ||
		heavy_next() != NULL || parked_is_due() || spill_is_moving() || sluice_is_due())
		return 0;
	note_sooner(&ms, now, http_timer_due);
	note_sooner(&ms, now, idle_next_shrink());
	note_sooner(&ms, now, streams_next_pass());
	note_sooner(&ms, clock_wire(), deadlines_next());
	if (pauses_count() > 0 || parked_exist())
		note_sooner(&ms, now, Max(relieve_due, 1));
	return ms;
}

/*
 * Takes a transfer back from libcurl, whatever its state.  is_well: it ended without an error.
 */
static void
detach_transfer(HttpTransfer *transfer, bool is_well)
{
	if (transfer->easy == NULL)
		return;
	n_transfers--;
	curl_multi_remove_handle(http_multi, transfer->easy);
	watch_give_back(transfer->kept_fd, &transfer->is_untaken);
	handle_release(transfer->easy, !is_well || transfer->was_paused || transfer->n_sendings != 1 ||
									   transfer->request->ca_file != NULL);
	if (is_well)
		memory_note_usual(transfer->request->account, spill_received(transfer));
	if (pg_atomic_read_u64(&transfer->meter->received) < transfer->expected / 2)
		memory_expect_no_more();
	idle_note_end(transfer);
	pauses_forget(transfer);
	sluice_forget(transfer);
	heavy_forget(transfer);
	streams_forget(transfer);
	deadlines_end(transfer);
	if (transfer->is_active)
		dlist_delete(&transfer->active_node);
	transfer->is_active = false;
	curl_slist_free_all(transfer->headers);
	transfer->easy = NULL;
	transfer->headers = NULL;
}

static void
enlist_transfer(dlist_head *list, HttpTransfer *transfer)
{
	dlist_push_tail(list, &transfer->node);
	transfer->is_listed = true;
}

/*
 * Puts a transfer whose answer is in memory on the list of finished ones.
 */
void
http_complete(HttpTransfer *transfer)
{
	HttpReply *reply = transfer->reply;

	if (bytes_append(reply->body, "", 1))
		reply->body->len--;
	else if (reply->error == HTTP_OK)
		reply->error = HTTP_MEMORY;
	enlist_transfer(&finished, transfer);
}

/*
 * Sends a request again, once and on a new connection, because the server took nothing of it.  For the job this is the
 * same call.
 */
static void
resend_request(HttpTransfer *transfer)
{
	curl_multi_remove_handle(http_multi, transfer->easy);
	watch_give_back(transfer->kept_fd, &transfer->is_untaken);
	dlist_delete(&transfer->active_node);
	transfer->is_active = false;
	transfer->is_sent_again = true;
	transfer->found_dead = transfer->is_untaken = transfer->refused_resending = false;
	transfer->kept_fd = transfer->fd = -1;
	transfer->body_sent = 0;
	transfer->error_text[0] = '\0';
	pg_atomic_write_u64(&transfer->meter->sent, 0);
	curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, 1L);
	enlist_transfer(&starting, transfer);
}

/*
 * Notes how a transfer ended, and takes it back from libcurl.
 */
void
http_finish(HttpTransfer *transfer, CURLcode code)
{
	outcome_note(transfer, code);
	if (code != CURLE_OPERATION_TIMEDOUT && outcome_is_unsent(transfer) && !transfer->is_sent_again)
	{
		resend_request(transfer);
		return;
	}
	detach_transfer(transfer, transfer->reply->error == HTTP_OK);
	parked_take(transfer);
}

/*
 * Gives libcurl the transfers that were started.  Ends those whose options it
 * refused.  libcurl refuses a transfer when memory is short, or when it has
 * the transfer already, which would be a fault of ours.
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
		if (code == CURLE_BAD_FUNCTION_ARGUMENT && transfer->error_text[0] == '\0')
			strlcpy(transfer->error_text, "the URL is too long", CURL_ERROR_SIZE);
		if (code == CURLE_OK && curl_multi_add_handle(http_multi, transfer->easy) != CURLM_OK)
			code = CURLE_OUT_OF_MEMORY;
		dlist_push_tail(&http_active, &transfer->active_node);
		transfer->is_active = true;
		if (code != CURLE_OK)
			http_finish(transfer, code);
	}
}

/*
 * Resumes answers that wait for memory, as far as there is some.  What libcurl
 * has kept of an answer comes at once, and may have to wait again.
 */
static void
resume_transfers(void)
{
	HttpTransfer *transfer;
	int most = pauses_count();

	while (most-- > 0 && (transfer = pauses_next_to_end()) != NULL)
	{
		CURLcode code;

		if (!transfer->is_spilled &&
			!memory_may_receive(transfer->request->account, transfer->wanted))
			(void) memory_favour(transfer->tag);
		pauses_end(transfer);
		code = curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
		if (code != CURLE_OK)
			http_finish(transfer, code);
	}
}

/*
 * Resumes answers whose pieces were taken.
 */
static void
resume_poured(void)
{
	HttpTransfer *transfer;

	while ((transfer = sluice_next()) != NULL)
	{
		CURLcode code = curl_easy_pause(transfer->easy, CURLPAUSE_CONT);

		if (code != CURLE_OK)
			http_finish(transfer, code);
	}
}

/* ---------- work ---------- */

/*
 * Collects the transfers that libcurl has finished.
 */
void
http_take_done(void)
{
	CURLMsg *message;
	int n;

	while ((message = curl_multi_info_read(http_multi, &n)) != NULL)
	{
		HttpTransfer *transfer = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &transfer);
		http_finish(transfer, message->data.result);
	}
}

/*
 * Ends transfers whose deadline has passed, after reading what had come by then.
 */
static void
end_overdue(MonoTime enough)
{
	MonoTime now = clock_wire();
	HttpTransfer *transfer;

	while (clock_uptime() < enough && (transfer = deadlines_next_over(now)) != NULL)
	{
		if (!visits_read_rest(transfer, enough))
			http_finish(transfer, CURLE_OPERATION_TIMEDOUT);
	}
}

/*
 * If answers wait for memory, makes transfers that stand still give theirs back.
 */
static void
relieve_pauses(MonoTime now)
{
	HttpTransfer *transfer;

	if ((pauses_count() == 0 && !parked_exist()) || now < relieve_due)
		return;
	relieve_due = now + RELIEVE_MS * INT64CONST(1000);
	while ((transfer = pauses_relieve(&http_active, clock_wire())) != NULL)
	{
		strlcpy(transfer->error_text,
				"it sent nothing for a minute while other answers needed its memory (genjob.max_memory)",
				CURL_ERROR_SIZE);
		http_finish(transfer, CURLE_RECV_ERROR);
	}
}

/*
 * Lets libcurl work on its sockets and timers, and collects what has ended.  Never blocks.
 */
void
http_work(void)
{
	struct epoll_event events[MAX_EVENTS];
	sigset_t saved;
	int n = watch_collect(events, lengthof(events));

	idle_limit(http_multi, n_transfers);
	block_signals(&saved);
	deadlines_excuse_stall();
	/*
	 * they choose connections right after watch_collect(), which has found
	 * those that ended
	 */
	begin_transfers();
	visits_run_timer();
	resume_transfers();
	resume_poured();
	visits_serve(events, n, clock_uptime() + SERVE_MS * INT64CONST(1000));
	visits_run_timer();
	visits_heavy(clock_uptime() + HEAVY_MS * INT64CONST(1000));
	http_take_done();
	idle_shrink(n_transfers);
	end_overdue(clock_uptime() + HEAVY_MS * INT64CONST(1000));
	relieve_pauses(clock_uptime());
	restore_signals(&saved);
	spill_work();
	parked_take_back();
	clock_attended(0);
}

/*
 * Sends what can be sent at once of calls that were started since http_work(),
 * and reads no answer.
 */
void
http_send_started(void)
{
	struct epoll_event events[MAX_EVENTS];
	sigset_t saved;

	if (dlist_is_empty(&starting))
		return;
	(void) watch_collect(events, lengthof(events));
	block_signals(&saved);
	begin_transfers();
	visits_run_timer();
	visits_run_timer();
	http_take_done();
	restore_signals(&saved);
}

/* ---------- transfers ---------- */

/*
 * Begins a call.  The transfer and its reply live in owner.  When the call has
 * ended, http_take_finished() returns tag.  NULL when memory is short.  The
 * caller frees the transfer with http_abort(), also after
 * http_take_finished().
 */
HttpTransfer *
http_start(const HttpRequest *request, HttpMeter *meter, MemoryContext owner, void *tag)
{
	HttpTransfer *transfer = MemoryContextAllocZero(owner, sizeof(HttpTransfer));
	HttpReply *reply = MemoryContextAllocZero(owner, sizeof(HttpReply));

	reply->headers = bytes_create(owner, MAX_HEADERS);
	reply->body = bytes_create(owner, request->max_response + 1);
	transfer->request = request;
	transfer->fd = -1;
	transfer->kept_fd = -1;
	transfer->origin = idle_origin_of(request->url);
	transfer->meter = meter;
	transfer->reply = reply;
	transfer->tag = tag;
	reply->body->account = request->account;
	transfer->has_small_body = request->body_len > 0 && request->body_len <= SMALL_BODY;
	transfer->headers = handle_copy_headers(request);
	transfer->easy = handle_take();
	if (transfer->easy == NULL || transfer->headers == NULL)
	{
		if (transfer->easy != NULL)
			handle_release(transfer->easy, false);
		curl_slist_free_all(transfer->headers);
		return NULL;
	}
	transfer->refusal = handle_set_request(transfer);
	if (!handle_headers_are_sound(request->headers))
	{
		transfer->refusal = CURLE_BAD_FUNCTION_ARGUMENT;
		strlcpy(transfer->error_text, "a header contains a line break, or its name is not valid",
				CURL_ERROR_SIZE);
	}
	idle_choose(transfer, n_transfers);
	n_transfers++;
	idle_note_peak(n_transfers);
	deadlines_begin(transfer);
	enlist_transfer(&starting, transfer);
	return transfer;
}

/*
 * Returns a call that has ended, each once; false when there is none.
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
 * True if a call is connected to a public address.
 */
bool
http_peer_is_public(const HttpTransfer *transfer)
{
	return transfer->reply->peer_is_public;
}

/*
 * Frees a call in any state, and cuts one that is under way.
 */
void
http_abort(HttpTransfer *transfer)
{
	sigset_t saved;

	if (transfer->is_listed)
		dlist_delete(&transfer->node);
	transfer->is_listed = false;
	parked_forget(transfer);
	block_signals(&saved);
	detach_transfer(transfer, false);
	restore_signals(&saved);
	spill_end(transfer);
}
