/*
 * views.h
 *		What the views of the schema genjob show, from shared memory.
 */
#ifndef GENJOB_VIEWS_H
#define GENJOB_VIEWS_H

#include "fmgr.h"

extern PGDLLEXPORT Datum genjob_activity(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_workers(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_server_stats(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_backends(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_standstill(PG_FUNCTION_ARGS);

#endif /* GENJOB_VIEWS_H */
