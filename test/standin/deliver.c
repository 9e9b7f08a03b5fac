/*
 * deliver.c
 *		How an answer goes out: whole, in pieces, cut off, stalled, redirected.
 *
 * An answer in pieces is a stream: a piece is handed to evhttp, and the next
 * one when the client has taken it or when its time has come.  At the stream's
 * limit the answer ends, or the connection is cut, or nothing happens any more.
 */
#include "standin.h"

#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <event2/bufferevent.h>

#define PIECE (256 * 1024)

static char padding_text[16 * 1024];
static const char padding_zeros[sizeof(padding_text)];

/* How long the body is. */
size_t
answer_bytes(const Answer *answer)
{
	return evbuffer_get_length(answer->body) + answer->padding +
		   (answer->tail ? evbuffer_get_length(answer->tail) : 0);
}

/* Moves the answer's next "len" bytes to "out"; padding is referred to, not copied. */
static void
answer_take(Answer *answer, size_t len, struct evbuffer *out)
{
	const char *padding = answer->padding_byte ? padding_text : padding_zeros;
	size_t n = evbuffer_get_length(answer->body);

	if (padding_text[0] == '\0')
		memset(padding_text, 'x', sizeof(padding_text));
	n = n < len ? n : len;
	evbuffer_remove_buffer(answer->body, out, n);
	for (len -= n; len > 0 && answer->padding > 0; len -= n)
	{
		n = len < sizeof(padding_text) ? len : sizeof(padding_text);
		n = n < answer->padding ? n : answer->padding;
		evbuffer_add_reference(out, padding, n, NULL, NULL);
		answer->padding -= n;
	}
	if (len > 0 && answer->tail)
		evbuffer_remove_buffer(answer->tail, out, len);
}

/* How much of the answer to send next: an event, if it has such. */
static size_t
answer_event_bytes(const Answer *answer)
{
	struct evbuffer_ptr end;
	size_t len;

	if (answer->delimiter == NULL)
		return PIECE;
	len = strlen(answer->delimiter);
	end = evbuffer_search(answer->body, answer->delimiter, len, NULL);
	return end.pos < 0 ? PIECE : (size_t) end.pos + len;
}

/* Adds Retry-After: as it was given, or as the date so many seconds from now. */
static void
deliver_retry_after(const Fault *fault, struct evkeyvalq *headers)
{
	char date[64];
	time_t when;
	struct tm utc;

	if (fault->retry_after)
		evhttp_add_header(headers, "Retry-After", fault->retry_after);
	if (!fault->has_retry_date)
		return;
	/* rounded up: a date has no fractions, and the wait must not be shorter than said */
	when = (time_t) ((double) time(NULL) + fault->retry_date_in_s + 0.999);
	gmtime_r(&when, &utc);
	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &utc);
	evhttp_add_header(headers, "Retry-After", date);
}

/*
 * Redirects: to the same host, to the other of ours, to a private network, or
 * to the URL given.
 */
static void
deliver_redirect(Call *call)
{
	const char *to = call->fault.redirect;
	const char *uri = evhttp_request_get_uri(call->req);
	char *url;

	if (strcmp(to, "same") == 0)
		url = call_own_url(call, "%s", uri);
	else if (strcmp(to, "other") == 0)
		url = text_format("%s%s", call->listener->foreign ? own_base : foreign_base, uri);
	else if (strcmp(to, "private") == 0)
		url = text_format("http://10.255.255.1%s", uri);
	else
		url = text_format("%s", to);
	if (call->fault.status == 0)
		call->answer.status = 302;
	call_begin_answer(call, call->answer.status, "text/html");
	call_add_header(call, "Location", url);
	free(url);
}

static void
deliver_header(struct evkeyvalq *headers, const char *name, const char *value)
{
	if (evhttp_add_header(headers, name, value) != 0)
		warnx("standin: the header \"%s\" cannot be sent: it has a line break", name);
}

static void
deliver_headers(Call *call)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(call->req);
	const cJSON *header;
	const cJSON *line;

	if (call->answer.content_type)
		evhttp_add_header(headers, "Content-Type", call->answer.content_type);
	deliver_retry_after(&call->fault, headers);
	if (call->fault.close)
		evhttp_add_header(headers, "Connection", "close");
	cJSON_ArrayForEach(header, call->fault.headers)
	{
		evhttp_remove_header(headers, header->string);
		if (header->valuestring)
			deliver_header(headers, header->string, header->valuestring);
		cJSON_ArrayForEach(line, header) deliver_header(headers, header->string, line->valuestring);
	}
}

/* The client has taken all that was sent. */
static void
deliver_on_drained(struct bufferevent *bev, void *arg)
{
	Call *call = arg;

	(void) bev;
	if (call->stream.ended)
		call_arm(call, call->fault.hang_up_ms);
	else if (call->stream.sent < call->stream.limit && call->stream.every_ms > 0)
		call_arm(call, call->stream.every_ms);
	else
		deliver_next(call);
}

/* Watches the connection while a stream is under way; evhttp sets callbacks of its own at each write. */
static void
deliver_watch(Call *call)
{
	bufferevent_setcb(evhttp_connection_get_bufferevent(call->evcon), NULL, deliver_on_drained,
					  call_on_event, call);
}

