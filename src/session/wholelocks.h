/*
 * wholelocks.h
 *		Statements that lock genjob's tables as a whole, of roles that do not own them.
 */
#ifndef GENJOB_WHOLELOCKS_H
#define GENJOB_WHOLELOCKS_H

#include "nodes/nodes.h"

extern void wholelocks_check(Node *statement);

#endif /* GENJOB_WHOLELOCKS_H */
