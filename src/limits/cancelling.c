/*
 * cancelling.c
 *		What a server may be given of calls that cancel predictions.
 *
 * They take no places, because the calls that they end have or had one.  But
 * they obey the server's rate, its holds and its breakers.  They also go to
 * backends that the server no longer has.
 */
#include "postgres.h"

#include "limits/limits.h"

/*
 * Returns how many cancelling calls the server may have at a time: as many as jobs, but at most most.
 */
int
limits_cancels(const Limits *limits, int most)
{
	int64 allowed = 0;
	int i;

	for (i = 0; i < limits->n_backends; i++)
	{
		const ServerOptions *options = limits->backends[i]->options;

		if (options != NULL)
			allowed += options->max_in_flight == MAX_IN_FLIGHT_AUTO ? most : options->max_in_flight;
	}
	return (int) Max(1, Min(allowed, most));
}

static bool
backend_may_cancel(const Backend *backend, MonoTime now)
{
	return backend->options == NULL ||
		   (backend->held_until <= now && breaker_room(&backend->breaker, now) > 0);
}

static bool
has_backend_for_cancel(const Limits *limits, MonoTime now)
{
	int i;

	for (i = 0; i < limits->n_backends; i++)
	{
		if (backend_may_cancel(limits->backends[i], now))
			return true;
	}
	return limits->n_backends == 0;
}

/*
 * True if a cancelling call may go now.  It takes tokens of the rate in turns
 * with the jobs that wait for them.  A paused server is told to cancel, too.
 */
bool
limits_may_cancel(Limits *limits, MonoTime now)
{
	return limits->held_until <= now && has_backend_for_cancel(limits, now) &&
		   bucket_room(&limits->bucket, now) > 0 &&
		   (limits->cancels_next || limits_room(limits, now) == 0 ||
			bucket_room(&limits->bucket, now) > 1);
}

/*
 * Returns when time alone may let the next cancelling call go; 0: it does not.
 */
MonoTime
limits_next_cancel(Limits *limits, MonoTime now)
{
	if (limits->held_until > now)
		return limits->held_until;
	if (bucket_room(&limits->bucket, now) == 0)
		return bucket_next(&limits->bucket);
	return limits_next_backend(limits, true, now);
}

/*
 * Takes a place for a cancelling call at the backend of that url, even if the
 * server no longer has it.  Ask limits_may_cancel() first.  False if the
 * backend must be left alone.
 */
bool
limits_take_for_cancel(Limits *limits, const char *url, MonoTime now, Place *place)
{
	Backend *backend = limits_backend(limits, url);

	if (backend != NULL && !backend_may_cancel(backend, now))
		return false;
	if (limits->bucket.per_second > 0)
		bucket_take(&limits->bucket);
	limits->cancels_next = false;
	if (backend == NULL)
		return true;
	backend->n_cancels++;
	*place = (Place){limits, backend, breaker_begin(&backend->breaker), true, now};
	return true;
}
