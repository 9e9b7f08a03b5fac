/*
 * unstarted.h
 *		Failing jobs that can never be run, one by one.
 */
#ifndef GENJOB_UNSTARTED_H
#define GENJOB_UNSTARTED_H

#include "schedule/schedule.h"

extern bool unstarted_fail_singly(ServerQueue *queue, TimestampTz now);

#endif /* GENJOB_UNSTARTED_H */
