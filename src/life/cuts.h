/*
 * cuts.h
 *		Jobs whose calls were under way when a dispatcher crashed, again and again.
 */
#ifndef GENJOB_CUTS_H
#define GENJOB_CUTS_H

#include "life/step.h"

#define FREE_LOSSES 3 /* crashes in a row that cost a job nothing */

extern bool cuts_prevent(Job *job, JobStep step, Next *next);

#endif /* GENJOB_CUTS_H */
