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
 * Of CREATE SERVER.  Strings are NULL where neither the option nor the preset says anything.
 */
typedef struct ServerOptions
{
	List *defs; /* of DefElem: what all but url was read from; NIL: not kept */

	/* What it speaks, and where */
	const Preset *preset;
	List *urls;        /* of char *, without a trailing slash: at most STATS_BACKENDS */
	char *url;         /* the one that is called; in the server's own options the first */
	Protocol protocol; /* the preset's, under what the options say */
	char *model;
	char *defaults; /* JSON object */
	char *headers;  /* JSON object of strings */
	char *ca_file;

	char *store; /* server that takes the outputs; NULL: the table does */

	/* An object store */
	char *bucket;
	char *key;        /* a template, of the outputs that are put there */
	char *addressing; /* path | virtual: where in a URL the bucket stands */
	AddressingKind addressing_kind;
	char *put_headers; /* JSON object of strings: of what writes; or NULL */

	/* How much, how long, how often */
	int64 max_in_flight;   /* calls, of each url; or MAX_IN_FLIGHT_AUTO */
	double rate;           /* calls a second; 0: as many as there are places */
	int64 rate_burst;      /* calls at once; 0: those of a second, at least one */
	char *fallback;        /* server that takes the jobs when this one cannot; or NULL */
	int64 timeout;         /* ms, of one attempt */
	int64 connect_timeout; /* ms */
	int64 poll_interval;   /* ms, at least, between polls of one prediction */
	int64 gone_after;      /* ms; before that nobody is believed that a prediction is not known */
	int64 max_response;    /* bytes */
	int64 max_output;      /* bytes, of one that goes to a store while it comes */
	int64 max_attempts;
	int64 retry_base;        /* ms */
	int64 retry_max;         /* ms */
	const int *schedule;     /* the preset's, unless an option says how to back off; or NULL */
	StatusSet *retry_status; /* that are tried again; NULL: the usual ones */
	int64 on_unknown;        /* an OnUnknown */
	int64 max_unknown;       /* calls whose end is not known that are repeated */
	int64 max_wait;          /* ms, for refusals that waiting alone does not mend */
	int64 paused;            /* a boolean: nothing is claimed */

	/* How long jobs are kept that have ended, ms; 0: for ever */
	int64 retention;
	int64 retention_failed; /* of those that failed or were cancelled */

	/* What follows an end */
	char *notify;     /* channel that is told; or NULL */
	char *on_success; /* server that is given a job that succeeded; or NULL */
	char *on_failure; /* the same of one that failed or was cancelled */
} ServerOptions;

#define MAX_IN_FLIGHT_AUTO 0 /* as many as the server is found to do */

/* What becomes of a call that may have been accepted although no answer came. */
typedef enum OnUnknown
{
	ON_UNKNOWN_RETRY, /* sent again with the same Idempotency-Key */
	ON_UNKNOWN_FAIL
} OnUnknown;

/*
 * Of CREATE USER MAPPING: what must never be shown.
 */
typedef struct MappingOptions
{
	char *api_key;
	char *headers;       /* JSON object of strings */
	char *access_key_id; /* these are for auth sigv4 */
	char *secret_access_key;
	char *session_token; /* or NULL */
} MappingOptions;

extern void options_parse_server(List *defs, ServerOptions *options);
extern bool options_hands_over(const ServerOptions *options);
extern void options_parse_mapping(List *defs, MappingOptions *options);

extern PGDLLEXPORT Datum genjob_validator(PG_FUNCTION_ARGS);

#endif /* GENJOB_OPTIONS_H */
