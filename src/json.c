/*
 * json.c
 *		cJSON at home in a PostgreSQL process.
 *
 * cJSON allocates from the current memory context, so a tree goes with its context and an error
 * raised half-way leaks nothing.  Two things that cJSON cannot hold are mended here: a number beyond
 * the precision of a double keeps its digits (a seed or an id of 64 bits must come back as it was
 * sent), and text that jsonb would refuse (NUL escapes, lone surrogates, invalid UTF-8) is replaced
 * before it is parsed, because an answer that was paid for is worth more than its broken character.
 */
#include "postgres.h"

#include <math.h>

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "json.h"

#define MAX_VALUES \
	5000000 /* in a document: each takes 128 bytes in memory at most, for 2 of text at least */
#define MAX_WHOLE_NUMBER 1e15 /* exact in a double, and of no more digits than cJSON prints */

static void *
json_malloc(size_t size)
{
	if (!AllocHugeSizeIsValid(size))
		return NULL;
	return MemoryContextAllocExtended(CurrentMemoryContext, size,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

static void
json_free(void *pointer)
{
	if (pointer != NULL)
		pfree(pointer);
}

static void
json_use_palloc(void)
{
	static bool done = false;
	cJSON_Hooks hooks = {json_malloc, json_free};

	if (!done)
		cJSON_InitHooks(&hooks);
	done = true;
}

#define EACH_BYTE(byte) (UINT64CONST(0x0101010101010101) * (byte))

/* Nonzero if a byte of word is less than byte, which is 128 at most. */
static inline uint64
has_less(uint64 word, unsigned char byte)
{
	return (word - EACH_BYTE(byte)) & ~word & EACH_BYTE(0x80);
}

/*
 * The first place from text on that may be a control character, a quote or a backslash, or end: most of what a
 * server sends is megabytes of base64 between two quotes.  A few bytes that are none may be found as well.
 */
static const char *
skip_plain(const char *text, const char *end)
{
	uint64 word;

	while (end - text >= (ptrdiff_t) sizeof(word))
	{
		memcpy(&word, text, sizeof(word));
		if (has_less(word, ' ') || has_less(word ^ EACH_BYTE('"'), 1) ||
			has_less(word ^ EACH_BYTE('\\'), 1))
			break;
		text += sizeof(word);
	}
	return text;
}

static int
hex4(const char *text, const char *end)
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
		value = value * 16 + (isdigit(c) ? c - '0' : pg_tolower(c) - 'a' + 10);
	}
	return value;
}

/*
 * Looks at the \uXXXX escape whose first hex digit is at text and makes it one that jsonb takes.
 * Returns how many bytes from text on it has dealt with.
 */
static size_t
sanitize_escape(char *text, const char *end)
{
	int code = hex4(text, end);

	if (code >= 0xD800 && code <= 0xDBFF && end - text >= 10 && text[4] == '\\' && text[5] == 'u')
	{
		int low = hex4(text + 6, end);

		if (low >= 0xDC00 && low <= 0xDFFF)
			return 10;
	}
	if (code == 0 || (code >= 0xD800 && code <= 0xDFFF))
		memcpy(text, "fffd", 4);
	return code < 0 ? 0 : 4;
}

/*
 * Makes text valid UTF-8 without NUL bytes, in place: each byte that is not becomes a question mark.
 * Character by character: PostgreSQL's verification of a string reads all of it before it says where
 * the first fault is, which takes hours where every byte is one.
 */
void
json_sanitize_text(char *text, size_t len)
{
	while (len > 0)
	{
		const unsigned char *c = (const unsigned char *) text;
		int width = *c < 0x80 ? 1 : pg_utf_mblen(c);
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
		if (*c == '\0' || width > len || (*c >= 0x80 && !pg_utf8_islegal(c, width)))
		{
			*text = '?';
			width = 1;
		}
		text += width;
		len -= width;
	}
}

