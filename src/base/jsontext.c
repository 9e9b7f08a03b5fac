/*
 * jsontext.c
 *		The text of JSON: its strings and numbers.  Also makes any bytes text
 *		that a table takes.
 *
 * Every function works on the bytes from text up to end, or on len bytes, and
 * on no other: what a server sends may have a NUL anywhere.  All are linear.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "port/pg_bitutils.h"

#include "base/jsontext.h"

#define MAX_EXPONENT 1000000 /* a larger one is read as this; its number becomes text */

/*
 * Half of a surrogate pair in UTF-8 (ED A0 80 to ED BF BF) is as long as
 * U+FFFD.
 */
#define HALF_LEN 3

#define PLAIN_STEP 32 /* bytes at a time */

#define EACH_BYTE(byte) (UINT64CONST(0x0101010101010101) * (byte))

/* ---------- characters ---------- */

/* Nonzero if a byte of word is less than byte, which is at most 128. */
static inline uint64
has_less(uint64 word, unsigned char byte)
{
	return (word - EACH_BYTE(byte)) & ~word & EACH_BYTE(0x80);
}

/*
 * Sets the high bit of each byte that is not plain ASCII, perhaps also of the
 * byte behind it.
 */
static inline uint64
not_plain(uint64 word)
{
	return word | (word - EACH_BYTE(' ')) | ((word ^ EACH_BYTE('"')) - EACH_BYTE(1)) |
		   ((word ^ EACH_BYTE('\\')) - EACH_BYTE(1));
}

/*
 * Returns a place up to which every byte from text on is ASCII that stands for
 * itself in a string.  It is at most PLAIN_STEP - 1 bytes before end, or
 * before the first byte that does not.  This is the fast way through a
 * picture.
 */
const char *
jsontext_skip_plain(const char *text, const char *end)
{
	while (end - text >= PLAIN_STEP)
	{
		uint64 words[PLAIN_STEP / sizeof(uint64)];
		uint64 found;

		memcpy(words, text, sizeof(words));
		found =
			not_plain(words[0]) | not_plain(words[1]) | not_plain(words[2]) | not_plain(words[3]);
		if ((found & EACH_BYTE(0x80)) != 0)
			break;
		text += PLAIN_STEP;
	}
	return text;
}

/*
 * True if every byte is ASCII that stands for itself in a string.
 */
bool
jsontext_is_plain(const char *text, const char *end)
{
	text = jsontext_skip_plain(text, end);
	while (text < end && *text >= ' ' && (unsigned char) *text < 0x80 && *text != '"' &&
		   *text != '\\')
		text++;
	return text == end;
}

/*
 * Returns the first control character, quote or backslash from text on, or
 * end.  Reads eight bytes at a time: most of what a server sends is megabytes
 * of base64 between two quotes.
 */
const char *
jsontext_find_special(const char *text, const char *end)
{
	while (end - text >= (ptrdiff_t) sizeof(uint64))
	{
		uint64 word;
		uint64 found;

		memcpy(&word, text, sizeof(word));
		found = has_less(word, ' ') | has_less(word ^ EACH_BYTE('"'), 1) |
				has_less(word ^ EACH_BYTE('\\'), 1);
		if (found != 0)
		{
#ifdef WORDS_BIGENDIAN
			break;
#else
			/* a borrow marks only bytes behind the first special one */
			return text + pg_rightmost_one_pos64(found) / BITS_PER_BYTE;
#endif
		}
		text += sizeof(word);
	}
	while (text < end && (unsigned char) *text >= ' ' && *text != '"' && *text != '\\')
		text++;
	return text;
}

/*
 * Makes text valid UTF-8 without NUL bytes, in place: each bad byte becomes a
 * question mark.  Goes character by character: PostgreSQL's own check of a
 * string reads all of it before it reports the first fault, which takes hours
 * if every byte is bad.
 */
void
json_sanitize_text(char *text, size_t len)
{
	while (len > 0)
	{
		const unsigned char *c = (const unsigned char *) text;
		size_t width = *c < 0x80 ? 1 : pg_utf_mblen(c);
		uint64 word;

		if (len >= sizeof(word))
		{
			memcpy(&word, text, sizeof(word));
			if ((word & EACH_BYTE(0x80)) == 0 && !has_less(word, 1))
			{
				text += sizeof(word);
				len -= sizeof(word);
				continue;
			}
		}
		if (*c == '\0' || width > len || (*c >= 0x80 && !pg_utf8_islegal(c, (int) width)))
		{
			*text = '?';
			width = 1;
		}
		text += width;
		len -= width;
	}
}

