/*
 * find.h
 *		What is found in the queue and how it gets on the schedule; for the files of this folder only.
 */
#ifndef GENJOB_FIND_H
#define GENJOB_FIND_H

extern void find_take_queued(uint64 row, int64 id, int column, TimestampTz now);
extern void find_take_row(uint64 row, int64 id, int column, TimestampTz now);
extern TimestampTz find_first_time(uint64 rows);

#endif /* GENJOB_FIND_H */
