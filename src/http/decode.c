/*
 * decode.c
 *		Bodies that came compressed: gzip and deflate are decoded, once the whole body is there; br and zstd, where their
 *		libraries were there to build with.
 *
 * What is paid for is not lost: a body that cannot be decoded, because it is broken, of another encoding, or more than an
 * answer may be, stays as it came.  So libcurl, which would throw it away, does not decode.  A small body may stand for
 * one of gigabytes: what comes out is bounded while it grows, and so is the number of encodings.
 *
 * None of this raises an error or uses palloc(): it is called from between libcurl's calls.
 */
#include "postgres.h"

#include <zlib.h>
#ifdef GENJOB_BROTLI
#include <brotli/decode.h>
#endif
#ifdef GENJOB_ZSTD
#include <zstd.h>
#endif

#include "base/bytes.h"
#include "http/decode.h"

#define MAX_ENCODINGS 3 /* one around the other */
#define PIECE (64 * 1024)

#define ANY_WINDOW 15 /* the largest: it can read all others */
#define GZIP_OR_ZLIB (ANY_WINDOW + 32)
#define RAW_DEFLATE (-ANY_WINDOW)
#define ZSTD_WINDOW 23 /* as an exponent: RFC 9659 allows no larger one */

typedef enum Encoding
{
	ENCODING_IDENTITY,
	ENCODING_ZLIB, /* gzip, deflate */
	ENCODING_BROTLI,
	ENCODING_ZSTD,
	ENCODING_OTHER
} Encoding;

static const struct
{
	const char *name;
	Encoding encoding;
} encodings[] = {
	{"identity", ENCODING_IDENTITY}, {"gzip", ENCODING_ZLIB},
	{"x-gzip", ENCODING_ZLIB},       {"deflate", ENCODING_ZLIB},
#ifdef GENJOB_BROTLI
	{"br", ENCODING_BROTLI},
#endif
#ifdef GENJOB_ZSTD
	{"zstd", ENCODING_ZSTD},
#endif
};

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

static Encoding
encoding_of(const char *word, size_t len)
{
	int i;

	for (i = 0; i < lengthof(encodings); i++)
	{
		if (is_word(word, len, encodings[i].name))
			return encodings[i].encoding;
	}
	return ENCODING_OTHER;
}

/*
 * Reads the encodings of a body, in the order in which they were applied.  Returns their number, or -1 if one cannot
 * be decoded, or there are too many.  *unknown: the name of a usual encoding that cannot be decoded.
 */
static int
read_encodings(const HttpReply *reply, Encoding *list, const char **unknown)
{
	static const char *const usual[] = {"br", "zstd", "compress"};
	Words words;
	const char *word;
	size_t len;
	int n = 0;
	int i;

	*unknown = NULL;
	if (!find_encodings(reply, &words))
		return 0;
	while ((word = next_word(&words, &len)) != NULL)
	{
		Encoding encoding = encoding_of(word, len);

		for (i = 0; i < lengthof(usual) && encoding == ENCODING_OTHER; i++)
		{
			if (is_word(word, len, usual[i]))
				*unknown = usual[i];
		}
		if (encoding == ENCODING_OTHER || (encoding != ENCODING_IDENTITY && n == MAX_ENCODINGS))
			return -1;
		if (encoding != ENCODING_IDENTITY)
			list[n++] = encoding;
	}
	return n;
}

/*
 * True if a complete answer has a body to decode.
 */