/*
 * Mends the escapes of JSON text in place and tells whether it has a number that a double may not
 * hold: one of many digits, or with an exponent.
 */
static bool
sanitize_escapes(char *text, size_t len)
{
	char *end = text + len;
	bool long_number = false;
	int digits = 0;
	char *p;

	for (p = text; p < end; p++)
	{
		if (*p == '"')
		{
			for (p++; (p = unconstify(char *, skip_plain(p, end))) < end && *p != '"'; p++)
			{
				/* control characters stand there against the rules, and grow sixfold when printed */
				if ((unsigned char) *p < ' ' && strchr("\b\t\n\f\r", *p) == NULL)
					*p = '?';
				if (*p != '\\' || ++p >= end)
					continue;
				if (*p == 'u')
					p += sanitize_escape(p + 1, end);
			}
			digits = 0;
		}
		else if (isdigit((unsigned char) *p))
			long_number |= ++digits > 15;
		else if ((*p == 'e' || *p == 'E') && digits > 0)
			long_number = true;
		else if (*p != '.')
			digits = 0;
	}
	return long_number;
}

/*
 * Whether JSON text has more values than a server process should hold: a server must not be able to
 * fill the machine's memory with an answer that is itself small enough.
 */
static bool
has_too_many_values(const char *text, size_t len)
{
	const char *end = text + len;
	size_t values = 1;
	const char *p;

	for (p = text; p < end && values <= MAX_VALUES; p++)
	{
		if (*p == '"')
		{
			for (p++; (p = skip_plain(p, end)) < end && *p != '"'; p++)
				p += *p == '\\';
		}
		else
			values += *p == ',' || *p == '[' || *p == '{';
	}
	return values > MAX_VALUES;
}

/*
 * The next number token at or after *cursor, outside strings; false at the end.
 */
static bool
next_number(const char **cursor, const char *end, const char **token, size_t *token_len)
{
	const char *p = *cursor;

	for (; p < end; p++)
	{
		if (*p == '"')
		{
			for (p++; (p = skip_plain(p, end)) < end && *p != '"'; p++)
				p += *p == '\\';
		}
		else if (*p == '-' || isdigit((unsigned char) *p))
		{
			*token = p;
			*token_len = strspn(p, "+-.eE0123456789");
			*cursor = p + *token_len;
			return true;
		}
	}
	return false;
}

/* Where keep_exact_numbers() is in the text. */
typedef struct NumberCursor
{
	const char *next;
	const char *end;
} NumberCursor;

/*
 * Walks a tree in the order of its text, in step with the text's number tokens, and makes raw nodes
 * of the numbers that a double cannot hold.  The depth is bounded by cJSON's nesting limit.
 */
static void
keep_exact_numbers(cJSON *node, NumberCursor *cursor)
{
	for (; node != NULL; node = node->next)
	{
		const char *token;
		size_t len;

		if (cJSON_IsNumber(node) && next_number(&cursor->next, cursor->end, &token, &len) &&
			(len > 15 || strcspn(token, "eE") < len))
		{
			node->type = cJSON_Raw;
			node->valuestring = pnstrdup(token, len);
		}
		if (node->child != NULL)
			keep_exact_numbers(node->child, cursor);
	}
}

/*
 * Makes raw nodes of whole numbers.  cJSON prints a number by trying formats and reading the result back, which takes
 * longer than all else of an answer.
 */
static void
write_whole_numbers(cJSON *node)
{
	char digits[MAXINT8LEN + 1];

	for (; node != NULL; node = node->next)
	{
		if (cJSON_IsNumber(node) && fabs(node->valuedouble) < MAX_WHOLE_NUMBER &&
			node->valuedouble == rint(node->valuedouble))
		{
			pg_lltoa((int64) node->valuedouble, digits);
			node->type = cJSON_Raw;
			node->valuestring = pstrdup(digits);
		}
		if (node->child != NULL)
			write_whole_numbers(node->child);
	}
}

