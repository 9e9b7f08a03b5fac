/*
 * storeline.h
 *		Jobs that wait for a place at an object store: first come, first served.
 */
#ifndef GENJOB_STORELINE_H
#define GENJOB_STORELINE_H

#include "life/job.h"

struct StoreTurn;

extern bool storeline_is_open(const struct ServerQueue *queue);
extern bool storeline_take_turn_to_fetch(Job *job, struct StoreTurn *turn);
extern void storeline_leave_fetch(struct StoreTurn *turn);
extern bool storeline_take_turn(Job *job, bool has_another);
extern void storeline_step_out(Job *job);
extern void storeline_leave(Job *job);
extern void storeline_wake(struct ServerQueue *queue);

#endif /* GENJOB_STORELINE_H */
