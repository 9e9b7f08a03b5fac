/*
 * jsonbtree.c
 *		Makes jsonb, as it is stored, of a tree of JSON.
 *
 * jsonb_in() takes 600 bytes for an object and 100 for a number while it
 * works: an answer of megabytes would take a gigabyte on its way into the
 * table.  A tree knows its counts, so this writes the bytes in one go.  They
 * are the bytes that PostgreSQL's jsonb_util.c writes (utils/jsonb.h): an
 * array or object is a header, an entry for each child (of an object: first
 * for the keys, then for the values), and their data.  Numbers and containers
 * begin at multiples of 4.
 *
 * Text is UTF-8, and the database's text must be, too.
 */
#include "postgres.h"

#include "common/int.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "base/json.h"
#include "base/jsonb.h"

#define MAX_INT_DIGITS 18 /* any number of this many digits fits into an int64 */

static JEntry put_node(StringInfo out, const cJSON *node);

static void
refuse_size(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("answer is too large for jsonb")));
}

/*
 * Aligns what comes next.  Returns the padding's length, which counts as part
 * of what comes next.
 */
static uint32
put_padding(StringInfo out)
{
	uint32 len = INTALIGN(out->len) - out->len;

	enlargeStringInfo(out, len);
	memset(out->data + out->len, 0, len);
	out->len += len;
	return len;
}

/*
 * Writes a header, and makes room for n entries.  Returns where the entries
 * begin.
 */
static int
put_header(StringInfo out, uint32 header, size_t n)
{
	int at = out->len;
	size_t len = sizeof(uint32) + n * sizeof(JEntry);

	if (n > JB_CMASK || len > JENTRY_OFFLENMASK)
		refuse_size();
	enlargeStringInfo(out, (int) len);
	memcpy(out->data + at, &header, sizeof(header));
	out->len += (int) len;
	return at + sizeof(uint32);
}

/*
 * Fills in entry i of the entries that begin at entries.  *total: the length
 * of all data, before and after this one.
 */
static void
set_entry(StringInfo out, int entries, size_t i, JEntry entry, uint64 *total)
{
	*total += JBE_OFFLENFLD(entry);
	if (*total > JENTRY_OFFLENMASK)
		refuse_size();
	if (i % JB_OFFSET_STRIDE == 0)
		entry = (entry & JENTRY_TYPEMASK) | (uint32) *total | JENTRY_HAS_OFF;
	memcpy(out->data + entries + i * sizeof(JEntry), &entry, sizeof(entry));
}

static JEntry
put_bytes(StringInfo out, const char *bytes, size_t len, uint32 padding, JEntry type)
{
	if (len > JENTRY_OFFLENMASK)
		refuse_size();
	appendBinaryStringInfo(out, bytes, (int) len);
	return type | ((uint32) len + padding);
}

