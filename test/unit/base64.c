/*
 * base64.c
 *		Whatever stands around or within it, base64 is decoded to the same bytes, and what is none is left as it was.
 */
#include "unit.h"

#include "base/base64.h"

#define MAX_BYTES 100

static void
fill(char *bytes, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		bytes[i] = (char) (i * 97 + 251);
}

static void
test_texts(void)
{
	static const struct
	{
		const char *text;
		int len; /* -1: it is none */
		const char *bytes;
	} cases[] = {
		{"", 0, ""},
		{"YQ==", 1, "a"},
		{"YQ", 1, "a"},
		{"YQ=", 1, "a"},
		{"YWI=", 2, "ab"},
		{"YWJj", 3, "abc"},
		{"YWJjZGVm", 6, "abcdef"},
		{"YWJjZGVmZ2hp", 9, "abcdefghi"},
		{"YWJj\r\nZGVm Z2hp\t", 9, "abcdefghi"},
		{" Y W J j Z G V m ", 6, "abcdef"},
		{"-_-_-_-_", 6, "\xfb\xff\xbf\xfb\xff\xbf"},
		{"+/+/+/+/", 6, "\xfb\xff\xbf\xfb\xff\xbf"},
		{"+/+/+/+/-_-_-_-_", 12, "\xfb\xff\xbf\xfb\xff\xbf\xfb\xff\xbf\xfb\xff\xbf"},
		{"YWJjZGVmZ", -1, ""}, /* six bits are no byte */
		{"YWJjZGVm=", 6, "abcdef"},
		{"YWJjZGVm===", -1, ""},
		{"YQ==YQ==", -1, ""},
		{"YWJjZGVm*WJjZGVm", -1, ""},
		{"YWJjZGVmYWJjZGVm\x80", -1, ""},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		char *text = pstrdup(cases[i].text);
		ssize_t len = base64_decode_in_place(text, strlen(text));

		unit_is_int(len, cases[i].len, "length of \"%s\"", cases[i].text);
		if (len < 0)
			unit_is_text(text, cases[i].text, "what is no base64");
		else
			unit_ok(memcmp(text, cases[i].bytes, len) == 0, "bytes of \"%s\"", cases[i].text);
	}
}

/* Of every length, and with a character put in at every place. */
static void
test_places(void)
{
	static const char spaces[] = " \t\r\n";
	static const char others[] = "*=\"\\,.~\x01\x7f\x80\xff"; /* and the NUL at its end */
	char bytes[MAX_BYTES];
	int wrong = 0;
	int changed = 0;
	size_t len, at, i;

	for (len = 0; len <= MAX_BYTES; len++)
	{
		char *text;
		size_t text_len;

		fill(bytes, len);
		text = base64_encode(bytes, len);
		text_len = strlen(text);
		for (at = 0; at <= text_len; at++)
		{
			char *longer = palloc(text_len + 1);
			char *kept = palloc(text_len + 1);

			memcpy(longer, text, at);
			memcpy(longer + at + 1, text + at, text_len - at);
			for (i = 0; i < strlen(spaces); i++)
			{
				memcpy(kept, longer, text_len + 1);
				kept[at] = spaces[i];
				wrong += base64_decode_in_place(kept, text_len + 1) != (ssize_t) len ||
						 memcmp(kept, bytes, len) != 0;
			}
			longer[at] = others[(len + at) % sizeof(others)];
			if (longer[at] == '=')
				continue;
			memcpy(kept, longer, text_len + 1);
			changed += base64_decode_in_place(longer, text_len + 1) != -1 ||
					   memcmp(longer, kept, text_len + 1) != 0;
		}
	}
	unit_is_int(wrong, 0, "texts with white space that are decoded to something else");
	unit_is_int(changed, 0, "texts that are no base64, and are decoded or changed");
}

/* Every byte at every place of a long text. */
static void
test_bytes(void)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_";
	int wrong = 0;
	int at, byte;

	for (at = 0; at < 32; at++)
		for (byte = 1; byte < 256; byte++)
		{
			char text[33];
			char kept[33];
			bool is_digit = strchr(digits, byte) != NULL;
			bool is_space = strchr(" \t\r\n", byte) != NULL;
			bool is_pad = byte == '=' && at >= 31;
			ssize_t len;

			memset(text, 'A', 32);
			text[at] = (char) byte;
			memcpy(kept, text, 32);
			len = base64_decode_in_place(text, 32);
			if (is_digit)
				wrong += len != 24;
			else if (is_space || is_pad)
				wrong += len != 23;
			else
				wrong += len != -1 || memcmp(text, kept, 32) != 0;
		}
	unit_is_int(wrong, 0, "bytes that are taken for something else");
}

void
unit_run(void)
{
	test_texts();
	test_places();
	test_bytes();
}
