/*
 * same.h
 *		Gives a call that is repeated under its Idempotency-Key the same body.
 */
#ifndef GENJOB_SAME_H
#define GENJOB_SAME_H

#include "life/step.h"

extern bool same_begin(Job *job, RequestSource *source, char **sha256);
extern bool same_is(const Job *job, const HttpRequest *http, const char *sha256);
extern Next same_give_up(Job *job);
extern void same_note(Job *job, const HttpRequest *http);
extern bool same_take_up(Job *job);

#endif /* GENJOB_SAME_H */