/*
 * Makes text one line of valid UTF-8 without control characters, in place: white space becomes a space, any other
 * control character a question mark.
 */
void
json_sanitize_line(char *text, size_t len)
{
	size_t i;

	json_sanitize_text(text, len);
	for (i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c < ' ' || c == 0x7f)
			text[i] = c == '\t' || c == '\n' || c == '\r' ? ' ' : '?';
	}
}

/* ---------- strings ---------- */

static int
read_hex4(const char *text, const char *end)
{
	int value = 0;
	int i;

	if (end - text < 4)
		return -1;
	for (i = 0; i < 4; i++)
	{
		int c = (unsigned char) text[i];

		if (!isxdigit(c))
			return -1;
		value = value * 16 + (isdigit(c) ? c - '0' : pg_tolower((unsigned char) c) - 'a' + 10);
	}
	return value;
}

/*
 * Returns where the string ends that begins at text, after its opening quote:
 * at its closing quote if *valid; else where it stops being a JSON string.
 * Accepts control characters, which JSON forbids.
 */
const char *
jsontext_scan_string(const char *text, const char *end, bool *valid)
{
	*valid = false;
	while ((text = jsontext_find_special(text, end)) < end)
	{
		if (*text == '"')
		{
			*valid = true;
			return text;
		}
		if (*text++ != '\\')
			continue;
		if (text >= end || *text == '\0' || strchr("\"\\/bfnrtu", *text) == NULL)
			return text;
		if (*text == 'u' && read_hex4(text + 1, end) < 0)
			return text;
		text += *text == 'u' ? 5 : 1;
	}
	return end;
}

static char *
put_utf8(char *out, int code)
{
	if (code < 0x80)
		*out++ = (char) code;
	else if (code < 0x800)
	{
		*out++ = (char) (0xC0 | code >> 6);
		*out++ = (char) (0x80 | (code & 0x3F));
	}
	else if (code < 0x10000)
	{
		*out++ = (char) (0xE0 | code >> 12);
		*out++ = (char) (0x80 | (code >> 6 & 0x3F));
		*out++ = (char) (0x80 | (code & 0x3F));
	}
	else
	{
		*out++ = (char) (0xF0 | code >> 18);
		*out++ = (char) (0x80 | (code >> 12 & 0x3F));
		*out++ = (char) (0x80 | (code >> 6 & 0x3F));
		*out++ = (char) (0x80 | (code & 0x3F));
	}
	return out;
}

static bool
is_half(int code)
{
	return code >= 0xD800 && code <= 0xDFFF;
}

/*
 * Reads the escape whose four digits begin at *in, and moves *in behind it; of
 * a surrogate pair, reads both escapes.  Returns the character; U+FFFD for one
 * that jsonb refuses, unless it is half a pair and keeps_halves.
 */
static int
read_unicode_escape(const char **in, const char *end, bool keeps_halves, bool *has_half)
{
	const char *text = *in;
	int code = read_hex4(text, end);

	*in += 4;
	if (code >= 0xD800 && code <= 0xDBFF && end - text >= 10 && text[4] == '\\' && text[5] == 'u')
	{
		int low = read_hex4(text + 6, end);

		if (low >= 0xDC00 && low <= 0xDFFF)
		{
			*in += 6;
			return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
		}
	}
	*has_half |= is_half(code);
	return code == 0 || (is_half(code) && !keeps_halves) ? 0xFFFD : code;
}

static char *
read_escape(char *out, const char **in, const char *end, bool keeps_halves, bool *has_half)
{
	static const char letters[] = "bfnrt";
	static const char meanings[] = "\b\f\n\r\t";
	char c = *(*in)++;
	const char *letter = strchr(letters, c);

	if (c == 'u')
		return put_utf8(out, read_unicode_escape(in, end, keeps_halves, has_half));
	*out++ = letter ? meanings[letter - letters] : c;
	return out;
}

/*
 * Replaces what stands between the quotes of a string by what it means, valid
 * UTF-8 without NUL, in place.  jsontext_scan_string() must have found the
 * string valid.  Returns its end, at most end.  keeps_halves: the escape of
 * half a surrogate pair becomes three bytes that are not valid UTF-8, for
 * jsontext_join_halves().  Sets *has_half if there is one.
 */
