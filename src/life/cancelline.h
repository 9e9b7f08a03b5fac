/*
 * cancelline.h
 *		How many cancelling calls are under way, and which is next.
 */
#ifndef GENJOB_CANCELLINE_H
#define GENJOB_CANCELLINE_H

#include "life/job.h"
#include "schedule/schedule.h"

extern void cancelline_line_up(Job *job);
extern Job *cancelline_next(MonoTime now);
extern MonoTime cancelline_next_time(MonoTime now);
extern void cancelline_note_waiting(MonoTime now);
extern void cancelline_begin(Job *job);
extern int cancelline_count(void);

/* A server's window: how many cancelling calls it may have at a time */
extern void cancelline_widen(ServerQueue *queue);
extern void cancelline_narrow(ServerQueue *queue);

#endif /* GENJOB_CANCELLINE_H */
