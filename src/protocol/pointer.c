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

static void
pointer_walk(cJSON *node, const char *pointer, const char *path, PointerVisitor visit, void *arg)
{
	const char *rest;
	char *token;
	char *place;
	cJSON *child;
	int index = 0;

	if (node == NULL)
		return;
	if (*pointer == '\0')
	{
		visit(node, path, arg);
		return;
	}
	token = pointer_token(pointer, &rest);
	if (pointer[1] != '*' || rest != pointer + 2)
	{
		place = psprintf("%s/%s", path, token);
		pointer_walk(pointer_step(node, token), rest, place, visit, arg);
		pfree(place);
		pfree(token);
		return;
	}
	pfree(token);
	for (child = node->child; child != NULL; child = child->next, index++)
	{
		place = cJSON_IsObject(node) ? psprintf("%s/%s", path, child->string)
									 : psprintf("%s/%d", path, index);
		pointer_walk(child, rest, place, visit, arg);
		pfree(place);
	}
}

/*
 * Visits every place of root that pointer names, in the document's order.
 */
void
pointer_each(cJSON *root, const char *pointer, PointerVisitor visit, void *arg)
{
	pointer_walk(root, pointer, "", visit, arg);
}

static void
pointer_note_first(cJSON *node, const char *path, void *arg)
{
	cJSON **first = arg;

	if (*first == NULL)
		*first = node;
}

/*
 * The first place that pointer names, or NULL.
 */
cJSON *
pointer_first(cJSON *root, const char *pointer)
{
	cJSON *first = NULL;

	pointer_each(root, pointer, pointer_note_first, &first);
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
		child = cJSON_CreateObject();
		json_attach(root, token, child);
	}
	pointer_set(child, rest, value);
}
