/*
 * limits.c
 *		What a server may be given now: places at its backends, tokens of its rate, and what it asked.
 *
 * The addresses in the option url are backends, all alike: a call goes to the one with the fewest in
 * flight.  One that cannot be reached is left out until a probe gets through; one that asks to wait is
 * let alone, and so is the whole server where the answer speaks for the account and not for the machine.
 * Every decision is a function of what is in memory and of the time given.
 */
#include "postgres.h"

#include <limits.h>

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "limits/limits.h"
#include "shown.h"

#define MAX_PROBE_DELAY_MS 60000 /* between probes of what cannot be reached */

/* ---------- what the server's options say ---------- */

static Backend *
find_backend(const Limits *limits, const char *url)
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
	Backend *backend = find_backend(limits, options->url);

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
 * Forgets the backends that are not the server's any more and have nothing in flight.
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
 * Takes over the options of a server, which must stay for as long as they are the last given; NULL:
 * it cannot be used.  What is known of its backends is kept.
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
 * Frees what the limits hold of a server of which nothing is in flight.
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
 * Whether nothing is in flight, and nothing in the way of a call, so that there is nothing to wait for.
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

static int
backend_limit(Backend *backend)
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
	room = Max(backend_limit(backend) - backend->in_flight, 0);
	return Min(room, breaker_room(&backend->breaker, now));
}

static int
free_slots(Limits *limits, MonoTime now)
{
	int64 room = 0;
	int i;

	for (i = 0; i < limits->n_backends; i++)
		room += backend_room(limits->backends[i], now);
	return (int) Min(room, INT_MAX);
}

/*
 * How many calls the rate lets go now, but for one that cancels and whose token is next.
 */
static int
tokens_left(Limits *limits, MonoTime now)
{
	int tokens = bucket_room(&limits->bucket, now);

	return limits->cancels_wait && limits->cancels_next && tokens != INT_MAX ? Max(tokens - 1, 0)
																			 : tokens;
}

/*
 * How many more calls the server may be given now.
 */
int
limits_room(Limits *limits, MonoTime now)
{
	if (limits->server == NULL || limits->server->options.paused || limits->held_until > now)
		return 0;
	return Min(free_slots(limits, now), tokens_left(limits, now));
}

/*
 * How many calls at a time the server may have when nothing is in its way.
 */
static int
count_allowed(Limits *limits)
{
	int64 allowed = 0;
	int i;

	for (i = 0; i < limits->n_backends; i++)
	{
		Backend *backend = limits->backends[i];

		if (backend->options != NULL)
			allowed += backend->breaker.is_open ? 0 : backend_limit(backend);
	}
	return (int) Min(allowed, INT_MAX);
}

/*
 * Whether no backend can be reached.
 */
