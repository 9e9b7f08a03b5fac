/*
 * jsontext.c
 *		What of a text in JSON needs a second look is found at every place, whatever stands around it.
 */
#include "unit.h"

#include "base/jsontext.h"

static const char *
find_plainly(const char *text, const char *end)
{
	while (text < end && (unsigned char) *text >= ' ' && *text != '"' && *text != '\\')
		text++;
	return text;
}

static void
test_find_special(void)
{
	static const unsigned char fillers[] = {'a',  ' ',  '!',  '#',  '[', ']',
											0x7f, 0x80, 0xa2, 0xdc, 0xff};
	static const unsigned char specials[] = {'"', '\\', 0, 1, '\n', 0x1f};
	char text[32];
	int filler, first, second, at, behind;
	int wrong = 0;

	for (filler = 0; filler < lengthof(fillers); filler++)
		for (first = 0; first < lengthof(specials); first++)
			for (second = 0; second < lengthof(specials); second++)
				for (at = 0; at < (int) sizeof(text); at++)
					for (behind = 1; behind < 10; behind++)
					{
						const char *end = text + sizeof(text);

						memset(text, fillers[filler], sizeof(text));
						text[at] = specials[first];
						if (at + behind < (int) sizeof(text))
							text[at + behind] = specials[second];
						wrong += jsontext_find_special(text, end) != find_plainly(text, end);
					}
	unit_is_int(wrong, 0, "places of specials that are found elsewhere");
	memset(text, 'a', sizeof(text));
	unit_ok(jsontext_find_special(text, text + 29) == text + 29, "without any it is the end");
	unit_ok(jsontext_find_special(text, text) == text, "... also of nothing");
}

static bool
is_plain(unsigned char c)
{
	return c >= ' ' && c < 0x80 && c != '"' && c != '\\';
}

/* Any byte, at any place of a text that is plain but for it. */
static void
test_plain(void)
{
	char text[80];
	int wrong = 0;
	int at, byte, len;

	for (at = 0; at < (int) sizeof(text); at++)
		for (byte = 0; byte < 256; byte++)
			for (len = at + 1; len <= (int) sizeof(text); len += 13)
			{
				const char *skipped;

				memset(text, "a ~!#[]"[(at + byte) % 7], sizeof(text));
				text[at] = (char) byte;
				skipped = jsontext_skip_plain(text, text + len);
				wrong += skipped < text || skipped > text + len;
				wrong += !is_plain(byte) && skipped > text + at;
				wrong += jsontext_is_plain(text, text + len) != is_plain(byte);
			}
	unit_is_int(wrong, 0, "texts that are taken for plain, or are not");
	unit_ok(jsontext_is_plain(text, text), "nothing is plain");
}

void
unit_run(void)
{
	test_find_special();
	test_plain();
}
