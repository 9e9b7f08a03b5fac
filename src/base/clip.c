/*
 * clip.c
 *		Text of strangers, cut to a line that fits into a message.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "base/clip.h"

/*
 * Returns a palloc'd copy of text, which is valid UTF-8, as one line of at most max bytes.
 */
char *
clip_line(const char *text, size_t len, int max)
{
	StringInfoData line;
	size_t i;

	initStringInfo(&line);
	len = pg_encoding_mbcliplen(PG_UTF8, text, (int) Min(len, MaxAllocSize), max);
	for (i = 0; i < len; i++)
	{
		bool blank = (unsigned char) text[i] <= ' ';

		if (!blank)
			appendStringInfoChar(&line, text[i]);
		else if (line.len > 0 && line.data[line.len - 1] != ' ')
			appendStringInfoChar(&line, ' ');
	}
	if (line.len > 0 && line.data[line.len - 1] == ' ')
		line.data[--line.len] = '\0';
	return line.data;
}