static Numeric
numeric_of(const cJSON *node)
{
	const char *digits = node->valuestring;
	size_t len = digits ? strspn(digits + (*digits == '-'), "0123456789") : 0;

	if (digits == NULL)
		return int64_to_numeric((int64) node->valuedouble);
	if (digits[len + (*digits == '-')] == '\0' && len <= MAX_INT_DIGITS)
		return int64_to_numeric(strtoi64(digits, NULL, 10));
	return DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(digits),
											   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static JEntry
put_number(StringInfo out, const cJSON *node)
{
	Numeric number = numeric_of(node);
	uint32 padding = put_padding(out);
	JEntry entry = put_bytes(out, (char *) number, VARSIZE_ANY(number), padding, JENTRY_ISNUMERIC);

	pfree(number);
	return entry;
}

static size_t
count_children(const cJSON *node)
{
	size_t n = 0;

	for (node = node->child; node != NULL; node = node->next)
		n++;
	return n;
}

static void
put_array(StringInfo out, const cJSON *node)
{
	size_t n = count_children(node);
	int entries = put_header(out, JB_FARRAY | (uint32) n, n);
	uint64 total = 0;
	const cJSON *child;
	size_t i = 0;

	for (child = node->child; child != NULL; child = child->next, i++)
		set_entry(out, entries, i, put_node(out, child), &total);
}

/* A member of an object that is being sorted. */
typedef struct Pair
{
	const cJSON *member;
	uint32 key_len;
	uint32 order;
} Pair;

/*
 * Compares pairs in jsonb's order.  Of equal keys the last member comes first,
 * because jsonb keeps that one.
 */
static int
compare_pairs(const void *a, const void *b)
{
	const Pair *left = a;
	const Pair *right = b;
	int difference;

	if (left->key_len != right->key_len)
		return left->key_len < right->key_len ? -1 : 1;
	difference = memcmp(left->member->string, right->member->string, left->key_len);
	if (difference != 0)
		return difference;
	return left->order > right->order ? -1 : 1;
}

static bool
has_same_key(const Pair *a, const Pair *b)
{
	return a->key_len == b->key_len &&
		   memcmp(a->member->string, b->member->string, a->key_len) == 0;
}

/*
 * Returns the *n members of an object, each key once, in jsonb's order,
 * palloc'd.
 */
static Pair *
sort_members(const cJSON *node, size_t *n)
{
	size_t n_all = count_children(node);
	Pair *pairs = MemoryContextAllocHuge(CurrentMemoryContext, Max(n_all, 1) * sizeof(Pair));
	const cJSON *member;
	size_t i = 0;

	for (member = node->child; member != NULL; member = member->next, i++)
	{
		pairs[i].member = member;
		pairs[i].key_len = (uint32) strlen(member->string);
		pairs[i].order = (uint32) i;
	}
	qsort(pairs, n_all, sizeof(Pair), compare_pairs);
	*n = 0;
	for (i = 0; i < n_all; i++)
	{
		if (*n == 0 || !has_same_key(&pairs[*n - 1], &pairs[i]))
			pairs[(*n)++] = pairs[i];
	}
	return pairs;
}

static void
put_object(StringInfo out, const cJSON *node)
{
	size_t n;
	Pair *pairs = sort_members(node, &n);
	int entries = put_header(out, JB_FOBJECT | (uint32) n, 2 * n);
	uint64 total = 0;
	size_t i;

	for (i = 0; i < n; i++)
		set_entry(out, entries, i,
				  put_bytes(out, pairs[i].member->string, pairs[i].key_len, 0, JENTRY_ISSTRING),
				  &total);
	for (i = 0; i < n; i++)
		set_entry(out, entries, n + i, put_node(out, pairs[i].member), &total);
	pfree(pairs);
}

/*
 * Writes an array or object, and returns the entry that its parent has for it.
 */
static JEntry
put_container(StringInfo out, const cJSON *node)
{
	int start = out->len;

	check_stack_depth();
	(void) put_padding(out);
	if (cJSON_IsObject(node))
		put_object(out, node);
	else
		put_array(out, node);
	if (out->len - start > JENTRY_OFFLENMASK)
		refuse_size();
	return JENTRY_ISCONTAINER | (uint32) (out->len - start);
}

static JEntry
put_node(StringInfo out, const cJSON *node)
{
	if (cJSON_IsObject(node) || cJSON_IsArray(node))
		return put_container(out, node);
	if (cJSON_IsString(node) || cJSON_IsRaw(node))
		return put_bytes(out, node->valuestring, strlen(node->valuestring), 0, JENTRY_ISSTRING);
	if (cJSON_IsNumber(node))
		return put_number(out, node);
	if (cJSON_IsTrue(node))
		return JENTRY_ISBOOL_TRUE;
	return cJSON_IsFalse(node) ? JENTRY_ISBOOL_FALSE : JENTRY_ISNULL;
}

/*
 * Returns the jsonb of a tree, palloc'd, with room for size bytes at first.
 * Raises an error if it is too large.
 */
static Jsonb *
jsonb_of_tree(const cJSON *json, size_t size)
{
	StringInfoData out;

	initStringInfo(&out);
	enlargeStringInfo(&out, (int) size);
	out.len = VARHDRSZ;
	if (cJSON_IsObject(json) || cJSON_IsArray(json))
		(void) put_container(&out, json);
	else
	{
		uint64 total = 0;
		int entries = put_header(&out, JB_FARRAY | JB_FSCALAR | 1, 1);

		set_entry(&out, entries, 0, put_node(&out, json), &total);
	}
	SET_VARSIZE(out.data, out.len);
	return (Jsonb *) out.data;
}

/*
 * Returns the jsonb of *text, JSON in UTF-8, palloc'd, and frees *text.  NULL,
 * with *text unchanged, if json_parse() refuses it (it may be nested too
 * deep); jsonb_in() may take it.  If this raises an error, *text is still the
 * JSON, perhaps at another address.
 */
Jsonb *
jsonb_from_text(char **text)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(caller, "genjob jsonb", ALLOCSET_DEFAULT_SIZES);
	size_t len = strlen(*text);
	const char *reason;
	Jsonb *jsonb = NULL;
	cJSON *json;

	MemoryContextSwitchTo(scratch);
	json = json_parse(*text, len, &reason);
	MemoryContextSwitchTo(caller);
	if (json == NULL)
	{
		MemoryContextDelete(scratch);
		return NULL;
	}
	PG_TRY();
	{
		jsonb = jsonb_of_tree(json, Min(len, MaxAllocSize / 4));
	}
	PG_CATCH();
	{
		MemoryContext context = MemoryContextSwitchTo(GetMemoryChunkContext(*text));

		*text = json_print(json);
		MemoryContextSwitchTo(context);
		MemoryContextDelete(scratch);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextDelete(scratch);
	pfree(*text);
	*text = NULL;
	return jsonb;
}
