/*
 * progress.c
 *		The step that asks for the progress of a submission, beside its call.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/clock.h"
#include "life/calls.h"
#include "life/step.h"

/*
 * Returns the address to ask for progress, and the place of the number in its
 * answer; NULL if there is none.  Such an address describes the whole server,
 * so it is used only if the server has one call at a time.
 */
static char *
progress_address(const Job *job, const char **place)
{
	if (job->options->max_in_flight != 1)
		return NULL;
	return grammar_split_address(job->options->protocol.progress, place);
}

static Next
ask_progress_later(const Job *job)
{
	return next_stay_until(clock_mono() + job->options->poll_interval * 1000);
}

/*
 * Asks for the progress of the submission under way from time to time, if the
 * server can be asked.
 */
Next
progress_expect(Job *job)
{
	const char *place;

	return progress_address(job, &place) != NULL ? ask_progress_later(job) : next_stay();
}

Next
progress_woken(Job *job)
{
	return next_call(STEP_PROGRESS);
}

HttpRequest *
progress_build(Job *job, char **why)
{
	const char *place;
	const char *address = progress_address(job, &place);
	AddressedCall call = {NULL};

	if (address != NULL)
		call = calls_build(job, address);
	if (call.http == NULL || !call.is_trusted)
		return NULL; /* no answer has given its URL */
	call.http->is_dispensable = true;
	call.http->public_only = job->call.transfer != NULL && http_peer_is_public(job->call.transfer);
	return call.http;
}

Next
progress_unbuilt(Job *job, const char *why, const ErrorData *error)
{
	return next_stay();
}

Next
progress_starved(Job *job)
{
	return next_stay();
}

/*
 * Aborts the question that is under way, if there is one, because the
 * submission has its answer.
 */
void
progress_end(Job *job)
{
	if (job->beside.transfer != NULL)
		http_abort(job->beside.transfer);
	job->beside.transfer = NULL;
	if (job->beside.context != NULL)
		MemoryContextReset(job->beside.context);
}

/* Argument of read_progress(). */
typedef struct Reading
{
	const Job *job;
	HttpReply *reply;
	double progress; /* -1: not known */
} Reading;

static void
read_progress(void *arg)
{
	Reading *reading = arg;
	const char *place;

	if (progress_address(reading->job, &place) != NULL)
		reading->progress = reply_read_progress(reading->reply, place);
}

Next
progress_answered(Job *job, HttpReply *reply)
{
	Reading reading = {job, reply, -1};
	ErrorData *error;

	if (calls_run(&job->beside, read_progress, &reading, &error))
		calls_show_progress(job, reading.progress);
	/* the submission may have been answered meanwhile */
	return job->state == JOB_CALLING && job->step == STEP_SUBMIT ? ask_progress_later(job)
																 : next_stay();
}
