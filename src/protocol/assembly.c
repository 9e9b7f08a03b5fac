/*
 * assembly.c
 *		Puts the parts of a stream's events together into one JSON value.
 *
 * The assembly is a tree of parts (parts.c): objects, lists, texts that grow,
 * and values kept as JSON text.  List elements that no rule names are one
 * text.  The rules (streamrules.h) say what goes where, and what is text.
 * This file knows no provider's names.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/base64.h"
#include "protocol/parts.h"

/*
 * Passes text to the listener without making it a part.
 */
void
assembly_show(Assembly *assembly, const char *text)
{
	if (assembly->listener != NULL)
		assembly->listener(text, strlen(text), assembly->arg);
}

static void
join_halves(cJSON *node)
{
	for (; node != NULL; node = node->next)
	{
		if (node->string != NULL)
			jsontext_join_halves(node->string, strlen(node->string));
		if (cJSON_IsString(node))
			jsontext_join_halves(node->valuestring, strlen(node->valuestring));
		join_halves(node->child);
	}
}

/*
 * Returns a node as JSON; makes its strings valid UTF-8.
 */
static char *
print_node(const Assembly *assembly, cJSON *node)
{
	if (assembly->has_half)
	{
		if (cJSON_IsString(node))
			jsontext_join_halves(node->valuestring, strlen(node->valuestring));
		join_halves(node->child);
	}
	return json_print(node);
}

static void
append_raw(Assembly *assembly, Part *list, const char *json)
{
	if (list->len > 0)
		parts_append(assembly, list, ",", 1);
	parts_append(assembly, list, json, strlen(json));
}

/* ---------- putting in ---------- */

static void merge_node(Assembly *assembly, Part *part, cJSON *node, const StreamPlace *place,
					   bool joins);

/*
 * Adds a string to a list, as an element of the shape that the rules give it.
 */
static void
add_string_to_list(Assembly *assembly, Part *list, char *string, const StreamPlace *place)
{
	const StreamPlace *star = streamrules_below(place, NULL);
	const StreamPlace *run = star ? star->child : NULL;
	cJSON text = {.type = cJSON_String, .valuestring = string};
	cJSON with = {.type = cJSON_String};
	cJSON element = {.type = cJSON_Object};
	cJSON elements = {.type = cJSON_Array};

	while (run != NULL && !(run->ops & PLACE_RUN && run->token != NULL))
		run = run->next;
	if (run == NULL)
		json_append(&elements, &text);
	else
	{
		if (run->with_name != NULL)
		{
			with.valuestring = run->with_value;
			with.string = run->with_name;
			json_append(&element, &with);
		}
		text.string = run->token;
		json_append(&element, &text);
		json_append(&elements, &element);
	}
	merge_node(assembly, list, &elements, place, false);
}

/*
 * Makes a part an object or a list.  A list takes the part's text as its first
 * element; an object drops it.  False if the part is of the other kind and not
 * empty.
 */
static bool
convert_part(Assembly *assembly, Part *part, PartKind kind, const StreamPlace *place)
{
	char *text = part->kind == PART_TEXT && part->len > 0 ? part->text : NULL;

	if (part->kind == kind)
		return true;
	if (part->first != NULL || (part->kind == PART_LIST && part->len > 0))
		return false;
	if (part->text != NULL && text == NULL)
		pfree(part->text);
	part->kind = kind;
	part->text = NULL;
	part->len = part->size = 0;
	if (text != NULL && kind == PART_LIST)
	{
		add_string_to_list(assembly, part, pstrdup(text), place);
		pfree(text);
	}
	return true;
}

/*
 * Appends a piece of base64.  If the text so far ends with padding, encodes
 * its last bytes and the new ones again, together.  Appends a piece that is
 * not base64 as it is.
 */
