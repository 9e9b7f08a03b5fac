/*
 * built.h
 *		Building the call of a step.
 */
#ifndef GENJOB_BUILT_H
#define GENJOB_BUILT_H

#include "life/step.h"

extern HttpRequest *built_here(Call *call, const Step *step, Next *next);
extern bool built_elsewhere(Job *job);
extern Next built_starved(Job *job, JobStep id);

#endif /* GENJOB_BUILT_H */
