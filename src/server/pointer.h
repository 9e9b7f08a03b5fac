/*
 * pointer.h
 *		JSON Pointers (RFC 6901) in which "*" stands for every element.
 */
#ifndef GENJOB_POINTER_H
#define GENJOB_POINTER_H

#include "base/json.h"

/* Where a visitor is. */
typedef struct PointerPlace
{
	const struct PointerPlace *parent; /* NULL: the root */
	const char *token;                 /* the member's name; NULL: an element of an array */
	int index;
} PointerPlace;

/*
 * Called for each place that matches; place (NULL: the root itself) is gone when the visitor returns.
 */
typedef void (*PointerVisitor)(cJSON *node, const PointerPlace *place, void *arg);

/* A pointer, taken apart. */
typedef struct JsonPointer
{
	char **tokens; /* NULL: every element */
	int n_tokens;
} JsonPointer;

extern JsonPointer pointer_read(const char *text);
extern void pointer_visit(const JsonPointer *pointer, cJSON *root, PointerVisitor visit, void *arg);
extern cJSON *pointer_find(const JsonPointer *pointer, cJSON *root);
extern void pointer_each(cJSON *root, const char *text, PointerVisitor visit, void *arg);
extern char *pointer_describe(const PointerPlace *place);
extern cJSON *pointer_first(cJSON *root, const char *text);
extern cJSON *pointer_first_within(cJSON *root, const char *text, int64 *left);
extern char *pointer_fill(const char *pattern, const char *name, const char *value);
extern void pointer_set(cJSON *root, const char *pointer, cJSON *value);

#endif /* GENJOB_POINTER_H */
