/*
 * harm.c
 *		The kinds of harm that hostile does to whoever calls: a function for each.
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
silent(int fd)
{
	wait_for_end(fd);
}

static void
silent_after_headers(int fd)
{
	say(fd, JSON "Content-Length: 100\r\n\r\n{");
	wait_for_end(fd);
}

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
dripping_body(int fd)
{
	say(fd, JSON "Content-Length: 100000000\r\n\r\n");
	drip(fd, " ");
}

static void
dripping_headers(int fd)
{
	say(fd, OK);
	drip(fd, "X: y\r\n");
}

static void
endless_headers(int fd)
{
	say(fd, OK);
	repeat(fd, "X-Header: value\r\n");
}

static void
endless_header(int fd)
{
	say(fd, OK "X-Header: ");
	repeat(fd, "value");
}

static void
folded_headers(int fd)
{
	say(fd, OK "X-Header: a\r\n");
	repeat(fd, " folded\r\n");
}

static void
nul_headers(int fd)
{
	static const char head[] = OK "X-Null: a\0b\r\nContent-Length: 2\r\n\r\n{}";

	put(fd, head, sizeof(head) - 1);
	wait_for_end(fd);
}

static void
endless_chunk_extension(int fd)
{
	say(fd, CHUNKED "2;x=");
	repeat(fd, "yyyyyyyyyyyyyyyy");
}

static void
chunk_extensions(int fd)
{
	say(fd, CHUNKED);
	repeat(fd, "1;x=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n \r\n");
}

static void
tiny_chunks(int fd)
{
	say(fd, CHUNKED);
	repeat(fd, "1\r\n \r\n");
}

static void
endless_trailers(int fd)
{
	say(fd, CHUNKED "2\r\n{}\r\n0\r\n");
	repeat(fd, "X-Trailer: value\r\n");
}

static void
huge_chunk(int fd)
{
	say(fd, CHUNKED "7fffffffffffffff\r\n");
	repeat(fd, "                ");
}

static void
huge_length(int fd)
{
	say(fd, JSON "Content-Length: 9223372036854775807\r\n\r\n");
	wait_for_end(fd);
}

static void
endless_body(int fd)
{
	say(fd, OK "Content-Type: application/octet-stream\r\n\r\n");
	repeat(fd, "                ");
}

static void
endless_json(int fd)
{
	say(fd, JSON "\r\n[");
	repeat(fd, "{\"a\": [1, 2]}, ");
}

static void
endless_comments(int fd)
{
	say(fd, OK "Content-Type: text/event-stream\r\n\r\n");
	repeat(fd, ": no event\n\n");
}

static void
continue_flood(int fd)
{
	repeat(fd, "HTTP/1.1 100 Continue\r\n\r\n");
}

static void
hints_flood(int fd)
{
	repeat(fd, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
}

static void
status_flood(int fd)
{
	say(fd, "HTTP/1.1 200 ");
	repeat(fd, "OK OK OK OK OK ");
}

static void
no_http(int fd)
{
	repeat(fd, "220 mail.example.com ESMTP\r\n");
}

static void
http09(int fd)
{
	say(fd, "{\"data\": []}");
}

static void
two_lengths(int fd)
{
	say(fd, JSON "Content-Length: 2\r\nContent-Length: 200\r\n\r\n{}");
	wait_for_end(fd);
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

const HarmKind harm_kinds[HARM_KINDS] = {
	{"silent", silent, true},
	{"silent_after_headers", silent_after_headers, true},
	{"silent_after_much", silent_after_much, true},
	{"late_rest", late_rest, true},
	{"never_accepts", NULL, false},
	{"tls_stall", silent, false},
	{"tls_tiny_records", tiny_records, false},
	{"tls_tiny_chunks", tiny_chunks_in_records, false},
	{"dripping_body", dripping_body, true},
	{"dripping_headers", dripping_headers, true},
	{"endless_headers", endless_headers, true},
	{"endless_header", endless_header, true},
	{"folded_headers", folded_headers, true},
	{"nul_headers", nul_headers, true},
	{"endless_chunk_extension", endless_chunk_extension, true},
	{"chunk_extensions", chunk_extensions, true},
	{"tiny_chunks", tiny_chunks, true},
	{"endless_trailers", endless_trailers, true},
	{"huge_chunk", huge_chunk, true},
	{"huge_length", huge_length, true},
	{"endless_body", endless_body, true},
	{"endless_json", endless_json, true},
	{"endless_comments", endless_comments, true},
	{"continue_flood", continue_flood, true},
	{"hints_flood", hints_flood, true},
	{"status_flood", status_flood, true},
	{"no_http", no_http, true},
	{"http09", http09, true},
	{"two_lengths", two_lengths, true},
	{"two_answers", two_answers, true},
	{"late_answers", late_answers, true},
	{"closing", closing, true},
	{"early_answer", early_answer, false},
	{"reset_at_once", reset_at_once, false},
	{"reset_in_headers", reset_in_headers, true},
	{"reset_in_body", reset_in_body, true},
	{"half_closed", half_closed, true},
	{"redirects", redirects, true},
};
