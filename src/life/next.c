/*
 * next.c
 *		What a step returns: what comes next in a job's life.
 */
#include "postgres.h"

#include "base/clock.h"
#include "life/step.h"

/*
 * The job continues as it is, until the end of a call moves it on.
 */
Next
next_stay(void)
{
	return (Next){.kind = NEXT_STAY};
}

/*
 * Like next_stay(), but the present step is also woken at until.
 */
Next
next_stay_until(MonoTime until)
{
	Assert(until != 0);
	return (Next){.kind = NEXT_STAY, .until = until};
}

Next
next_call(JobStep step)
{
	return (Next){.kind = NEXT_CALL, .step = step};
}

/*
 * Sends the job, after fetching the objects that its request needs.
 */
Next
next_submit(const Job *job)
{
	return job->fetch ? next_wait(STEP_FETCH, clock_mono()) : next_call(STEP_SUBMIT);
}

Next
next_line(JobStep step)
{
	return (Next){.kind = NEXT_LINE, .step = step};
}

Next
next_wait(JobStep step, MonoTime until)
{
	return (Next){.kind = NEXT_WAIT, .step = step, .until = until};
}

Next
next_save(JobStep step, Verdict *verdict)
{
	return (Next){.kind = NEXT_SAVE, .step = step, .verdict = verdict};
}

Next
next_go_on(JobStep step)
{
	return (Next){.kind = NEXT_GO_ON, .step = step};
}

Next
next_verdict(Verdict *verdict)
{
	Assert(verdict != NULL);
	return (Next){.kind = NEXT_VERDICT, .verdict = verdict};
}

Next
next_report(Verdict *verdict)
{
	Assert(verdict != NULL);
	return (Next){.kind = NEXT_REPORT, .verdict = verdict};
}

/*
 * Ends the attempt with an error of our own, which is copied.  Keeps what the
 * present verdict brought.
 */
Next
next_fail(Job *job, const char *error)
{
	Verdict *verdict = MemoryContextAllocZero(job->context, sizeof(Verdict));

	if (job->verdict != NULL)
		*verdict = *job->verdict;
	verdict->kind = VERDICT_FAIL;
	verdict->error = MemoryContextStrdup(job->context, error);
	return next_verdict(verdict);
}

Next
next_gone(void)
{
	return (Next){.kind = NEXT_GONE};
}
