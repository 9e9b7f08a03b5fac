/*
 * limits.c
 *		What a server may be given now: places at its backends, and tokens of
 *		its rate, unless it asked to wait.
 *
 * The addresses in the option url are backends, all alike: a call goes to the
 * backend with the fewest calls in flight.  A backend that cannot be reached
 * is left out until a probe gets through.  A backend that asks to wait is left
 * alone; so is the whole server, if the answer speaks for the account and not
 * for the machine.  Every decision is a function of what is in memory and of
 * the time given.
 */
#include "postgres.h"

#include <limits.h>

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "limits/limits.h"
#include "shared/shown.h"


/* ---------- what the server's options say ---------- */

/*
 * Returns the backend of that url, or NULL.
 */
Backend *
limits_backend(const Limits *limits, const char *url)
{
	int i;

	for (i = 0; i < limits->n_backends; i++)
	{
		if (strcmp(limits->backends[i]->url, url) == 0)
			return limits->backends[i];
	}
	return NULL;
}

static void
add_backend(Limits *limits, const ServerOptions *options)
{
	Backend *backend = limits_backend(limits, options->url);

	if (backend == NULL)
	{
		size_t size = (limits->n_backends + 1) * sizeof(Backend *);

		backend = MemoryContextAllocZero(TopMemoryContext, sizeof(Backend));
		backend->url = MemoryContextStrdup(TopMemoryContext, options->url);
		limits->backends = limits->backends ? repalloc(limits->backends, size)
											: MemoryContextAlloc(TopMemoryContext, size);
		limits->backends[limits->n_backends++] = backend;
	}
	backend->options = options;
	if (options->max_in_flight != MAX_IN_FLIGHT_AUTO)
		memset(&backend->capacity, 0, sizeof(Capacity));
}

static void
free_backend(Backend *backend)
{
	pfree(backend->url);
	pfree(backend);
}

/*
 * Forgets the backends that the server no longer has and that have nothing in
 * flight.
 */
static void
prune_backends(Limits *limits)
{
	int kept = 0;
	int i;

	for (i = 0; i < limits->n_backends; i++)
	{
		Backend *backend = limits->backends[i];

		if (backend->options != NULL || backend->in_flight > 0 || backend->n_cancels > 0)
			limits->backends[kept++] = backend;
		else
			free_backend(backend);
	}
	limits->n_backends = kept;
}

/*
 * Takes over the options of a server, which must stay until the next call of
 * this function; NULL: the server cannot be used.  Keeps what is known of the
 * backends.
 */
void
limits_apply(Limits *limits, Server *server, ServerStats *stats, MonoTime now)
{
	int i;

	limits->server = server;
	limits->stats = stats;
	for (i = 0; i < limits->n_backends; i++)
		limits->backends[i]->options = NULL;
	for (i = 0; server != NULL && i < server->n_backends; i++)
		add_backend(limits, &server->backends[i]);
	prune_backends(limits);
	if (server != NULL)
		bucket_set(&limits->bucket, server->options.rate,
				   server->options.rate_burst > 0 ? server->options.rate_burst
												  : Max(1, server->options.rate),
				   now);
}

/*
 * Frees the limits of a server that has nothing in flight.
 */
void
limits_free(Limits *limits)
{
	int i;

	for (i = 0; i < limits->n_backends; i++)
		free_backend(limits->backends[i]);
	if (limits->backends != NULL)
		pfree(limits->backends);
	memset(limits, 0, sizeof(*limits));
}

/*
 * True if nothing is in flight and no call must wait, so that there is nothing
 * to wait for.
 */
bool
limits_are_at_rest(Limits *limits, MonoTime now)
{
	int i;

	if (limits->in_flight > 0 || limits->held_until > now)
		return false;
	(void) bucket_room(&limits->bucket, now); /* fills it */
	if (limits->bucket.per_second > 0 && limits->bucket.tokens < limits->bucket.burst)
		return false;
	for (i = 0; i < limits->n_backends; i++)
	{
		const Backend *backend = limits->backends[i];

		if (backend->options != NULL && (backend->held_until > now || backend->breaker.is_open))
			return false;
	}
	return true;
}

