/*
 * why.c
 *		What people see of a server's limits: what it may be given, and why not
 *		more.
 */
#include "postgres.h"

#include <limits.h>

#include "mb/pg_wchar.h"

#include "base/trace.h"
#include "limits/limits.h"
#include "shared/shown.h"

/*
 * Returns how many calls at a time the server may have, at backends whose
 * breaker is closed.
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
			allowed += backend->breaker.is_open ? 0 : limits_of_backend(backend);
	}
	return (int) Min(allowed, INT_MAX);
}

static void
show_backend(BackendStats *shown, Backend *backend, MonoTime now)
{
	const Breaker *breaker = &backend->breaker;

	shown->in_flight = backend->in_flight;
	shown->max_in_flight = limits_of_backend(backend);
	shown->until = 0;
	if (breaker->is_open)
	{
		shown->health = breaker->is_probing               ? BACKEND_PROBING
						: breaker->reason == BREAKER_BUSY ? BACKEND_HELD
														  : BACKEND_BROKEN;
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
	shown_keep(shown->error, breaker->failures > 0 || breaker->is_open ? backend->error : "",
			   sizeof(shown->error));
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
 * Returns why a backend takes no calls, without the backend's own words.
 */
static const char *
describe_reason(const Limits *limits, const Breaker *breaker)
{
	switch (breaker->reason)
	{
		case BREAKER_UNREACHABLE:
			return "the server cannot be reached";
		case BREAKER_FAILING:
			return "the server fails for every job: genjob tries one call at a time";
		case BREAKER_BUSY:
			return "the server is busy: genjob tries one call at a time";
		case BREAKER_STUCK:
			return psprintf("%s: fix it at the provider. genjob tries one call every %d minutes, and when the server or a user mapping is altered",
							limits->stuck ? limits->stuck : "the provider refuses",
							(int) ((limits_stuck_pause(&limits->server->options) + 59999) / 60000));
	}
	pg_unreachable();
}

static const char *
why_paused(const Limits *limits, const Backend *backend, const char **plain)
{
	const Breaker *breaker = &backend->breaker;

	*plain = describe_reason(limits, breaker);
	if (breaker->reason == BREAKER_UNREACHABLE)
		return backend->error;
	return backend->error[0] == '\0' ? *plain : psprintf("%s. %s", *plain, backend->error);
}

static bool
are_all_paused(const Limits *limits)
{
	int i;

	for (i = 0; i < limits->n_backends; i++)
	{
		if (limits->backends[i]->options != NULL && !limits->backends[i]->breaker.is_open)
			return false;
	}
	return limits->n_backends > 0;
}

/*
 * Returns why the server gets no more calls; empty if the server gives no
 * reason.  If the reason quotes a server's answer, *plain is what everyone may
 * read.  *until is when time alone may change it; 0: never.
 */
static const char *
find_reason(Limits *limits, const char **plain, MonoTime now, MonoTime *until)
{
	*plain = NULL;
	*until = limits_next_change(limits, now);
	if (limits->server->options.paused)
		return "paused: genjob.resume() ends it";
	if (limits->held_until > now)
		return "the server asked to wait";
	if (limits->n_backends == 1 && are_all_paused(limits))
		return why_paused(limits, limits->backends[0], plain);
	if (are_all_paused(limits))
		return limits_are_broken(limits) ? "no backend can be reached: genjob.backends says why"
										 : "no backend takes calls now: genjob.backends says why";
	if (limits->n_unstored >= LIMITS_UNSTORED)
		return "its outputs wait for places at its store: raise max_in_flight there";
	if (limits_free_slots(limits, now) > 0)
		return bucket_room(&limits->bucket, now) > 0 ? "" : "rate_limit is reached";
	return *until != 0 ? "the backends that can be reached asked to wait or are full"
					   : "max_in_flight is reached";
}

/*
 * Shows what the server may be given, and why not more.  otherwise: the reason
 * if the server itself gives none.  fallback_trouble: what is wrong with its
 * fallback; or NULL.
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
	reason = find_reason(limits, &plain, now, &until);
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

/* ---------- the log ---------- */

BackendAllowance
limits_state(Backend *backend)
{
	return (BackendAllowance){backend->breaker.is_open, backend->breaker.until,
							  limits_of_backend(backend)};
}

/*
 * Logs what the end of a call has changed.
 */
void
limits_trace_change(Backend *backend, BackendAllowance before, MonoTime now)
{
	BackendAllowance after = limits_state(backend);

	if (after.is_open && (!before.is_open || after.until != before.until))
		trace("address %s: breaker opens, next call in " INT64_FORMAT " ms",
			  trace_name(backend->url), Max(after.until - now, 0) / 1000);
	else if (before.is_open && !after.is_open)
		trace("address %s: breaker closes", trace_name(backend->url));
	if (after.most != before.most)
		trace("address %s: capacity %d -> %d calls at a time", trace_name(backend->url),
			  before.most, after.most);
}
