/*
 * putoff.h
 *		Jobs that are looked at again later.
 */
#ifndef GENJOB_PUTOFF_H
#define GENJOB_PUTOFF_H

#include "base/clock.h"

extern bool putoff_add(int64 id, MonoTime until, bool is_shunned, size_t bytes);
extern bool putoff_is_shunned(int64 id);
extern int putoff_take(int64 *ids, int max, MonoTime now);
extern size_t putoff_wants_memory(void);
extern int putoff_take_for_memory(int64 *ids, int max, size_t room, bool any_size);
extern MonoTime putoff_next(void);

#endif /* GENJOB_PUTOFF_H */
