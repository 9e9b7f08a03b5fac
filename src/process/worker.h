/*
 * worker.h
 *		What the processes that are connected to a database have in common.
 */
#ifndef GENJOB_WORKER_H
#define GENJOB_WORKER_H

#include "postmaster/bgworker.h"

#include "base/clock.h"

extern bool worker_register(const char *kind, const char *name, const void *post, size_t len,
							Datum arg, BackgroundWorkerHandle **handle);
extern void worker_start(Oid database, MonoTime (*deadline)(void));
extern bool worker_is_to_reload(void);
extern void worker_reload(void);
extern MonoTime worker_stop_deadline(void);

#endif /* GENJOB_WORKER_H */
