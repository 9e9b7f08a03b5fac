/*
 * complete.h
 *		The answer of a job that was handed over.
 */
#ifndef GENJOB_COMPLETE_H
#define GENJOB_COMPLETE_H

#include "fmgr.h"

/* What triggers ask: the present statement ends a job that was handed over */
extern bool complete_is_writing(void);

extern PGDLLEXPORT Datum genjob_complete(PG_FUNCTION_ARGS);

#endif /* GENJOB_COMPLETE_H */
