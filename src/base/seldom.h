/*
 * seldom.h
 *		Limits how often the log repeats something.
 */
#ifndef GENJOB_SELDOM_H
#define GENJOB_SELDOM_H

#include "base/clock.h"

#define SELDOM_REASONS 4 /* lines a minute, each for another reason */

/* When a reason was last said; at is 0 if it never was. */
typedef struct Said
{
	int reason;
	MonoTime at;
} Said;

/* What has been said of one kind, zeros at first. */
typedef struct Seldom
{
	Said said[SELDOM_REASONS];
	int64 unsaid; /* left out since something was last said */
} Seldom;

extern bool seldom_must_say(Seldom *seldom, int reason, MonoTime now, int64 *unsaid);
extern const char *seldom_describe(int64 unsaid);

#endif /* GENJOB_SELDOM_H */
