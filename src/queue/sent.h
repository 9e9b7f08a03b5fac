/*
 * sent.h
 *		What went into calls whose end is not known (genjob.sent).
 */
#ifndef GENJOB_SENT_H
#define GENJOB_SENT_H

#include "life/job.h"

extern void queue_read_sent(Job **jobs, int n);
extern void queue_keep_sent(Job **jobs, int n);
extern void queue_forget_stale_sent(void);

#endif /* GENJOB_SENT_H */
