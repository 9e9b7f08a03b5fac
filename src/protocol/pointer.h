/*
 * pointer.h
 *		JSON Pointers (RFC 6901) in which "*" stands for every element.
 */
#ifndef GENJOB_POINTER_H
#define GENJOB_POINTER_H

#include "json.h"

/*
 * Called for each place that matches; path is the place's own pointer, without "*", and
 * gone when the visitor returns.
 */
typedef void (*PointerVisitor)(cJSON *node, const char *path, void *arg);

extern void pointer_each(cJSON *root, const char *pointer, PointerVisitor visit, void *arg);
extern cJSON *pointer_first(cJSON *root, const char *pointer);
extern char *pointer_fill(const char *pattern, const char *name, const char *value);
extern void pointer_set(cJSON *root, const char *pointer, cJSON *value);

#endif /* GENJOB_POINTER_H */
