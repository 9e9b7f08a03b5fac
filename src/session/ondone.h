/*
 * ondone.h
 *		The column on_done: the function that genjob calls when the job has
 *		ended.
 */
#ifndef GENJOB_ONDONE_H
#define GENJOB_ONDONE_H

#include "utils/relcache.h"

#include "session/row.h"

extern void ondone_check(Row *row, Relation relation);
extern void ondone_filter(Row *row, Relation relation);

#endif /* GENJOB_ONDONE_H */
