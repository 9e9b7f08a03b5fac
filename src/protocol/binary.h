/*
 * binary.h
 *		The binaries that go into a request.
 */
#ifndef GENJOB_BINARY_H
#define GENJOB_BINARY_H

#include "base/json.h"
#include "protocol/request.h"

/* A binary on its way into a body. */
typedef struct Binary
{
	const char *name; /* for people, and in the name of a file */
	const char *content_type;
	const char *data;
	size_t len;
} Binary;

extern void binary_check_alone(const RequestSource *source);
extern bool binary_is_input(const RequestSource *source, const cJSON *node, int *ordinal);
extern bool binary_is_named(const RequestSource *source, const cJSON *node);
extern bool binary_find(const RequestSource *source, const cJSON *node, Binary *binary);
extern Binary binary_of_input(const RequestSource *source, int ordinal);
extern bool binary_is_in(const RequestSource *source, const cJSON *params);
extern bool binary_is_result(const cJSON *node, Reference *reference, const char **place);
extern Reference *binary_find_result(const RequestSource *source, const Reference *wanted);
extern const Reference *binary_find_reference(const RequestSource *source, const cJSON *node);
extern Reference *binary_list_references(const cJSON *params, int *n);
extern bool binary_is_bare_place(const RequestSource *source, const cJSON *parent,
								 const cJSON *node);

#endif /* GENJOB_BINARY_H */
