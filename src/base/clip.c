/*
 * clip.c
 *		Text of strangers, cut to a line that fits into a message.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "base/clip.h"
#include "base/jsontext.h"

#define MAX_CHARACTER 4 /* bytes in UTF-8 */

/*
 * Returns a palloc'd copy of text as one line of at most max bytes, in valid UTF-8 whatever text is.
 */
char *
clip_line(const char *text, size_t len, int max)
{
	size_t copied = Min(len, (size_t) max + MAX_CHARACTER);
	char *copy = memcpy(palloc(copied + 1), text, copied);
	StringInfoData line;
	size_t i;

	json_sanitize_text(copy, copied);
	initStringInfo(&line);
	len = pg_encoding_mbcliplen(PG_UTF8, copy, (int) copied, max);
	for (i = 0; i < len; i++)
	{
		bool blank = (unsigned char) copy[i] <= ' ';

		if (!blank)
			appendStringInfoChar(&line, copy[i]);
		else if (line.len > 0 && line.data[line.len - 1] != ' ')
			appendStringInfoChar(&line, ' ');
	}
	if (line.len > 0 && line.data[line.len - 1] == ' ')
		line.data[--line.len] = '\0';
	pfree(copy);
	return line.data;
}
