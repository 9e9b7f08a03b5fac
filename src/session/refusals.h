/*
 * refusals.h
 *		Refuses commands on genjob's tables that would stop the queue.
 */
#ifndef GENJOB_REFUSALS_H
#define GENJOB_REFUSALS_H

#include "nodes/nodes.h"

extern bool refusals_are_off(void);
extern void refusals_check(Node *statement);

#endif /* GENJOB_REFUSALS_H */
