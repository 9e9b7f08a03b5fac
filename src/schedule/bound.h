/*
 * bound.h
 *		Jobs that only their own server may run.
 */
#ifndef GENJOB_BOUND_H
#define GENJOB_BOUND_H

#include "lib/ilist.h"

extern void bound_add(dlist_head *list, int64 id);
extern bool bound_has(int64 id);
extern void bound_remove(int64 id);
extern int bound_take(dlist_head *list, int64 *ids, int max);

#endif /* GENJOB_BOUND_H */
