/*
 * built.c
 *		Building the call of a step: here or, where that takes long, in another process.
 */
#include "postgres.h"

#include "base/clock.h"
#include "life/built.h"
#include "life/calls.h"
#include "life/life.h"
#include "life/same.h"

static LifeBuilder builder = NULL;

/* A call that is built. */
typedef struct Building
{
	const Step *step;
	Job *job;
	HttpRequest *http;
	char *why; /* there is no call */
} Building;

static void
build_request(void *arg)
{
	Building *building = arg;

	building->http = building->step->build(building->job, &building->why);
}

static Next
handle_unbuilt(const Building *building, const ErrorData *error)
{
	if (building->step->unbuilt != NULL)
		return building->step->unbuilt(building->job, error ? NULL : building->why, error);
	return next_fail(building->job, error ? error->message : building->why);
}

/*
 * Returns what a step's call is to send, in the memory context of the call.  NULL: *next says what comes instead.
 */
HttpRequest *
built_here(Call *call, const Step *step, Next *next)
{
	Building building = {step, call->job, NULL, NULL};
	ErrorData *error = NULL;

	if (!calls_run(call, build_request, &building, &error))
		building.http = NULL;
	if (building.http == NULL)
		*next = handle_unbuilt(&building, error);
	return building.http;
}

/*
 * Returns what comes next when no memory is left for a step's call.
 */
Next
built_starved(Job *job, JobStep id)
{
	if (steps_table[id].starved != NULL)
		return steps_table[id].starved(job);
	return next_wait(id, clock_mono() + USECS_PER_SEC);
}

/*
 * Sets the function that asks another process to build a request.
 * life_built() or life_build_here() must follow, unless the job's call is
 * freed first.
 */
void
life_set_builder(LifeBuilder take)
{
	builder = take;
}

/*
 * True if another process builds the job's request.  A request that must equal
 * an earlier call's is built here.
 */
bool
built_elsewhere(Job *job)
{
	RequestSource source;
	char *sha256;

	if (builder == NULL || job->options == NULL || job->submission.stays_here ||
		job->options->preset->is_store || (job->sent != NULL && job->key_is_kept))
		return false;
	source = calls_request_source(job);
	return same_begin(job, &source, &sha256) && builder(job);
}
