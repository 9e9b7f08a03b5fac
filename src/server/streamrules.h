/*
 * streamrules.h
 *		What the options stream_… say: what ends a stream, and where its parts go.
 */
#ifndef GENJOB_STREAMRULES_H
#define GENJOB_STREAMRULES_H

#include "server/pointer.h"
#include "server/preset.h"

/* What is done with a part at a place of the result; an or of these. */
#define PLACE_TEXT 1 /* strings are pieces of a text */
#define PLACE_JSON 2 /* they are pieces of JSON, which is read at the end */
#define PLACE_RUN \
	4 /* the same of an element whose other members are those of the element before it */
#define PLACE_JOIN \
	8 /* unnamed strings below are pieces, except one that equals what is there already */
#define PLACE_LAST 16    /* what comes replaces what is there, whatever it is */
#define PLACE_SKIP 32    /* is not kept */
#define PLACE_NEW 64     /* of an element without a key: is another one, whatever its position */
#define PLACE_BASE64 128 /* strings are pieces of base64, each with a padding of its own */

/* A place of the result that the rules name, in a tree of all of them. */
typedef struct StreamPlace
{
	struct StreamPlace *child;
	struct StreamPlace *next;
	char *token; /* NULL: every element */
	int ops;
	bool has_run;     /* PLACE_RUN is said of it or of one below it */
	const char *key;  /* of elements: the member that says which one it is; NULL: none */
	char *with_name;  /* of PLACE_RUN: a member, and its value, of an element */
	char *with_value; /* that a bare string becomes; NULL: none */
} StreamPlace;

/* What is true of an event or not. */
typedef struct StreamCondition
{
	char *data; /* its data is this, and no JSON; or NULL */
	char *type; /* its type is this, or begins so where a "*" ends it; or NULL */
	JsonPointer place;
	char *values; /* what stands at the place, "A,B"; NULL: anything but null, false and "" */
} StreamCondition;

typedef struct StreamConditions
{
	StreamCondition *all;
	int n;
} StreamConditions;

typedef enum StreamTarget
{
	STREAM_DROP, /* the part is left out */
	STREAM_PUT,  /* it goes into the result */
	STREAM_SHOW  /* it is text that is shown while the stream comes, and stays in its event */
} StreamTarget;

/* Where a part of an event goes. */
typedef struct StreamRoute
{
	char *types; /* of events, "A,B*"; NULL: of those that no rule with types is for */
	JsonPointer from;
	const char **keys; /* for each "*" of from: the member that says which element it is, or NULL */
	char *only;        /* the part has this value; or NULL */
	StreamTarget target;
	JsonPointer to;
	char *constant; /* this goes there in its stead; or NULL */
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

/* Each gives NULL, or a sentence that says what is expected. */
extern const char *streamrules_check_conditions(const char *value);
extern const char *streamrules_check_parts(const char *value);
extern const char *streamrules_check_places(const char *value);

#endif /* GENJOB_STREAMRULES_H */
