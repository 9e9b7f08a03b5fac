/*
 * awaited.h
 *		The jobs that a session waits for.
 */
#ifndef GENJOB_AWAITED_H
#define GENJOB_AWAITED_H

#include "fmgr.h"
#include "utils/tuplestore.h"

extern bool session_job_has_ended(int64 id);
extern int session_keep_unended(int64 *ids, int n);
extern Datum session_job_row(int64 id);
extern void session_put_job_rows(const int64 *ids, int n, Tuplestorestate *store);

#endif /* GENJOB_AWAITED_H */
