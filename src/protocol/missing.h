/*
 * missing.h
 *		Outputs of an answer that could not be fetched.
 */
#ifndef GENJOB_MISSING_H
#define GENJOB_MISSING_H

#include "base/json.h"
#include "protocol/reply.h"

extern void missing_note(Verdict *verdict, cJSON *json);
extern void missing_restore(Verdict *verdict);
extern char *missing_describe(const Verdict *verdict);

#endif /* GENJOB_MISSING_H */
