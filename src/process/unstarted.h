/*
 * unstarted.h
 *		Failing jobs that can never be run.
 */
#ifndef GENJOB_UNSTARTED_H
#define GENJOB_UNSTARTED_H

#include "schedule/schedule.h"

extern MonoTime unstarted_next(void);
extern bool unstarted_fail(void);

#endif /* GENJOB_UNSTARTED_H */
