/*
 * complete.h
 *		The answer of a job that was handed over.
 */
#ifndef GENJOB_COMPLETE_H
#define GENJOB_COMPLETE_H

#include "fmgr.h"

/* For triggers: true if the present statement is genjob.complete()'s own */
extern bool complete_is_writing(void);

extern PGDLLEXPORT Datum genjob_complete(PG_FUNCTION_ARGS);

#endif /* GENJOB_COMPLETE_H */
