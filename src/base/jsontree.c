/*
 * jsontree.c
 *		Trees of cJSON's nodes: putting them together, and printing them.
 *
 * A memory context frees the nodes.  No node is freed alone, because its
 * strings may be parts of a text (json.c).  So this file calls no function of
 * cJSON that frees or allocates.  Everything is linear in the tree, except
 * sorting.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/json.h"

/* An object of more members than this is sorted before many searches. */
#define FEW_MEMBERS 16

/* ---------- nodes ---------- */

/*
 * True if node, which may be NULL, is a number.
 */
bool
json_is_number(const cJSON *node)
{
	return cJSON_IsNumber(node);
}

/*
 * Returns a number as a double.  Its digits are kept as text.
 */
double
json_double(const cJSON *node)
{
	return node->valuestring != NULL ? strtod(node->valuestring, NULL) : node->valuedouble;
}

/*
 * True if a tree says nothing: it is null or an empty string, or contains only
 * such values.  blank: zero and false say nothing, too.
 */
static bool
has_nothing(const cJSON *node, bool blank)
{
	const cJSON *child;

	check_stack_depth();
	if (cJSON_IsString(node))
		return *node->valuestring == '\0';
	if (json_is_number(node))
		return blank && json_double(node) == 0;
	if (cJSON_IsFalse(node))
		return blank;
	if (!cJSON_IsObject(node) && !cJSON_IsArray(node))
		return cJSON_IsNull(node);
	for (child = node->child; child != NULL; child = child->next)
	{
		if (!has_nothing(child, blank))
			return false;
	}
	return true;
}

bool
json_is_empty(const cJSON *node)
{
	return has_nothing(node, false);
}

/*
 * True if a tree says only that there is nothing to say, such as {"code": 0,
 * "message": ""}.
 */
bool
json_is_blank(const cJSON *node)
{
	return has_nothing(node, true);
}

/*
 * Returns a node of a type of cJSON's, without key, value or children.
 */
cJSON *
json_create(int type)
{
	cJSON *node = palloc0(sizeof(cJSON));

	node->type = type;
	return node;
}

/*
 * Returns a string node; text must live as long as the node.
 */
cJSON *
json_create_string(char *text)
{
	cJSON *node = json_create(cJSON_String);

	node->valuestring = text;
	return node;
}

cJSON *
json_create_number(int number)
{
	cJSON *node = json_create(cJSON_Number);

	node->valuedouble = number;
	return node;
}

/*
 * Adds child, which has its key already, as the last child.
 */
void
json_append(cJSON *parent, cJSON *child)
{
	cJSON *first = parent->child;

	child->next = NULL;
	if (first == NULL)
	{
		parent->child = child;
		child->prev = child; /* as in cJSON: the first child's prev is the last child */
		return;
	}
	child->prev = first->prev;
	first->prev->next = child;
	first->prev = child;
}

/*
 * Takes child out of parent.
 */
void
json_detach(cJSON *parent, cJSON *child)
{
	if (child->next != NULL)
		child->next->prev = child->prev;
	else
		parent->child->prev = child->prev;
	if (parent->child == child)
		parent->child = child->next;
	else
		child->prev->next = child->next;
}

/*
 * Puts child where old is.
 */
static void
replace_child(cJSON *parent, cJSON *old, cJSON *child)
{
	child->next = old->next;
	child->prev = old->prev == old ? child : old->prev;
	if (parent->child == old)
		parent->child = child;
	else
		old->prev->next = child;
	if (old->next != NULL)
		old->next->prev = child;
	else
		parent->child->prev = child;
}

/*
 * Adds child under key, in place of what was there; copies key.
 */
void
json_attach(cJSON *parent, const char *key, cJSON *child)
{
	cJSON *old = cJSON_GetObjectItemCaseSensitive(parent, key);

	child->string = pstrdup(key);
	if (old != NULL)
		replace_child(parent, old, child);
	else
		json_append(parent, child);
}

/* ---------- merging ---------- */

/* The members of an object that is searched. */
typedef struct Members
{
	const cJSON *object;
	cJSON **sorted; /* by key; NULL while they are few */
	size_t n;
} Members;

static int
compare_keys(const void *a, const void *b)
{
	return strcmp((*(cJSON *const *) a)->string, (*(cJSON *const *) b)->string);
}

static Members
index_members(const cJSON *object)
{
	Members members = {object};
	cJSON *member;
	size_t i = 0;

	for (member = object->child; member != NULL; member = member->next)
		members.n++;
	if (members.n <= FEW_MEMBERS)
		return members;
	members.sorted = MemoryContextAllocHuge(CurrentMemoryContext, members.n * sizeof(cJSON *));
	for (member = object->child; member != NULL; member = member->next)
		members.sorted[i++] = member;
	qsort(members.sorted, members.n, sizeof(cJSON *), compare_keys);
	return members;
}

