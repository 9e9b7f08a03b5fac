/*
 * streamrules.h
 *		Reads the options stream_…: what ends a stream, and where its parts go.
 */
#ifndef GENJOB_STREAMRULES_H
#define GENJOB_STREAMRULES_H

#include "server/pointer.h"
#include "server/preset.h"

/* How to join a part to the result at a place; a bit mask. */
#define PLACE_TEXT 1 /* strings are pieces of a text */
#define PLACE_JSON 2 /* strings are pieces of JSON, to be parsed at the end */
#define PLACE_RUN \
	4 /* pieces of a text, if the element's other members equal those of the element before */
#define PLACE_JOIN \
	8 /* unnamed strings below are pieces, except one that equals what is there already */
#define PLACE_LAST 16    /* a new value replaces the old one, whatever its type */
#define PLACE_SKIP 32    /* the part is dropped */
#define PLACE_NEW 64     /* an element without a key is always a new one, whatever its position */
#define PLACE_BASE64 128 /* strings are pieces of base64, each with its own padding */

/* A place of the result that the rules name, in a tree of all of them. */
typedef struct StreamPlace
{
	struct StreamPlace *child;
	struct StreamPlace *next;
	char *token; /* NULL: every element */
	int ops;
	bool has_run;     /* this place or one below it has PLACE_RUN */
	const char *key;  /* of elements: the member that identifies one; NULL: none */
	char *with_name;  /* of PLACE_RUN: a bare string becomes an element */
	char *with_value; /* with this member and value; NULL: none */
} StreamPlace;

/* A test of an event. */
typedef struct StreamCondition
{
	char *data; /* true if the event's data is this text; or NULL */
	char *type; /* true if its type is this, or begins with this if a "*" ends it; or NULL */
	JsonPointer place;
	char *values; /* true if place has one of "A,B"; NULL: anything but null, false and "" */
} StreamCondition;

typedef struct StreamConditions
{
	StreamCondition *all;
	int n;
} StreamConditions;

typedef enum StreamTarget
{
	STREAM_DROP, /* drop the part */
	STREAM_PUT,  /* put it into the result */
	STREAM_SHOW  /* show it as text while the stream comes, and leave it in its event */
} StreamTarget;

/* Where a part of an event goes. */
typedef struct StreamRoute
{
	char *types; /* of events, "A,B*"; NULL: all that no other rule names */
	JsonPointer from;
	const char **keys; /* for each "*" of from: the member that identifies an element, or NULL */
	char *only;        /* the part must have this value; or NULL */
	StreamTarget target;
	JsonPointer to;
	char *constant; /* put this there instead; or NULL */
} StreamRoute;

typedef struct StreamRules
{
	StreamConditions ends;
	StreamConditions errors;
	JsonPointer type; /* where an event's data has its type; no tokens: nowhere */
	StreamRoute *routes;
	int n_routes;
	StreamPlace *places; /* the root */
} StreamRules;

extern StreamRules *streamrules_read(const Protocol *protocol);
extern const StreamPlace *streamrules_below(const StreamPlace *place, const char *token);
extern bool streamrules_list_has(const char *list, const char *word);

/* Each returns NULL, or a sentence that says what is expected. */
extern const char *streamrules_check_conditions(const char *value);
extern const char *streamrules_check_parts(const char *value);
extern const char *streamrules_check_places(const char *value);

#endif /* GENJOB_STREAMRULES_H */
