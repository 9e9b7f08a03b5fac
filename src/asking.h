/*
 * asking.h
 *		How many questions about predictions are under way, and which is next.
 */
#ifndef GENJOB_ASKING_H
#define GENJOB_ASKING_H

#include "job.h"

extern void asking_line_up(Job *job);
extern Job *asking_next(TimestampTz now);
extern TimestampTz asking_next_time(TimestampTz now);
extern void asking_begin(Job *job);
extern int asking_count(void);

#endif /* GENJOB_ASKING_H */
