/*
 * charset.c
 *		Text that is not UTF-8: UTF-16, and Latin 1 if Content-Type says so.
 *
 * JSON is UTF-8 by its standard, but older servers and proxies send other
 * charsets.  Converts a copy: a body that turns out not to be JSON is kept as
 * it came.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "base/bytes.h"
#include "http/header.h"
#include "protocol/charset.h"

#define UTF8_OF_BYTE 3 /* most bytes of UTF-8 for a byte of Windows-1252 */
#define UTF8_OF_UNIT 3 /* most bytes of UTF-8 for a unit of UTF-16 */
#define REPLACEMENT 0xFFFD

typedef enum Charset
{
	CHARSET_UTF8, /* or not known */
	CHARSET_UTF16_LE,
	CHARSET_UTF16_BE,
	CHARSET_LATIN
} Charset;

/* Windows-1252 for 0x80 to 0x9F, where ISO 8859-1 has only control codes. */
static const uint16 windows[32] = {
	0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
	0x2039, 0x0152, 0x8D,   0x017D, 0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
	0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178,
};

static Charset
charset_named(const char *content_type)
{
	static const struct
	{
		const char *name;
		Charset charset;
	} names[] = {{"utf-16le", CHARSET_UTF16_LE},  {"utf-16be", CHARSET_UTF16_BE},
				 {"iso-8859-1", CHARSET_LATIN},   {"latin1", CHARSET_LATIN},
				 {"windows-1252", CHARSET_LATIN}, {"cp1252", CHARSET_LATIN}};
	const char *name = content_type ? strcasestr(content_type, "charset=") : NULL;
	int i;

	if (name == NULL)
		return CHARSET_UTF8;
	name += strlen("charset=");
	name += *name == '"';
	for (i = 0; i < lengthof(names); i++)
	{
		size_t len = strlen(names[i].name);

		if (pg_strncasecmp(name, names[i].name, len) == 0 && strchr("\"; ", name[len]) != NULL)
			return names[i].charset;
	}
	return CHARSET_UTF8;
}

static Charset
charset_of(const HttpReply *reply)
{
	const unsigned char *data = (const unsigned char *) reply->body->data;
	Charset charset;

	if (reply->body->len >= 2 && data[0] == 0xFF && data[1] == 0xFE)
		return CHARSET_UTF16_LE;
	if (reply->body->len >= 2 && data[0] == 0xFE && data[1] == 0xFF)
		return CHARSET_UTF16_BE;
	charset = charset_named(header_find(reply, "Content-Type"));
	/* some servers say Latin 1 and send UTF-8 */
	if (charset == CHARSET_LATIN && reply->body->len <= INT_MAX &&
		pg_encoding_verifymbstr(PG_UTF8, (const char *) data, (int) reply->body->len) ==
			(int) reply->body->len)
		return CHARSET_UTF8;
	return charset;
}

static char *
append_code(char *to, uint32 code)
{
	unicode_to_utf8(code, (unsigned char *) to);
	return to + pg_utf_mblen((const unsigned char *) to);
}

static char *
convert_latin(char *to, const unsigned char *from, const unsigned char *end)
{
	for (; from < end; from++)
		to = append_code(to, *from >= 0x80 && *from < 0xA0 ? windows[*from - 0x80] : *from);
	return to;
}

static char *
convert_utf16(char *to, const unsigned char *from, const unsigned char *end, bool is_big)
{
	uint32 high = 0; /* the first of a surrogate pair; 0: none */

	for (; end - from >= 2; from += 2)
	{
		uint32 unit = is_big ? from[0] << 8 | from[1] : from[1] << 8 | from[0];
		bool is_low = unit >= 0xDC00 && unit < 0xE000;

		if (high != 0 && is_low)
			to = append_code(to, 0x10000 + ((high - 0xD800) << 10) + (unit - 0xDC00));
		else if (high != 0 || is_low)
			to = append_code(to, REPLACEMENT);
		if (high != 0 && is_low)
		{
			high = 0;
			continue;
		}
		high = unit >= 0xD800 && unit < 0xDC00 ? unit : 0;
		if (high == 0 && !is_low && unit != 0xFEFF)
			to = append_code(to, unit);
	}
	return high != 0 ? append_code(to, REPLACEMENT) : to;
}

/*
 * Returns the body as UTF-8, with a NUL byte behind it, in the current memory
 * context; NULL if the body counts as UTF-8 already.
 */
char *
charset_to_utf8(const HttpReply *reply, size_t *len)
{
	const unsigned char *data = (const unsigned char *) reply->body->data;
	const unsigned char *end = data + reply->body->len;
	Charset charset = charset_of(reply);
	bool is_latin = charset == CHARSET_LATIN;
	size_t most;
	char *text;
	char *text_end;

	if (charset == CHARSET_UTF8)
		return NULL;
	most = is_latin ? reply->body->len * UTF8_OF_BYTE : (reply->body->len / 2 + 1) * UTF8_OF_UNIT;
	text = MemoryContextAllocHuge(CurrentMemoryContext, most + 1);
	text_end = is_latin ? convert_latin(text, data, end)
						: convert_utf16(text, data, end, charset == CHARSET_UTF16_BE);
	*text_end = '\0';
	*len = text_end - text;
	return text;
}