bool
decode_is_due(const HttpReply *reply)
{
	Encoding list[MAX_ENCODINGS];
	const char *unknown;

	return reply->error == HTTP_OK && reply->undecoded == NULL && !reply->is_decoded &&
		   reply->body->len > 0 && read_encodings(reply, list, &unknown) != 0;
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

/*
 * gzip, or deflate in one of its two forms.
 */
static InflateEnd
take_off_zlib(Inflating *inflating, const Bytes *body)
{
	InflateEnd end = inflate_as(inflating, body, GZIP_OR_ZLIB);

	return end == INFLATE_BROKEN ? inflate_as(inflating, body, RAW_DEFLATE) : end;
}

#ifdef GENJOB_BROTLI

static InflateEnd
take_off_brotli(Inflating *inflating, const Bytes *body)
{
	BrotliDecoderState *state = BrotliDecoderCreateInstance(NULL, NULL, NULL);
	const uint8_t *in = (const uint8_t *) body->data;
	size_t in_len = body->len;
	InflateEnd end = state != NULL ? INFLATE_DONE : INFLATE_NO_MEMORY;
	BrotliDecoderResult result = BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT;

	while (end == INFLATE_DONE && result == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT)
	{
		size_t room;
		uint8_t *out;

		end = grow(inflating);
		if (end != INFLATE_DONE)
			break;
		room = inflating->capacity - inflating->len;
		out = (uint8_t *) inflating->data + inflating->len;
		result = BrotliDecoderDecompressStream(state, &in_len, &in, &room, &out, NULL);
		inflating->len = inflating->capacity - room;
	}
	if (state != NULL)
		BrotliDecoderDestroyInstance(state);
	if (end != INFLATE_DONE)
		return end;
	return result != BROTLI_DECODER_RESULT_SUCCESS ? INFLATE_BROKEN
		   : inflating->len > inflating->most      ? INFLATE_TOO_LARGE
												   : INFLATE_DONE;
}

#endif
#ifdef GENJOB_ZSTD

static InflateEnd
take_off_zstd(Inflating *inflating, const Bytes *body)
{
	ZSTD_DStream *stream = ZSTD_createDStream();
	ZSTD_inBuffer in = {body->data, body->len, 0};
	InflateEnd end = stream != NULL ? INFLATE_DONE : INFLATE_NO_MEMORY;
	size_t left = 1; /* 0: at the end of a frame */
	bool goes_on = true;

	if (stream != NULL)
		(void) ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, ZSTD_WINDOW);
	while (end == INFLATE_DONE && goes_on)
	{
		ZSTD_outBuffer out;

		end = grow(inflating);
		if (end != INFLATE_DONE)
			break;
		out = (ZSTD_outBuffer){inflating->data, inflating->capacity, inflating->len};
		left = ZSTD_decompressStream(stream, &out, &in);
		inflating->len = out.pos;
		if (ZSTD_isError(left))
			end = INFLATE_BROKEN;
		/* what is left to be put out comes once there is room */
		goes_on = in.pos < in.size || (left > 0 && out.pos == out.size);
	}
	ZSTD_freeDStream(stream);
	if (end != INFLATE_DONE)
		return end;
	return left > 0                           ? INFLATE_BROKEN
		   : inflating->len > inflating->most ? INFLATE_TOO_LARGE
											  : INFLATE_DONE;
}

#endif

static InflateEnd
take_off_one(HttpReply *reply, Encoding encoding, size_t most, DecodeMayGrow may_grow, void *arg)
{
	Inflating inflating = {.most = most, .may_grow = may_grow, .arg = arg};
	InflateEnd end = INFLATE_BROKEN;

	switch (encoding)
	{
		case ENCODING_ZLIB:
			end = take_off_zlib(&inflating, reply->body);
			break;
#ifdef GENJOB_BROTLI
		case ENCODING_BROTLI:
			end = take_off_brotli(&inflating, reply->body);
			break;
#endif
#ifdef GENJOB_ZSTD
		case ENCODING_ZSTD:
			end = take_off_zstd(&inflating, reply->body);
			break;
#endif
		default:
			break;
	}
	if (end == INFLATE_DONE)
		bytes_take(reply->body, inflating.data, inflating.len, inflating.capacity);
	else
		free(inflating.data);
	return end;
}

/*
 * Returns what the error says about a body in the usual encoding name, or NULL for any other.
 */
static const char *
describe_unknown(const char *name)
{
	if (name == NULL)
		return "not JSON but in an encoding that genjob does not ask for (Content-Encoding)";
	switch (*name)
	{
		case 'b':
			return "not JSON but in an encoding that genjob does not ask for (Content-Encoding: br)";
		case 'z':
			return "not JSON but in an encoding that genjob does not ask for (Content-Encoding: zstd)";
		default:
			return "not JSON but in an encoding that genjob does not ask for (Content-Encoding: compress)";
	}
}

/*
 * Decodes the body of a complete answer for which decode_is_due().  At most most bytes come out.
 */
DecodeEnd
decode_body(HttpReply *reply, size_t most, DecodeMayGrow may_grow, void *arg)
{
	Encoding list[MAX_ENCODINGS];
	const char *unknown;
	int n = read_encodings(reply, list, &unknown);
	InflateEnd end = n < 0 ? INFLATE_BROKEN : INFLATE_DONE;

	if (n < 0)
		reply->undecoded = describe_unknown(unknown);
	/* the last that was put on comes off first */
	while (n > reply->n_decoded && end == INFLATE_DONE)
	{
		end = take_off_one(reply, list[n - 1 - reply->n_decoded], most, may_grow, arg);
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
