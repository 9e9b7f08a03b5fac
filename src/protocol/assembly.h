/*
 * assembly.h
 *		The parts of many objects, put together.
 */
#ifndef GENJOB_ASSEMBLY_H
#define GENJOB_ASSEMBLY_H

#include "lib/stringinfo.h"

#include "base/json.h"
#include "server/streamrules.h"

typedef struct Assembly Assembly;

/* What tells an element of a list apart; a longer one is cut */
#define ASSEMBLY_KEY 100
typedef char AssemblyKey[ASSEMBLY_KEY];

/* A piece of text that has come. */
typedef void (*AssemblyListener)(const char *text, size_t len, void *arg);

extern Assembly *assembly_create(const StreamPlace *places);
extern void assembly_listen(Assembly *assembly, AssemblyListener listener, void *arg);
extern void assembly_show(Assembly *assembly, const char *text);
extern void assembly_put(Assembly *assembly, const JsonPointer *to, AssemblyKey *keys,
						 const cJSON *event, cJSON *node, bool has_half);
extern bool assembly_read_key(const cJSON *element, const char *member, AssemblyKey key);
extern bool assembly_is_full(const Assembly *assembly);
extern int assembly_limit(void);
extern bool assembly_is_empty(const Assembly *assembly);
extern StringInfo assembly_print(Assembly *assembly);

#endif /* GENJOB_ASSEMBLY_H */