/*
 * Returns the place of the member that has the key of key; NULL if there is
 * none.
 */
static cJSON **
find_sorted(const Members *members, cJSON *key)
{
	return bsearch(&key, members->sorted, members->n, sizeof(cJSON *), compare_keys);
}

static cJSON *merge_trees(cJSON *base, cJSON *over, bool removes);

/*
 * True if a member is a null that removes the member.  In a reference, such as
 * {"$input": null}, null is a mistake, and stays visible.
 */
static bool
is_removal(const cJSON *member)
{
	return cJSON_IsNull(member) && *member->string != '$';
}

/*
 * Takes every null that removes a member out of a tree's objects: there is
 * nothing to remove.
 */
static cJSON *
without_nulls(cJSON *node)
{
	cJSON *member;
	cJSON *next;

	check_stack_depth();
	if (!cJSON_IsObject(node))
		return node;
	for (member = node->child; member != NULL; member = next)
	{
		next = member->next;
		if (is_removal(member))
			json_detach(node, member);
		else
			(void) without_nulls(member);
	}
	return node;
}

/*
 * Merges one member into base.
 */
static void
merge_member(cJSON *base, const Members *members, cJSON *member, bool removes)
{
	cJSON **place = members->sorted ? find_sorted(members, member) : NULL;
	cJSON *under = place ? *place : NULL;
	cJSON *merged;

	if (members->sorted == NULL)
		under = cJSON_GetObjectItemCaseSensitive(base, member->string);
	if (removes && is_removal(member))
	{
		if (under != NULL && !cJSON_IsInvalid(under))
			json_detach(base, under);
		if (under != NULL)
			under->type = cJSON_Invalid; /* it may be found once more */
		return;
	}
	if (under == NULL || cJSON_IsInvalid(under))
	{
		json_append(base, removes ? without_nulls(member) : member);
		if (place != NULL)
			*place = member;
		return;
	}
	merged = merge_trees(under, member, removes);
	if (merged == under)
		return;
	replace_child(base, under, merged);
	if (place != NULL)
		*place = merged;
}

static cJSON *
merge_trees(cJSON *base, cJSON *over, bool removes)
{
	Members members;
	cJSON *member;
	cJSON *next;

	check_stack_depth();
	if (!cJSON_IsObject(base) || !cJSON_IsObject(over))
		return removes ? without_nulls(over) : over;
	if (base->child == NULL)
	{
		base->child = (removes ? without_nulls(over) : over)->child;
		return base;
	}
	members = index_members(base);
	for (member = over->child; member != NULL; member = next)
	{
		next = member->next;
		merge_member(base, &members, member, removes);
	}
	if (members.sorted != NULL)
		pfree(members.sorted);
	return base;
}

/*
 * Returns base with over merged into it, made of the nodes of both.  Merges
 * objects at every depth; of anything else, over's value wins.
 */
cJSON *
json_merge(cJSON *base, cJSON *over)
{
	return merge_trees(base, over, false);
}

/*
 * As json_merge(), but as a JSON merge patch (RFC 7396): null removes the
 * member, and does not stay.
 */
cJSON *
json_patch(cJSON *base, cJSON *patch)
{
	return merge_trees(base, patch, true);
}

/* ---------- printing ---------- */

/*
 * Where JSON is written.  Bytes beyond size are only counted, and with stops
 * not even that.
 */
typedef struct Writer
{
	char *text;
	size_t size;
	size_t len;
	bool stops;
	bool exact; /* numbers that became text are printed as numbers */
} Writer;

static inline void
write_bytes(Writer *writer, const char *bytes, size_t len)
{
	if (writer->len < writer->size)
		memcpy(writer->text + writer->len, bytes, Min(len, writer->size - writer->len));
	writer->len += len;
}

static void
write_special(Writer *writer, unsigned char c)
{
	static const char meanings[] = "\b\f\n\r\t\"\\";
	static const char letters[] = "bfnrt\"\\";
	const char *meaning = c != '\0' ? strchr(meanings, c) : NULL;
	char escape[8] = {'\\'};

	if (meaning != NULL)
		escape[1] = letters[meaning - meanings];
	else
		snprintf(escape, sizeof(escape), "\\u%04x", c);
	write_bytes(writer, escape, strlen(escape));
}

