/*
 * memoryline.h
 *		The line of servers whose next jobs find no room in memory.
 */
#ifndef GENJOB_MEMORYLINE_H
#define GENJOB_MEMORYLINE_H

#include "schedule/schedule.h"

extern void memoryline_note_given(ServerQueue *queue, size_t bytes);
extern void memoryline_note_refused(ServerQueue *queue, size_t bytes);
extern ServerQueue *memoryline_first(MonoTime now);
extern bool memoryline_holds_back(const ServerQueue *queue, const ServerQueue *first);
extern size_t memoryline_sort(Turn *turns, int n, bool *any_size);
extern bool memoryline_has_room_again(MonoTime now);
extern int memoryline_take_again(int64 *ids, int max, MonoTime now);

#endif /* GENJOB_MEMORYLINE_H */
