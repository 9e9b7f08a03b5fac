/*
 * asking.h
 *		How many questions about predictions are under way, and which is next.
 */
#ifndef GENJOB_ASKING_H
#define GENJOB_ASKING_H

#include "life/job.h"

extern void asking_line_up(Job *job);
extern Job *asking_next(MonoTime now);
extern MonoTime asking_next_time(MonoTime now);
extern void asking_begin(Job *job);
extern void asking_note_end(Job *job);
extern int asking_count(void);

#endif /* GENJOB_ASKING_H */
