/*
 * callbacks.h
 *		Starts and ends the processes that call on_done.
 */
#ifndef GENJOB_PROCESS_CALLBACKS_H
#define GENJOB_PROCESS_CALLBACKS_H

#include "base/clock.h"

extern void callbacks_init(void);
extern void callbacks_expect(void);
extern void callbacks_reconfigured(void);
extern void callbacks_work(void);
extern MonoTime callbacks_next(void);
extern void callbacks_finish(void);

#endif /* GENJOB_PROCESS_CALLBACKS_H */
