/*
 * worker.h
 *		What the processes that are connected to a database have in common.
 */
#ifndef GENJOB_WORKER_H
#define GENJOB_WORKER_H

#include "base/clock.h"

extern void worker_start(Oid database, MonoTime (*deadline)(void));
extern void worker_reload(void);
extern MonoTime worker_stop_deadline(void);

#endif /* GENJOB_WORKER_H */
