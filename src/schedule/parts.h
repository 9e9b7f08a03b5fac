/*
 * parts.h
 *		How many places, and how much memory, the servers of one role may have together.
 */
#ifndef GENJOB_PARTS_H
#define GENJOB_PARTS_H

#include "schedule/schedule.h"

extern void parts_begin(void);
extern bool parts_may_take(const ServerQueue *queue, int64 room);
extern void parts_note_taken(const ServerQueue *queue);
extern void parts_end(void);
extern void parts_join_account(ServerQueue *queue);

#endif /* GENJOB_PARTS_H */
