/*
 * strangers.h
 *		Refuses statements of strangers that would lock one of genjob's tables.
 */
#ifndef GENJOB_STRANGERS_H
#define GENJOB_STRANGERS_H

#include "nodes/parsenodes.h"

extern bool strangers_is_genjobs(Oid table);
extern bool strangers_is_anothers(Oid relation);
extern void strangers_check(Node *statement);

#endif /* GENJOB_STRANGERS_H */
