/*
 * limits.h
 *		What a server may be given now.
 */
#ifndef GENJOB_LIMITS_H
#define GENJOB_LIMITS_H

#include "http/http.h"
#include "limits/breaker.h"
#include "limits/bucket.h"
#include "limits/capacity.h"
#include "server/server.h"
#include "shared/stats.h"

/*
 * One of a server's addresses.  It stays while it has calls in flight, even
 * when the server is altered.
 */
typedef struct Backend
{
	char *url;
	const ServerOptions
		*options; /* the server's, with this url; NULL: it is not the server's any more */
	int in_flight;
	int n_cancels;       /* calls that cancel; they take no place */
	MonoTime held_until; /* it asked to wait */
	Breaker breaker;
	Capacity capacity;           /* while max_in_flight is auto */
	char error[STATS_ERROR_LEN]; /* the last one that the breaker counted */
} Backend;

typedef struct Limits
{
	Server *server; /* NULL: it cannot be used */
	Backend **backends;
	int n_backends;
	TokenBucket bucket;
	MonoTime held_until;     /* the server asked to wait */
	TimestampTz stuck_since; /* since when it is stuck (CALL_STUCK); 0: it is not */
	const char *stuck;       /* what is wrong */
	uint64 stuck_generation; /* server_generation() at the last refusal */
	bool fails_overdue;      /* jobs that have waited too long for that must fail */
	bool cancels_wait;       /* a cancel waits for a token of the bucket */
	bool cancels_next;       /* the next token is a cancel's, because a job took the last one */
	int in_flight;
	int n_unstored;     /* jobs whose outputs wait for a place at a working object store */
	ServerStats *stats; /* where the decisions can be read; NULL with server */
} Limits;

/*
 * A job's place at a server, from the decision to call it until the call and what follows from it is
 * over.
 */
typedef struct Place
{
	Limits *limits; /* NULL: none */
	Backend *backend;
	bool is_probe;
	bool is_cancel; /* of a call that cancels: it takes nobody's place */
	MonoTime taken_at;
} Place;

/* What the end of a call means for the next ones. */
typedef enum CallOutcome
{
	CALL_ANSWERED,    /* it was answered in any other way */
	CALL_CUT,         /* the call got there, but no answer came */
	CALL_BUSY,        /* the server has too much to do */
	CALL_FAILED,      /* the server says that it has failed */
	CALL_BROKEN,      /* a gateway got no answer from the server */
	CALL_UNREACHABLE, /* nothing of the call got there */
	CALL_STUCK        /* it is refused, and waiting alone does not mend that */
} CallOutcome;

/* How a call ended. */
typedef struct CallEnd
{
	CallOutcome outcome;
	bool of_job;             /* CALL_STUCK: perhaps only this job is refused */
	bool brought_work;       /* it is a submission: only that shows whether the server takes work */
	int64 job;               /* whose call it was */
	int64 asked_ms;          /* how long the server asks to wait; 0: it does not say */
	const char *stuck;       /* CALL_STUCK: what is wrong, the beginning of a sentence */
	TimestampTz stuck_since; /* CALL_STUCK: since when the job has been refused; 0: since now */
	const char *error;       /* the sentence that the job gets; or NULL */
} CallEnd;

/* A server is given no more jobs while this many of its jobs wait for a place at their store */
#define LIMITS_UNSTORED 16

extern void limits_free(Limits *limits);
extern bool limits_are_at_rest(Limits *limits, MonoTime now);
extern void limits_apply(Limits *limits, Server *server, ServerStats *stats, MonoTime now);

extern int limits_room(Limits *limits, MonoTime now);
extern MonoTime limits_next_change(Limits *limits, MonoTime now);
extern bool limits_are_broken(const Limits *limits);
extern bool limits_are_stuck(const Limits *limits, TimestampTz now);
extern int64 limits_stuck_pause(const ServerOptions *options);
extern bool limits_are_paused(const Place *place);

extern Place limits_take(Limits *limits, MonoTime now);
extern Place limits_resume(Limits *limits, const char *url, MonoTime now);
extern bool limits_move(Place *place, const char *url, MonoTime now);
extern void limits_started(const Place *place);
extern void limits_leave(Place *place);
extern void limits_give_back(Place *place);

extern CallOutcome limits_outcome(const HttpReply *reply);
extern void limits_note(Place *place, const CallEnd *end, MonoTime now);
extern void limits_note_result(const Place *place, MonoTime now);
extern bool limits_hold(const Place *place, MonoTime until, bool whole_server);
extern bool limits_spare_attempt(const Place *place, CallOutcome outcome);

/* cancelling.c: for calls that cancel */
extern bool limits_may_cancel(Limits *limits, MonoTime now);
extern MonoTime limits_next_cancel(Limits *limits, MonoTime now);
extern bool limits_take_for_cancel(Limits *limits, const char *url, MonoTime now, Place *place);
extern int limits_cancels(const Limits *limits, int most);

/* why.c: what people see */
extern void limits_say_why(Limits *limits, const char *otherwise, const char *fallback_trouble,
						   MonoTime now);

/* What the ends of a backend's calls allow it. */
typedef struct BackendAllowance
{
	bool is_open;
	MonoTime until;
	int most; /* calls at a time */
} BackendAllowance;

/* For the files of this folder */
extern void limits_end_probe(Place *place);
extern BackendAllowance limits_state(Backend *backend);
extern void limits_trace_change(Backend *backend, BackendAllowance before, MonoTime now);
extern int limits_of_backend(Backend *backend);
extern int limits_free_slots(Limits *limits, MonoTime now);
extern Backend *limits_backend(const Limits *limits, const char *url);
extern MonoTime limits_next_backend(const Limits *limits, bool any, MonoTime now);

#endif /* GENJOB_LIMITS_H */
