/*
 * bytes.c
 *		A growing buffer with a ceiling, and base64.
 *
 * What a server sends is collected here by libcurl's callbacks, which must neither raise an error
 * nor trust a length.  The memory is malloc()ed, so that growing a large body moves pages rather
 * than bytes, but it belongs to a memory context and goes with it.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "bytes.h"
#include "compat.h"

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
 * Appends a copy of data.  False, with nothing changed, when that would pass the limit or memory is
 * short.  Never raises an error: it is called from libcurl's callbacks.
 */
bool
bytes_append(Bytes *bytes, const void *data, size_t len)
{
	if (len > bytes->limit - bytes->len)
		return false;
	if (len > bytes->capacity - bytes->len)
	{
		size_t wanted = Max(bytes->len + len, 1024);
		char *grown;

		if (wanted < bytes->capacity * 2)
			wanted = bytes->capacity * 2;
		wanted = Max(Min(wanted, bytes->limit), bytes->len + len);
		grown = realloc(bytes->data, wanted);
		if (grown == NULL)
			return false;
		bytes->data = grown;
		bytes->capacity = wanted;
	}
	if (len > 0)
		memcpy(bytes->data + bytes->len, data, len);
	bytes->len += len;
	return true;
}

void
bytes_clear(Bytes *bytes)
{
	free(bytes->data);
	bytes->data = NULL;
	bytes->len = bytes->capacity = 0;
}

/* What a byte is in base64 text: a digit's value (standard or URL-safe alphabet), or one of these. */
#define BASE64_SPACE (-1)
#define BASE64_PAD (-2)
#define BASE64_BAD (-3)

static inline int
base64_digit(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	if (c == '/' || c == '_')
		return 63;
	if (c == ' ' || c == '\n' || c == '\r' || c == '\t')
		return BASE64_SPACE;
	return c == '=' ? BASE64_PAD : BASE64_BAD;
}

static bool
base64_is_valid(const char *text, size_t len)
{
	size_t digits = 0;
	size_t pads = 0;
	size_t i;

	for (i = 0; i < len; i++)
	{
		int digit = base64_digit((unsigned char) text[i]);

		if (digit == BASE64_BAD || (digit >= 0 && pads > 0))
			return false;
		digits += digit >= 0;
		pads += digit == BASE64_PAD;
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
	uint32 bits = 0;
	int nbits = 0;
	char *out = text;
	size_t i;

	if (!base64_is_valid(text, len))
		return -1;
	for (i = 0; i < len; i++)
	{
		int digit = base64_digit((unsigned char) text[i]);

		if (digit < 0)
			continue;
		bits = (bits << 6) | digit;
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
