/*
 * commit.h
 *		What a transaction tells others when it has committed.
 */
#ifndef GENJOB_COMMIT_H
#define GENJOB_COMMIT_H

#include "datatype/timestamp.h"

extern void commit_init(void);

extern void commit_note_added(int64 id, TimestampTz run_at, TimestampTz expires_at);
extern void commit_note_job(int64 id);
extern void commit_note_ended(int64 id);
extern void commit_note_all_jobs(void);
extern void commit_note_servers(void);
extern void commit_note_callbacks(void);
extern void commit_note_follow_ups(void);
extern void commit_note_extension(void);
extern void commit_note_databases(void);
extern void commit_note_settings(Oid database);
extern void commit_note_eviction(void);

#endif /* GENJOB_COMMIT_H */
