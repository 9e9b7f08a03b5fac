/*
 * cancel.h
 *		Predictions that providers must cancel; for the folders above.
 */
#ifndef GENJOB_CANCEL_H
#define GENJOB_CANCEL_H

#include "life/job.h"

extern char *cancel_describe_delay(const Job *job);
extern int cancel_count_unfinished(void);

#endif /* GENJOB_CANCEL_H */
