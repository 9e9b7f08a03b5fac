/*
 * body.h
 *		The body of a request.
 */
#ifndef GENJOB_BODY_H
#define GENJOB_BODY_H

#include "base/json.h"
#include "protocol/request.h"

/* What a request carries; palloc'd. */
typedef struct Body
{
	const char *data;
	size_t len;
	const char *content_type;
	bool type_is_fixed; /* no option may replace content_type */
	char *query;        /* parameters for the URL, as "a=1&b=2"; or NULL */
} Body;

extern void body_check(const RequestSource *source, cJSON *params);
extern Body body_build(const RequestSource *source, cJSON *params);

#endif /* GENJOB_BODY_H */