char *
jsontext_unescape(char *text, char *end, bool keeps_halves, bool *has_half)
{
	const char *in = text;
	char *out = text;

	while (in < end)
	{
		const char *special = jsontext_find_special(in, end);
		size_t len = special - in;

		json_sanitize_text(unconstify(char *, in), len);
		if (out != in)
			memmove(out, in, len);
		out += len;
		in = special;
		if (in >= end)
			break;
		if (*in == '\\')
		{
			in++;
			out = read_escape(out, &in, end, keeps_halves, has_half);
		}
		else
		{
			/*
			 * JSON forbids control characters here, and each would take six
			 * bytes in print
			 */
			*out = *in != '\0' && strchr("\b\t\n\f\r", *in) != NULL ? *in : '?';
			out++, in++;
		}
	}
	return out;
}

static int
half_at(const char *text, const char *end)
{
	const unsigned char *c = (const unsigned char *) text;

	if (end - text < HALF_LEN || c[0] != 0xED || c[1] < 0xA0 || (c[2] & 0xC0) != 0x80)
		return 0;
	return (c[0] & 0x0F) << 12 | (c[1] & 0x3F) << 6 | (c[2] & 0x3F);
}

/*
 * Makes valid UTF-8 of text that has halves of surrogate pairs
 * (jsontext_unescape()), in place, and adds a NUL: two halves that belong
 * together become their character, any other half U+FFFD.
 */
void
jsontext_join_halves(char *text, size_t len)
{
	const char *end = text + len;
	const char *in = text;
	char *out = text;

	while (in < end)
	{
		const char *found = memchr(in, 0xED, end - in);
		size_t plain = (found ? found : end) - in;
		int high;
		int low;

		if (out != in)
			memmove(out, in, plain);
		out += plain;
		in += plain;
		if (found == NULL)
			break;
		high = half_at(in, end);
		low = high >= 0xD800 && high <= 0xDBFF ? half_at(in + HALF_LEN, end) : 0;
		if (low >= 0xDC00)
			out = put_utf8(out, 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
		else if (high != 0)
			out = put_utf8(out, 0xFFFD);
		else
			*out++ = *in;
		in += low >= 0xDC00 ? 2 * HALF_LEN : high != 0 ? HALF_LEN : 1;
	}
	*out = '\0';
}

/* ---------- numbers ---------- */

static const char *
skip_digits(const char *text, const char *end)
{
	while (text < end && isdigit((unsigned char) *text))
		text++;
	return text;
}

/*
 * Returns where the number at text ends; NULL if there is none.
 */
const char *
jsontext_scan_number(const char *text, const char *end)
{
	const char *p = text + (text < end && *text == '-');
	const char *digits = p;

	p = skip_digits(p, end);
	if (p == digits || (*digits == '0' && p - digits > 1))
		return NULL;
	if (p < end && *p == '.')
	{
		digits = ++p;
		p = skip_digits(p, end);
		if (p == digits)
			return NULL;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		digits = p;
		p = skip_digits(p, end);
		if (p == digits)
			return NULL;
	}
	return p;
}

/*
 * Returns the exponent at text, behind its "e", within +-MAX_EXPONENT.
 */
static int64
read_exponent(const char *text, const char *end)
{
	bool negative = text < end && *text == '-';
	int64 exponent = 0;

	text += text < end && (*text == '-' || *text == '+');
	for (; text < end && exponent < MAX_EXPONENT; text++)
		exponent = exponent * 10 + (*text - '0');
	exponent = Min(exponent, MAX_EXPONENT);
	return negative ? -exponent : exponent;
}

/*
 * Returns how many bytes a number takes without an exponent, as numeric and
 * jsonb print it.  jsontext_scan_number() must have found it.
 */
size_t
jsontext_plain_length(const char *number, size_t len)
{
	const char *end = number + len;
	const char *whole = number + (*number == '-');
	const char *point = skip_digits(whole, end);
	const char *fraction = point + (point < end && *point == '.');
	const char *e = skip_digits(fraction, end);
	int64 exponent;
	int64 n_whole;
	int64 n_fraction;

	if (e == end)
		return len;
	exponent = read_exponent(e + 1, end);
	n_whole = Max((point - whole) + exponent, 1);
	n_fraction = Max((e - fraction) - exponent, 0);
	return (whole - number) + n_whole + (n_fraction > 0 ? n_fraction + 1 : 0);
}
