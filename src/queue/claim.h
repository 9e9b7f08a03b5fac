/*
 * claim.h
 *		Making a Job of a row; for the files of this folder only.
 */
#ifndef GENJOB_CLAIM_H
#define GENJOB_CLAIM_H

#include "job.h"
#include "schedule.h"

#define SAVED_COPIES 3 /* of an answer in remote: as it is read, as text, and what is made of it */
#define LOCKED_RETRY_MS \
	1000 /* when to look again at rows that were locked, or left for want of memory */

extern bool claim_read_row(uint64 row, Job **job, ErrorData **error);
extern ServerQueue *claim_read_queue(uint64 row, const Job *job);
extern void claim_assign(Job *job, ServerQueue *queue, Place place);
extern char *claim_text_or_null(uint64 row, int column);

#endif /* GENJOB_CLAIM_H */
