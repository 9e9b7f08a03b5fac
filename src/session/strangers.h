/*
 * strangers.h
 *		Statements that name one of genjob's tables, of roles that do not own it.
 */
#ifndef GENJOB_STRANGERS_H
#define GENJOB_STRANGERS_H

#include "nodes/parsenodes.h"

extern bool strangers_is_anothers(Oid relation);
extern void strangers_check(Node *statement);

#endif /* GENJOB_STRANGERS_H */