/* ---------- room ---------- */

/*
 * Returns how many calls at a time a backend may have.
 */
int
limits_of_backend(Backend *backend)
{
	return backend->options->max_in_flight == MAX_IN_FLIGHT_AUTO
			   ? capacity_limit(&backend->capacity)
			   : (int) backend->options->max_in_flight;
}

static int
backend_room(Backend *backend, MonoTime now)
{
	int room;

	if (backend->options == NULL || backend->held_until > now)
		return 0;
	room = Max(limits_of_backend(backend) - backend->in_flight, 0);
	return Min(room, breaker_room(&backend->breaker, now));
}

/*
 * Returns how many more calls the usable backends may have.
 */
int
limits_free_slots(Limits *limits, MonoTime now)
{
	int64 room = 0;
	int i;

	for (i = 0; i < limits->n_backends; i++)
		room += backend_room(limits->backends[i], now);
	return (int) Min(room, INT_MAX);
}

/*
 * Returns how many calls the rate allows now, without the token that a cancel
 * takes next.
 */
static int
tokens_left(Limits *limits, MonoTime now)
{
	int tokens = bucket_room(&limits->bucket, now);

	return limits->cancels_wait && limits->cancels_next && tokens != INT_MAX ? Max(tokens - 1, 0)
																			 : tokens;
}

/*
 * Tries a stuck server at once when somebody may have mended the cause here: a key or an option.
 */
static void
notice_change(Limits *limits, MonoTime now)
{
	int i;

	if (limits->stuck_since == 0 || limits->stuck_generation == server_generation())
		return;
	limits->stuck_generation = server_generation();
	for (i = 0; i < limits->n_backends; i++)
	{
		Breaker *breaker = &limits->backends[i]->breaker;

		if (breaker->is_open && breaker->reason == BREAKER_STUCK)
			breaker->until = Min(breaker->until, now);
	}
}

/*
 * Returns how many more calls the server may be given now.
 */
int
limits_room(Limits *limits, MonoTime now)
{
	notice_change(limits, now);
	if (limits->server == NULL || limits->server->options.paused || limits->held_until > now ||
		limits->n_unstored >= LIMITS_UNSTORED)
		return 0;
	return Min(limits_free_slots(limits, now), tokens_left(limits, now));
}

/*
 * True if no backend can be used.  Busy ones can.
 */
bool
limits_are_broken(const Limits *limits)
{
	int i;

	for (i = 0; i < limits->n_backends; i++)
	{
		const Backend *backend = limits->backends[i];

		if (backend->options != NULL &&
			(!backend->breaker.is_open || backend->breaker.reason == BREAKER_BUSY))
			return false;
	}
	return limits->server != NULL;
}

static void
note_earliest(MonoTime *next, MonoTime candidate, MonoTime now)
{
	if (candidate > now && (*next == 0 || candidate < *next))
		*next = candidate;
}

/*
 * Returns when time alone lets a backend be called again; 0: it does not.
 * any: also a backend that the server no longer has.
 */
MonoTime
limits_next_backend(const Limits *limits, bool any, MonoTime now)
{
	MonoTime next = 0;
	int i;

	for (i = 0; i < limits->n_backends; i++)
	{
		const Backend *backend = limits->backends[i];

		if (backend->options == NULL && !any)
			continue;
		note_earliest(&next, backend->held_until, now);
		if (backend->breaker.is_open && !backend->breaker.is_probing)
			note_earliest(&next, backend->breaker.until, now);
	}
	return next;
}

/*
 * Returns when time alone may make room; 0: it does not.
 */
