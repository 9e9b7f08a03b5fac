/*
 * options.h
 *		The options of a foreign server and of a user mapping.
 */
#ifndef GENJOB_OPTIONS_H
#define GENJOB_OPTIONS_H

#include "fmgr.h"
#include "nodes/pg_list.h"

#include "base/status.h"
#include "server/preset.h"

/* The option addressing; in the order of its words in the table of options.c. */
typedef enum AddressingKind
{
	ADDRESSING_PATH,
	ADDRESSING_VIRTUAL
} AddressingKind;

/*
 * A server's options.  A string is NULL if neither the option nor the preset
 * has a value.
 */
typedef struct ServerOptions
{
	List *defs; /* DefElems from which all but url was read; NIL: not kept */

	/* What it speaks, and where */
	const Preset *preset;
	List *urls;        /* of char *, without a trailing slash: at most STATS_BACKENDS */
	char *url;         /* the address to call; the first of urls unless server_backend() chose
						* another */
	Protocol protocol; /* the options; where they say nothing, the preset */
	char *model;
	char *defaults; /* JSON object */
	char *headers;  /* JSON object of strings */
	char *ca_file;

	char *store; /* server that takes the outputs; NULL: the table does */

	/* An object store */
	char *bucket;
	char *key;        /* template for the keys of its objects */
	char *addressing; /* path | virtual: where in a URL the bucket stands */
	AddressingKind addressing_kind;
	char *put_headers; /* JSON object of strings, for requests that write; or NULL */

	/* How much, how long, how often */
	int64 max_in_flight;   /* calls to each url; or MAX_IN_FLIGHT_AUTO */
	double rate;           /* calls a second; 0: no limit but max_in_flight */
	int64 rate_burst;      /* calls at once; 0: as many as a second allows, at least one */
	char *fallback;        /* server that takes the jobs when this one cannot; or NULL */
	int64 timeout;         /* ms, of one attempt */
	int64 connect_timeout; /* ms */
	int64 poll_interval;   /* ms, at least, between polls of one prediction */
	int64 gone_after;      /* ms; so long after a submission, do not believe "unknown prediction" */
	int64 max_response;    /* bytes */
	int64 max_output;      /* bytes, of one output that streams to a store */
	int64 max_attempts;
	int64 retry_base;        /* ms */
	int64 retry_max;         /* ms */
	const int *schedule;     /* the preset's back-off; NULL if none, or if retry_base or
							  * retry_max is given */
	StatusSet *retry_status; /* statuses to retry; NULL: the usual ones */
	int64 on_unknown;        /* an OnUnknown */
	int64 max_unknown;       /* how often to repeat a call whose outcome is unknown */
	int64 max_wait;          /* ms that refusals may delay a job, if waiting does not mend them */
	int64 paused;            /* boolean: claim nothing */

	/* How long to keep jobs that have ended, ms; 0: for ever */
	int64 retention;
	int64 retention_failed; /* for failed and cancelled jobs */

	/* What follows an end */
	char *notify;     /* channel for NOTIFY; or NULL */
	char *on_success; /* server of the callback for a job that succeeded; or NULL */
	char *on_failure; /* the same, for a job that failed or was cancelled */
} ServerOptions;

#define MAX_IN_FLIGHT_AUTO 0 /* genjob finds how many the server can do */

/*
 * What to do with a call that may have been accepted although no answer came.
 */
typedef enum OnUnknown
{
	ON_UNKNOWN_RETRY, /* sent again with the same Idempotency-Key */
	ON_UNKNOWN_FAIL
} OnUnknown;

/*
 * A user mapping's options: secrets, never show them.
 */
typedef struct MappingOptions
{
	char *api_key;
	char *headers;       /* JSON object of strings */
	char *access_key_id; /* this and the next two are for auth sigv4 */
	char *secret_access_key;
	char *session_token; /* or NULL */
} MappingOptions;

extern void options_parse_server(List *defs, ServerOptions *options);
extern bool options_hands_over(const ServerOptions *options);
extern void options_parse_mapping(List *defs, MappingOptions *options);

extern PGDLLEXPORT Datum genjob_validator(PG_FUNCTION_ARGS);

#endif /* GENJOB_OPTIONS_H */
