/*
 * steps.h
 *		What a claimed job does next.
 */
#ifndef GENJOB_STEPS_H
#define GENJOB_STEPS_H

#include "job.h"

extern void steps_start(Job *job);
extern void steps_answered(Job *job, HttpReply *reply);
extern void steps_reported(Job *job, TimestampTz now);
extern void steps_simplify(Job *job);

#endif /* GENJOB_STEPS_H */