static void
write_string(Writer *writer, const char *text)
{
	const char *end = text + strlen(text);

	write_bytes(writer, "\"", 1);
	while (text < end)
	{
		const char *special = jsontext_find_special(text, end);

		write_bytes(writer, text, special - text);
		if (special < end)
			write_special(writer, (unsigned char) *special++);
		text = special;
	}
	write_bytes(writer, "\"", 1);
}

static void
write_number(Writer *writer, const cJSON *node)
{
	char digits[MAXINT8LEN + 1];

	if (node->valuestring != NULL)
	{
		write_bytes(writer, node->valuestring, strlen(node->valuestring));
		return;
	}
	pg_lltoa((int64) node->valuedouble, digits);
	write_bytes(writer, digits, strlen(digits));
}

static void write_node(Writer *writer, const cJSON *node);

static void
write_children(Writer *writer, const cJSON *node, const char *brackets)
{
	const cJSON *child;

	check_stack_depth();
	write_bytes(writer, &brackets[0], 1);
	for (child = node->child; child != NULL; child = child->next)
	{
		if (writer->stops && writer->len >= writer->size)
			return;
		if (cJSON_IsObject(node))
		{
			write_string(writer, child->string);
			write_bytes(writer, ":", 1);
		}
		write_node(writer, child);
		if (child->next != NULL)
			write_bytes(writer, ",", 1);
	}
	write_bytes(writer, &brackets[1], 1);
}

static void
write_node(Writer *writer, const cJSON *node)
{
	if (cJSON_IsObject(node))
		write_children(writer, node, "{}");
	else if (cJSON_IsArray(node))
		write_children(writer, node, "[]");
	else if (cJSON_IsString(node) || (cJSON_IsRaw(node) && !writer->exact))
		write_string(writer, node->valuestring);
	else if (cJSON_IsNumber(node) || cJSON_IsRaw(node))
		write_number(writer, node);
	else if (cJSON_IsTrue(node))
		write_bytes(writer, "true", 4);
	else if (cJSON_IsFalse(node))
		write_bytes(writer, "false", 5);
	else
		write_bytes(writer, "null", 4);
}

/*
 * Returns how many bytes json_print() writes.
 */
size_t
json_length(const cJSON *json)
{
	Writer writer = {NULL};

	write_node(&writer, json);
	return writer.len;
}

/*
 * Counts first, and then writes: a growing buffer would leave as much again
 * behind.
 */
static char *
print_tree(const cJSON *json, bool exact)
{
	Writer counter = {.exact = exact};
	Writer writer = {.exact = exact};

	write_node(&counter, json);
	writer.size = counter.len;
	writer.text = MemoryContextAllocHuge(CurrentMemoryContext, writer.size + 1);
	write_node(&writer, json);
	writer.text[writer.size] = '\0';
	return writer.text;
}

/*
 * Returns the tree as compact text, palloc'd.
 */
char *
json_print(const cJSON *json)
{
	return print_tree(json, false);
}

/*
 * As json_print(), but prints all numbers as they came; jsonb may refuse them.
 */
char *
json_print_exact(const cJSON *json)
{
	return print_tree(json, true);
}

/*
 * As json_print(), but at most the first max bytes, however large the tree is.
 */
char *
json_print_start(const cJSON *json, size_t max)
{
	Writer writer = {.text = palloc(max + 1), .size = max, .stops = true};

	write_node(&writer, json);
	writer.text[Min(writer.len, max)] = '\0';
	return writer.text;
}

/*
 * Returns text as it stands between the quotes of a JSON string, palloc'd.
 */
char *
json_escape(const char *text)
{
	cJSON node = {.type = cJSON_String, .valuestring = unconstify(char *, text)};
	char *quoted = json_print(&node);

	quoted[strlen(quoted) - 1] = '\0';
	return quoted + 1;
}

/*
 * Returns a copy of a tree, without a key.
 */
cJSON *
json_copy(const cJSON *node)
{
	return json_parse_trusted(json_print(node));
}

/*
 * Appends a member to the text of an object, which is not closed yet; nothing
 * if json is NULL.  The name stands for itself in a JSON string.
 */
void
json_add_member(StringInfo out, const char *name, const char *json)
{
	if (json == NULL)
		return;
	if (out->data[out->len - 1] != '{')
		appendStringInfoChar(out, ',');
	appendStringInfo(out, "\"%s\":", name);
	appendStringInfoString(out, json);
}

/*
 * As json_add_member(), with a string as value; nothing if text is NULL.
 */
void
json_add_string(StringInfo out, const char *name, const char *text)
{
	if (text == NULL)
		return;
	json_add_member(out, name, "\"");
	appendStringInfoString(out, json_escape(text));
	appendStringInfoChar(out, '"');
}
