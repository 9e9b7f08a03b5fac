/*
 * leftover.h
 *		Uploads that no job continues: tells their stores to abort them.
 */
#ifndef GENJOB_LEFTOVER_H
#define GENJOB_LEFTOVER_H

#include "life/job.h"
#include "server/storeplace.h"

#define LEFTOVER_STALE_S (12 * 3600) /* no upload may take longer */

extern void leftover_add(const Job *job, const char *key, const char *id, const StorePlace *at);
extern void leftover_seek(Job *job);
extern void leftover_sweep(const Job *job, Server *seen);
extern void leftover_hurry(void);
extern int leftover_count_unfinished(void);
extern void leftover_work(MonoTime now);
extern MonoTime leftover_next(void);
extern void leftover_answered(Call *call, HttpReply *reply);

#endif /* GENJOB_LEFTOVER_H */
