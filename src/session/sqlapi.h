/*
 * sqlapi.h
 *		The functions of the schema genjob.
 */
#ifndef GENJOB_SQLAPI_H
#define GENJOB_SQLAPI_H

#include "fmgr.h"

extern bool sqlapi_is_updated(void);
extern void sqlapi_check_version(void);

extern PGDLLEXPORT Datum genjob_version(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_preview(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_cancel(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_retry(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_wait(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_wait_all(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_wait_text(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_wait_any(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_poke(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_submit(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_run(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_server_rate(PG_FUNCTION_ARGS);

#endif /* GENJOB_SQLAPI_H */
