/*
 * reasons.h
 *		The reasons that a server gives in JSON.
 */
#ifndef GENJOB_REASONS_H
#define GENJOB_REASONS_H

#include "base/json.h"

extern char *reasons_of_json(cJSON *json, const char *places, const char *id);
extern char *reasons_of_success(cJSON *json, const char *places, const char *id);

#endif /* GENJOB_REASONS_H */
