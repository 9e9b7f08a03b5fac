/*
 * jsonb.h
 *		The requests that users write, as text.
 */
#ifndef GENJOB_JSONB_H
#define GENJOB_JSONB_H

#include "utils/jsonb.h"

extern const char *jsonb_find_fault(Jsonb *jsonb);
extern char *jsonb_print(Jsonb *jsonb);

#endif /* GENJOB_JSONB_H */
