/*
 * parts.h
 *		How many places the servers of one role may have together.
 */
#ifndef GENJOB_PARTS_H
#define GENJOB_PARTS_H

#include "schedule/schedule.h"

extern void parts_begin(void);
extern bool parts_may_take(const ServerQueue *queue, int64 room);
extern void parts_note_taken(const ServerQueue *queue);
extern void parts_end(void);

#endif /* GENJOB_PARTS_H */
