/*
 * direct.h
 *		Claims and reports of the common kind; for the files of this folder only.
 */
#ifndef GENJOB_DIRECT_H
#define GENJOB_DIRECT_H

#include "utils/snapshot.h"
#include "utils/uuid.h"

#include "life/job.h"
#include "schedule/schedule.h"

/* A job that was written. */
typedef struct DirectReport
{
	Job *job;
	bool has_on_done;
} DirectReport;

extern bool direct_may_claim(const Turn *turns, int n);
extern uint64 direct_claim(Turn *const *turns, int n, pg_uuid_t *const *keys, TimestampTz now);
extern uint64 direct_continue(const int64 *jobs, int n, Snapshot snapshot);
extern int direct_report(Job **jobs, int n, TimestampTz now, DirectReport *written);

#endif /* GENJOB_DIRECT_H */
