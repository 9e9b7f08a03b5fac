/*
 * cuts.c
 *		Jobs whose calls were under way when a dispatcher crashed, again and
 *		again.
 *
 * A submission that crashes PostgreSQL, or takes all memory, is counted in the
 * row (outcome.c).  The calls after it belong to the same attempt and write
 * nothing, so the marker counts the crashes, for the steps that the table of
 * steps names (counts_crashes).  The call that crashes PostgreSQL may be one
 * of many that are under way.  So after FREE_LOSSES crashes each of them
 * waits, longer each time, and only a job that does not get through then is
 * given up.
 */
#include "postgres.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/marker.h"
#include "life/cuts.h"

#define FREE_LOOKUPS 1 /* instead of FREE_LOSSES, if another attempt may follow */

/*
 * Returns how many crashes count as failures.  If another attempt may follow a
 * lookup that is given up, it looks up first, and only FREE_LOOKUPS are free:
 * all attempts together would allow dozens of crashes.
 */
static int
count_failures(const Job *job, JobStep step)
{
	int cuts = marker_count_cuts(job->id, job->attempt, step);
	bool goes_on = step == STEP_LOOKUP && job->options->on_unknown == ON_UNKNOWN_RETRY;

	return cuts - (goes_on ? FREE_LOOKUPS : FREE_LOSSES);
}

static Next
give_up(Job *job, JobStep step)
{
	const char *why =
		psprintf("PostgreSQL or genjob crashed %d times in a row while this job's call \"%s\" was under way. genjob does not repeat it: look at the server's log for the reason, and at the provider for the answer, before you call genjob.retry().",
				 marker_count_cuts(job->id, job->attempt, step), steps_table[step].name);

	if (steps_table[step].given_up != NULL)
		return steps_table[step].given_up(job, why);
	return next_fail(job, why);
}

/*
 * True if a call must not begin now, because such calls of the job were under
 * way when dispatchers crashed.  *next then says what comes instead.  Each step
 * of a job is delayed once.
 */
bool
cuts_prevent(Job *job, JobStep step, Next *next)
{
	Backoff backoff;
	int failures;
	int most;

	if (!steps_table[step].counts_crashes || job->options == NULL)
		return false;
	failures = count_failures(job, step);
	if (failures <= 0)
		return false;
	most = job->max_attempts > 0 ? job->max_attempts : (int) job->options->max_attempts;
	if (step == STEP_LOOKUP || failures >= most)
	{
		*next = give_up(job, step);
		return true;
	}
	if ((job->delayed_steps & (UINT32_C(1) << step)) != 0)
		return false;
	job->delayed_steps |= UINT32_C(1) << step;
	backoff = (Backoff){job->options->retry_base, job->options->retry_max};
	*next = next_wait(step, clock_mono() + 1000 * backoff_delay(&backoff, failures - 1));
	return true;
}
