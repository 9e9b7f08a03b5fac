/*
 * leftover.h
 *		Uploads that no job continues: tells their stores to abort them.
 */
#ifndef GENJOB_LEFTOVER_H
#define GENJOB_LEFTOVER_H

#include "life/job.h"

extern void leftover_add(const Job *job, const char *key, const char *id);
extern void leftover_seek(Job *job);
extern void leftover_note_store(const Job *job);
extern void leftover_hurry(void);
extern int leftover_count_unfinished(void);
extern void leftover_work(MonoTime now);
extern MonoTime leftover_next(void);
extern void leftover_answered(Call *call, HttpReply *reply);

#endif /* GENJOB_LEFTOVER_H */
