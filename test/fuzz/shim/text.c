/*
 * text.c
 *		StringInfo and psprintf() as the server has them: PostgreSQL's libraries for clients have only
 *		such as end the process where the server raises an error.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#define INITIAL_SIZE 1024

void
initStringInfo(StringInfo text)
{
	text->data = palloc(INITIAL_SIZE);
	text->maxlen = INITIAL_SIZE;
	resetStringInfo(text);
}

StringInfo
makeStringInfo(void)
{
	StringInfo text = palloc(sizeof(StringInfoData));

	initStringInfo(text);
	return text;
}

void
resetStringInfo(StringInfo text)
{
	text->data[0] = '\0';
	text->len = 0;
	text->cursor = 0;
}

void
enlargeStringInfo(StringInfo text, int needed)
{
	size_t wanted = text->maxlen;

	if (needed < 0)
		elog(ERROR, "invalid string enlargement request size: %d", needed);
	if ((Size) needed >= MaxAllocSize - (Size) text->len)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("out of memory"),
				 errdetail("Cannot enlarge string buffer containing %d bytes by %d more bytes.",
						   text->len, needed)));
	if (text->len + needed + 1 <= text->maxlen)
		return;
	while (wanted < (size_t) text->len + needed + 1)
		wanted *= 2;
	text->maxlen = (int) Min(wanted, MaxAllocSize);
	text->data = repalloc(text->data, text->maxlen);
}

#if PG_VERSION_NUM >= 160000
void
appendBinaryStringInfo(StringInfo text, const void *data, int len)
#else
void
appendBinaryStringInfo(StringInfo text, const char *data, int len)
#endif
{
	enlargeStringInfo(text, len);
	memcpy(text->data + text->len, data, len);
	text->len += len;
	text->data[text->len] = '\0';
}

void
appendStringInfoString(StringInfo text, const char *more)
{
	size_t len = strlen(more);

	/* the server converts to int */
	appendBinaryStringInfo(text, more, (int) len);
}

void
appendStringInfoChar(StringInfo text, char c)
{
	appendBinaryStringInfo(text, &c, 1);
}

void
appendStringInfoSpaces(StringInfo text, int n)
{
	while (n-- > 0)
		appendStringInfoChar(text, ' ');
}

/*
 * 0, or how much more room is needed.
 */
int
appendStringInfoVA(StringInfo text, const char *fmt, va_list args)
{
	int room = text->maxlen - text->len;
	int len = vsnprintf(text->data + text->len, room, fmt, args);

	if (len < 0)
		elog(ERROR, "vsnprintf failed with format string \"%s\"", fmt);
	if (len < room)
	{
		text->len += len;
		return 0;
	}
	text->data[text->len] = '\0';
	return len + 1;
}

void
appendStringInfo(StringInfo text, const char *fmt, ...)
{
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(text, fmt, args);
		va_end(args);
		if (needed == 0)
			return;
		enlargeStringInfo(text, needed);
	}
}

char *
psprintf(const char *fmt, ...)
{
	StringInfoData text;
	char *result;

	initStringInfo(&text);
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&text, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	/* of just its size: one byte too far is a report */
	result = pnstrdup(text.data, text.len);
	pfree(text.data);
	return result;
}

/* ---------- numbers ---------- */

int
pg_lltoa(int64 value, char *text)
{
	return sprintf(text, INT64_FORMAT, value);
}

int
pg_ltoa(int32 value, char *text)
{
	return sprintf(text, "%d", value);
}

/* ---------- encodings ---------- */

/*
 * The length of text, cut at limit bytes, and not within a character.
 */
int
pg_encoding_mbcliplen(int encoding, const char *text, int len, int limit)
{
	int clipped = 0;

	while (len > 0 && *text != '\0')
	{
		int width = pg_encoding_mblen(encoding, text);

		if (clipped + width > limit)
			break;
		clipped += width;
		if (clipped == limit)
			break;
		len -= width;
		text += width;
	}
	return clipped;
}

/* The database's encoding is UTF-8. */
int
pg_mbcliplen(const char *text, int len, int limit)
{
	return pg_encoding_mbcliplen(PG_UTF8, text, len, limit);
}

char *
asc_tolower(const char *text, size_t length)
{
	return pnstrdup(text, length);
}

/* How far a text is from another matters to a hint alone: no text is near. */
int
varstr_levenshtein_less_equal(const char *source, int source_length, const char *target,
							  int target_length, int insert_cost, int delete_cost, int replace_cost,
							  int most, bool trusted)
{
	return most + 1;
}
