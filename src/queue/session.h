/*
 * session.h
 *		What a session asks of the queue by calling genjob's functions.
 */
#ifndef GENJOB_SESSION_H
#define GENJOB_SESSION_H

#include "fmgr.h"

#include "protocol/request.h"

/* For the files of this folder */
extern char *session_find_table(const char *table, Oid *oid);
extern char *session_name_table(const char *query, const char *table);
extern Oid session_table_owner(Oid table);

extern void session_no_such_job(int64 id);
extern void session_check_columns(int64 id);
extern void session_look(void (*look)(void *arg), void *arg);
extern char *session_find_disabled(bool stops);

extern bool session_cancel(int64 id);
extern bool session_retry(int64 id);
extern void session_read_output(Reference *reference);
/* For a procedure, which ends its caller's transaction */
extern void session_open(void);
extern void session_commit(void);
extern void session_close(void);
extern int64 session_insert(FunctionCallInfo fcinfo);
extern void session_job_columns(int64 id, Datum *values, bool *nulls, int n);

#endif /* GENJOB_SESSION_H */
