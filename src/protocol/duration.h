/*
 * duration.h
 *		Spans of time as servers write them.
 */
#ifndef GENJOB_DURATION_H
#define GENJOB_DURATION_H

#define DURATION_MAX_MS INT64CONST(86400000) /* a day; a longer span is cut to it */

extern int64 duration_of_seconds(double seconds);
extern int64 duration_of_number(double number, int64 now_unix);
extern int64 duration_of_value(const char *value, int64 now_unix);
extern bool duration_read_date(const char *value, int64 *unix_time);
extern int64 duration_in_words(const char *words);

#endif /* GENJOB_DURATION_H */
