/*
 * claim.h
 *		Making a Job of a row; for the files of this folder only.
 */
#ifndef GENJOB_CLAIM_H
#define GENJOB_CLAIM_H

#include "job.h"
#include "schedule.h"

extern Job *claim_read_job(uint64 row);
extern ServerQueue *claim_read_queue(uint64 row, const Job *job);
extern void claim_assign(Job *job, ServerQueue *queue, Place place);

#endif /* GENJOB_CLAIM_H */
