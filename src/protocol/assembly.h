/*
 * assembly.h
 *		Puts the parts of a stream's events together into one JSON value.
 */
#ifndef GENJOB_ASSEMBLY_H
#define GENJOB_ASSEMBLY_H

#include "lib/stringinfo.h"

#include "base/json.h"
#include "server/streamrules.h"

typedef struct Assembly Assembly;

/* Tells a list element apart; a longer key is cut */
#define ASSEMBLY_KEY 100
typedef char AssemblyKey[ASSEMBLY_KEY];

/* Gets each piece of text as it comes. */
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
