/*
 * pour.h
 *		A download that goes to the object store while it arrives.
 */
#ifndef GENJOB_POUR_H
#define GENJOB_POUR_H

#include "life/job.h"
#include "life/step.h"

extern void pour_prepare(Job *job, Output *output, HttpRequest *http);
extern bool pour_may(const Job *job, const Output *output);
extern bool pour_is_under_way(const Job *job);
extern bool pour_has_ended(const Job *job);
extern Next pour_go_on(Job *job);
extern bool pour_take_end(Job *job, HttpReply *reply);
extern bool pour_take_failure(Job *job, HttpReply *reply);
extern bool pour_take_too_large(Job *job, Output *output, const HttpReply *reply);
extern void pour_drop(Job *job, bool aborts);
extern void pour_end_uploads(Job *job);

#endif /* GENJOB_POUR_H */
