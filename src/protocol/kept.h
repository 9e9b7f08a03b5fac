/*
 * kept.h
 *		The members of many objects, the later over the earlier.
 */
#ifndef GENJOB_KEPT_H
#define GENJOB_KEPT_H

#include "base/json.h"

typedef struct Kept Kept;

extern Kept *kept_create(void);
extern void kept_put(Kept *kept, const char *name, char *json);
extern bool kept_takes(const Kept *kept, const char *name);
extern cJSON *kept_object(const Kept *kept);

#endif /* GENJOB_KEPT_H */
