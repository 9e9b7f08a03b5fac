/*
 * dependency.h
 *		Jobs that wait for others (the column after).
 */
#ifndef GENJOB_DEPENDENCY_H
#define GENJOB_DEPENDENCY_H

#include "nodes/pg_list.h"

#include "base/clock.h"

/* Which jobs dependency_keep_seen() keeps, of those that the role may see */
typedef enum KeptJobs
{
	KEEP_UNFINISHED,
	KEEP_UNSUCCESSFUL, /* also failed and cancelled jobs */
	KEEP_ALL
} KeptJobs;

/* In the transaction that ends a job */
extern void dependency_note_end(int64 id);

/* In a session */
extern void dependency_note_own(int64 id, bool always);
extern void dependency_note_rewired(int64 id);
extern bool dependency_is_own_statement(void);
extern void dependency_follow(Oid table);
extern void dependency_forget_all(Oid table);
extern int dependency_find_makers(Oid table, List *urls, int64 **ids);
extern int dependency_keep_seen(Oid table, Oid role, int64 *ids, int n, KeptJobs kept);

/* In a dispatcher */
extern void dependency_start(void);
extern void dependency_begin(void);
extern void dependency_work(void);
extern void dependency_transaction_failed(void);
extern void dependency_note_expired(int64 id);
extern void dependency_note_news(int64 id, bool waits, bool has_ended);
extern void dependency_note_blocked(void);
extern void dependency_look_at_all(void);
extern void dependency_rescan(void);
extern MonoTime dependency_next(void);

#endif /* GENJOB_DEPENDENCY_H */
