/*
 * needed.h
 *		Whether anything still needs a job that has ended.
 */
#ifndef GENJOB_NEEDED_H
#define GENJOB_NEEDED_H

#include "fmgr.h"

/* Call it only in queue_transact() */
extern bool needed_by_others(int64 id);

extern PGDLLEXPORT Datum genjob_needed_jobs(PG_FUNCTION_ARGS);
extern bool needed_is_output(Datum url, Oid store);
extern PGDLLEXPORT Datum genjob_shared_object(PG_FUNCTION_ARGS);

#endif /* GENJOB_NEEDED_H */
