/*
 * decode.c
 *		Bodies that came compressed: gzip and deflate are decoded, once the whole body is there.
 *
 * What is paid for is not lost: a body that cannot be decoded, because it is broken, of another encoding, or more than an
 * answer may be, stays as it came.  So libcurl, which would throw it away, does not decode.  A small body may stand for
 * one of gigabytes: what comes out is bounded while it grows, and so is the number of encodings.
 *
 * None of this raises an error or uses palloc(): it is called from between libcurl's calls.
 */
#include "postgres.h"

#include <zlib.h>

#include "base/bytes.h"
#include "http/decode.h"

#define MAX_ENCODINGS 3 /* one around the other */
#define PIECE (64 * 1024)

#define ANY_WINDOW 15 /* the largest: it can read all others */
#define GZIP_OR_ZLIB (ANY_WINDOW + 32)
#define RAW_DEFLATE (-ANY_WINDOW)

/* A header's value, word by word; the header is not followed by a NUL byte. */
typedef struct Words
{
	const char *next;
	const char *end;
} Words;

/*
 * The value of the last Content-Encoding, as it stands in the headers; false if there is none.
 */
static bool
find_encodings(const HttpReply *reply, Words *words)
{
	static const char name[] = "Content-Encoding:";
	const char *line = reply->headers->data;
	const char *end = line + reply->headers->len;
	bool found = false;

	while (line < end)
	{
		const char *feed = memchr(line, '\n', end - line);
		const char *line_end = feed ? feed : end;

		if (line_end - line >= (ptrdiff_t) strlen(name) &&
			pg_strncasecmp(line, name, strlen(name)) == 0)
		{
			*words = (Words){line + strlen(name), line_end};
			found = true;
		}
		line = line_end + 1;
	}
	return found;
}

/*
 * The next encoding of a list, with its length in *len; NULL at the end.
 */
static const char *
next_word(Words *words, size_t *len)
{
	const char *word;

	while (words->next < words->end && strchr(" \t\r,", *words->next) != NULL)
		words->next++;
	word = words->next;
	while (words->next < words->end && strchr(" \t\r,", *words->next) == NULL)
		words->next++;
	*len = words->next - word;
	return *len > 0 ? word : NULL;
}

static bool
is_word(const char *word, size_t len, const char *name)
{
	return len == strlen(name) && pg_strncasecmp(word, name, len) == 0;
}

/*
 * Returns how many times the body was compressed in a way that can be decoded; -1 if in another way, which *other
 * names.
 */
static int
count_encodings(const HttpReply *reply, Words *other)
{
	Words words;
	const char *word;
	size_t len;
	int n = 0;

	if (!find_encodings(reply, &words))
		return 0;
	while ((word = next_word(&words, &len)) != NULL)
	{
		*other = (Words){word, word + len};
		if (is_word(word, len, "gzip") || is_word(word, len, "x-gzip") ||
			is_word(word, len, "deflate"))
			n++;
		else if (!is_word(word, len, "identity"))
			return -1;
		if (n > MAX_ENCODINGS)
			return -1;
	}
	return n;
}

/*
 * True if a complete answer has a body to decode.
 */
bool
decode_is_due(const HttpReply *reply)
{
	Words other;

	return reply->error == HTTP_OK && reply->undecoded == NULL && !reply->is_decoded &&
		   reply->body->len > 0 && count_encodings(reply, &other) != 0;
}

/* One encoding that is taken off. */
typedef struct Inflating
{
	z_stream zlib;
	char *data; /* malloc'd */
	size_t len;
	size_t capacity;
	size_t most;
	DecodeMayGrow may_grow;
	void *arg;
} Inflating;

typedef enum InflateEnd
{
	INFLATE_DONE,
	INFLATE_BROKEN,
	INFLATE_TOO_LARGE,
	INFLATE_NO_MEMORY
} InflateEnd;

/*
 * Makes room for another piece.  Doubles a size that is not known beforehand.
 */
static InflateEnd
grow(Inflating *inflating)
{
	size_t capacity = Min(Max(inflating->capacity * 2, PIECE), inflating->most + 1);
	char *grown;

	if (inflating->len > inflating->most)
		return INFLATE_TOO_LARGE;
	if (inflating->len < inflating->capacity)
		return INFLATE_DONE;
	if (!inflating->may_grow(inflating->arg, capacity))
		return INFLATE_NO_MEMORY;
	grown = realloc(inflating->data, capacity);
	if (grown == NULL)
		return INFLATE_NO_MEMORY;
	inflating->data = grown;
	inflating->capacity = capacity;
	return INFLATE_DONE;
}

