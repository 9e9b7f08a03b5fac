/*
 * trouble.h
 *		What a dispatcher does when the database refuses.
 */
#ifndef GENJOB_TROUBLE_H
#define GENJOB_TROUBLE_H

#include "shared/stats.h"

#define TROUBLE_MIN_MS 100
#define TROUBLE_MAX_MS 30000

/* What was tried. */
typedef enum TroubleKind
{
	TROUBLE_CLAIM,
	TROUBLE_SAVE,
	TROUBLE_REPORT,
	TROUBLE_FAIL, /* jobs that cannot be run */
	TROUBLE_SWEEP,
	TROUBLE_SECRETS,
	TROUBLE_FOLLOW, /* doing what follows an end */
	TROUBLE_PURGE,  /* deleting what was kept long enough */
	TROUBLE_KINDS
} TroubleKind;

extern int64 trouble_backoff_us(int failures);
extern bool trouble_is_of_row(const ErrorData *error);
extern void trouble_show(TroubleKind kind, const ErrorData *error);
extern void trouble_show_job(TroubleKind kind, int64 job, ServerStats *stats,
							 const ErrorData *error);
extern void trouble_show_kept_outputs(const char *reason);

#endif /* GENJOB_TROUBLE_H */
