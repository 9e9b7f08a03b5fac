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
	STUCK_QUOTA,   /* the quota is used up */
	STUCK_BILLING, /* there is no money left */
	STUCK_LIMIT,   /* the account may make no such call at all */
	STUCK_MODEL,   /* the account may not use the model */
	STUCK_SIZE,    /* no limit ever allows a call of this size */
	STUCK_KINDS
} StuckKind;

extern StuckKind stuck_find(const HttpReply *reply, cJSON *json, const char *words);
extern const char *stuck_describe(StuckKind kind);

#endif /* GENJOB_STUCK_H */
