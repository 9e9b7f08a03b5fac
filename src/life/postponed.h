/*
 * postponed.h
 *		How often each job was postponed, because something that it needs is
 *		not there yet.
 */
#ifndef GENJOB_POSTPONED_H
#define GENJOB_POSTPONED_H

#include "life/job.h"

extern Verdict *postponed_verdict(const Job *job);
extern int postponed_times(int64 id);
extern size_t postponed_bytes(int64 id);
extern void postponed_forget(int64 id);

#endif /* GENJOB_POSTPONED_H */
