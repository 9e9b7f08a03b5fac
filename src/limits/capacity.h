/*
 * capacity.h
 *		How many calls at a time a server can do, found by watching it.
 */
#ifndef GENJOB_CAPACITY_H
#define GENJOB_CAPACITY_H

#include "base/clock.h"

/* How long calls took: enough to tell a difference from chance. */
typedef struct Sample
{
	int n;
	double sum;     /* ms */
	double squares; /* ms^2 */
} Sample;

typedef struct Capacity
{
	double limit;      /* calls at a time; 0: not begun */
	bool is_searching; /* nothing has shown yet that it is too high */
	int ceiling;       /* calls at a time that were last too many; 0: unknown */

	/* The window: calls that began at began_at or later */
	MonoTime began_at;
	Sample sample;
	bool was_full; /* the limit was reached in it */

	/* The measure */
	Sample base; /* calls when the server had room */
	bool is_dipping;
	int windows; /* since the last dip */
	int falls;   /* windows in a row whose calls took longer */
	int careful; /* windows at the ceiling without trouble */
} Capacity;

extern int capacity_limit(Capacity *capacity);
extern void capacity_begun(Capacity *capacity, int in_flight);
extern void capacity_answered(Capacity *capacity, MonoTime began_at, MonoTime now);
extern void capacity_refused(Capacity *capacity, int in_flight, MonoTime began_at, MonoTime now);

#endif /* GENJOB_CAPACITY_H */
