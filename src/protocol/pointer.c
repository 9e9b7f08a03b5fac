/*
 * pointer.c
 *		JSON Pointers (RFC 6901) in which "*" stands for every element.
 *
 * With them a preset says where things stand in a request or an answer.
 */
#include "postgres.h"

#include <limits.h>

#include "lib/stringinfo.h"

#include "protocol/grammar.h"
#include "protocol/pointer.h"
#include "protocol/words.h"

#define MAX_SHOWN 100 /* bytes of a name, where a place is shown */

/*
 * pattern with {name} replaced by value as a token, whatever is in it: a provider's id may have a slash, or
 * be a star.  "~2" is our own, for a star that is one.
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

static cJSON *
pointer_step(cJSON *node, const char *token)
{
	char *end;
	long index;

	if (cJSON_IsObject(node))
		return cJSON_GetObjectItemCaseSensitive(node, token);
	if (!cJSON_IsArray(node) || !isdigit((unsigned char) *token))
		return NULL;
	index = strtol(token, &end, 10);
	return *end == '\0' && index <= INT_MAX ? cJSON_GetArrayItem(node, (int) index) : NULL;
}

/* A pointer that is followed. */
typedef struct Walk
{
	const char **tokens; /* NULL: every element */
	int n_tokens;
	PointerVisitor visit;
	void *arg;
	bool only_first;
	bool found;
} Walk;

static void
pointer_walk(Walk *walk, int i, cJSON *node, const PointerPlace *parent)
{
	PointerPlace place = {parent};

	if (node == NULL || (walk->only_first && walk->found))
		return;
	if (i == walk->n_tokens)
	{
		walk->found = true;
		walk->visit(node, parent, walk->arg);
		return;
	}
	if (walk->tokens[i] != NULL)
	{
		place.token = walk->tokens[i];
		pointer_walk(walk, i + 1, pointer_step(node, place.token), &place);
		return;
	}
	for (node = node->child; node != NULL; node = node->next, place.index++)
	{
		place.token = node->string;
		pointer_walk(walk, i + 1, node, &place);
	}
}

static void
pointer_follow(Walk *walk, cJSON *root, const char *pointer)
{
	const char *p;
	int n_slashes = 0;
	int i;

	for (p = pointer; *p != '\0'; p++)
		n_slashes += *p == '/';
	walk->tokens = palloc((n_slashes + 1) * sizeof(char *));
	for (p = pointer; *p != '\0'; walk->n_tokens++)
	{
		bool is_star = p[1] == '*' && (p[2] == '/' || p[2] == '\0');

		walk->tokens[walk->n_tokens] = pointer_token(p, &p);
		if (is_star)
			walk->tokens[walk->n_tokens] = NULL;
	}
	pointer_walk(walk, 0, root, NULL);
	for (i = 0; i < walk->n_tokens; i++)
	{
		if (walk->tokens[i] != NULL)
			pfree(unconstify(char *, walk->tokens[i]));
	}
	pfree(walk->tokens);
}

/*
 * Visits every place of root that pointer names, in the document's order.
 */
void
pointer_each(cJSON *root, const char *pointer, PointerVisitor visit, void *arg)
{
	Walk walk = {.visit = visit, .arg = arg};

	pointer_follow(&walk, root, pointer);
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
		appendStringInfo(text, "/%s", words_cut(place->token, strlen(place->token), MAX_SHOWN));
}

/*
 * A place as a pointer, for people, palloc'd: long names in it are cut.
 */
char *
pointer_describe(const PointerPlace *place)
{
	StringInfoData text;

	initStringInfo(&text);
	append_place(&text, place);
	return text.data;
}

static void
pointer_note(cJSON *node, const PointerPlace *place, void *arg)
{
	*(cJSON **) arg = node;
}

/*
 * The first place that pointer names, or NULL.
 */
cJSON *
pointer_first(cJSON *root, const char *pointer)
{
	cJSON *first = NULL;

	Walk walk = {.visit = pointer_note, .arg = &first, .only_first = true};

	pointer_follow(&walk, root, pointer);
	return first;
}

/*
 * Puts value where pointer says, making the objects on the way; pointer has no "*" and is not empty.
 */
void
pointer_set(cJSON *root, const char *pointer, cJSON *value)
{
	const char *rest;
	char *token = pointer_token(pointer, &rest);
	cJSON *child;

	if (*rest == '\0')
	{
		json_attach(root, token, value);
		return;
	}
	child = pointer_step(root, token);
	if (!cJSON_IsObject(child) && !cJSON_IsArray(child))
	{
		child = json_create(cJSON_Object);
		json_attach(root, token, child);
	}
	pointer_set(child, rest, value);
}
