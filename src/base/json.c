/*
 * json.c
 *		Parses JSON text into a tree of cJSON's nodes.
 *
 * The first pass checks the text, counts its values and changes nothing: so
 * the caller can keep text that is not JSON, or has too many values, as it
 * came.  The second pass builds the tree.  Strings and numbers stay where they
 * are in the text, which the pass overwrites: so it does not copy a picture of
 * megabytes, and a number keeps its digits (a seed or an id of 64 bits, and
 * 7.0, must come back as they were sent).  It replaces what jsonb would refuse
 * (NUL escapes, lone surrogates, invalid UTF-8), because an answer that was
 * paid for is worth more than its broken character.
 *
 * All nodes of a text are one allocation in the current memory context.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/json.h"

#define MAX_DEPTH CJSON_NESTING_LIMIT
#define MAX_SAVED_DEPTH (MAX_DEPTH + 8) /* genjob nests answers in JSON of its own */
#define MAX_VALUES 5000000              /* in a document; a node takes 64 bytes */
#define MAX_ANSWER_VALUES 2000000       /* parsing them takes the dispatcher a second */

/*
 * Digits of a number.  A double has at most 325; a longer number becomes text.
 */
#define MAX_DIGITS 1000

/*
 * Bytes by which all numbers of a text may grow when jsonb prints them without
 * exponents.  Beyond that they become text: one more byte in an answer must
 * not take a thousand in the table.  The limit does not depend on the text's
 * length, so that a printed text is parsed like its original.
 */
#define MAX_GROWTH (4 * 1024 * 1024)

/*
 * How much memory the values of an answer of len bytes may take: as nodes, and
 * as jsonb, of which up to four copies exist while a row is written.
 */
#define MAX_NODES(len) (2 * (len) + 36 * 1024 * 1024)
#define MAX_JSONB(len) ((len) + 10 * 1024 * 1024)

/*
 * Bytes of jsonb for each value, besides a string's text and a number's digits
 * (two digits take one byte).
 */
#define JSONB_ENTRY 4
#define JSONB_NUMBER 10

#define TOO_MUCH "JSON of " /* begins a reason that means this */

/* ---------- checking ---------- */

/*
 * A string of LONG_STRING bytes or more, without escapes.  It is remembered,
 * so that it is read only once.
 */
#define LONG_STRING 4096
#define MAX_LONG_STRINGS 16 /* remembered for each text */

typedef struct LongString
{
	const char *start;
	const char *end;
} LongString;

typedef struct Scan
{
	const char *next; /* at the end: where the value ends, or stops being JSON */
	const char *end;
	size_t values;
	size_t jsonb; /* bytes that the text takes as jsonb */
	int depth;
	int max_depth;
	char closers[MAX_SAVED_DEPTH];
	LongString plain[MAX_LONG_STRINGS]; /* the first long strings without escapes */
	int n_plain;
} Scan;

static inline bool
is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/*
 * Returns the next character that is not white space, without taking it; NUL
 * at the end, or for a NUL.
 */
static inline char
scan_peek(Scan *scan)
{
	while (scan->next < scan->end && is_space(*scan->next))
		scan->next++;
	return scan->next < scan->end ? *scan->next : '\0';
}

static bool
scan_string(Scan *scan)
{
	const char *start = scan->next + 1;
	const char *plain = jsontext_skip_plain(start, scan->end);
	bool valid;

	scan->next = jsontext_scan_string(plain, scan->end, &valid);
	if (valid && plain - start >= LONG_STRING && scan->n_plain < MAX_LONG_STRINGS &&
		jsontext_is_plain(plain, scan->next))
		scan->plain[scan->n_plain++] = (LongString){start, scan->next};
	scan->jsonb += JSONB_ENTRY + (scan->next - start);
	scan->next += valid;
	return valid;
}

static bool
scan_number(Scan *scan)
{
	const char *end = jsontext_scan_number(scan->next, scan->end);

	if (end == NULL)
		return false;
	scan->jsonb += JSONB_ENTRY + JSONB_NUMBER + (end - scan->next) / 2;
	scan->next = end;
	return true;
}

