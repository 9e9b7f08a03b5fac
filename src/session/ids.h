/*
 * ids.h
 *		Checks who chose the id of a new job.
 */
#ifndef GENJOB_IDS_H
#define GENJOB_IDS_H

#include "session/row.h"
#include "utils/relcache.h"

extern void ids_install(void);
extern void ids_check(Row *row, Relation relation, bool may_choose);

#endif /* GENJOB_IDS_H */