static void
append_base64(Assembly *assembly, Part *part, const char *piece, size_t len)
{
	bool is_padded = part->len >= 4 && part->len % 4 == 0 && part->text[part->len - 1] == '=';
	char *bytes;
	char *encoded;
	ssize_t n_before;
	ssize_t n;

	if (!is_padded)
	{
		parts_append(assembly, part, piece, len);
		return;
	}
	bytes = palloc(4 + len + 1);
	memcpy(bytes, part->text + part->len - 4, 4);
	n_before = base64_decode_in_place(bytes, 4);
	memcpy(bytes + Max(n_before, 0), piece, len);
	n = n_before < 0 ? -1 : base64_decode_in_place(bytes + n_before, len);
	if (n < 0)
	{
		parts_append(assembly, part, piece, len);
		return;
	}
	part->len -= 4;
	encoded = base64_encode(bytes, n_before + n);
	parts_append(assembly, part, encoded, strlen(encoded));
}

static void
merge_string(Assembly *assembly, Part *part, char *string, const StreamPlace *place, bool joins)
{
	int ops = place ? place->ops : 0;
	bool is_piece = ops & (PLACE_TEXT | PLACE_JSON | PLACE_RUN | PLACE_BASE64);
	size_t len = strlen(string);

	if (len == 0 && part->kind != PART_EMPTY && (is_piece || joins || part->kind != PART_TEXT))
		return;
	if (part->kind == PART_LIST)
	{
		add_string_to_list(assembly, part, string, place);
		return;
	}
	if (part->first != NULL)
		return;
	if (is_piece && !(ops & PLACE_BASE64) && assembly->listener != NULL)
		assembly->listener(string, len, assembly->arg);
	if (part->kind != PART_TEXT || !(is_piece || joins))
		parts_set(assembly, part, PART_TEXT, string);
	else if (ops & PLACE_BASE64)
		append_base64(assembly, part, string, len);
	else if (is_piece || part->len != len || memcmp(part->text, string, len) != 0)
		parts_append(assembly, part, string, len);
	part->is_json = ops & PLACE_JSON;
}

static void
merge_members(Assembly *assembly, Part *part, cJSON *node, const StreamPlace *place, bool joins)
{
	cJSON *member;

	cJSON_ArrayForEach(member, node)
	{
		const StreamPlace *below = streamrules_below(place, member->string);
		Part *child;

		if (below != NULL && below->ops & PLACE_SKIP)
			continue;
		if (assembly->has_half)
			jsontext_join_halves(member->string, strlen(member->string));
		child = parts_child(assembly, part, member->string, true);
		if (child != NULL)
			merge_node(assembly, child, member, below, joins);
	}
}

/*
 * Sets key to what tells an element apart: the value of its member.  False if
 * member is NULL, or the element has no such string or number.
 */
bool
assembly_read_key(const cJSON *element, const char *member, AssemblyKey key)
{
	const cJSON *node = member != NULL && cJSON_IsObject(element)
							? cJSON_GetObjectItemCaseSensitive(element, member)
							: NULL;

	if (!cJSON_IsNumber(node) && !cJSON_IsString(node))
		return false;
	snprintf(key, ASSEMBLY_KEY, "%s%s", cJSON_IsString(node) ? "\"" : "", node->valuestring);
	return true;
}

/*
 * True if element continues the text of last: everything except the text is
 * the same.
 */
static bool
continues_text(Assembly *assembly, Part *last, const cJSON *element, const StreamPlace *place)
{
	const cJSON *member;
	int n = 0;

	if (last == NULL || last->kind != PART_OBJECT || !cJSON_IsObject(element))
		return false;
	cJSON_ArrayForEach(member, element)
	{
		const StreamPlace *below = streamrules_below(place, member->string);
		Part *child = parts_child(assembly, last, member->string, false);

		n++;
		if (child == NULL)
			return false;
		if (below != NULL && below->has_run)
			continue;
		if (cJSON_IsString(member)
				? child->kind != PART_TEXT || strcmp(child->text, member->valuestring) != 0
				: cJSON_IsObject(member) || cJSON_IsArray(member) || child->kind != PART_VALUE ||
					  strcmp(child->text, json_print(member)) != 0)
			return false;
	}
	return n == last->n_children;
}

/*
 * Returns the part for an element of a list; NULL if there is no room.
 * position: the index of the element in its own event.
 */
