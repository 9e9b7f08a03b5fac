/*
 * decode.c
 *		Bodies that came compressed: what is decoded, what stays as it came, and how much may come out.
 */
#include "unit.h"

#include <zlib.h>

#include "utils/memutils.h"

#include "base/bytes.h"
#include "http/decode.h"
#include "replies.h"

#define TEXT "{\"text\": \"compressed, compressed, compressed\"}"
#define ZLIB 15
#define GZIP (15 + 16)
#define RAW (-15)

static Bytes *
compress_with(const Bytes *from, int window)
{
	size_t size = from->len + from->len / 10 + 1000;
	char *out = malloc(size);
	z_stream zlib = {0};
	Bytes *bytes;

	deflateInit2(&zlib, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY);
	zlib.next_in = (Bytef *) from->data;
	zlib.avail_in = from->len;
	zlib.next_out = (Bytef *) out;
	zlib.avail_out = size;
	deflate(&zlib, Z_FINISH);
	bytes = replies_bytes(out, size - zlib.avail_out);
	deflateEnd(&zlib);
	free(out);
	return bytes;
}

static HttpReply *
make_reply(const char *encoding, Bytes *body)
{
	HttpReply *reply =
		replies_make(200,
					 psprintf("HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nX-More: 1\r\n", encoding),
					 "");

	reply->body = body;
	return reply;
}

static bool
may_grow(void *arg, size_t bytes)
{
	return bytes <= *(size_t *) arg;
}

/* bytes that are decoded in one go: the outcome does not depend on it */
static size_t budget;

static DecodeEnd
decode(HttpReply *reply, size_t most, size_t memory)
{
	Decoding *begun = NULL;
	DecodeEnd end;

	while ((end = decode_body(reply, &begun, budget, most, may_grow, &memory)) == DECODE_GOES_ON)
		;
	unit_ok(begun == NULL, "nothing is left begun");
	return end;
}

static bool
is_text(const HttpReply *reply)
{
	return reply->undecoded == NULL && reply->body->len == strlen(TEXT) &&
		   memcmp(reply->body->data, TEXT, strlen(TEXT)) == 0;
}

static void
test_formats(void)
{
	Bytes *text = replies_bytes(TEXT, strlen(TEXT));
	const struct
	{
		const char *encoding;
		Bytes *body;
	} cases[] = {
		{"gzip", compress_with(text, GZIP)},
		{"GZip ", compress_with(text, GZIP)},
		{"x-gzip", compress_with(text, GZIP)},
		{"deflate", compress_with(text, ZLIB)},
		{"deflate", compress_with(text, RAW)},
		{"identity, gzip", compress_with(text, GZIP)},
		{"deflate, gzip", compress_with(compress_with(text, ZLIB), GZIP)},
		{"deflate\r\nX-Between: 1\r\ncontent-encoding: gzip",
		 compress_with(compress_with(text, ZLIB), GZIP)},
		{"gzip\r\nContent-Encoding:gzip\r\nContent-Encoding: \r\nContent-Encoding:\tdeflate",
		 compress_with(compress_with(compress_with(text, GZIP), GZIP), ZLIB)},
		{"identity\r\nContent-Encoding : ,gzip,\r\nContent-Encoding: identity",
		 compress_with(text, GZIP)},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		HttpReply *reply = make_reply(cases[i].encoding, cases[i].body);

		unit_ok(decode_is_due(reply), "%s (%d) is to be decoded", cases[i].encoding, i);
		unit_ok(decode(reply, 1000, SIZE_MAX) == DECODE_DONE && is_text(reply),
				"%s (%d) is decoded", cases[i].encoding, i);
		unit_ok(!decode_is_due(reply), "%s (%d) is decoded once", cases[i].encoding, i);
	}
	unit_ok(!decode_is_due(make_reply("identity", text)), "identity is nothing");
}

/*
 * What cannot be decoded stays, to the byte.
 */
static void
test_spoilt(void)
{
	Bytes *whole = compress_with(replies_bytes(TEXT, strlen(TEXT)), GZIP);
	size_t cut;

	for (cut = 1; cut < whole->len; cut++)
	{
		HttpReply *reply = make_reply("gzip", replies_bytes(whole->data, cut));

		decode(reply, 1000, SIZE_MAX);
		unit_ok(reply->undecoded != NULL && reply->body->len == cut &&
					memcmp(reply->body->data, whole->data, cut) == 0,
				"cut at %zu", cut);
	}
	for (cut = 10; cut < whole->len; cut++)
	{
		HttpReply *reply = make_reply("gzip", replies_bytes(whole->data, whole->len));

		reply->body->data[cut] ^= 0x55;
		decode(reply, 1000, SIZE_MAX);
		unit_ok(reply->undecoded != NULL || is_text(reply), "spoilt at %zu", cut);
	}
}