MonoTime
limits_next_change(Limits *limits, MonoTime now)
{
	if (limits->server == NULL || limits->server->options.paused)
		return 0;
	if (limits->held_until > now)
		return limits->held_until;
	if (bucket_room(&limits->bucket, now) == 0)
		return bucket_next(&limits->bucket);
	return limits_next_backend(limits, false, now);
}

/* ---------- places ---------- */

static Place
occupy_place(Limits *limits, Backend *backend, MonoTime now)
{
	Place place = {limits, backend, breaker_begin(&backend->breaker), false, now};

	limits->in_flight++;
	backend->in_flight++;
	return place;
}

/*
 * Notes that the call of a place begins, at the place's present backend.
 */
void
limits_started(const Place *place)
{
	Backend *backend = place->backend;

	if (place->limits != NULL && backend->options != NULL &&
		backend->options->max_in_flight == MAX_IN_FLIGHT_AUTO)
		capacity_begun(&backend->capacity, backend->in_flight);
}

/*
 * Takes a place at the backend with the fewest calls in flight, among those
 * that have room.  Ask limits_room() first.
 */
Place
limits_take(Limits *limits, MonoTime now)
{
	Backend *best = NULL;
	int i;

	for (i = 0; i < limits->n_backends; i++)
	{
		Backend *backend = limits->backends[i];

		if (backend_room(backend, now) > 0 && (best == NULL || backend->in_flight < best->in_flight))
			best = backend;
	}
	if (best == NULL)
		elog(ERROR, "server \"%s\" has no room", NameStr(limits->server->name));
	bucket_take(&limits->bucket);
	limits->cancels_next = true;
	return occupy_place(limits, best, now);
}

/* ---------- leaving ---------- */

/*
 * Returns a place, beyond all limits, for a call that was under way when genjob last stopped: at the backend of that
 * url, or at another if the server no longer has that one.  No place if there is no backend.
 */
Place
limits_resume(Limits *limits, const char *url, MonoTime now)
{
	Backend *backend = url ? limits_backend(limits, url) : NULL;
	Place none = {NULL, NULL, false, false, 0};
	Place resumed;
	int i;

	for (i = 0; backend == NULL && i < limits->n_backends; i++)
	{
		if (limits->backends[i]->options != NULL)
			backend = limits->backends[i];
	}
	if (backend == NULL)
		return none;
	resumed = occupy_place(limits, backend, now);
	/* how long it takes from here on says nothing of how long calls take */
	resumed.taken_at = MONO_EARLIEST;
	return resumed;
}

/*
 * Notes that the place's call is not the probe any more, if it was.
 */
void
limits_end_probe(Place *place)
{
	if (place->is_probe)
		breaker_probe_ended(&place->backend->breaker);
	place->is_probe = false;
}

/*
 * Moves the place to the backend of that url, if the server has it.  False, and the place stays, if that backend has no
 * room.
 */
bool
limits_move(Place *place, const char *url, MonoTime now)
{
	Backend *backend = limits_backend(place->limits, url);

	if (backend == NULL || backend->options == NULL || backend == place->backend)
		return true;
	if (backend_room(backend, now) == 0)
		return false;
	limits_end_probe(place);
	place->backend->in_flight--;
	backend->in_flight++;
	place->backend = backend;
	place->is_probe = breaker_begin(&backend->breaker);
	return true;
}

/*
 * Leaves a place, if there is one.
 */
void
limits_leave(Place *place)
{
	if (place->limits == NULL)
		return;
	limits_end_probe(place);
	Assert(place->is_cancel ? place->backend->n_cancels > 0
							: place->backend->in_flight > 0 && place->limits->in_flight > 0);
	if (place->is_cancel)
		place->backend->n_cancels--;
	else
	{
		place->backend->in_flight--;
		place->limits->in_flight--;
	}
	place->limits = NULL;
}

/*
 * Leaves a place that was not used.
 */
void
limits_give_back(Place *place)
{
	if (place->limits != NULL)
		bucket_give_back(&place->limits->bucket);
	limits_leave(place);
}
