/*
 * harm.c
 *		The kinds of harm that hostile does to whoever calls: a row for each, and a function where a row cannot say it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harm.h"

#define BLOCK 16384

static SSL_CTX *tls = NULL;

void
harm_use_tls(SSL_CTX *context)
{
	tls = context;
}

/* ---------- what all do ---------- */

static bool
put(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0)
	{
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

static bool
say(int fd, const char *text)
{
	return put(fd, text, strlen(text));
}

/*
 * Says the same for ever, in blocks, as fast as it is taken.
 */
static void
repeat(int fd, const char *text)
{
	char block[BLOCK];
	size_t len = strlen(text);
	size_t used = 0;

	while (used + len <= sizeof(block))
	{
		memcpy(block + used, text, len);
		used += len;
	}
	while (put(fd, block, used))
		;
}

/*
 * The same, now and then.
 */
static void
drip(int fd, const char *text)
{
	while (say(fd, text))
		usleep(20000);
}

/*
 * Waits until the other side goes.
 */
static void
wait_for_end(int fd)
{
	char block[BLOCK];

	while (recv(fd, block, sizeof(block), 0) > 0)
		;
}

/*
 * Reads a request with its body.  False when there is none any more.
 */
bool
harm_read_request(int fd)
{
	static const char name[] = "content-length:";
	char head[65536];
	size_t len = 0;
	char *end = NULL;
	char *p;
	size_t body = 0;

	while (end == NULL)
	{
		ssize_t n = recv(fd, head + len, sizeof(head) - 1 - len, 0);

		if (n <= 0)
			return false;
		len += n;
		head[len] = '\0';
		end = strstr(head, "\r\n\r\n");
	}
	for (p = head; p < end; p++)
	{
		if (strncasecmp(p, name, strlen(name)) == 0)
			body = strtoul(p + strlen(name), NULL, 10);
	}
	len -= end + 4 - head;
	while (len < body)
	{
		ssize_t n = recv(fd, head, sizeof(head), 0);

		if (n <= 0)
			return false;
		len += n;
	}
	return true;
}

static void
reset(int fd)
{
	struct linger hard = {1, 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

#define OK "HTTP/1.1 200 OK\r\n"
#define JSON OK "Content-Type: application/json\r\n"
#define CHUNKED JSON "Transfer-Encoding: chunked\r\n\r\n"

/* ---------- the kinds ---------- */

static void
silent_after_much(int fd)
{
	char block[BLOCK] = {0};
	int i;

	say(fd, OK "Content-Type: application/octet-stream\r\nContent-Length: 140000000\r\n\r\n");
	for (i = 0; i < 130000000 / BLOCK && put(fd, block, sizeof(block)); i++)
		;
	wait_for_end(fd);
}

/*
 * Goes on after some seconds, and comes to an end.
 */
static void
late_rest(int fd)
{
	char block[BLOCK] = {0};
	int i;

	say(fd, OK "Content-Type: application/octet-stream\r\nContent-Length: 24576000\r\n\r\n");
	for (i = 0; i < 1500 && put(fd, block, sizeof(block)); i++)
	{
		if (i == 1400)
			sleep(6);
	}
	wait_for_end(fd);
}

static void
nul_headers(int fd)
{
	static const char head[] = OK "X-Null: a\0b\r\nContent-Length: 2\r\n\r\n{}";

	put(fd, head, sizeof(head) - 1);
	wait_for_end(fd);
}

static void
http09(int fd)
{
	say(fd, "{\"data\": []}");
}

/*
 * Behind the end of its answer there is another one, at once.
 */
static void
two_answers(int fd)
{
	do
	{
		say(fd, JSON "Content-Length: 15\r\n\r\n{\"mine\": \"yes\"}" JSON
					 "Content-Length: 18\r\n\r\n{\"mine\": \"stolen\"}");
	} while (harm_read_request(fd));
}

/*
 * The same, but the other one comes when the connection rests.
 */
static void
late_answers(int fd)
{
	do
	{
		say(fd, JSON "Content-Length: 15\r\n\r\n{\"mine\": \"yes\"}");
		usleep(20000);
		say(fd, JSON "Content-Length: 18\r\n\r\n{\"mine\": \"stolen\"}");
	} while (harm_read_request(fd));
}

/*
 * Ends the connection when it is used again.
 */
static void
closing(int fd)
{
	char byte;

	say(fd, JSON "Content-Length: 15\r\n\r\n{\"mine\": \"yes\"}");
	(void) !recv(fd, &byte, 1, 0);
	reset(fd);
}

static void
early_answer(int fd)
{
	say(fd, JSON "Content-Length: 15\r\n\r\n{\"mine\": \"yes\"}");
	sleep(3600);
}

static void
reset_at_once(int fd)
{
	reset(fd);
}

static void
reset_in_headers(int fd)
{
	say(fd, JSON "Content-Le");
	usleep(1000);
	reset(fd);
}

static void
reset_in_body(int fd)
{
	say(fd, JSON "Content-Length: 100\r\n\r\n{\"half");
	usleep(1000);
	reset(fd);
}

static void
half_closed(int fd)
{
	say(fd, JSON "Content-Length: 100\r\n\r\n{\"half");
	shutdown(fd, SHUT_WR);
	wait_for_end(fd);
}

static void
redirects(int fd)
{
	do
		say(fd, "HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n");
	while (harm_read_request(fd));
}

static bool
say_by_tls(SSL *ssl, const char *text)
{
	return SSL_write(ssl, text, (int) strlen(text)) > 0;
}

/*
 * Speaks TLS: reads a request, and has it answered.
 */
static void
serve_by_tls(int fd, void (*answer)(SSL *ssl))
{
	SSL *ssl = tls ? SSL_new(tls) : NULL;
	char request[65536];

	if (ssl == NULL)
		return;
	SSL_set_fd(ssl, fd);
	if (SSL_accept(ssl) == 1 && SSL_read(ssl, request, sizeof(request)) > 0)
		answer(ssl);
	SSL_free(ssl);
}

/*
 * A record of TLS for each byte, for ever.
 */
static void
say_single_bytes(SSL *ssl)
{
	say_by_tls(ssl, JSON "\r\n");
	while (say_by_tls(ssl, " "))
		;
}

static void
tiny_records(int fd)
{
	serve_by_tls(fd, say_single_bytes);
}

/*
 * No harm, if little help: an answer of 100,000 bytes, each in a chunk of its own, and each chunk in three records.
 */
static void
say_single_chunks(SSL *ssl)
{
	static const char head[] = "{\"text\":\"";
	static const char tail[] = "\"}";
	int i;

	say_by_tls(ssl, CHUNKED);
	for (i = 0; i < 100000; i++)
	{
		char text[2] = "x";

		if (i < (int) strlen(head))
			text[0] = head[i];
		else if (i >= 100000 - (int) strlen(tail))
			text[0] = tail[i - (100000 - strlen(tail))];
		if (!say_by_tls(ssl, "1\r\n") || !say_by_tls(ssl, text) || !say_by_tls(ssl, "\r\n"))
			return;
	}
	say_by_tls(ssl, "0\r\n\r\n");
}

static void
tiny_chunks_in_records(int fd)
{
	serve_by_tls(fd, say_single_chunks);
}

/*
 * Does what a kind does to a connection, whose request has been read where it reads one.
 */
void
harm_serve(const HarmKind *kind, int fd)
{
	if (kind->serve != NULL)
	{
		kind->serve(fd);
		return;
	}
	if (kind->opening != NULL)
		say(fd, kind->opening);
	if (kind->flood != NULL)
		repeat(fd, kind->flood);
	else if (kind->drops != NULL)
		drip(fd, kind->drops);
	else
		wait_for_end(fd);
}

/* clang-format off */

const HarmKind harm_kinds[HARM_KINDS] = {
	{.name = "silent", .reads = true},
	{.name = "silent_after_headers", .opening = JSON "Content-Length: 100\r\n\r\n{", .reads = true},
	{.name = "silent_after_much", .serve = silent_after_much, .reads = true},
	{.name = "late_rest", .serve = late_rest, .reads = true},
	{.name = "never_accepts", .refuses = true},
	{.name = "tls_stall"},
	{.name = "tls_tiny_records", .serve = tiny_records},
	{.name = "tls_tiny_chunks", .serve = tiny_chunks_in_records},
	{.name = "dripping_body", .opening = JSON "Content-Length: 100000000\r\n\r\n", .drops = " ", .reads = true},
	{.name = "dripping_headers", .opening = OK, .drops = "X: y\r\n", .reads = true},
	{.name = "endless_headers", .opening = OK, .flood = "X-Header: value\r\n", .reads = true},
	{.name = "endless_header", .opening = OK "X-Header: ", .flood = "value", .reads = true},
	{.name = "folded_headers", .opening = OK "X-Header: a\r\n", .flood = " folded\r\n", .reads = true},
	{.name = "nul_headers", .serve = nul_headers, .reads = true},
	{.name = "endless_chunk_extension", .opening = CHUNKED "2;x=", .flood = "yyyyyyyyyyyyyyyy", .reads = true},
	{.name = "chunk_extensions", .opening = CHUNKED, .flood = "1;x=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n \r\n", .reads = true},
	{.name = "tiny_chunks", .opening = CHUNKED, .flood = "1\r\n \r\n", .reads = true},
	{.name = "endless_trailers", .opening = CHUNKED "2\r\n{}\r\n0\r\n", .flood = "X-Trailer: value\r\n", .reads = true},
	{.name = "huge_chunk", .opening = CHUNKED "7fffffffffffffff\r\n", .flood = "                ", .reads = true},
	{.name = "huge_length", .opening = JSON "Content-Length: 9223372036854775807\r\n\r\n", .reads = true},
	{.name = "endless_body", .opening = OK "Content-Type: application/octet-stream\r\n\r\n", .flood = "                ", .reads = true},
	{.name = "endless_json", .opening = JSON "\r\n[", .flood = "{\"a\": [1, 2]}, ", .reads = true},
	{.name = "endless_comments", .opening = OK "Content-Type: text/event-stream\r\n\r\n", .flood = ": no event\n\n", .reads = true},
	{.name = "continue_flood", .flood = "HTTP/1.1 100 Continue\r\n\r\n", .reads = true},
	{.name = "hints_flood", .flood = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n", .reads = true},
	{.name = "status_flood", .opening = "HTTP/1.1 200 ", .flood = "OK OK OK OK OK ", .reads = true},
	{.name = "no_http", .flood = "220 mail.example.com ESMTP\r\n", .reads = true},
	{.name = "http09", .serve = http09, .reads = true},
	{.name = "two_lengths", .opening = JSON "Content-Length: 2\r\nContent-Length: 200\r\n\r\n{}", .reads = true},
	{.name = "two_answers", .serve = two_answers, .reads = true},
	{.name = "late_answers", .serve = late_answers, .reads = true},
	{.name = "closing", .serve = closing, .reads = true},
	{.name = "early_answer", .serve = early_answer},
	{.name = "reset_at_once", .serve = reset_at_once},
	{.name = "reset_in_headers", .serve = reset_in_headers, .reads = true},
	{.name = "reset_in_body", .serve = reset_in_body, .reads = true},
	{.name = "half_closed", .serve = half_closed, .reads = true},
	{.name = "redirects", .serve = redirects, .reads = true},
};

/* clang-format on */
