/*
 * direct.h
 *		Claims and reports of the common kind; for the files of this folder only.
 */
#ifndef GENJOB_DIRECT_H
#define GENJOB_DIRECT_H

#include "life/job.h"
#include "schedule/schedule.h"

extern bool direct_may_claim(const Turn *turns, int n);
extern uint64 direct_claim(Turn *const *turns, int n, Datum keys, TimestampTz now);
extern uint64 direct_report(Job **jobs, int n, TimestampTz now);

#endif /* GENJOB_DIRECT_H */
