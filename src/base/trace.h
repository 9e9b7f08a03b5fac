/*
 * trace.h
 *		What a dispatcher does, said in the log at DEBUG1: no secret, and nothing that a request or an answer contains.
 */
#ifndef GENJOB_TRACE_H
#define GENJOB_TRACE_H

/* One line.  The arguments are not evaluated unless it is wanted. */
#define trace(...) ereport(DEBUG1, (errmsg_internal(__VA_ARGS__)))

extern const char *trace_name(const char *text);
extern const char *trace_reason(const char *sentence);

#endif /* GENJOB_TRACE_H */
