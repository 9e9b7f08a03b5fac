/*
 * submit.h
 *		What the functions for drivers ask of the queue: an INSERT, the first of several jobs, a prediction by its name.
 */
#ifndef GENJOB_SUBMIT_H
#define GENJOB_SUBMIT_H

#include "fmgr.h"

extern int64 session_submit(FunctionCallInfo fcinfo);
extern int64 session_first_ended(const int64 *ids, int n);
extern int64 session_find_prediction(Datum server, Datum remote_id);

#endif /* GENJOB_SUBMIT_H */
