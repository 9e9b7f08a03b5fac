/*
 * reporter.h
 *		Writing what became of calls.
 */
#ifndef GENJOB_REPORTER_H
#define GENJOB_REPORTER_H

#include "base/clock.h"

extern void reporter_write(void);
extern bool reporter_is_blocked(void);
extern MonoTime reporter_next(void);
extern void reporter_hurry(void);

#endif /* GENJOB_REPORTER_H */
