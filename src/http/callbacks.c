/*
 * callbacks.c
 *		What libcurl calls while a call is under way, to hand over the answer,
 *		to read the request, and to ask about addresses.
 *
 * Nothing here raises an error or calls palloc(): that would longjmp through
 * libcurl.
 */
#include "postgres.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/address.h"
#include "http/transfer.h"
#include "base/memory.h"
#include "http/watch.h"

#define DEAD_PEER_MS 120000 /* without an acknowledgment: the kernel cuts the connection */

#define MAX_ANSWER_LINES 1000 /* headers and trailers of one answer */
/* For all answers to a call together: there may be many interim ones */
#define MAX_HEADER_LINES 4000
#define MAX_FOLDED_LINES 100 /* with each, libcurl copies all that came before */

/*
 * True if a header says that the answer is a stream of events.
 */
static bool
announces_stream(const char *line, size_t len)
{
	static const char name[] = "content-type:";
	char type[64];
	size_t i;

	if (len < strlen(name) || pg_strncasecmp(line, name, strlen(name)) != 0)
		return false;
	line += strlen(name);
	len = Min(len - strlen(name), sizeof(type) - 1);
	for (i = 0; i < len; i++)
		type[i] = (char) pg_tolower((unsigned char) line[i]);
	type[len] = '\0';
	return strstr(type, "event-stream") != NULL || strstr(type, "ndjson") != NULL ||
		   strstr(type, "jsonl") != NULL;
}

/*
 * Removes the end of the last line, because the next one continues it.
 */
static void
join_lines(Bytes *headers)
{
	while (headers->len > 0 && strchr("\r\n", headers->data[headers->len - 1]) != NULL)
		headers->len--;
}

static size_t
header_callback(char *line, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;

	bool is_folded = count > 0 && (line[0] == ' ' || line[0] == '\t');
	bool is_status = !transfer->has_body && count > 5 && memcmp(line, "HTTP/", 5) == 0;

	transfer->header_lines++;
	transfer->answer_lines = is_status ? 1 : transfer->answer_lines + 1;
	transfer->folded_lines += is_folded;
	if (transfer->answer_lines > MAX_ANSWER_LINES || transfer->header_lines > MAX_HEADER_LINES ||
		transfer->folded_lines > MAX_FOLDED_LINES)
	{
		transfer->flood = "its headers and trailers have too many lines";
		return 0;
	}
	/* a trailer is no header (RFC 9110, 6.5.1): it must not change what the body is */
	if (transfer->has_body)
		return size * count;
	if (is_folded)
		join_lines(transfer->reply->headers);
	/* a new status line: what came before was an interim answer */
	if (is_status)
	{
		transfer->reply->headers->len = 0;
		transfer->is_stream = false;
	}
	if (announces_stream(line, size * count))
	{
		transfer->is_stream = true;
		curl_easy_setopt(transfer->easy, CURLOPT_FORBID_REUSE, 1L);
	}
	return bytes_append(transfer->reply->headers, line, size * count) ? size * count : 0;
}

static void
note_expected(HttpTransfer *transfer)
{
	curl_off_t expected = -1;

	curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &expected);
	if (expected <= 0)
		return;
	pg_atomic_write_u64(&transfer->meter->expected, expected);
	transfer->expected = Min(expected, transfer->request->max_response);
	transfer->reply->body->expected = transfer->expected;
	memory_expect_answer(transfer->expected);
}

/*
 * True if there is memory for len bytes more of the answer.  Small answers
 * always have it.
 */
static bool
has_memory_for(HttpTransfer *transfer, size_t len)
{
	const Bytes *body = transfer->reply->body;

	transfer->wanted = bytes_capacity_for(body, len) - body->capacity;
	return transfer->wanted == 0 || body->len + len <= MEMORY_SMALL ||
		   memory_may_receive(transfer->request->account, transfer->wanted);
}

/*
 * Makes room for what has come: in memory, or in a file for the one call that
 * goes on when memory is full.  False if the call must wait.
 */
static bool
has_room_for(HttpTransfer *transfer, const char *data, size_t len)
{
	if (transfer->is_spilled)
		return spill_append(transfer, data, len);
	if (has_memory_for(transfer, len))
		return true;
	if (transfer->request->is_dispensable || !memory_favour(transfer->tag))
		return false;
	return !spill_begin(transfer) || spill_append(transfer, data, len);
}

/*
 * Pauses the transfer: TCP makes the server wait, and libcurl gives the same
 * data again later.  The answer has been paid for, so the time does not count.
 * But a server may limit how long it sends, and then cuts the call: that is
 * why claims leave half of the memory to answers.  A dispensable call is cut
 * at once.
 */
static size_t
pause_or_cut(HttpTransfer *transfer)
{
	if (transfer->request->is_dispensable)
	{
		transfer->out_of_memory = true;
		return CURL_WRITEFUNC_ERROR;
	}
	pauses_begin(transfer);
	return CURL_WRITEFUNC_PAUSE;
}

/*
 * As body_callback(), for an answer that comes in pieces.
 */
