/*
 * base64.c
 *		Bytes as text of 64 characters, and back.
 *
 * A picture is megabytes of base64, and nothing interrupts its decoding.  So
 * text of the standard alphabet is decoded eight characters at a time, and
 * checked in the same pass.  The rest, from the first other character on (a
 * line break, the URL-safe alphabet, padding), is checked first and then
 * decoded.
 */
#include "postgres.h"

#include "port/pg_bswap.h"
#include "utils/memutils.h"

#include "base/base64.h"
#include "base/compat.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/*
 * The value of a byte as a digit of base64 (of the standard or the URL-safe
 * alphabet), or one of these.
 */
#define SPACE (-1)
#define PAD (-2)
#define BAD (-3)

/* clang-format off */
static const signed char values[256] = {
	-3, -3, -3, -3, -3, -3, -3, -3, -3, -1, -1, -3, -3, -1, -3, -3,
	-3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3,
	-1, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, 62, -3, 62, -3, 63,
	52, 53, 54, 55, 56, 57, 58, 59, 60, 61, -3, -3, -3, -2, -3, -3,
	-3,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14,
	15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, -3, -3, -3, -3, 63,
	-3, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
	41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, -3, -3, -3, -3, -3,
	-3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3,
	-3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3,
	-3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3,
	-3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3,
	-3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3,
	-3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3,
	-3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3,
	-3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3,
};
/* clang-format on */

static inline int
value_of(char c)
{
	return values[(unsigned char) c];
}

/*
 * True if the next four bytes are digits, as nearly all are.
 */
static inline bool
has_four(const char *text, const char *end)
{
	return end - text >= 4 &&
		   (value_of(text[0]) | value_of(text[1]) | value_of(text[2]) | value_of(text[3])) >= 0;
}

static bool
is_valid(const char *text, size_t len)
{
	const char *end = text + len;
	size_t digits = 0;
	size_t pads = 0;

	while (text < end)
	{
		int value;

		if (pads == 0 && has_four(text, end))
		{
			text += 4;
			continue;
		}
		value = value_of(*text++);
		if (value == BAD || (value >= 0 && pads > 0))
			return false;
		digits += value >= 0;
		pads += value == PAD;
	}
	return digits % 4 != 1 && pads <= 2;
}

/* ---------- eight characters at a time ---------- */

#define GROUP 8       /* characters */
#define GROUP_BYTES 6 /* of data, for each group */
#define NO_DIGIT (1 << 24)

/*
 * For each place of four (0 to 3) and each character of the alphabet: its
 * bits, where they stand in three bytes.  NO_DIGIT for any other character.
 */
static uint32 places[4][256];

static void
fill_places(void)
{
	int place;
	int i;

	if (places[0][0] != 0)
		return;
	for (place = 0; place < 4; place++)
	{
		for (i = 0; i < 256; i++)
			places[place][i] = NO_DIGIT;
		for (i = 0; i < 64; i++)
			places[place][(unsigned char) alphabet[i]] = i << (18 - 6 * place);
	}
}

static inline uint32
read_four(uint32 four)
{
	return places[0][four >> 24] | places[1][four >> 16 & 0xFF] | places[2][four >> 8 & 0xFF] |
		   places[3][four & 0xFF];
}

/*
 * Decodes groups in place from the start of text, up to the first group that
 * has a character outside the alphabet.  Returns the number of decoded groups.
 */
static size_t
decode_groups(char *text, size_t len)
{
	size_t n = len / GROUP;
	size_t i;

	fill_places();
	for (i = 0; i < n; i++)
	{
		uint64 group;
		uint32 first;
		uint32 second;

		memcpy(&group, text + i * GROUP, GROUP);
		group = pg_ntoh64(group);
		first = read_four((uint32) (group >> 32));
		second = read_four((uint32) group);
		if ((first | second) >= NO_DIGIT)
			break;
		group = pg_hton64((uint64) first << 40 | (uint64) second << 16);
		/* writes two bytes too many: they overwrite what was read */
		memcpy(text + i * GROUP_BYTES, &group, sizeof(group));
	}
	return i;
}

/*
 * Encodes the first n groups again, in place.
 */
static void
restore_groups(char *text, size_t n)
{
	size_t i;

	for (i = n * GROUP / 4; i-- > 0;)
	{
		const unsigned char *bytes = (const unsigned char *) text + i * 3;
		uint32 bits = bytes[0] << 16 | bytes[1] << 8 | bytes[2];
		char *four = text + i * 4;

		four[0] = alphabet[bits >> 18];
		four[1] = alphabet[bits >> 12 & 0x3F];
		four[2] = alphabet[bits >> 6 & 0x3F];
		four[3] = alphabet[bits & 0x3F];
	}
}

/* ---------- decoding ---------- */

/*
 * Decodes valid text to out, which may be the same memory or begin before it.
 * Returns the end of the bytes.
 */
static char *
decode_valid(const char *in, const char *end, char *out)
{
	uint32 bits = 0;
	int nbits = 0;

	while (in < end)
	{
		int value;

		if (nbits == 0 && has_four(in, end))
		{
			bits = value_of(in[0]) << 18 | value_of(in[1]) << 12 | value_of(in[2]) << 6 |
				   value_of(in[3]);
			*out++ = (char) (bits >> 16);
			*out++ = (char) (bits >> 8);
			*out++ = (char) bits;
			in += 4;
			continue;
		}
		value = value_of(*in++);
		if (value < 0)
			continue;
		bits = (bits << 6) | value;
		nbits += 6;
		if (nbits >= 8)
		{
			nbits -= 8;
			*out++ = (char) (bits >> nbits);
		}
	}
	return out;
}

/*
 * Decodes base64 in place.  Returns the number of bytes; -1, with text
 * unchanged, if it is not base64.  Skips white space and accepts missing
 * padding, because servers differ in both.
 */
ssize_t
base64_decode_in_place(char *text, size_t len)
{
	size_t n = decode_groups(text, len);
	char *rest = text + n * GROUP;

	if (is_valid(rest, len - n * GROUP))
		return decode_valid(rest, text + len, text + n * GROUP_BYTES) - text;
	restore_groups(text, n);
	return -1;
}

/*
 * Returns the base64 of data, palloc'd.
 */
char *
base64_encode(const char *data, size_t len)
{
	size_t size = pg_b64_enc_len((int) len) + 1;
	char *text = MemoryContextAllocHuge(CurrentMemoryContext, size);
	int written = compat_b64_encode(data, (int) len, text, (int) size);

	if (written < 0)
		elog(ERROR, "could not encode %zu bytes as base64", len);
	text[written] = '\0';
	return text;
}
