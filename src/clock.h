/*
 * clock.h
 *		What time it is for a dispatcher.
 */
#ifndef GENJOB_CLOCK_H
#define GENJOB_CLOCK_H

#include "datatype/timestamp.h"

extern void clock_init(void);
extern TimestampTz clock_now(void);
extern long clock_real_ms(TimestampTz from, TimestampTz to);

#endif /* GENJOB_CLOCK_H */
