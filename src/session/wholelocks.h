/*
 * wholelocks.h
 *		Refuses LOCK TABLE of genjob's tables by roles that do not own them.
 */
#ifndef GENJOB_WHOLELOCKS_H
#define GENJOB_WHOLELOCKS_H

#include "nodes/plannodes.h"

extern bool wholelocks_concerns(Node *statement);
extern PlannedStmt *wholelocks_begin(PlannedStmt *planned, List **held);
extern void wholelocks_finish(const List *held);

#endif /* GENJOB_WHOLELOCKS_H */