bool
limits_are_broken(const Limits *limits)
{
	int i;

	for (i = 0; i < limits->n_backends; i++)
	{
		const Backend *backend = limits->backends[i];

		if (backend->options != NULL && !backend->breaker.is_open)
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
 * When time alone may make room where there is none now; 0: it does not.
 */
MonoTime
limits_next_change(Limits *limits, MonoTime now)
{
	MonoTime next = 0;
	int i;

	if (limits->server == NULL || limits->server->options.paused)
		return 0;
	if (limits->held_until > now)
		return limits->held_until;
	if (bucket_room(&limits->bucket, now) == 0)
		return bucket_next(&limits->bucket);
	for (i = 0; i < limits->n_backends; i++)
	{
		const Backend *backend = limits->backends[i];

		if (backend->options == NULL)
			continue;
		note_earliest(&next, backend->held_until, now);
		if (backend->breaker.is_open && !backend->breaker.is_probing)
			note_earliest(&next, backend->breaker.until, now);
	}
	return next;
}

/* ---------- places ---------- */

static Place
occupy(Limits *limits, Backend *backend, MonoTime now)
{
	Place place = {limits, backend, breaker_begin(&backend->breaker), false, now};

	limits->in_flight++;
	backend->in_flight++;
	return place;
}

/*
 * Takes notice that the call of a place begins, at the backend that it is at by now.
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
 * Takes a place at the backend with the fewest calls in flight, of those that have room: ask
 * limits_room() first.
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
	return occupy(limits, best, now);
}

/* ---------- calls that cancel ---------- */

/*
 * How many calls that cancel the server may have at a time: as many as jobs, at most most.
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
 * Whether a call that cancels may go now.  It takes no place, for what it ends has one, or had; but tokens of the
 * rate, by turns with the jobs that wait for them.  A server that is paused is told all the same.
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
 * When time alone may let a call go that cancels, where it may not now; 0: it does not.
 */
MonoTime
limits_next_cancel(Limits *limits, MonoTime now)
{
	MonoTime next = 0;
	int i;

	if (limits->held_until > now)
		return limits->held_until;
	if (bucket_room(&limits->bucket, now) == 0)
		return bucket_next(&limits->bucket);
	for (i = 0; i < limits->n_backends; i++)
	{
		const Backend *backend = limits->backends[i];

		note_earliest(&next, backend->held_until, now);
		if (backend->breaker.is_open && !backend->breaker.is_probing)
			note_earliest(&next, backend->breaker.until, now);
	}
	return next;
}

/*
 * Takes a place for a call that cancels, to the backend of that url, which may be none of the server's any more: ask
 * limits_may_cancel() first.  False where the backend has to be let alone.
 */
bool
limits_take_for_cancel(Limits *limits, const char *url, MonoTime now, Place *place)
{
	Backend *backend = find_backend(limits, url);

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

/* ---------- leaving ---------- */

/*
 * A place for a call that was under way when genjob last stopped, whatever the limits say: at the
 * backend of that url, or at another if the server has it no more.  None where there is no backend.
 */
Place
limits_resume(Limits *limits, const char *url, MonoTime now)
{
	Backend *backend = url ? find_backend(limits, url) : NULL;
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
	resumed = occupy(limits, backend, now);
	/* how long it takes from here on says nothing of how long calls take */
	resumed.taken_at = MONO_EARLIEST;
	return resumed;
}

static void
end_probe(Place *place)
{
	if (place->is_probe)
		breaker_probe_ended(&place->backend->breaker);
	place->is_probe = false;
}

/*
 * Gives the place to the backend of that url, if the server has it.  False, and the place stays where it is, when that
 * one has no room now.
 */
bool
limits_move(Place *place, const char *url, MonoTime now)
{
	Backend *backend = find_backend(place->limits, url);

	if (backend == NULL || backend->options == NULL || backend == place->backend)
		return true;
	if (backend_room(backend, now) == 0)
		return false;
	end_probe(place);
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
	end_probe(place);
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

/* ---------- what calls tell ---------- */

/*
 * What the end of a call says about its server.
 */
CallOutcome
limits_outcome(const HttpReply *reply)
{
	if (reply->status == 0)
		return !reply->sent && (reply->error == HTTP_RESOLVE || reply->error == HTTP_CONNECT ||
								reply->error == HTTP_TLS || reply->error == HTTP_TIMEOUT)
				   ? CALL_UNREACHABLE
				   : CALL_ANSWERED;
	if (reply->status == 429 || reply->status == 503 || reply->status == 529)
		return CALL_REFUSED;
	return reply->status == 502 || reply->status == 504 ? CALL_BROKEN : CALL_ANSWERED;
}

/*
 * Whether a server has another backend, so that one that answers with errors can be left out.
 */
static bool
has_choice(const Limits *limits)
{
	return limits->server != NULL && limits->server->n_backends > 1;
}

/*
 * Takes notice of how a call of this place ended.  error is the sentence that the job gets.  If the call
 * was the one that finds out whether the backend is back, that is known now, however long the place is
 * still needed.
 */
void
limits_note(Place *place, CallOutcome outcome, const char *error, MonoTime now)
{
	Backend *backend = place->backend;
	const ServerOptions *options;

	if (place->limits == NULL || backend->options == NULL)
		return;
	options = backend->options;
	if (outcome == CALL_UNREACHABLE || (outcome == CALL_BROKEN && has_choice(place->limits)))
	{
		shown_keep(backend->error, error ? error : "", sizeof(backend->error));
		breaker_failed(&backend->breaker, place->is_probe, options->retry_base,
					   Min(options->retry_max, MAX_PROBE_DELAY_MS), now);
	}
	else
		breaker_succeeded(&backend->breaker);
	end_probe(place);
	if (outcome == CALL_REFUSED && options->max_in_flight == MAX_IN_FLIGHT_AUTO && !place->is_cancel)
		capacity_refused(&backend->capacity, backend->in_flight, place->taken_at, now);
}

/*
 * Takes notice that the job of this place has succeeded.
 */
void
limits_note_result(const Place *place, MonoTime now)
{
	if (place->limits != NULL && place->backend->options != NULL &&
		place->backend->options->max_in_flight == MAX_IN_FLIGHT_AUTO)
		capacity_answered(&place->backend->capacity, place->taken_at, now);
}

/*
 * The server asked to wait until then: the account's other backends with it, or only the one that said
 * so.  False where others may go on.
 */
bool
limits_hold(const Place *place, MonoTime until, bool whole_server)
{
	if (place->limits == NULL)
		return true;
	if (whole_server || !has_choice(place->limits))
	{
		place->limits->held_until = Max(place->limits->held_until, until);
		return true;
	}
	place->backend->held_until = Max(place->backend->held_until, until);
	return false;
}

/*
 * Whether an attempt that ended so is the server's fault and not the job's: another backend or the
 * fallback may take it, or it waits for the probes.  After limits_note().
 */
bool
limits_spare_attempt(const Place *place, CallOutcome outcome)
{
	if (place->limits == NULL || place->backend->options == NULL)
		return false;
	if (outcome == CALL_REFUSED)
		return place->backend->options->max_in_flight == MAX_IN_FLIGHT_AUTO;
	if (outcome != CALL_UNREACHABLE)
		return false;
	return has_choice(place->limits) || place->backend->breaker.is_open ||
		   place->backend->options->fallback != NULL;
}

/* ---------- what people see ---------- */

static void
show_backend(BackendStats *shown, Backend *backend, MonoTime now)
{
	const Breaker *breaker = &backend->breaker;

	shown->in_flight = backend->in_flight;
	shown->max_in_flight = backend_limit(backend);
	shown->until = 0;
	if (breaker->is_open)
	{
		shown->health = breaker->is_probing ? BACKEND_PROBING : BACKEND_BROKEN;
		shown->until = clock_wall_at(breaker->until);
	}
	else if (backend->held_until > now)
	{
		shown->health = BACKEND_HELD;
		shown->until = clock_wall_at(backend->held_until);
	}
	else
		shown->health = BACKEND_OK;
	shown->failures = breaker->failures;
	shown_keep(shown->error, breaker->failures > 0 ? backend->error : "", sizeof(shown->error));
}

static void
show_backends(Limits *limits, MonoTime now)
{
	ServerStats *stats = limits->stats;
	int n = 0;
	int i;

	for (i = 0; i < limits->n_backends && n < STATS_BACKENDS; i++)
	{
		Backend *backend = limits->backends[i];

		if (backend->options != NULL)
			show_backend(&stats->backends[backend->options - limits->server->backends], backend,
						 now);
	}
	stats->n_backends = limits->server->n_backends;
}

/*
 * *plain is what everyone may read, where the reason has words of a server's answer.
 */
static const char *
why_not(Limits *limits, const char **plain, MonoTime now, MonoTime *until)
{
	*plain = NULL;
	*until = limits_next_change(limits, now);
	if (limits->server->options.paused)
		return "paused: genjob.resume() ends it";
	if (limits->held_until > now)
		return "the server asked to wait";
	if (limits_are_broken(limits) && limits->n_backends == 1)
	{
		*plain = "the server cannot be reached";
		return limits->backends[0]->error;
	}
	if (limits_are_broken(limits))
		return "no backend can be reached: genjob.backends says why";
	if (free_slots(limits, now) > 0)
		return bucket_room(&limits->bucket, now) > 0 ? "" : "rate_limit is reached";
	return *until != 0 ? "the backends that can be reached asked to wait or are full"
					   : "max_in_flight is reached";
}

/*
 * Shows what may be given to the server and why it is not more; otherwise is the reason where the
 * server itself gives none, and fallback_trouble what there is to say of its fallback when that is
 * needed, or NULL.
 */
void
limits_say_why(Limits *limits, const char *otherwise, const char *fallback_trouble, MonoTime now)
{
	ServerStats *stats = limits->stats;
	MonoTime until = 0;
	const char *reason;
	const char *plain;

	if (stats == NULL)
		return;
	reason = why_not(limits, &plain, now, &until);
	if (*reason == '\0')
	{
		reason = otherwise;
		until = 0;
	}
	if (plain == NULL)
		plain = reason;
	if (fallback_trouble != NULL && *reason != '\0' && limits_are_broken(limits) &&
		!limits->server->options.paused)
		reason = psprintf("%s%s %s", reason, reason[strlen(reason) - 1] == '.' ? "" : ".",
						  pg_server_to_any(fallback_trouble, strlen(fallback_trouble), PG_UTF8));
	stats->in_flight = limits->in_flight;
	stats->allowed = count_allowed(limits);
	stats->tokens = limits->bucket.per_second > 0 ? (float) limits->bucket.tokens : -1;
	stats->tokens_at = clock_wall_at(limits->bucket.filled_at);
	stats->rate = limits->bucket.per_second;
	stats->burst = limits->bucket.burst;
	stats->held_until = until != 0 ? clock_wall_at(until) : 0;
	shown_keep(stats->held_reason, reason, STATS_REASON_LEN);
	shown_keep(stats->held_plain, plain, STATS_REASON_LEN);
	show_backends(limits, now);
}