static size_t
take_poured(HttpTransfer *transfer, const char *data, size_t len)
{
	if (len > sluice_room(transfer))
	{
		transfer->overflowed = transfer->reply->is_poured = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (sluice_is_full(transfer))
	{
		sluice_wait(transfer);
		return CURL_WRITEFUNC_PAUSE;
	}
	if (!sluice_append(transfer, data, len))
	{
		if (transfer->wanted > 0)
			return pause_or_cut(transfer);
		transfer->out_of_memory = true;
		return CURL_WRITEFUNC_ERROR;
	}
	pg_atomic_fetch_add_u64(&transfer->meter->received, len);
	return len;
}

/*
 * Prepares for the body of an answer.  False if it cannot be what was asked
 * for, or is too large.
 */
static bool
begin_body(HttpTransfer *transfer)
{
	if (!sluice_consider(transfer))
		return false;
	transfer->overflowed = sluice_is_too_large(transfer);
	transfer->reply->is_poured |= transfer->overflowed && transfer->is_pouring;
	if (!transfer->overflowed && !transfer->is_pouring)
		note_expected(transfer);
	if (transfer->is_pouring && transfer->request->pour->total > 0)
		pg_atomic_write_u64(&transfer->meter->expected, transfer->request->pour->total);
	return !transfer->overflowed;
}

static size_t
body_callback(char *data, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;
	Bytes *body = transfer->reply->body;
	size_t len = size * count;

	if (!transfer->request->is_dispensable && visits_take_long())
	{
		heavy_wait(transfer);
		return CURL_WRITEFUNC_PAUSE;
	}
	transfer->received_at = clock_wire();
	if (!transfer->has_body && !begin_body(transfer))
		return CURL_WRITEFUNC_ERROR;
	transfer->has_body = true;
	if (transfer->is_pouring)
		return take_poured(transfer, data, len);
	/* an answer that was to come in pieces may have more already */
	if (spill_received(transfer) + len > transfer->request->max_response)
	{
		transfer->overflowed = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (!has_room_for(transfer, data, len))
		return pause_or_cut(transfer);
	pg_atomic_fetch_add_u64(&transfer->meter->received, len);
	if (!transfer->is_spilled && !bytes_append(body, data, len))
	{
		transfer->out_of_memory = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (transfer->is_stream)
		streams_note(transfer);
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
 * When a kept connection turns out to be dead, libcurl sends the request again
 * by itself, and rewinds the body here; some versions do so before they close
 * the connection, others after.  If any byte was sent, nobody knows whether
 * the server has it, and a call costs money.  So this refuses, unless the
 * server certainly took nothing, and the job's own rules for an unknown end
 * decide.  Newer versions (8.7 on) also rewind a body that was not read yet,
 * when a handle is used again.
 */
static int
seek_callback(void *arg, curl_off_t offset, int origin)
{
	HttpTransfer *transfer = arg;

	if (offset != 0 || origin != SEEK_SET)
		return CURL_SEEKFUNC_FAIL;
	if (transfer->body_sent == 0)
		return CURL_SEEKFUNC_OK;
	if (transfer->kept_fd >= 0 && !transfer->is_untaken)
		transfer->is_untaken = watch_is_untaken(transfer->kept_fd, &transfer->is_untaken);
	transfer->refused_resending = !transfer->is_untaken;
	if (transfer->refused_resending)
		return CURL_SEEKFUNC_FAIL;
	pg_atomic_fetch_sub_u64(&transfer->meter->sent, transfer->body_sent);
	transfer->body_sent = 0;
	return CURL_SEEKFUNC_OK;
}

/*
 * As seek_callback(), for a small body, or a request without one that must be
 * sent once: libcurl has all of it, and asks nobody to rewind it.  Called
 * before each sending.
 */
static bool
refuses_to_resend(HttpTransfer *transfer)
{
	long request_size = 0;

	if (transfer->is_untaken || !(transfer->has_small_body || transfer->request->is_sent_once))
		return false;
	curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &request_size);
	transfer->refused_resending = request_size > 0;
	return transfer->refused_resending;
}

/*
 * True if libcurl's connection can be used: it is new, or it was kept and has
 * not ended since.  Takes a kept one for the call.
 */
static bool
is_alive(HttpTransfer *transfer, const char *ip, int port, const char *local_ip, int local_port)
{
	int fd = watch_find_resting(ip, port, local_ip, local_port);

	watch_give_back(transfer->kept_fd, &transfer->is_untaken);
	transfer->kept_fd = fd;
	transfer->is_untaken = false;
	transfer->found_dead = fd >= 0 && !watch_take(fd, &transfer->is_untaken);
	return !transfer->found_dead;
}

/*
 * Makes the kernel cut the connection to a peer that vanished while a call
 * waits for minutes.  handle.c turns on keepalive.
 */
static int
sockopt_callback(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	unsigned int dead_peer_ms = DEAD_PEER_MS;

	(void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_peer_ms, sizeof(dead_peer_ms));
	return CURL_SOCKOPT_OK;
}

/*
 * Opens a socket, if the address may be used.  Checks the address itself,
 * after the name was resolved, so that no name leads where it must not.
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
 * Closes a socket of opensocket_callback(), perhaps long after the transfer
 * that opened it.
 */
static int
closesocket_callback(void *arg, curl_socket_t fd)
{
	watch_closed(fd);
	return close(fd);
}

/*
 * Called before each sending, on a new or a kept connection.  Checks the
 * address again, because an earlier call may have opened the connection.
 */
static int
prereq_callback(void *arg, char *ip, char *local_ip, int port, int local_port)
{
	HttpTransfer *transfer = arg;
	bool private = address_is_private_text(ip);

	transfer->n_sendings++;
	transfer->received_at = clock_wire();
	deadlines_connected(transfer);
	transfer->reply->peer_is_private = private;
	transfer->reply->peer_is_public = !private;
	transfer->refused_address = private && transfer->request->public_only;
	if (transfer->refused_address || refuses_to_resend(transfer) ||
		!is_alive(transfer, ip, port, local_ip, local_port))
		return CURL_PREREQFUNC_ABORT;
	if (transfer->has_small_body)
		pg_atomic_write_u64(&transfer->meter->sent, transfer->request->body_len);
	return CURL_PREREQFUNC_OK;
}

/*
 * Sets these callbacks in a handle; handle_set_request() sets the transfer
 * that they get.
 */
void
callbacks_set(CURL *easy)
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
