/*
 * retention.h
 *		Deleting ended jobs after the time that their server's options retention and retention_failed say.
 */
#ifndef GENJOB_RETENTION_H
#define GENJOB_RETENTION_H

#include "base/clock.h"

extern MonoTime retention_next(void);
extern void retention_work(void);

#endif /* GENJOB_RETENTION_H */
