/*
 * nearest.h
 *		Which of some names a mistyped one was probably meant to be.
 */
#ifndef GENJOB_NEAREST_H
#define GENJOB_NEAREST_H

typedef struct Nearest
{
	const char *wanted;
	const char *name; /* the nearest so far; NULL: none is near */
	int distance;     /* of name, in letters */
} Nearest;

extern void nearest_offer(Nearest *nearest, const char *name);

#endif /* GENJOB_NEAREST_H */
