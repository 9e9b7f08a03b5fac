/*
 * clip.c
 *		Whatever bytes a stranger sends become one line of valid UTF-8 that is not longer than asked.
 */
#include "unit.h"

#include "mb/pg_wchar.h"

#include "base/clip.h"

static void
test_lines(void)
{
	static const struct
	{
		const char *text;
		int max;
		const char *line;
	} cases[] = {
		{"", 10, ""},
		{"words", 10, "words"},
		{"words", 3, "wor"},
		{"  two \r\n\t words ", 20, "two words"},
		{"\x99{\"in", 10, "?{\"in"},                  /* a byte that begins nothing */
		{"a\xc3", 10, "a?"},                          /* cut within a character */
		{"\xed\xa0\x80", 10, "???"},                  /* half of a pair of UTF-16 */
		{"\xf5\x80\x80\x80", 10, "????"},             /* beyond Unicode */
		{"\xc3\xa4\xc3\xb6", 3, "\xc3\xa4"},          /* only whole characters are left */
		{"\xf0\x9f\x98\x80x", 4, "\xf0\x9f\x98\x80"}, /* one that just fits */
		{"\xf0\x9f\x98\x80x", 3, ""},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_is_text(clip_line(cases[i].text, strlen(cases[i].text), cases[i].max), cases[i].line,
					 "line %d", i + 1);
}

/* Every pair of bytes, around which the line is cut. */
static void
test_pairs(void)
{
	bool holds = true;
	int pair;

	for (pair = 0; pair < 65536; pair++)
	{
		char text[] = {'a', (char) (pair >> 8), (char) pair, 'b', '\0'};
		int max = pair % 5;
		char *line = clip_line(text, 4, max);
		int len = (int) strlen(line);

		holds &= len <= max && pg_encoding_verifymbstr(PG_UTF8, line, len) == len;
		pfree(line);
	}
	unit_ok(holds, "of every two bytes it makes valid UTF-8 within its bounds");
}

void
unit_run(void)
{
	test_lines();
	test_pairs();
}
