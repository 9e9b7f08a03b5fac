/*
 * presign.h
 *		genjob.presign() and genjob.presign_put(): links to objects, made in SQL without a call.
 */
#ifndef GENJOB_PRESIGN_H
#define GENJOB_PRESIGN_H

#include "fmgr.h"

extern PGDLLEXPORT Datum genjob_presign(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_presign_output(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_presign_put(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_store_trouble(PG_FUNCTION_ARGS);

#endif /* GENJOB_PRESIGN_H */
