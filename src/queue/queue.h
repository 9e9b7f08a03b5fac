/*
 * queue.h
 *		The dispatcher's statements on gen_jobs and gen_outputs.
 */
#ifndef GENJOB_QUEUE_H
#define GENJOB_QUEUE_H

#include "life/job.h"
#include "schedule/schedule.h"

/* Whether this database has an extension that this library can serve. */
typedef enum QueuePresence
{
	QUEUE_ABSENT,
	QUEUE_OTHER_VERSION, /* the SQL objects are not of this library's version */
	QUEUE_PRESENT
} QueuePresence;

/* Error of a transaction that finds its tables gone; the next looks again. */
#define QUEUE_GONE MAKE_SQLSTATE('G', 'J', '0', '0', '1')

typedef void (*QueueWork)(void *arg);

/* The values of a job that the tables refuse. */
typedef struct QueueRefusals
{
	const Job *job;
	bool result; /* or the answer, while a prediction is saved */
	bool usage;
	bool errors; /* another entry of attempt_errors */
} QueueRefusals;

/* What an earlier dispatcher's spool says about a job, besides its Job. */
typedef struct SpooledJob
{
	int64 id;
	bool is_save; /* true: save its prediction's name; false: report its verdict */
	char *ran_on; /* the server that ran it */
	char *backend;
} SpooledJob;

/* What became of a spooled job's row. */
typedef enum SpooledRow
{
	SPOOLED_GONE, /* it no longer belongs to the attempt */
	SPOOLED_RUNNING,
	SPOOLED_ENDED,  /* it was cancelled, or failed, meanwhile */
	SPOOLED_RETRIED /* and is to be run again */
} SpooledRow;

extern bool queue_is_mine; /* this process is a dispatcher: triggers let it pass */

extern void queue_init(MonoTime (*deadline)(void));
extern ErrorData *queue_run_as_owner(Oid table, QueueWork work, void *arg);
extern bool queue_transact(const char *activity, QueueWork work, void *arg, ErrorData **error);

/* Call these only in queue_transact() */
extern bool queue_lock_database(void);
extern QueuePresence queue_look(void);
extern QueuePresence queue_find_tables(void);
extern uint64 queue_looks(void);
extern void queue_read_changed(const int64 *ids, int n, TimestampTz now);
extern void queue_read_claimed(TimestampTz now);
extern void queue_scan_begin(TimestampTz since, TimestampTz now);
extern bool queue_scan(void);
extern void queue_fill(TimestampTz now);
extern void queue_read_weights(void);
extern bool queue_read_due(TimestampTz after, TimestampTz now);
extern TimestampTz queue_next_due(TimestampTz after);
/* Rows that one call changes at most */
#define QUEUE_KEEP_DUE_BATCH 1000
extern int queue_keep_due(TimestampTz now, TimestampTz seen, TimestampTz set_at);
extern void queue_expire(TimestampTz now);
extern void queue_note_expiry(TimestampTz expires_at);
extern int queue_list_unstarted(const char *server_name, TimestampTz now, int64 *ids,
								NameData *servers, int max);
extern void queue_fail_one(int64 id, ServerQueue *queue, TimestampTz now);
extern void queue_expect_expired(TimestampTz now);
extern int queue_fail_waiting(ServerQueue *queue, TimestampTz now);
extern int queue_fail_overdue(const char *server_name, const char *error, TimestampTz since,
							  TimestampTz now);
extern int queue_keep_home(Turn *turns, int n);
extern int queue_claim(Turn *turns, int n, TimestampTz now);
extern bool queue_guard(QueueWork work, void *arg, ErrorData **error);
extern MonoTime queue_read_orphans(bool is_first);
extern void queue_note_orphans(void);
extern bool queue_read_remote(int64 id, int attempt, Remote *remote);
extern bool queue_has_new_orphans(void);
extern bool queue_orphans_lack_memory(void);
extern void queue_read_cancels(void);
extern bool queue_must_read_cancels(void);
extern void queue_forget_cancels(void);
extern bool queue_put_aside(int64 id, int attempt, const char *error, ErrorData **refusal);
extern void queue_put_condemned_aside(void);
extern void queue_acquit_put_aside(void);
extern SpooledRow queue_take_spooled(Job *job, const SpooledJob *spooled);
extern void queue_read_references(Job *job);
extern void queue_save(Job **jobs, int n);
extern char *queue_saved_answer(const Job *job);
extern size_t queue_saved_size(const Job *job);
/* Bytes.  Larger results are written one at a time. */
#define QUEUE_LARGE_RESULT (1024 * 1024)
extern void queue_report(Job **jobs, int n, TimestampTz now);
extern void queue_test_values(void *refusals);

/* Also outside transactions */
extern void queue_read_again(Job *job);

/* These run their own transactions */
extern bool queue_must_read_left_out(void);
extern void queue_read_left_out(TimestampTz now);
extern void queue_sweep_begin(TimestampTz now);
extern void queue_sweep(TimestampTz now);
extern MonoTime queue_sweep_next(void);

#endif /* GENJOB_QUEUE_H */