static Part *
part_of_element(Assembly *assembly, Part *list, const cJSON *element, int position,
				const StreamPlace *star)
{
	AssemblyKey key;

	if (assembly_read_key(element, star->key, key))
		return parts_child(assembly, list, key, true);
	if (star->has_run && star->key == NULL)
		return continues_text(assembly, list->last, element, star) ? list->last
																   : parts_add(assembly, list);
	if (star->ops & PLACE_NEW)
		return parts_add(assembly, list);
	snprintf(key, ASSEMBLY_KEY, "%d", position);
	return parts_child(assembly, list, key, true);
}

static void
merge_elements(Assembly *assembly, Part *list, cJSON *node, const StreamPlace *place, bool joins)
{
	const StreamPlace *star = streamrules_below(place, NULL);
	cJSON *element;
	int position = 0;

	cJSON_ArrayForEach(element, node)
	{
		Part *part;

		if (assembly->is_full)
			return;
		if (star == NULL && list->first == NULL)
		{
			append_raw(assembly, list, print_node(assembly, element));
			continue;
		}
		part = star ? part_of_element(assembly, list, element, position++, star)
					: parts_add(assembly, list);
		if (part != NULL)
			merge_node(assembly, part, element, star, joins);
	}
}

/*
 * Merges a node into a part; place has its rules, or is NULL.
 */
static void
merge_node(Assembly *assembly, Part *part, cJSON *node, const StreamPlace *place, bool joins)
{
	int ops = place ? place->ops : 0;

	check_stack_depth();
	joins |= (ops & PLACE_JOIN) != 0;
	if (cJSON_IsNull(node))
	{
		if (part->kind == PART_EMPTY)
			parts_set(assembly, part, PART_VALUE, "null");
	}
	else if (ops & PLACE_LAST && part->first == NULL)
		parts_set(assembly, part, PART_VALUE, print_node(assembly, node));
	else if (cJSON_IsString(node))
		merge_string(assembly, part, node->valuestring, place, joins);
	else if (cJSON_IsObject(node))
	{
		if (convert_part(assembly, part, PART_OBJECT, place))
			merge_members(assembly, part, node, place, joins);
	}
	else if (cJSON_IsArray(node))
	{
		if (convert_part(assembly, part, PART_LIST, place))
			merge_elements(assembly, part, node, place, joins);
	}
	else if (part->first == NULL)
		parts_set(assembly, part, PART_VALUE, print_node(assembly, node));
}

/*
 * Appends an element to a list; ignores null.
 */
static void
add_element(Assembly *assembly, Part *list, cJSON *node, const StreamPlace *place, bool joins)
{
	const StreamPlace *star = streamrules_below(place, NULL);
	Part *part;

	if (cJSON_IsNull(node) || (star != NULL && star->ops & PLACE_SKIP))
		return;
	if (star == NULL && list->first == NULL)
	{
		append_raw(assembly, list, print_node(assembly, node));
		return;
	}
	part = parts_add(assembly, list);
	if (part != NULL)
		merge_node(assembly, part, node, star, joins);
}

/*
 * Returns what a token of a route's target means: the name of a member or,
 * with *is_element set, the key of an element (NULL: a new element).  "*"
 * takes the next of *keys; "{member}" reads the key from event into room.
 */
static const char *
read_token(const char *token, const cJSON *event, AssemblyKey **keys, AssemblyKey room,
		   bool *is_element)
{
	*is_element = token == NULL || strcmp(token, "-") == 0 ||
				  (*token == '{' && token[strlen(token) - 1] == '}');
	if (token == NULL)
		return *(*keys)++;
	if (!*is_element)
		return token;
	return *token == '{' && assembly_read_key(event, pnstrdup(token + 1, strlen(token) - 2), room)
			   ? room
			   : NULL;
}

/*
 * Merges node, which is part of event, into the assembly at the place to.
 * keys: an element's key for each "*" in to.  has_half: the event has strings
 * that are not valid UTF-8.
 */
