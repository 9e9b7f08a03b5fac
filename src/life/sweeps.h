/*
 * sweeps.h
 *		When which object store is swept of uploads that nobody knows.
 */
#ifndef GENJOB_SWEEPS_H
#define GENJOB_SWEEPS_H

#include "life/job.h"

extern void sweeps_note_store(const Job *job);
extern void sweeps_work(MonoTime now);
extern MonoTime sweeps_next(void);

#endif /* GENJOB_SWEEPS_H */
