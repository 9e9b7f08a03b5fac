/*
 * writers.h
 *		The processes that read and write large answers for a dispatcher, and build large requests.
 */
#ifndef GENJOB_WRITERS_H
#define GENJOB_WRITERS_H

#include "base/clock.h"
#include "life/job.h"

extern void writers_init(int slot);
extern bool writers_can_be_had(void);
extern bool writers_take_answer(void *tag, HttpReply *reply);
extern bool writers_take_saved(Job *job);
extern bool writers_take_request(Job *job);
extern bool writers_take_job(Job *job, size_t bytes, bool alone, bool is_large);
extern void writers_work(void);
extern MonoTime writers_next(void);
extern void writers_finish(MonoTime deadline);

#endif /* GENJOB_WRITERS_H */
