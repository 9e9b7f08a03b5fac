/*
 * seldom.c
 *		Limits how often the log repeats something: each reason once a minute,
 *		and at most SELDOM_REASONS reasons a minute.
 *
 * Strangers may choose the reason, such as the error code that a trigger
 * raises.  So a new reason does not always get a line.
 */
#include "postgres.h"

#include "base/seldom.h"

#define INTERVAL_US (60 * USECS_PER_SEC)

/*
 * Returns true if the reason must be logged now; then sets *unsaid to the
 * number of times that nothing was logged since the last line, for any reason.
 */
bool
seldom_must_say(Seldom *seldom, int reason, MonoTime now, int64 *unsaid)
{
	Said *oldest = &seldom->said[0];
	Said *said = NULL;
	int i;

	for (i = 0; i < SELDOM_REASONS; i++)
	{
		if (seldom->said[i].at != 0 && seldom->said[i].reason == reason)
			said = &seldom->said[i];
		if (seldom->said[i].at < oldest->at)
			oldest = &seldom->said[i];
	}
	if (said == NULL)
		said = oldest;
	if (said->at != 0 && now < said->at + INTERVAL_US)
	{
		seldom->unsaid++;
		return false;
	}
	*said = (Said){reason, now};
	*unsaid = seldom->unsaid;
	seldom->unsaid = 0;
	return true;
}

/*
 * Returns what a line adds about those that were left out since the last one: " " and a sentence, or "" if there were
 * none.
 */
const char *
seldom_describe(int64 unsaid)
{
	if (unsaid == 0)
		return "";
	return psprintf(" " INT64_FORMAT
					" similar errors were not logged since the last one: genjob logs at most one a minute.",
					unsaid);
}
