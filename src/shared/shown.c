/*
 * shown.c
 *		Texts that processes show each other, through shared memory.
 *
 * A text is in UTF-8, because its reader may be in a database of another
 * encoding, and is cut between two characters.  A reader takes no lock, so it
 * may see half of an old and half of a new text: shown_read() still returns
 * valid text.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "shared/shown.h"

#define PIECE_BYTES 1024 /* converted at a time */

/*
 * Puts a text in UTF-8 into kept, which has size bytes; cuts it if needed.
 */
void
shown_keep(char *kept, const char *utf8, size_t size)
{
	int len = pg_encoding_mbcliplen(PG_UTF8, utf8, strlen(utf8), size - 1);

	/* no reader sees half of a text that stays the same */
	if (strncmp(kept, utf8, len) == 0 && kept[len] == '\0')
		return;
	memcpy(kept, utf8, len);
	kept[len] = '\0';
}

/*
 * As shown_keep(), for a text in the encoding of the database.
 */
void
shown_keep_local(char *kept, const char *string, size_t size)
{
	shown_keep(kept, pg_server_to_any(string, strlen(string), PG_UTF8), size);
}

/*
 * Returns a kept text in the encoding of the database, palloc'd.
 */
char *
shown_read(const char *kept, size_t size)
{
	const unsigned char *p = (const unsigned char *) kept;
	const unsigned char *end = p + strnlen(kept, size);
	StringInfoData text;

	initStringInfo(&text);
	while (p < end)
	{
		int len = pg_encoding_verifymbchar(PG_UTF8, (const char *) p, end - p);

		if (len > 0)
			appendBinaryStringInfo(&text, (const char *) p, len);
		else
			appendStringInfoChar(&text, '?');
		p += Max(len, 1);
	}
	return shown_from_utf8(text.data);
}

/*
 * Returns a UTF-8 text in the encoding of the database; characters that this
 * lacks become question marks.  May return utf8 itself.
 */
char *
shown_from_utf8(char *utf8)
{
	int encoding = GetDatabaseEncoding();
	Oid conversion;
	StringInfoData text;
	unsigned char *p = (unsigned char *) utf8;
	unsigned char *end = p + strlen(utf8);

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return utf8;
	conversion = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(conversion))
		return utf8;
	initStringInfo(&text);
	while (p < end)
	{
		unsigned char piece[MAX_CONVERSION_GROWTH * PIECE_BYTES + 1];
		int len = pg_encoding_mbcliplen(PG_UTF8, (char *) p, end - p, PIECE_BYTES);
		int done = pg_do_encoding_conversion_buf(conversion, PG_UTF8, encoding, p, len, piece,
												 sizeof(piece), true);

		appendStringInfoString(&text, (char *) piece);
		p += done;
		if (done < len)
		{
			appendStringInfoChar(&text, '?');
			p += pg_utf_mblen(p);
		}
	}
	return text.data;
}
