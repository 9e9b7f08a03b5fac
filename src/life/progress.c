/*
 * progress.c
 *		Asking for the progress of a call beside it.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/clock.h"
#include "base/guard.h"
#include "life/job.h"
#include "life/steps.h"

static char *
progress_address(const Job *job, const char **place)
{
	if (job->options->max_in_flight != 1)
		return NULL;
	return follow_split_address(job->options->protocol.progress, place);
}

/*
 * A submission is under way: where the protocol has an address for it, its progress is asked for now
 * and then.  Such an address tells of the whole server, so only where that has one call at a time.
 */
void
progress_submitted(Job *job)
{
	const char *place;

	if (progress_address(job, &place) != NULL)
		job_wake_at(job, clock_mono() + job->options->poll_interval * 1000);
}

/*
 * Asks for it.
 */
void
progress_ask(Job *job)
{
	Building building = {job};
	const char *place;
	char *error;

	if (job->probe_context == NULL)
		job->probe_context =
			AllocSetContextCreate(job->context, "genjob probe", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(job->probe_context);
	building.text = progress_address(job, &place);
	if (!guard_run(calls_build, &building, &error) || building.http == NULL)
		return; /* no answer has given its URL */
	job->probe_http = building.http;
	job->probe_http->is_dispensable = true;
	job->probe_http->public_only = job->transfer != NULL && http_peer_is_public(job->transfer);
	job->probe = http_start(job->probe_http, &job->meter, job->probe_context,
							(void *) ((uintptr_t) job | PROBE_TAG));
}

/* An answer that is read for its progress. */
typedef struct Reading
{
	const Job *job;
	HttpReply *reply;
	double progress; /* -1: it does not tell */
} Reading;

static void
read_progress(void *arg)
{
	Reading *reading = arg;
	const char *place;

	if (progress_address(reading->job, &place) != NULL)
		reading->progress = reply_read_progress(reading->reply, place);
}

/*
 * Takes notice of the answer.
 */
void
progress_answered(Job *job, HttpReply *reply)
{
	Reading reading = {job, reply, -1};
	char *error;

	job->probe = NULL;
	MemoryContextSwitchTo(job->probe_context);
	if (job->activity != NULL && guard_run(read_progress, &reading, &error) && reading.progress >= 0)
		pg_atomic_write_u64(&job->activity->progress, (uint64) (reading.progress * 1000000));
	MemoryContextSwitchTo(job->context);
	MemoryContextReset(job->probe_context);
	if (job->state == JOB_CALLING && job->step == STEP_SUBMIT)
		job_wake_at(job, clock_mono() + job->options->poll_interval * 1000);
}