static bool
scan_word(Scan *scan, const char *word)
{
	size_t len = strlen(word);

	if (scan->end - scan->next < (ptrdiff_t) len || memcmp(scan->next, word, len) != 0)
		return false;
	scan->next += len;
	return true;
}

static bool
scan_scalar(Scan *scan)
{
	switch (scan_peek(scan))
	{
		case '"':
			return scan_string(scan);
		case 't':
			return scan_word(scan, "true");
		case 'f':
			return scan_word(scan, "false");
		case 'n':
			return scan_word(scan, "null");
		default:
			return scan_number(scan);
	}
}

static bool
scan_key(Scan *scan)
{
	if (scan_peek(scan) != '"' || !scan_string(scan) || scan_peek(scan) != ':')
		return false;
	scan->next++;
	return true;
}

/*
 * Takes the opening bracket.  If the closing one follows, sets *is_empty and
 * takes it, too.
 */
static bool
scan_open(Scan *scan, char opener, bool *is_empty)
{
	char closer = opener == '{' ? '}' : ']';

	if (scan->depth == scan->max_depth)
		return false;
	scan->jsonb += 2 * JSONB_ENTRY;
	scan->next++;
	*is_empty = scan_peek(scan) == closer;
	if (*is_empty)
	{
		scan->next++;
		return true;
	}
	scan->closers[scan->depth++] = closer;
	return opener != '{' || scan_key(scan);
}

/*
 * Takes what follows a value: closing brackets, and the comma (and key) before
 * the next value.  False at the end of the document (scan->depth is 0), and
 * where the text is not JSON.
 */
static bool
scan_to_next_value(Scan *scan)
{
	while (scan->depth > 0)
	{
		char closer = scan->closers[scan->depth - 1];
		char c = scan_peek(scan);

		if (c == closer)
			scan->depth--;
		else if (c != ',')
			return false;
		scan->next++;
		if (c == ',')
			return closer != '}' || scan_key(scan);
	}
	return false;
}

/*
 * True if the text begins with a value, which ends at scan->next.
 */
static bool
scan_document(Scan *scan)
{
	bool is_open;

	do
	{
		char c = scan_peek(scan);
		bool is_empty = false;

		scan->values++;
		is_open = c == '{' || c == '[';
		if (is_open ? !scan_open(scan, c, &is_empty) : !scan_scalar(scan))
			return false;
		is_open = is_open && !is_empty;
		if ((scan->values & 0xFFFF) == 0)
			CHECK_FOR_INTERRUPTS();
	} while (is_open || scan_to_next_value(scan));
	return scan->depth == 0;
}

/*
 * Returns the length of a byte order mark.  Some programs put one first; it
 * means nothing.
 */