/*
 * Parses text, which is overwritten in place where it must be mended and which must be followed by
 * a NUL byte.  The tree is allocated in the current memory context; numbers beyond a double are
 * cJSON_Raw nodes.  NULL, with a reason for the user, when the text is not JSON.
 */
cJSON *
json_parse(char *text, size_t len, const char **reason)
{
	const char *end = NULL;
	bool long_number;
	cJSON *json;

	json_use_palloc();
	json_sanitize_text(text, len);
	long_number = sanitize_escapes(text, len);
	if (has_too_many_values(text, len))
	{
		*reason = psprintf("JSON of more than %d values", MAX_VALUES);
		return NULL;
	}
	json = cJSON_ParseWithLengthOpts(text, len, &end, false);
	if (json == NULL)
	{
		*reason = len == 0 ? "empty"
						   : psprintf("not valid JSON at byte %zu of %zu",
									  end ? end - text + 1 : (size_t) 1, len);
		return NULL;
	}
	while (end < text + len && isspace((unsigned char) *end))
		end++;
	if (end < text + len)
	{
		*reason = psprintf("JSON followed by something else at byte %zu of %zu",
						   (size_t) (end - text) + 1, len);
		return NULL;
	}
	if (long_number)
	{
		NumberCursor cursor = {text, text + len};

		keep_exact_numbers(json, &cursor);
	}
	write_whole_numbers(json);
	return json;
}

/*
 * Parses JSON that PostgreSQL or the options have checked already.
 */
cJSON *
json_parse_trusted(const char *text)
{
	const char *reason;
	size_t len = strlen(text);
	cJSON *json = json_parse(pnstrdup(text, len), len, &reason);

	if (json == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("could not read JSON: %s", reason),
						errdetail("It is nested more than %d deep, or memory is short.",
								  CJSON_NESTING_LIMIT)));
	return json;
}

/*
 * Whether a node, or NULL, is a number; as a double it is in valuedouble, also where all its digits are kept.
 */
bool
json_is_number(const cJSON *node)
{
	return cJSON_IsNumber(node) || cJSON_IsRaw(node);
}

/*
 * The tree as compact text, palloc'd.
 */
char *
json_print(const cJSON *json)
{
	char *text;

	json_use_palloc();
	text = cJSON_PrintUnformatted(json);
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
						errdetail("Failed while writing JSON.")));
	return text;
}

/*
 * text as it stands between the quotes of a JSON string, palloc'd.
 */
char *
json_escape(const char *text)
{
	cJSON node = {.type = cJSON_String, .valuestring = unconstify(char *, text)};
	char *quoted = json_print(&node);

	return pnstrdup(quoted + 1, strlen(quoted) - 2);
}

/*
 * Adds child under key, in place of what was there; key is copied.
 */
void
json_attach(cJSON *parent, const char *key, cJSON *child)
{
	if (cJSON_GetObjectItemCaseSensitive(parent, key) != NULL)
		cJSON_ReplaceItemInObjectCaseSensitive(parent, key, child);
	else
		cJSON_AddItemToObject(parent, key, child);
}

/*
 * A new tree: base with over laid on it.  Objects are merged at every depth; of anything else over's
 * wins.
 */
cJSON *
json_merge(const cJSON *base, const cJSON *over)
{
	cJSON *merged;
	const cJSON *member;

	json_use_palloc();
	if (!cJSON_IsObject(base) || !cJSON_IsObject(over))
		return cJSON_Duplicate(over, true);
	merged = cJSON_Duplicate(base, true);
	for (member = over->child; member != NULL; member = member->next)
	{
		/* searched in base, which is small: a request may have a hundred thousand members */
		const cJSON *under = cJSON_GetObjectItemCaseSensitive(base, member->string);

		if (under != NULL)
			json_attach(merged, member->string, json_merge(under, member));
		else
			cJSON_AddItemToObject(merged, member->string, cJSON_Duplicate(member, true));
	}
	return merged;
}