/*
 * Decodes one encoding.  Several streams may follow one another, as gzip allows; bytes after the last one are ignored.
 */
static InflateEnd
inflate_all(Inflating *inflating, const Bytes *body)
{
	z_stream *zlib = &inflating->zlib;
	bool has_ended = false;

	zlib->next_in = (Bytef *) body->data;
	zlib->avail_in = body->len;
	for (;;)
	{
		InflateEnd end = grow(inflating);
		size_t room = inflating->capacity - inflating->len;
		int code;

		if (end != INFLATE_DONE)
			return end;
		zlib->next_out = (Bytef *) inflating->data + inflating->len;
		zlib->avail_out = room;
		code = inflate(zlib, Z_NO_FLUSH);
		inflating->len += room - zlib->avail_out;
		if (code == Z_STREAM_END)
		{
			has_ended = true;
			if (zlib->avail_in < 2 || zlib->next_in[0] != 0x1f || zlib->next_in[1] != 0x8b ||
				inflateReset(zlib) != Z_OK)
				break;
			has_ended = false;
		}
		else if (code == Z_MEM_ERROR)
			return INFLATE_NO_MEMORY;
		else if (code != Z_OK && code != Z_BUF_ERROR)
			return INFLATE_BROKEN;
		else if (zlib->avail_in == 0 && zlib->avail_out > 0)
			break; /* it is cut */
	}
	return inflating->len > inflating->most ? INFLATE_TOO_LARGE
		   : has_ended                      ? INFLATE_DONE
											: INFLATE_BROKEN;
}

/*
 * As inflate_all(), with a window of that kind.  "deflate" means zlib's format in the standard, and raw deflate for
 * many servers.
 */
static InflateEnd
inflate_as(Inflating *inflating, const Bytes *body, int window)
{
	InflateEnd end;

	memset(&inflating->zlib, 0, sizeof(inflating->zlib));
	inflating->len = 0;
	if (body->len > UINT_MAX || inflateInit2(&inflating->zlib, window) != Z_OK)
		return INFLATE_NO_MEMORY;
	end = inflate_all(inflating, body);
	inflateEnd(&inflating->zlib);
	return end;
}

static InflateEnd
take_off_one(HttpReply *reply, size_t most, DecodeMayGrow may_grow, void *arg)
{
	Inflating inflating = {.most = most, .may_grow = may_grow, .arg = arg};
	InflateEnd end = inflate_as(&inflating, reply->body, GZIP_OR_ZLIB);

	if (end == INFLATE_BROKEN)
		end = inflate_as(&inflating, reply->body, RAW_DEFLATE);
	if (end == INFLATE_DONE)
		bytes_take(reply->body, inflating.data, inflating.len, inflating.capacity);
	else
		free(inflating.data);
	return end;
}

/*
 * Decodes the body of a complete answer for which decode_is_due().  At most most bytes come out.
 */
DecodeEnd
decode_body(HttpReply *reply, size_t most, DecodeMayGrow may_grow, void *arg)
{
	Words other = {NULL, NULL};
	int n = count_encodings(reply, &other);
	InflateEnd end = n < 0 ? INFLATE_BROKEN : INFLATE_DONE;

	if (n < 0)
		reply->undecoded =
			"not JSON but in an encoding that genjob does not ask for (Content-Encoding)";
	while (n > reply->n_decoded && end == INFLATE_DONE)
	{
		end = take_off_one(reply, most, may_grow, arg);
		if (end == INFLATE_DONE)
			reply->n_decoded++;
	}
	if (end == INFLATE_NO_MEMORY)
		return DECODE_NO_MEMORY;
	if (end == INFLATE_TOO_LARGE)
		reply->undecoded =
			"not JSON but compressed, and larger than the option max_response when it is decompressed";
	else if (end == INFLATE_BROKEN && n > 0)
		reply->undecoded = "not JSON but compressed, and cannot be decompressed";
	reply->is_decoded = reply->undecoded == NULL;
	return DECODE_DONE;
}