static size_t
byte_order_mark(const char *text, size_t len)
{
	return len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

/*
 * Checks text.  Returns NULL if it is JSON; else what is wrong with it, for
 * the user.
 */
static const char *
scan_text(Scan *scan, const char *text, size_t len, int max_depth)
{
	size_t at;

	scan->next = text + byte_order_mark(text, len);
	scan->end = text + len;
	scan->values = scan->jsonb = 0;
	scan->depth = 0;
	scan->max_depth = max_depth;
	scan->n_plain = 0;
	if (len == 0)
		return "empty";
	if (!scan_document(scan))
	{
		at = scan->next - text;
		return psprintf("not valid JSON at byte %zu of %zu", Min(at + 1, len), len);
	}
	(void) scan_peek(scan);
	at = scan->next - text;
	if (at < len)
		return psprintf("JSON followed by something else at byte %zu of %zu", at + 1, len);
	if (scan->values > MAX_VALUES)
		return psprintf(TOO_MUCH "more than %d values", MAX_VALUES);
	return NULL;
}

/* ---------- building ---------- */

typedef struct Builder
{
	char *next;
	char *end;
	char *number_end;        /* becomes a NUL once the byte there is read; or NULL */
	cJSON *nodes;            /* the unused ones */
	const LongString *plain; /* the scan's long strings that are still to come */
	int n_plain;
	size_t growth; /* bytes by which numbers may still grow */
	bool keeps_halves;
	bool has_half;
	bool has_long_number;
} Builder;

/*
 * Takes the next character that is not white space.  There must be one.
 */
static inline char
take_character(Builder *builder)
{
	char c;

	while (is_space(*builder->next))
		builder->next++;
	c = *builder->next++;
	if (builder->number_end != NULL)
		*builder->number_end = '\0';
	builder->number_end = NULL;
	return c;
}

/*
 * Takes a string whose opening quote is taken.
 */
static char *
take_string(Builder *builder)
{
	char *start = builder->next;
	bool is_plain = builder->n_plain > 0 && builder->plain->start == start;
	bool valid;
	char *end;

	if (is_plain)
	{
		end = unconstify(char *, builder->plain->end);
		*end = '\0';
		builder->plain++;
		builder->n_plain--;
	}
	else
	{
		end = unconstify(char *, jsontext_scan_string(start, builder->end, &valid));
		*jsontext_unescape(start, end, builder->keeps_halves, &builder->has_half) = '\0';
	}
	builder->next = end + 1;
	return start;
}

/*
 * Takes a number whose first character is taken, and keeps its digits.  A
 * number that only takes room becomes text (cJSON_Raw).
 */
static void
take_number(Builder *builder, cJSON *node)
{
	char *start = builder->next - 1;
	char *end = unconstify(char *, jsontext_scan_number(start, builder->end));
	size_t len = end - start;
	size_t plain = jsontext_plain_length(start, len);
	size_t growth = plain > len ? plain - len : 0;
	bool is_kept = plain <= MAX_DIGITS && growth <= builder->growth;

	if (is_kept)
		builder->growth -= growth;
	node->type = is_kept ? cJSON_Number : cJSON_Raw;
	builder->has_long_number |= !is_kept;
	builder->next = end;
	if (end < builder->end)
	{
		node->valuestring = start;
		builder->number_end = end;
	}
	else
		node->valuestring = pnstrdup(start, len);
}

/*
 * Takes a value whose first character is taken.  Of an array or an object,
 * takes only that character.
 */
static void
take_value(Builder *builder, cJSON *node, char first)
{
	switch (first)
	{
		case '{':
			node->type = cJSON_Object;
			break;
		case '[':
			node->type = cJSON_Array;
			break;
		case '"':
			node->type = cJSON_String;
			node->valuestring = take_string(builder);
			break;
		case 't':
			node->type = cJSON_True;
			builder->next += strlen("rue");
			break;
		case 'f':
			node->type = cJSON_False;
			builder->next += strlen("alse");
			break;
		case 'n':
			node->type = cJSON_NULL;
			builder->next += strlen("ull");
			break;
		default:
			take_number(builder, node);
	}
}

static cJSON *
new_node(Builder *builder, cJSON *parent, char *key)
{
	cJSON *node = builder->nodes++;

	memset(node, 0, sizeof(*node));
	node->string = key;
	if (parent != NULL)
		json_append(parent, node);
	return node;
}

/*
 * Builds the tree of a text that was found to be JSON, so what stands between
 * the values need not be checked.
 */
static cJSON *
build_document(Builder *builder)
{
	cJSON *root = builder->nodes;
	cJSON *parents[MAX_SAVED_DEPTH + 1];
	int depth = 0;
	char *key = NULL;

	parents[0] = NULL;
	do
	{
		cJSON *parent = parents[depth];
		char c = take_character(builder);

		if (c == ',')
			continue;
		if (c == '}' || c == ']')
			depth--;
		else if (key == NULL && cJSON_IsObject(parent))
		{
			key = take_string(builder);
			(void) take_character(builder); /* the colon */
		}
		else
		{
			cJSON *node = new_node(builder, parent, key);

			key = NULL;
			take_value(builder, node, c);
			if (c == '{' || c == '[')
				parents[++depth] = node;
		}
	} while (depth > 0);
	return root;
}

static cJSON *
build_tree(char *text, size_t len, const Scan *scan, bool keeps_halves, bool *has_half)
{
	Builder builder = {
		.next = text + byte_order_mark(text, len),
		.end = text + len,
		.growth = MAX_GROWTH,
		.plain = scan->plain,
		.n_plain = scan->n_plain,
		.keeps_halves = keeps_halves,
	};
	cJSON *json;

	builder.nodes = MemoryContextAllocHuge(CurrentMemoryContext, scan->values * sizeof(cJSON));
	json = build_document(&builder);
	json->valueint = builder.has_long_number; /* cJSON itself uses valueint otherwise */
	*has_half = builder.has_half;
	return json;
}

/* ---------- parsing ---------- */

static cJSON *
parse_text(char *text, size_t len, int max_depth, const char **reason)
{
	Scan scan;
	bool has_half;

	*reason = scan_text(&scan, text, len, max_depth);
	return *reason == NULL ? build_tree(text, len, &scan, false, &has_half) : NULL;
}

/*
 * Returns the tree of text, which is overwritten and must live as long as the
 * tree.  The nodes are in the current memory context.  If text is not JSON,
 * returns NULL and leaves text unchanged; *reason says why, for the user.
 * Touches no byte before text or from text + len on.
 */
cJSON *
json_parse(char *text, size_t len, const char **reason)
{
	return parse_text(text, len, MAX_DEPTH, reason);
}

/*
 * As json_parse(), for what genjob has saved: an answer that is nested as deep
 * as an answer may be is nested deeper there.
 */
cJSON *
json_parse_saved(char *text, size_t len, const char **reason)
{
	return parse_text(text, len, MAX_SAVED_DEPTH, reason);
}

static const char *
scan_answer(Scan *scan, const char *text, size_t len)
{
	const char *reason = scan_text(scan, text, len, MAX_DEPTH);

	if (reason == NULL && scan->values > MAX_ANSWER_VALUES)
		return psprintf(TOO_MUCH "more than %d values", MAX_ANSWER_VALUES);
	if (reason == NULL &&
		(scan->values * sizeof(cJSON) > MAX_NODES(len) || scan->jsonb > MAX_JSONB(len)))
		return psprintf(TOO_MUCH "%zu values in %zu bytes, which would take too much memory",
						scan->values, len);
	return reason;
}

/*
 * True if the parsed text, whose root is json, has numbers that became text:
 * nodes of type cJSON_Raw, printed as strings.
 */
bool
json_has_long_numbers(const cJSON *json)
{
	return json->valueint != 0;
}

/*
 * True if reason means: the text is JSON, but too much of it.
 */
bool
json_is_too_much(const char *reason)
{
	return strncmp(reason, TOO_MUCH, strlen(TOO_MUCH)) == 0;
}

/*
 * As json_parse(), for what a server sends: refuses text that would take many
 * times its size in memory.
 */
cJSON *
json_parse_answer(char *text, size_t len, const char **reason)
{
	Scan scan;
	bool has_half;

	*reason = scan_answer(&scan, text, len);
	return *reason == NULL ? build_tree(text, len, &scan, false, &has_half) : NULL;
}

/*
 * As json_parse_answer(), for one of several pieces whose texts belong
 * together.  If *has_half, some of its strings are not valid UTF-8 before
 * jsontext_join_halves().
 */
cJSON *
json_parse_piece(char *text, size_t len, bool *has_half, const char **reason)
{
	Scan scan;

	*reason = scan_answer(&scan, text, len);
	return *reason == NULL ? build_tree(text, len, &scan, true, has_half) : NULL;
}

/*
 * Returns the tree of JSON that PostgreSQL or the options have checked
 * already; text is not changed.  Raises an error if it is nested too deep or
 * has too many values.
 */
cJSON *
json_parse_trusted(const char *text)
{
	size_t len = strlen(text);
	char *copy = MemoryContextAllocHuge(CurrentMemoryContext, len + 1);
	const char *reason;
	cJSON *json;

	memcpy(copy, text, len + 1);
	json = json_parse(copy, len, &reason);
	if (json == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("could not read JSON: %s", reason),
						errdetail("It is nested more than %d deep, or has more than %d values.",
								  MAX_DEPTH, MAX_VALUES)));
	return json;
}
