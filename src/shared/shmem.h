/*
 * shmem.h
 *		What genjob's processes share, and how they wake each other.
 */
#ifndef GENJOB_SHMEM_H
#define GENJOB_SHMEM_H

#include "datatype/timestamp.h"
#include "storage/lwlock.h"
#include "port/atomics.h"

#include "http/http.h"
#include "shared/stats.h"

#define SHMEM_ERROR_LEN STATS_REASON_LEN /* bytes of a message kept for the views */
#define SHMEM_NEWS_MAX 16384             /* jobs that a dispatcher can be told of by id */

/* ---------- dispatchers ---------- */

typedef enum WorkerState
{
	WORKER_STARTING,
	WORKER_IDLE,     /* nothing to do but wait */
	WORKER_BUSY,     /* calls are in flight or jobs are due */
	WORKER_TROUBLED, /* the last look at the queue failed; it will be tried again */
	WORKER_BLOCKED, /* results cannot be written; without a process: no background worker is free */
	WORKER_STOPPING, /* waits for calls in flight, claims nothing */
	WORKER_STOPPED,  /* by genjob.enabled, or for CREATE or DROP DATABASE */
	WORKER_FAILED,   /* ended with an error; will be started again */
	WORKER_ABSENT    /* the database has no extension */
} WorkerState;

/* A row of genjob.workers. */
typedef struct WorkerInfo
{
	Oid database;
	int pid; /* 0: not running */
	WorkerState state;
	TimestampTz since;
	TimestampTz error_at;
	char error[SHMEM_ERROR_LEN]; /* as shown_keep() left it */
} WorkerInfo;

/*
 * Summary of a bulk change too large to name ids: the earliest run_at and the earliest expires_at in it.  DT_NOEND:
 * there is none; DT_NOBEGIN: nothing is known of them.
 */
typedef struct BulkChange
{
	TimestampTz since;
	TimestampTz expiry;
} BulkChange;

/* What a dispatcher has been told since it last asked. */
typedef struct News
{
	int64 ids[SHMEM_NEWS_MAX]; /* jobs to look at */
	int n_ids;
	BulkChange bulk; /* of more jobs than fit */
	bool recheck;    /* servers, mappings or the extension changed */
	bool callbacks;  /* calls of on_done are due */
	bool follow_ups; /* ended jobs have follow-ups */
} News;

extern void shmem_request(void);
extern void shmem_startup(void);

extern int shmem_slot_create(Oid database);
extern void shmem_slot_free(int slot);
extern void shmem_slot_attach(int slot);
extern void shmem_slot_join(int slot);
extern void shmem_slot_set_state(int slot, WorkerState state);
extern WorkerState shmem_slot_state(int slot);
extern void shmem_slot_set_error(int slot, const char *message);
extern void shmem_set_my_state(WorkerState state);
extern void shmem_set_my_error(const char *message);
extern void shmem_take_news(News *news);
extern bool shmem_tell_dispatcher(Oid database, const int64 *ids, int n_ids, BulkChange bulk,
								  bool more, bool recheck);
extern void shmem_tell_callbacks(Oid database);
extern void shmem_tell_follow_ups(Oid database);
extern void shmem_tell_settings(Oid database);
extern int shmem_read_workers(WorkerInfo **workers);
extern bool shmem_read_worker(Oid database, WorkerInfo *worker);

/* ---------- launcher ---------- */

extern void shmem_launcher_attach(void);
extern void shmem_wake_launcher(Oid database);
extern bool shmem_launcher_take(Oid *database);

/* ---------- databases that a command needs alone ---------- */

extern void shmem_evict(Oid database, bool at_once);
extern void shmem_end_evictions(void);
extern bool shmem_is_evicted(Oid database, bool *at_once);
extern bool shmem_has_dispatcher(Oid database);

/* ---------- sessions that wait for a job (waiters.c) ---------- */

extern void shmem_wait_begin(int64 job);
extern void shmem_wait_end(void);
extern void shmem_wake_waiters(Oid database, int64 *jobs, int n);

/* ---------- calls in flight (figures.c) ---------- */

typedef enum ActivityPhase
{
	ACTIVITY_CALLING,     /* the server has the request, or gets it */
	ACTIVITY_WAITING,     /* the provider works on the prediction */
	ACTIVITY_POLLING,     /* a call asks for the prediction's state */
	ACTIVITY_DOWNLOADING, /* outputs */
	ACTIVITY_STORING,     /* outputs */
	ACTIVITY_FETCHING,    /* objects that the request refers to */
	ACTIVITY_SAVING       /* the result is being written */
} ActivityPhase;

#define ACTIVITY_STATE_LEN 48 /* bytes of a provider's word */

typedef struct Activity
{
	Oid database; /* invalid: free */
	Oid owner;
	int64 job;
	int32 attempt;
	int pid;
	TimestampTz started_at;
	NameData server;
	char remote_state[ACTIVITY_STATE_LEN]; /* the provider's word for it, from shown_keep(); empty: none */
	pg_atomic_uint32 phase;                /* an ActivityPhase */
	pg_atomic_uint64 progress;             /* in millionths; ACTIVITY_NO_PROGRESS: unknown */
	pg_atomic_uint64 tokens;               /* pieces of text of a stream so far; 0: not a stream */
	int tail;                              /* index of its last text in tails; -1: none */
	HttpMeter meter;
} Activity;

#define ACTIVITY_TEXT_LEN 801 /* bytes: 200 characters of UTF-8 */

#define ACTIVITY_NO_PROGRESS PG_UINT64_MAX

extern Activity *shmem_activity_add(Oid owner, int64 job, int attempt, const char *server);
extern void shmem_activity_remove(Activity *activity);
extern void shmem_activity_show(Activity *activity, const char *utf8, int64 tokens);
extern int shmem_read_activity(Oid database, Activity **activities);
extern char *shmem_read_activity_text(const Activity *activity);

/* ---------- what servers did (figures.c) ---------- */

extern ServerStats *shmem_stats_find(Oid server);
extern void shmem_stats_release(ServerStats *stats);
extern void shmem_stats_forget(Oid server);
extern void shmem_stats_forget_database(Oid database);
extern int shmem_stats_list(Oid **servers);
extern int shmem_read_stats(Oid database, ServerStats **stats);

/* For shmem.c only */
extern Size figures_size(void);
extern void figures_startup(LWLock *lock);
extern void figures_end(void);
extern Size waiters_size(void);
extern void waiters_startup(LWLock *lock);

#endif /* GENJOB_SHMEM_H */
