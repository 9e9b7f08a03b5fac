/*
 * jobrow.h
 *		Makes a Job of a row; for the files of this folder only.
 */
#ifndef GENJOB_JOBROW_H
#define GENJOB_JOBROW_H

#include "life/job.h"
#include "schedule/schedule.h"

#define SAVED_COPIES 3 /* of an answer in remote: as it is read, as text, and as a tree */
#define LOCKED_RETRY_MS \
	1000 /* when to look again at rows that were locked, or had no room in memory */

extern void jobrow_begin(void);
extern void jobrow_read_whole(int64 id);
extern bool jobrow_settle(void);
extern Job *jobrow_take(uint64 row);
extern bool jobrow_try(uint64 row, bool has_ended, Job **job, ErrorData **error);
extern const char *jobrow_column(void);
extern ServerQueue *jobrow_queue(uint64 row, const Job *job);
extern void jobrow_assign(Job *job, ServerQueue *queue, Place place);
extern char *jobrow_text(uint64 row, int column);

#endif /* GENJOB_JOBROW_H */
