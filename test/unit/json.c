/*
 * json.c
 *		Long strings of an answer come through as short ones do, whatever is in them and however many there are.
 */
#include "unit.h"

#include "lib/stringinfo.h"

#include "base/json.h"

#define LONG 4096 /* from so many bytes on a string may be looked at once only */

/* What a string may end with, and what becomes of that when it is printed again. */
static const struct
{
	const char *text;
	const char *printed;
} ends[] = {
	{"", ""},
	{"a", "a"},
	{"\\n", "\\n"},
	{"\\u0041", "A"},
	{"\\u0000", "\xef\xbf\xbd"},
	{"\\\"", "\\\""},
	{"\xc3\xa4", "\xc3\xa4"},
	{"\x80", "?"},
	{"\x7f", "\x7f"},
	{"\x01", "?"},
	{"\xf0\x9f\x98\x80 and so on, for more than thirty-two bytes",
	 "\xf0\x9f\x98\x80 and so on, for more than thirty-two bytes"},
};

static void
append_string(StringInfo text, int len, const char *end)
{
	appendStringInfoChar(text, '"');
	while (len-- > 0)
		appendStringInfoChar(text, "abc+/ #~"[len % 8]);
	appendStringInfo(text, "%s\"", end);
}

/*
 * Texts of an array of n strings, as they come and as they are printed.  kind chooses the ends.
 */
static void
make(StringInfo text, StringInfo printed, int n, int len, int kind)
{
	int i;

	initStringInfo(text);
	initStringInfo(printed);
	for (i = 0; i < n; i++)
	{
		int end = (kind + i * i) % lengthof(ends);

		appendStringInfoString(text, i == 0 ? "[{" : ",{");
		appendStringInfoString(printed, i == 0 ? "[{" : ",{");
		append_string(text, i % 3 == 2 ? len : 3, ends[end].text);
		append_string(printed, i % 3 == 2 ? len : 3, ends[end].printed);
		appendStringInfoChar(text, ':');
		appendStringInfoChar(printed, ':');
		end = (kind + i) % lengthof(ends);
		append_string(text, len + i, ends[end].text);
		append_string(printed, len + i, ends[end].printed);
		appendStringInfoChar(text, '}');
		appendStringInfoChar(printed, '}');
	}
	appendStringInfoChar(text, ']');
	appendStringInfoChar(printed, ']');
}

static void
test_long_strings(void)
{
	static const int lens[] = {0, 1, 31, 32, LONG - 40, LONG - 1, LONG, LONG + 31, 3 * LONG};
	int i, kind;
	int wrong = 0;

	for (i = 0; i < lengthof(lens); i++)
		for (kind = 0; kind < lengthof(ends); kind++)
		{
			StringInfoData text;
			StringInfoData printed;
			const char *reason;
			cJSON *json;

			make(&text, &printed, 30, lens[i], kind);
			json = json_parse(text.data, text.len, &reason);
			wrong += json == NULL || strcmp(json_print(json), printed.data) != 0;
		}
	unit_is_int(wrong, 0, "texts with long strings that become something else");
}

void
unit_run(void)
{
	test_long_strings();
}
