/*
 * pace.h
 *		When a server's predictions are first polled, and how many polls at a
 *		time it bears.
 */
#ifndef GENJOB_PACE_H
#define GENJOB_PACE_H

#define PACE_WINDOW_MIN 1
#define PACE_WINDOW_FIRST 64
#define PACE_WINDOW_MAX 256

typedef struct PollPace
{
	double first_ms; /* from a prediction's begin to its first poll; 0: unknown */
	double window;   /* polls at a time; 0: as at first */
} PollPace;

extern void pace_note_end(PollPace *pace, int64 elapsed_ms, bool is_first);
extern int pace_window(const PollPace *pace);
extern void pace_answered(PollPace *pace, bool was_full);
extern void pace_refused(PollPace *pace);

#endif /* GENJOB_PACE_H */
