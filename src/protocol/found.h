/*
 * found.h
 *		Whether an answer says that a prediction is there.
 */
#ifndef GENJOB_FOUND_H
#define GENJOB_FOUND_H

#include "http/http.h"
#include "server/grammar.h"

typedef enum FoundState
{
	FOUND_IT,
	FOUND_NOTHING,  /* it is not there */
	FOUND_NO_ANSWER /* the answer does not say */
} FoundState;

extern FoundState found_judge(HttpReply *reply, const Address *address, const char *places,
							  const char *id);

#endif /* GENJOB_FOUND_H */