void
assembly_put(Assembly *assembly, const JsonPointer *to, AssemblyKey *keys, const cJSON *event,
			 cJSON *node, bool has_half)
{
	const StreamPlace *place = assembly->places;
	Part *part = assembly->root;
	bool joins = false;
	int i;

	assembly->has_half = has_half;
	if (assembly->is_full)
		return;
	for (i = 0; i < to->n_tokens && part != NULL; i++)
	{
		bool is_element;
		AssemblyKey room;
		const char *name = read_token(to->tokens[i], event, &keys, room, &is_element);

		if (!convert_part(assembly, part, is_element ? PART_LIST : PART_OBJECT, place))
			return;
		if (is_element && name == NULL && i + 1 == to->n_tokens)
		{
			add_element(assembly, part, node, place, joins);
			return;
		}
		part = name != NULL ? parts_child(assembly, part, name, true) : parts_add(assembly, part);
		place = streamrules_below(place, is_element ? NULL : name);
		joins |= place != NULL && (place->ops & PLACE_JOIN) != 0;
	}
	if (part != NULL && !(place != NULL && place->ops & PLACE_SKIP))
		merge_node(assembly, part, node, place, joins);
}

/* ---------- printing ---------- */

static void
print_text(StringInfo json, Part *part)
{
	cJSON node = {.type = cJSON_String, .valuestring = part->text};
	const char *reason;
	char *printed;
	char *copy;

	jsontext_join_halves(part->text, part->len);
	if (part->is_json && part->len > 0)
	{
		copy = pstrdup(part->text);
		if (json_parse_answer(copy, strlen(copy), &reason) != NULL)
		{
			appendStringInfoString(json, part->text);
			return;
		}
	}
	printed = json_print(&node);
	pfree(part->text);
	part->text = NULL;
	appendStringInfoString(json, printed);
	pfree(printed);
}

static int
compare_keys(const void *a, const void *b)
{
	long left = atol((*(Part *const *) a)->name);
	long right = atol((*(Part *const *) b)->name);

	return (left > right) - (left < right);
}

/*
 * Sorts the elements by their keys, if these are numbers.
 */
static void
sort_elements(Part *list)
{
	Part **elements = palloc((list->n_children + 1) * sizeof(Part *));
	bool is_sorted = true;
	Part *element;
	int n = 0;
	int i;

	for (element = list->first; element != NULL; element = element->next)
	{
		if (element->name == NULL || !isdigit((unsigned char) *element->name))
			return;
		elements[n++] = element;
		is_sorted &= n == 1 || compare_keys(&elements[n - 2], &elements[n - 1]) < 0;
	}
	if (is_sorted)
		return;
	qsort(elements, n, sizeof(Part *), compare_keys);
	for (i = 0; i < n; i++)
		elements[i]->next = i + 1 < n ? elements[i + 1] : NULL;
	list->first = elements[0];
	list->last = elements[n - 1];
}

static void print_part(StringInfo json, Part *part);

static void
print_children(StringInfo json, Part *part, const char *brackets)
{
	Part *child;

	check_stack_depth();
	appendStringInfoChar(json, brackets[0]);
	if (part->kind == PART_LIST && part->len > 0)
		appendStringInfo(json, "%s%s", part->text, part->first ? "," : "");
	for (child = part->first; child != NULL; child = child->next)
	{
		if (part->kind == PART_OBJECT)
			appendStringInfo(json, "\"%s\":", json_escape(child->name));
		print_part(json, child);
		if (child->next != NULL)
			appendStringInfoChar(json, ',');
	}
	appendStringInfoChar(json, brackets[1]);
}

static void
print_part(StringInfo json, Part *part)
{
	switch (part->kind)
	{
		case PART_EMPTY:
			appendStringInfoString(json, "null");
			break;
		case PART_VALUE:
			appendBinaryStringInfo(json, part->text, (int) part->len);
			break;
		case PART_TEXT:
			print_text(json, part);
			break;
		case PART_OBJECT:
			print_children(json, part, "{}");
			break;
		case PART_LIST:
			sort_elements(part);
			print_children(json, part, "[]");
			break;
	}
	if (part->text != NULL)
		pfree(part->text);
	part->text = NULL;
	part->kind = part->first == NULL ? PART_EMPTY : part->kind;
}

/*
 * Returns the assembly as JSON, palloc'd.  Uses up the texts: call it once.
 */
StringInfo
assembly_print(Assembly *assembly)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch =
		AllocSetContextCreate(caller, "genjob assembly", ALLOCSET_DEFAULT_SIZES);
	StringInfo json = makeStringInfo();

	MemoryContextSwitchTo(scratch);
	print_part(json, assembly->root);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	return json;
}
