/*
 * decode.c
 *		Decodes bodies that came compressed, once they are whole: gzip, deflate,
 *		and br and zstd if genjob was built with their libraries.
 *
 * What is paid for must not be lost: a body that cannot be decoded (it is
 * broken, of another encoding, or too large) stays as it came.  libcurl would
 * throw it away, so libcurl does not decode.  A small body may stand for
 * gigabytes: so decoding limits what comes out, while it grows, and the number
 * of encodings.
 *
 * Nothing here raises an error or calls palloc(): it runs between libcurl's
 * calls.
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
#include "http/header.h"

#define MAX_ENCODINGS 3 /* one around the other */
#define PIECE (64 * 1024)
#define STEP (256 * 1024) /* bytes read, or put out, in one go */

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

/* The words of all headers of one name, which count as one list (RFC 9110, 5.3) */
typedef struct Words
{
	const HttpReply *reply;
	size_t at;        /* the next header */
	const char *next; /* what is left of the present one; no NUL byte follows */
	const char *end;
} Words;

/*
 * Moves on to the next Content-Encoding; false if there is none.
 */
static bool
next_line(Words *words)
{
	static const char name[] = "Content-Encoding";
	HeaderLine line;

	while (header_next(words->reply, &words->at, &line))
	{
		if (line.name_len != strlen(name) || pg_strncasecmp(line.name, name, strlen(name)) != 0)
			continue;
		words->next = line.value;
		words->end = line.value + line.value_len;
		return true;
	}
	return false;
}

/*
 * Returns the next encoding of the list, its length in *len; NULL at the end.
 */