/*
 * Ends a chunked answer whose connection is closed in a while.  What comes meanwhile is not read: the kernel then closes
 * by RST.
 */
static void
deliver_last_chunk(Call *call)
{
	struct bufferevent *bev = evhttp_connection_get_bufferevent(call->evcon);

	call->stream.ended = true;
	bufferevent_disable(bev, EV_READ);
	evbuffer_add_printf(bufferevent_get_output(bev), "0\r\n\r\n");
	deliver_watch(call);
}

/* The stream has reached its limit; the call may be gone afterwards. */
static void
deliver_finish(Call *call)
{
	if (call->stream.ended)
		call_hang_up(call, false);
	else if (call->fault.hang_up_ms > 0 && call->fault.cut == CUT_NONE)
		deliver_last_chunk(call);
	else if (call->fault.cut != CUT_NONE || call->fault.garbage == GARBAGE_NO_HTTP)
		call_hang_up(call, call->fault.reset);
	else if (call->fault.stall == STALL_NONE)
		evhttp_send_reply_end(call->req);
}

/*
 * Has the connection closed once the answer is out, as llama-server does after a stream.  The headers are written
 * already, so nothing of it is said; evhttp looks at them again when it is done.
 */
static void
deliver_hang_up(Call *call)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(call->req);

	evhttp_remove_header(headers, "Connection");
	evhttp_add_header(headers, "Connection", "close");
}

/* Sends the next piece of a stream, or ends it. */
void
deliver_next(Call *call)
{
	Stream *stream = &call->stream;
	size_t left = stream->limit - stream->sent;
	size_t size;
	struct evbuffer *piece;

	if (left == 0)
	{
		deliver_finish(call);
		return;
	}
	piece = evbuffer_new();
	size = call->fault.drip_bytes > 0 ? stream->piece : answer_event_bytes(&call->answer);
	left = left < size ? left : size;
	answer_take(&call->answer, left, piece);
	stream->sent += left;
	evhttp_send_reply_chunk(call->req, piece);
	deliver_watch(call);
	evbuffer_free(piece);
}

/* Answers with the status line and headers now, and the body in pieces. */
static void
deliver_stream(Call *call)
{
	const Fault *fault = &call->fault;
	size_t total = answer_bytes(&call->answer);
	bool ends = fault->cut == CUT_NONE && fault->stall == STALL_NONE;
	bool chunked = fault->chunked || call->answer.delimiter || (fault->drip_bytes > 0 && ends);
	int on = 1;
	char length[32];

	call->stream.limit = ends ? total : fault->cut == CUT_HEADERS ? 0 : total / 2;
	call->stream.piece = fault->drip_bytes > 0 ? (size_t) fault->drip_bytes : PIECE;
	call->stream.every_ms = fault->drip_bytes > 0 ? fault->drip_every_ms : call->chunk_ms;
	if (!chunked)
	{
		snprintf(length, sizeof(length), "%zu", total);
		evhttp_add_header(evhttp_request_get_output_headers(call->req), "Content-Length", length);
	}
	setsockopt(bufferevent_getfd(evhttp_connection_get_bufferevent(call->evcon)), IPPROTO_TCP,
			   TCP_NODELAY, &on, sizeof(on));
	evhttp_send_reply_start(call->req, call->answer.status, NULL);
	if (fault->hang_up)
		deliver_hang_up(call);
	deliver_watch(call);
}

/* Answers with bytes that are not HTTP, and closes. */
static void
deliver_no_http(Call *call)
{
	struct bufferevent *bev = evhttp_connection_get_bufferevent(call->evcon);

	evbuffer_add_printf(bufferevent_get_output(bev), "220 mail.example ESMTP ready\r\n");
	deliver_watch(call);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
}

/* Interim answers, with headers that are not those of the answer. */
static void
deliver_interim(Call *call)
{
	struct bufferevent *bev = evhttp_connection_get_bufferevent(call->evcon);

	for (int i = 0; i < call->fault.interim; i++)
		evbuffer_add_printf(bufferevent_get_output(bev),
							"HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\nRetry-After: 9999\r\n"
							"Content-Type: text/html\r\n\r\n",
							i);
}

static bool
answer_has_body(const Call *call)
{
	return call->answer.status != 204 && call->answer.status != 304 &&
		   evhttp_request_get_command(call->req) != EVHTTP_REQ_HEAD;
}

/* Sends the call's answer, with its fault.  The call may be gone afterwards. */
void
deliver_answer(Call *call)
{
	const Fault *fault = &call->fault;

	call->delivering = true;
	if (fault->cut == CUT_ACCEPT)
	{
		call_hang_up(call, fault->reset);
		return;
	}
	if (fault->garbage == GARBAGE_NO_HTTP)
	{
		deliver_no_http(call);
		return;
	}
	deliver_interim(call);
	if (fault->script)
		answer_apply_fault(call);
	if (fault->redirect)
		deliver_redirect(call);
	deliver_headers(call);
	if (answer_has_body(call) &&
		(call->answer.delimiter || fault->cut != CUT_NONE || fault->stall != STALL_NONE ||
		 fault->drip_bytes > 0 || fault->huge > 0 || fault->chunked))
		deliver_stream(call);
	else
	{
		evhttp_send_reply(call->req, call->answer.status, NULL, call->answer.body);
		if (fault->hang_up)
			deliver_hang_up(call);
	}
}
