/*
 * rowuploads.h
 *		Uploads that the row of a job still names when the job ends.
 */
#ifndef GENJOB_ROWUPLOADS_H
#define GENJOB_ROWUPLOADS_H

#include "life/job.h"
#include "server/keytemplate.h"
#include "server/storeplace.h"

extern void rowuploads_abort(const Job *job, const KeyWords *words);
extern void rowuploads_log_left(int64 job, const char *key, const char *id, const StorePlace *at);

#endif /* GENJOB_ROWUPLOADS_H */