static const char *
next_word(Words *words, size_t *len)
{
	const char *word;

	do
	{
		while (words->next < words->end && strchr(" \t\r,", *words->next) != NULL)
			words->next++;
	} while (words->next == words->end && next_line(words));
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
	Words words = {.reply = reply};
	const char *word;
	size_t len;
	int n = 0;
	int i;

	*unknown = NULL;
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

/* One encoding that is being taken off, some of the body at a time. */
struct Decoding
{
	Encoding encoding;
	const Bytes *body;
	size_t read;   /* bytes of body so far */
	size_t budget; /* bytes that may still be read or put out now */
	bool is_raw;   /* deflate without zlib's header */

	char *data; /* malloc'd */
	size_t len;
	size_t capacity;
	size_t most;
	DecodeMayGrow may_grow;
	void *arg;

	bool is_open;
	z_stream zlib;
#ifdef GENJOB_BROTLI
	BrotliDecoderState *brotli;
#endif
#ifdef GENJOB_ZSTD
	ZSTD_DStream *zstd;
#endif
};

typedef enum InflateEnd
{
	INFLATE_DONE,
	INFLATE_MORE, /* the budget is used up */
	INFLATE_BROKEN,
	INFLATE_TOO_LARGE,
	INFLATE_NO_MEMORY
} InflateEnd;

/* What is read and put out in one go. */
typedef struct Step
{
	const char *in;
	size_t in_len;
	char *out;
	size_t room;
} Step;

/*
 * Makes room for another piece.  Doubles, because the size is unknown.
 */
static InflateEnd
grow_output(Decoding *decoding)
{
	size_t capacity = Min(Max(decoding->capacity * 2, PIECE), decoding->most + 1);
	char *grown;

	if (decoding->len > decoding->most)
		return INFLATE_TOO_LARGE;
	if (decoding->len < decoding->capacity)
		return INFLATE_DONE;
	if (!decoding->may_grow(decoding->arg, capacity))
		return INFLATE_NO_MEMORY;
	grown = realloc(decoding->data, capacity);
	if (grown == NULL)
		return INFLATE_NO_MEMORY;
	decoding->data = grown;
	decoding->capacity = capacity;
	return INFLATE_DONE;
}

static InflateEnd
begin_step(Decoding *decoding, Step *step)
{
	InflateEnd end = grow_output(decoding);

	if (end != INFLATE_DONE)
		return end;
	step->in = decoding->body->data + decoding->read;
	step->in_len = Min(decoding->body->len - decoding->read, STEP);
	step->out = decoding->data + decoding->len;
	step->room = Min(decoding->capacity - decoding->len, STEP);
	return INFLATE_DONE;
}

static void
end_step(Decoding *decoding, size_t in_len, size_t out_len)
{
	decoding->read += in_len;
	decoding->len += out_len;
	/* plus 1, so that steps that do nothing end, too */
	decoding->budget -= Min(decoding->budget, in_len + out_len + 1);
}

static bool
has_more(const Decoding *decoding)
{
	return decoding->read < decoding->body->len;
}

static InflateEnd
choose_end(const Decoding *decoding, bool is_complete)
{
	return decoding->len > decoding->most ? INFLATE_TOO_LARGE
		   : is_complete                  ? INFLATE_DONE
										  : INFLATE_BROKEN;
}

/*
 * True if another gzip stream follows the end of one, as gzip allows.  Other
 * bytes there are ignored.
 */
static bool
begins_again(Decoding *decoding)
{
	const unsigned char *next = (const unsigned char *) decoding->body->data + decoding->read;

	return decoding->body->len - decoding->read >= 2 && next[0] == 0x1f && next[1] == 0x8b &&
		   inflateReset(&decoding->zlib) == Z_OK;
}

static InflateEnd
take_off_zlib(Decoding *decoding)
{
	z_stream *zlib = &decoding->zlib;

	while (decoding->budget > 0)
	{
		Step step;
		InflateEnd end = begin_step(decoding, &step);
		int code;

		if (end != INFLATE_DONE)
			return end;
		zlib->next_in = (Bytef *) step.in;
		zlib->avail_in = step.in_len;
		zlib->next_out = (Bytef *) step.out;
		zlib->avail_out = step.room;
		code = inflate(zlib, Z_NO_FLUSH);
		end_step(decoding, step.in_len - zlib->avail_in, step.room - zlib->avail_out);
		if (code == Z_STREAM_END)
		{
			if (!begins_again(decoding))
				return choose_end(decoding, true);
		}
		else if (code == Z_MEM_ERROR)
			return INFLATE_NO_MEMORY;
		else if (code != Z_OK && code != Z_BUF_ERROR)
			return INFLATE_BROKEN;
		else if (!has_more(decoding) && zlib->avail_out > 0)
			return choose_end(decoding, false); /* it is cut */
	}
	return INFLATE_MORE;
}

#ifdef GENJOB_BROTLI

static InflateEnd
take_off_brotli(Decoding *decoding)
{
	while (decoding->budget > 0)
	{
		Step step;
		InflateEnd end = begin_step(decoding, &step);
		size_t in_left = step.in_len;
		size_t room_left = step.room;
		BrotliDecoderResult result;

		if (end != INFLATE_DONE)
			return end;
		result =
			BrotliDecoderDecompressStream(decoding->brotli, &in_left, (const uint8_t **) &step.in,
										  &room_left, (uint8_t **) &step.out, NULL);
		end_step(decoding, step.in_len - in_left, step.room - room_left);
		if (result == BROTLI_DECODER_RESULT_SUCCESS || result == BROTLI_DECODER_RESULT_ERROR)
			return choose_end(decoding, result == BROTLI_DECODER_RESULT_SUCCESS);
		if (result == BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT && !has_more(decoding))
			return choose_end(decoding, false);
	}
	return INFLATE_MORE;
}

#endif
#ifdef GENJOB_ZSTD

static InflateEnd
take_off_zstd(Decoding *decoding)
{
	while (decoding->budget > 0)
	{
		Step step;
		InflateEnd end = begin_step(decoding, &step);
		ZSTD_inBuffer in;
		ZSTD_outBuffer out;
		size_t left; /* 0: at the end of a frame */

		if (end != INFLATE_DONE)
			return end;
		in = (ZSTD_inBuffer){step.in, step.in_len, 0};
		out = (ZSTD_outBuffer){step.out, step.room, 0};
		left = ZSTD_decompressStream(decoding->zstd, &out, &in);
		end_step(decoding, in.pos, out.pos);
		if (ZSTD_isError(left))
			return INFLATE_BROKEN;
		/* zstd has more to put out while it fills its room */
		if (!has_more(decoding) && (left == 0 || out.pos < out.size))
			return choose_end(decoding, left == 0);
	}
	return INFLATE_MORE;
}

#endif

/*
 * Prepares to read the body from its beginning.  False when memory is short.
 */
static bool
open_decoder(Decoding *decoding)
{
	decoding->read = decoding->len = 0;
	switch (decoding->encoding)
	{
		case ENCODING_ZLIB:
			memset(&decoding->zlib, 0, sizeof(decoding->zlib));
			decoding->is_open = inflateInit2(&decoding->zlib,
											 decoding->is_raw ? RAW_DEFLATE : GZIP_OR_ZLIB) == Z_OK;
			break;
#ifdef GENJOB_BROTLI
		case ENCODING_BROTLI:
			decoding->brotli = BrotliDecoderCreateInstance(NULL, NULL, NULL);
			decoding->is_open = decoding->brotli != NULL;
			break;
#endif
#ifdef GENJOB_ZSTD
		case ENCODING_ZSTD:
			decoding->zstd = ZSTD_createDStream();
			decoding->is_open = decoding->zstd != NULL;
			if (decoding->is_open)
				(void) ZSTD_DCtx_setParameter(decoding->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW);
			break;
#endif
		default:
			break;
	}
	return decoding->is_open;
}

static void
close_decoder(Decoding *decoding)
{
	if (!decoding->is_open)
		return;
	decoding->is_open = false;
	switch (decoding->encoding)
	{
		case ENCODING_ZLIB:
			inflateEnd(&decoding->zlib);
			break;
#ifdef GENJOB_BROTLI
		case ENCODING_BROTLI:
			BrotliDecoderDestroyInstance(decoding->brotli);
			break;
#endif
#ifdef GENJOB_ZSTD
		case ENCODING_ZSTD:
			ZSTD_freeDStream(decoding->zstd);
			break;
#endif
		default:
			break;
	}
}

/*
 * Frees a decoding, which may be NULL.
 */
void
decode_forget(Decoding *decoding)
{
	if (decoding == NULL)
		return;
	close_decoder(decoding);
	free(decoding->data);
	free(decoding);
}

static InflateEnd
take_off_some(Decoding *decoding)
{
	switch (decoding->encoding)
	{
		case ENCODING_ZLIB:
			return take_off_zlib(decoding);
#ifdef GENJOB_BROTLI
		case ENCODING_BROTLI:
			return take_off_brotli(decoding);
#endif
#ifdef GENJOB_ZSTD
		case ENCODING_ZSTD:
			return take_off_zstd(decoding);
#endif
		default:
			return INFLATE_BROKEN;
	}
}

/*
 * Goes on with one encoding.  By the standard "deflate" is zlib's format, but
 * many servers send raw deflate: so that is tried second.
 */
static InflateEnd
continue_decoding(Decoding *decoding)
{
	InflateEnd end;

	if (!decoding->is_open && !open_decoder(decoding))
		return INFLATE_NO_MEMORY;
	end = take_off_some(decoding);
	if (end != INFLATE_BROKEN || decoding->encoding != ENCODING_ZLIB || decoding->is_raw)
		return end;
	close_decoder(decoding);
	decoding->is_raw = true;
	return continue_decoding(decoding);
}

/*
 * Returns what takes an encoding off a body, malloc'd; NULL if out of memory.
 */
static Decoding *
create_decoding(const HttpReply *reply, Encoding encoding, size_t most, DecodeMayGrow may_grow,
				void *arg)
{
	Decoding *decoding = calloc(1, sizeof(Decoding));

	if (decoding == NULL)
		return NULL;
	decoding->encoding = encoding;
	decoding->body = reply->body;
	decoding->most = most;
	decoding->may_grow = may_grow;
	decoding->arg = arg;
	return decoding;
}

/*
 * Takes one encoding off.  If the budget ends before, *decoding keeps what is
 * done so far.
 */
static InflateEnd
take_off_one(HttpReply *reply, Decoding **decoding, size_t *budget)
{
	InflateEnd end;

	(*decoding)->budget = *budget;
	end = continue_decoding(*decoding);
	*budget = (*decoding)->budget;
	if (end == INFLATE_MORE)
		return end;
	if (end == INFLATE_DONE)
	{
		close_decoder(*decoding);
		bytes_take(reply->body, (*decoding)->data, (*decoding)->len, (*decoding)->capacity);
		(*decoding)->data = NULL;
		reply->n_decoded++;
	}
	decode_forget(*decoding);
	*decoding = NULL;
	return end;
}

/*
 * Returns what the error says about a body that cannot be decoded.  name: its
 * usual encoding; NULL: any other.
 */
static const char *
describe_unknown(const char *name)
{
	if (name == NULL)
		return "not JSON but encoded in a way that genjob did not ask for (Content-Encoding)";
	switch (*name)
	{
		case 'b':
			return "not JSON but encoded in a way that genjob did not ask for (Content-Encoding: br)";
		case 'z':
			return "not JSON but encoded in a way that genjob did not ask for (Content-Encoding: zstd)";
		default:
			return "not JSON but encoded in a way that genjob did not ask for (Content-Encoding: compress)";
	}
}

/*
 * Decodes the body of a complete answer for which decode_is_due(); at most
 * most bytes come out.  After budget bytes were read and put out, returns
 * DECODE_GOES_ON.  *begun keeps what is done so far, for the next call or for
 * decode_forget(); NULL at first.
 */
DecodeEnd
decode_body(HttpReply *reply, Decoding **begun, size_t budget, size_t most, DecodeMayGrow may_grow,
			void *arg)
{
	Encoding list[MAX_ENCODINGS];
	const char *unknown;
	int n = read_encodings(reply, list, &unknown);
	InflateEnd end = n < 0 ? INFLATE_BROKEN : INFLATE_DONE;

	if (n < 0)
		reply->undecoded = describe_unknown(unknown);
	/* the encoding that was applied last comes off first */
	while (n > reply->n_decoded && end == INFLATE_DONE)
	{
		if (*begun == NULL)
			*begun = create_decoding(reply, list[n - 1 - reply->n_decoded], most, may_grow, arg);
		end = *begun ? take_off_one(reply, begun, &budget) : INFLATE_NO_MEMORY;
	}
	if (end == INFLATE_MORE)
		return DECODE_GOES_ON;
	if (end == INFLATE_NO_MEMORY)
		return DECODE_NO_MEMORY;
	if (end == INFLATE_TOO_LARGE)
		reply->undecoded =
			"not JSON but compressed, and larger than the option max_response once decompressed";
	else if (end == INFLATE_BROKEN && n > 0)
		reply->undecoded = "not JSON but compressed, and cannot be decompressed";
	reply->is_decoded = reply->undecoded == NULL;
	return DECODE_DONE;
}