#define BROTLI \
	"\x1b\x2d\x00\xf8\x8d\xc4\x38\x16\xf1\x46\x71\x21\xd5\x22\x20\x63\x7b\x5b\xa7\xed\xad\x4f\x4a\x52" \
	"\x0b\x31\xb9\x80\x08\x23\xb9\x8a\x2c\xf7\x74\x60"
#define ZSTD \
	"\x28\xb5\x2f\xfd\x04\x68\xf5\x00\x00\xc0\x7b\x22\x74\x65\x78\x74\x22\x3a\x20\x22\x63\x6f\x6d\x70" \
	"\x72\x65\x73\x73\x65\x64\x2c\x20\x22\x7d\x01\x00\xae\x94\x26\xba\x5d\xef\xa4"

/*
 * br and zstd, where they can be decoded; where they cannot, they stay.
 */
static void
test_newer(void)
{
	static const struct
	{
		const char *encoding;
		const char *body;
		size_t len;
	} cases[] = {{"br", BROTLI, sizeof(BROTLI) - 1}, {"zstd", ZSTD, sizeof(ZSTD) - 1}};
	int i;
	size_t cut;

	for (i = 0; i < lengthof(cases); i++)
	{
		bool is_known = strstr(DECODE_ACCEPTED, cases[i].encoding) != NULL;
		HttpReply *reply =
			make_reply(cases[i].encoding, replies_bytes(cases[i].body, cases[i].len));
		HttpReply *nested =
			make_reply(psprintf("%s, gzip", cases[i].encoding),
					   compress_with(replies_bytes(cases[i].body, cases[i].len), GZIP));

		decode(reply, 1000, SIZE_MAX);
		unit_ok(is_known ? is_text(reply)
						 : reply->undecoded != NULL && strstr(reply->undecoded, cases[i].encoding),
				"%s is decoded, or named", cases[i].encoding);
		decode(nested, 1000, SIZE_MAX);
		unit_ok(!is_known || is_text(nested), "%s within gzip is decoded", cases[i].encoding);
		reply = make_reply(cases[i].encoding, replies_bytes(cases[i].body, cases[i].len));
		decode(reply, strlen(TEXT) - 1, SIZE_MAX);
		unit_ok(reply->undecoded != NULL && reply->body->len == cases[i].len,
				"%s of what is too large stays as it came", cases[i].encoding);
		for (cut = 1; cut < cases[i].len; cut++)
		{
			reply = make_reply(cases[i].encoding, replies_bytes(cases[i].body, cut));
			decode(reply, 1000, SIZE_MAX);
			unit_ok(reply->undecoded != NULL && reply->body->len == cut, "%s cut at %zu",
					cases[i].encoding, cut);
		}
	}
}

static void
test_others(void)
{
	const char *encodings[] = {"br",
							   "zstd",
							   "gzip, br",
							   "compress",
							   "gzip, gzip, gzip, gzip",
							   "gzip\r\nContent-Encoding: gzip, gzip\r\nContent-Encoding: gzip",
							   "br\r\nContent-Encoding: sdch\r\nContent-Encoding: gzip"};
	int i;

	for (i = 0; i < lengthof(encodings); i++)
	{
		HttpReply *reply = make_reply(encodings[i], replies_bytes("what", 4));

		unit_ok(decode_is_due(reply) && decode(reply, 1000, SIZE_MAX) == DECODE_DONE &&
					reply->undecoded != NULL && reply->body->len == 4,
				"%s stays as it came", encodings[i]);
	}
}

static void
test_bounds(void)
{
	size_t len = 20 * 1024 * 1024;
	char *zeros = calloc(1, len);
	Bytes *bomb = compress_with(replies_bytes(zeros, len), GZIP);
	size_t bomb_len = bomb->len;
	HttpReply *reply = make_reply("gzip", bomb);

	unit_ok(decode(reply, 2 * len, 1000000) == DECODE_NO_MEMORY && reply->body->len == bomb_len,
			"where memory is short, the body is as it came");
	decode(reply, 1000000, SIZE_MAX);
	unit_ok(reply->undecoded != NULL && reply->body->len == bomb_len,
			"what is too large stays as it came");
	reply = make_reply("gzip", compress_with(replies_bytes(zeros, len), GZIP));
	decode(reply, len, SIZE_MAX);
	unit_ok(reply->undecoded == NULL && reply->body->len == len,
			"what is just as large as it may be is decoded");
	free(zeros);
}

void
unit_run(void)
{
	static const size_t budgets[] = {SIZE_MAX, 1, 20, 100000};
	int i;

	for (i = 0; i < lengthof(budgets); i++)
	{
		budget = budgets[i];
		test_formats();
		test_spoilt();
		test_newer();
		test_others();
		test_bounds();
	}
}
