/*
 * jsonb.h
 *		The requests that users write, as text; and answers as jsonb.
 */
#ifndef GENJOB_JSONB_H
#define GENJOB_JSONB_H

#include "utils/jsonb.h"

extern const char *jsonb_find_fault(Jsonb *jsonb);
extern char *jsonb_print(Jsonb *jsonb);
extern char *jsonb_print_utf8(struct varlena *stored);

/* jsonbtree.c */
extern Jsonb *jsonb_from_text(char **text);

#endif /* GENJOB_JSONB_H */
