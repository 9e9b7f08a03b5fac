/*
 * trace.h
 *		What a dispatcher does, said in the log at DEBUG1: no secret, and nothing that a request or an answer contains.
 */
#ifndef GENJOB_TRACE_H
#define GENJOB_TRACE_H

#include "miscadmin.h"
#include "utils/guc.h"

/* One line.  The arguments are not evaluated unless it is wanted. */
#define trace(...) ereport(DEBUG1, (errmsg_internal(__VA_ARGS__)))

/*
 * The same where a session may be the process: its client may not see others' jobs.
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
