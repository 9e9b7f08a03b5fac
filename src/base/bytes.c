/*
 * bytes.c
 *		A growing buffer with a ceiling, and base64.
 *
 * What a server sends is collected here by libcurl's callbacks, which must neither raise an error
 * nor trust a length.  The memory is malloc()ed, so that growing a large body moves pages rather
 * than bytes, but it belongs to a memory context and goes with it.  What it takes is counted (memory.c).
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/bytes.h"
#include "base/compat.h"
#include "base/memory.h"

static void
bytes_reset_callback(void *arg)
{
	bytes_clear((Bytes *) arg);
}

/*
 * An empty buffer that is freed when owner is reset or deleted.
 */
Bytes *
bytes_create(MemoryContext owner, size_t limit)
{
	Bytes *bytes = MemoryContextAllocZero(owner, sizeof(Bytes));
	MemoryContextCallback *callback = MemoryContextAlloc(owner, sizeof(MemoryContextCallback));

	bytes->limit = limit;
	callback->func = bytes_reset_callback;
	callback->arg = bytes;
	MemoryContextRegisterResetCallback(owner, callback);
	return bytes;
}

/*
 * Makes a buffer of palloc'd data, which it owns from now on, in the current memory context; NULL: an empty one.
 */
Bytes *
bytes_of_palloced(char *data, size_t len)
{
	Bytes *bytes = palloc0(sizeof(Bytes));

	*bytes = (Bytes){.data = data, .len = len, .capacity = len, .limit = len, .is_palloced = true};
	return bytes;
}

/*
 * Returns the capacity that the buffer needs for len bytes more; they must be within the limit.
 */
size_t
bytes_capacity_for(const Bytes *bytes, size_t len)
{
	size_t wanted = Max(bytes->len + len, 1024);

	if (len <= bytes->capacity - bytes->len)
		return bytes->capacity;
	if (wanted < bytes->capacity * 2)
		wanted = bytes->capacity * 2;
	return Max(Min(wanted, bytes->limit), bytes->len + len);
}

/*
 * Makes room for at least that many bytes, within the limit.  False, with nothing changed, when memory is short.
 */
bool
bytes_reserve(Bytes *bytes, size_t capacity)
{
	char *grown;

	if (capacity <= bytes->capacity)
		return true;
	grown = capacity > bytes->limit ? NULL : realloc(bytes->data, capacity);
	if (grown == NULL)
		return false;
	memory_resize(MEMORY_ANSWERS, bytes->account, bytes->capacity, capacity);
	bytes->data = grown;
	bytes->capacity = capacity;
	return true;
}

/*
 * Appends a copy of data.  False, with nothing changed, when that would pass the limit or memory is
 * short.  Never raises an error: it is called from libcurl's callbacks.
 */
bool
bytes_append(Bytes *bytes, const void *data, size_t len)
{
	if (len > bytes->limit - bytes->len)
		return false;
	if (!bytes_reserve(bytes, bytes_capacity_for(bytes, len)))
		return false;
	if (len > 0)
		memcpy(bytes->data + bytes->len, data, len);
	bytes->len += len;
	return true;
}

/*
 * Replaces the contents, which are freed, by malloc()ed data.  capacity is within the limit.
 */
void
bytes_take(Bytes *bytes, char *data, size_t len, size_t capacity)
{
	bytes_clear(bytes);
	memory_resize(MEMORY_ANSWERS, bytes->account, 0, capacity);
	bytes->data = data;
	bytes->len = len;
	bytes->capacity = capacity;
}

/*
 * Has one buffer take over what another one has, which is empty then.  What it had is freed.
 */
void
bytes_move(Bytes *to, Bytes *from)
{
	size_t limit = from->limit;
	MemoryAccount *account = from->account;

	bytes_clear(to);
	*to = *from;
	*from = (Bytes){.limit = limit, .account = account};
}

void
bytes_clear(Bytes *bytes)
{
	if (!bytes->is_palloced)
	{
		free(bytes->data);
		memory_resize(MEMORY_ANSWERS, bytes->account, bytes->capacity, 0);
	}
	else if (bytes->data != NULL)
		pfree(bytes->data);
	bytes->data = NULL;
	bytes->len = bytes->capacity = 0;
}

/*
 * The value of a hexadecimal digit; -1: it is none.
 */
int
bytes_hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/*
 * What a byte is in base64 text: the value of a digit (of the standard or the URL-safe alphabet), or, negative,
 * one of these.
 */
#define BASE64_SPACE (-1)
#define BASE64_PAD (-2)
#define BASE64_BAD (-3)

/* clang-format off */
static const signed char base64_values[256] = {
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
base64_value(char c)
{
	return base64_values[(unsigned char) c];
}

/*
 * Whether the next four bytes are digits; so are nearly all, of texts of megabytes.
 */
static inline bool
base64_has_four(const char *text, const char *end)
{
	return end - text >= 4 && (base64_value(text[0]) | base64_value(text[1]) |
							   base64_value(text[2]) | base64_value(text[3])) >= 0;
}

static bool
base64_is_valid(const char *text, size_t len)
{
	const char *end = text + len;
	size_t digits = 0;
	size_t pads = 0;

	while (text < end)
	{
		int value;

		if (pads == 0 && base64_has_four(text, end))
		{
			text += 4;
			continue;
		}
		value = base64_value(*text++);
		if (value == BASE64_BAD || (value >= 0 && pads > 0))
			return false;
		digits += value >= 0;
		pads += value == BASE64_PAD;
	}
	return digits % 4 != 1 && pads <= 2;
}

/*
 * Decodes base64 over itself and returns the number of bytes, or -1, with nothing changed, when the
 * text is not base64.  White space is skipped and missing padding forgiven: servers differ in both.
 */
ssize_t
base64_decode_in_place(char *text, size_t len)
{
	const char *in = text;
	const char *end = text + len;
	char *out = text;
	uint32 bits = 0;
	int nbits = 0;

	if (!base64_is_valid(text, len))
		return -1;
	while (in < end)
	{
		int value;

		if (nbits == 0 && base64_has_four(in, end))
		{
			bits = base64_value(in[0]) << 18 | base64_value(in[1]) << 12 |
				   base64_value(in[2]) << 6 | base64_value(in[3]);
			*out++ = (char) (bits >> 16);
			*out++ = (char) (bits >> 8);
			*out++ = (char) bits;
			in += 4;
			continue;
		}
		value = base64_value(*in++);
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
	return out - text;
}

/*
 * The base64 of data as a palloc'd string.
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
