/*
 * triggers.h
 *		The triggers of gen_jobs.
 */
#ifndef GENJOB_TRIGGERS_H
#define GENJOB_TRIGGERS_H

#include "fmgr.h"

extern PGDLLEXPORT Datum genjob_before_insert(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_before_update(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_before_delete(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_after_truncate(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_after_change(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_after_weights(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_after_callbacks(PG_FUNCTION_ARGS);

#endif /* GENJOB_TRIGGERS_H */
