/*
 * pointer.c
 *		JSON Pointers (RFC 6901) in which "*" stands for every element.
 *
 * With them a preset says where things stand in a request or an answer.
 */
#include "postgres.h"

#include <limits.h>

#include "lib/stringinfo.h"

#include "base/clip.h"
#include "server/grammar.h"
#include "server/pointer.h"

#define MAX_SHOWN 100 /* bytes of a name, where a place is shown */

/*
 * Returns pattern with {name} replaced by value as one token: a provider's id may contain a slash, or be a star.  "~2"
 * is our own escape for a literal star.
 */
char *
pointer_fill(const char *pattern, const char *name, const char *value)
{
	StringInfoData token;

	initStringInfo(&token);
	for (; *value != '\0'; value++)
	{
		if (*value == '~')
			appendStringInfoString(&token, "~0");
		else if (*value == '/')
			appendStringInfoString(&token, "~1");
		else if (*value == '*')
			appendStringInfoString(&token, "~2");
		else
			appendStringInfoChar(&token, *value);
	}
	return grammar_fill(pattern, name, token.data);
}

/*
 * Splits the first token off pointer ("/token/rest"), unescaped and palloc'd; *rest is what follows.
 */
static char *
pointer_token(const char *pointer, const char **rest)
{
	const char *start = pointer + 1;
	size_t len = strcspn(start, "/");
	char *token = palloc(len + 1);
	size_t i, n = 0;

	for (i = 0; i < len; i++)
	{
		if (start[i] == '~' && start[i + 1] >= '0' && start[i + 1] <= '2')
			token[n++] = "~/*"[start[++i] - '0'];
		else
			token[n++] = start[i];
	}
	token[n] = '\0';
	*rest = start + len;
	return token;
}

/*
 * Returns the member or element that a token names; NULL if there is none.
 * Subtracts the nodes that it passes from *left; returns NULL when *left is
 * used up.
 */
static cJSON *
pointer_step(cJSON *node, const char *token, int64 *left)
{
	bool is_object = cJSON_IsObject(node);
	char *end;
	long index = 0;

	if (!is_object && (!cJSON_IsArray(node) || !isdigit((unsigned char) *token)))
		return NULL;
	if (!is_object && token[0] == '0' && token[1] != '\0')
		return NULL; /* RFC 6901: no leading zeros */
	if (!is_object)
	{
		index = strtol(token, &end, 10);
		if (*end != '\0' || index > INT_MAX)
			return NULL;
	}
	for (node = node->child; node != NULL && --*left >= 0; node = node->next)
	{
		if (is_object ? node->string != NULL && strcmp(node->string, token) == 0 : index-- == 0)
			return node;
	}
	return NULL;
}

/*
 * Takes a pointer apart, once for many documents; palloc'd.
 */
JsonPointer
pointer_read(const char *text)
{
	JsonPointer pointer = {NULL, 0};
	const char *p;
	int n_slashes = 0;

	for (p = text; *p != '\0'; p++)
		n_slashes += *p == '/';
	pointer.tokens = palloc((n_slashes + 1) * sizeof(char *));
	for (p = text; *p != '\0'; pointer.n_tokens++)
	{
		bool is_star = p[1] == '*' && (p[2] == '/' || p[2] == '\0');
		char *token = pointer_token(p, &p);

		pointer.tokens[pointer.n_tokens] = is_star ? NULL : token;
		if (is_star)
			pfree(token);
	}
	return pointer;
}

static void
pointer_free(JsonPointer *pointer)
{
	int i;

	for (i = 0; i < pointer->n_tokens; i++)
	{
		if (pointer->tokens[i] != NULL)
			pfree(pointer->tokens[i]);
	}
	pfree(pointer->tokens);
}

/* The state of one search. */
typedef struct Walk
{
	const JsonPointer *pointer;
	PointerVisitor visit;
	void *arg;
	bool only_first;
	bool found;
	int64 left; /* nodes that it may still pass */
} Walk;

