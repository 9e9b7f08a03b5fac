/*
 * clock.h
 *		What time it is, and how much of it has passed.
 */
#ifndef GENJOB_CLOCK_H
#define GENJOB_CLOCK_H

#include "datatype/timestamp.h"

/*
 * A moment of a clock that nobody sets, in microseconds: for durations, in memory only.  It says nothing of the
 * calendar, so it is neither stored nor shown, and never compared with a TimestampTz.  0 stands for "none".
 */
typedef int64 MonoTime;

#define MONO_EARLIEST PG_INT64_MIN

extern void clock_init(void);
extern TimestampTz clock_started_at(void);
extern void clock_join(TimestampTz other_started_at);

/* Calendar time */
extern TimestampTz clock_now(void);
extern int clock_watch_calendar(void);
extern bool clock_take_set(int fd);

/* A dispatcher's own time: for its decisions, and for calls */
extern MonoTime clock_mono(void);
extern MonoTime clock_wire(void);
extern void clock_attended(long next_ms);
extern MonoTime clock_stall(void);

/* The machine's time, which no stall stops */
extern MonoTime clock_uptime(void);
extern int64 clock_processor(void);

/* Conversions */
extern MonoTime clock_mono_at(TimestampTz time);
extern TimestampTz clock_wall_at(MonoTime time);
extern long clock_ms_between(MonoTime from, MonoTime to);
extern long clock_real_ms(MonoTime from, MonoTime to);

#endif /* GENJOB_CLOCK_H */
