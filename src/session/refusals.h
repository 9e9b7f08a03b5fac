/*
 * refusals.h
 *		Commands on genjob's tables after which the queue would stand still, refused.
 */
#ifndef GENJOB_REFUSALS_H
#define GENJOB_REFUSALS_H

#include "nodes/nodes.h"

extern bool refusals_are_off(void);
extern void refusals_check(Node *statement);

#endif /* GENJOB_REFUSALS_H */
