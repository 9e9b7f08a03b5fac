/*
 * backoff.h
 *		How long to wait when something fails again and again.
 */
#ifndef GENJOB_BACKOFF_H
#define GENJOB_BACKOFF_H

/* The first wait and the longest one, in the caller's unit. */
typedef struct Backoff
{
	int64 first;
	int64 most;
} Backoff;

extern int64 backoff_delay(const Backoff *backoff, int failures);
extern int64 backoff_spread(const Backoff *backoff, int failures, double random);
extern int64 backoff_scheduled(const int *seconds, int failures, double random);
extern int64 backoff_halves(const Backoff *backoff, int failures, double random);

#endif /* GENJOB_BACKOFF_H */
