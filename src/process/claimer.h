/*
 * claimer.h
 *		Finding and claiming jobs.
 */
#ifndef GENJOB_CLAIMER_H
#define GENJOB_CLAIMER_H

#include "base/clock.h"

extern void claimer_init(int max_calls);
extern void claimer_reconfigured(void);
extern void claimer_take_news(void);
extern void claimer_note_time(MonoTime now);
extern bool claimer_must_look(MonoTime now);
extern void claimer_claim(void);
extern void claimer_start(void);
extern void claimer_give_back(void);
extern void claimer_sweep(MonoTime now);
extern MonoTime claimer_next_look(MonoTime now);
extern bool claimer_is_troubled(void);
extern void claimer_show(void);
extern bool claimer_found_nothing(void);
extern void claimer_expect_orphans(void);

#endif /* GENJOB_CLAIMER_H */
