/*
 * values.h
 *		Values in a request that stand for others: {"$result": [job, "/place"]} and {"$concat": [...]}.
 */
#ifndef GENJOB_VALUES_H
#define GENJOB_VALUES_H

#include "base/json.h"
#include "protocol/request.h"

/* stands for a value that is not known yet, in what values_check() leaves */
#define VALUES_UNKNOWN "{$result}"

extern bool values_may_be_in(const char *text);
extern void values_check(cJSON *params);
extern void values_fill(const RequestSource *source, cJSON *params);

#endif /* GENJOB_VALUES_H */
