/*
 * putoff.h
 *		Jobs that are looked at again later.
 */
#ifndef GENJOB_PUTOFF_H
#define GENJOB_PUTOFF_H

#include "datatype/timestamp.h"

extern bool putoff_add(int64 id, TimestampTz until, bool is_shunned);
extern bool putoff_is_shunned(int64 id);
extern int putoff_take(int64 *ids, int max, TimestampTz now);
extern TimestampTz putoff_next(void);

#endif /* GENJOB_PUTOFF_H */