static void
pointer_walk(Walk *walk, int i, cJSON *node, const PointerPlace *parent)
{
	PointerPlace place = {parent};

	if (node == NULL || (walk->only_first && walk->found))
		return;
	if (i == walk->pointer->n_tokens)
	{
		walk->found = true;
		walk->visit(node, parent, walk->arg);
		return;
	}
	if (walk->pointer->tokens[i] != NULL)
	{
		place.token = walk->pointer->tokens[i];
		pointer_walk(walk, i + 1, pointer_step(node, place.token, &walk->left), &place);
		return;
	}
	for (node = node->child; node != NULL && --walk->left >= 0; node = node->next, place.index++)
	{
		place.token = node->string;
		pointer_walk(walk, i + 1, node, &place);
	}
}

/*
 * Visits every place of root that a pointer names, in the document's order.
 */
void
pointer_visit(const JsonPointer *pointer, cJSON *root, PointerVisitor visit, void *arg)
{
	Walk walk = {.pointer = pointer, .visit = visit, .arg = arg, .left = PG_INT64_MAX};

	pointer_walk(&walk, 0, root, NULL);
}

static void
pointer_note(cJSON *node, const PointerPlace *place, void *arg)
{
	*(cJSON **) arg = node;
}

static cJSON *
find_within(const JsonPointer *pointer, cJSON *root, int64 *left)
{
	cJSON *first = NULL;
	Walk walk = {.pointer = pointer,
				 .visit = pointer_note,
				 .arg = &first,
				 .only_first = true,
				 .left = *left};

	pointer_walk(&walk, 0, root, NULL);
	*left = walk.left;
	return first;
}

/*
 * Returns the first place that a pointer names, or NULL.
 */
cJSON *
pointer_find(const JsonPointer *pointer, cJSON *root)
{
	int64 left = PG_INT64_MAX;

	return find_within(pointer, root, &left);
}

/*
 * As pointer_visit(), for a pointer's text.
 */
void
pointer_each(cJSON *root, const char *text, PointerVisitor visit, void *arg)
{
	JsonPointer pointer = pointer_read(text);

	pointer_visit(&pointer, root, visit, arg);
	pointer_free(&pointer);
}

cJSON *
pointer_first(cJSON *root, const char *text)
{
	int64 left = PG_INT64_MAX;

	return pointer_first_within(root, text, &left);
}

/*
 * As pointer_first().  Subtracts the nodes that it passes from *left; if *left
 * gets negative, it gave up.
 */
cJSON *
pointer_first_within(cJSON *root, const char *text, int64 *left)
{
	JsonPointer pointer = pointer_read(text);
	cJSON *first = find_within(&pointer, root, left);

	pointer_free(&pointer);
	return first;
}

static void
append_place(StringInfo text, const PointerPlace *place)
{
	if (place == NULL)
		return;
	append_place(text, place->parent);
	if (place->token == NULL)
		appendStringInfo(text, "/%d", place->index);
	else
		appendStringInfo(text, "/%s", clip_line(place->token, strlen(place->token), MAX_SHOWN));
}

/*
 * Returns a place as a pointer to show to people, palloc'd; cuts long names.
 */
char *
pointer_describe(const PointerPlace *place)
{
	StringInfoData text;

	initStringInfo(&text);
	append_place(&text, place);
	return text.data;
}

/*
 * Puts value where pointer says, making the objects on the way; pointer has no "*" and is not empty.
 */
void
pointer_set(cJSON *root, const char *pointer, cJSON *value)
{
	const char *rest;
	char *token = pointer_token(pointer, &rest);
	int64 left = PG_INT64_MAX;
	cJSON *child;

	if (*rest == '\0')
	{
		json_attach(root, token, value);
		return;
	}
	child = pointer_step(root, token, &left);
	if (!cJSON_IsObject(child) && !cJSON_IsArray(child))
	{
		child = json_create(cJSON_Object);
		json_attach(root, token, child);
	}
	pointer_set(child, rest, value);
}
