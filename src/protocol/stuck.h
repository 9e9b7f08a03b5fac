/*
 * stuck.h
 *		Refusals that waiting alone does not mend.
 */
#ifndef GENJOB_STUCK_H
#define GENJOB_STUCK_H

#include "http/http.h"
#include "base/json.h"

typedef enum StuckKind
{
	STUCK_NOT,
	STUCK_QUOTA,   /* it is used up */
	STUCK_BILLING, /* nothing is left to pay with */
	STUCK_LIMIT,   /* the account may make no such call at all */
	STUCK_MODEL,   /* it may not use the model */
	STUCK_SIZE,    /* this call alone is more than is allowed in any time */
	STUCK_KINDS
} StuckKind;

extern StuckKind stuck_find(const HttpReply *reply, cJSON *json, const char *words);
extern const char *stuck_describe(StuckKind kind);

#endif /* GENJOB_STUCK_H */
