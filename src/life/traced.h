/*
 * traced.h
 *		What the log says of a job's calls.
 */
#ifndef GENJOB_TRACED_H
#define GENJOB_TRACED_H

#include "life/job.h"

extern void traced_answer(const Job *job, const char *step, const HttpReply *reply);
extern void traced_verdict(const Job *job, const Verdict *verdict);

#endif /* GENJOB_TRACED_H */
