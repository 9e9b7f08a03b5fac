/*
 * trace.h
 *		Logs at DEBUG1 what a dispatcher does: no secret, and nothing that a
 *		request or an answer contains.
 */
#ifndef GENJOB_TRACE_H
#define GENJOB_TRACE_H

#include "miscadmin.h"
#include "utils/guc.h"

/* Logs one line.  Evaluates the arguments only if DEBUG1 is wanted. */
#define trace(...) ereport(DEBUG1, (errmsg_internal(__VA_ARGS__)))

/*
 * As trace(), where the process may be a session: its client may not see
 * others' jobs.
 */
#define trace_quietly(...) \
	do \
	{ \
		if (MyBackendType != B_BACKEND) \
			ereport(DEBUG1, (errmsg_internal("genjob: " __VA_ARGS__))); \
		else if (log_min_messages <= DEBUG1) \
			ereport(LOG_SERVER_ONLY, (errmsg_internal("genjob: " __VA_ARGS__))); \
	} while (0)

extern const char *trace_name(const char *text);
extern const char *trace_reason(const char *sentence);

#endif /* GENJOB_TRACE_H */
