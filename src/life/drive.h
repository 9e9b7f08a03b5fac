/*
 * drive.h
 *		The driver of a job's life; for the files of this folder only.
 */
#ifndef GENJOB_DRIVE_H
#define GENJOB_DRIVE_H

#include "life/step.h"

/* Something that has happened to a job: returns what comes next. */
typedef Next (*Event)(Job *job);

extern void drive_carry_out(Job *job, Next next);
extern void drive_built(Job *job, JobStep step, HttpRequest *http);
extern void drive_job(Job *job, Event event);
extern void drive_marked(Job *job, Event event);

#endif /* GENJOB_DRIVE_H */
