/*
 * outcome.h
 *		What a verdict means for the row.
 */
#ifndef GENJOB_OUTCOME_H
#define GENJOB_OUTCOME_H

#include "life/job.h"

extern void outcome_decide(Job *job);
extern bool outcome_apply_on_unknown(Job *job, Verdict *verdict);
extern void outcome_reported(Job *job);
extern void outcome_simplify(Job *job, bool result, bool usage);

#endif /* GENJOB_OUTCOME_H */
