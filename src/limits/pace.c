/*
 * pace.c
 *		When a server's predictions are first polled, and how many polls at a
 *		time it bears.  Pure.
 *
 * A prediction ended some time between its last two polls.  If the time of the
 * last poll counted as its duration, late polls would lead to later ones.  So
 * a prediction that had ended by its first poll shows only that this poll came
 * late, and the next ones come earlier.
 */
#include "postgres.h"

#include "limits/pace.h"

#define EARLY 0.8  /* of a prediction's duration: the first poll comes then */
#define WEIGHT 0.1 /* of one prediction in the mean */

/*
 * Notes how long after its begin a prediction was found to have ended, by the first poll or by a later one.
 */
void
pace_note_end(PollPace *pace, int64 elapsed_ms, bool is_first)
{
	double early = Max(elapsed_ms, 1) * EARLY;

	if (pace->first_ms == 0)
		pace->first_ms = early;
	else if (is_first)
		pace->first_ms = Min(pace->first_ms, early);
	else
		pace->first_ms += (early - pace->first_ms) * WEIGHT;
}

/*
 * Returns how many polls the server may get at a time.
 */
int
pace_window(const PollPace *pace)
{
	return pace->window == 0 ? PACE_WINDOW_FIRST : (int) pace->window;
}

/*
 * Notes that a poll was answered; was_full: as many were under way as are allowed.
 */
void
pace_answered(PollPace *pace, bool was_full)
{
	if (was_full)
		pace->window = Min(PACE_WINDOW_MAX, pace_window(pace) + 1.0);
}

/*
 * Notes that a poll was refused, or not answered.
 */
void
pace_refused(PollPace *pace)
{
	pace->window = Max(PACE_WINDOW_MIN, pace_window(pace) / 2);
}
