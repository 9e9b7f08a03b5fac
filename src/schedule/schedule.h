/*
 * schedule.h
 *		Which job runs next: the jobs that are ready, in memory, per server.
 */
#ifndef GENJOB_SCHEDULE_H
#define GENJOB_SCHEDULE_H

#include "limits/limits.h"
#include "limits/pace.h"
#include "base/memory.h"
#include "schedule/lines.h"
#include "server/server.h"
#include "shared/shmem.h"
#include "schedule/turns.h"

/*
 * What there is to do for one server, and what it may be given.
 */
typedef struct ServerQueue
{
	NameData name;   /* key; a server of that name need not exist */
	dlist_node node; /* on the list of active queues while is_active, else on the list of idle ones */
	bool is_active;
	bool has_unretained; /* jobs succeeded that the index of ended jobs lacks (retention.c) */
	MonoTime idle_since; /* while it is not active */
	int n_jobs;          /* jobs in memory that this server runs, or lately ran */
	int n_guests;        /* queues that have it for a fallback */
	Turns turns;         /* the jobs that are queued in the table and due */

	/* The server, as of the last schedule_refresh() */
	bool is_stale;                /* must be refreshed: it became active, or the catalogs changed */
	bool lacks_fallback;          /* it was refreshed, and fallback must be looked up again */
	Server *server;               /* NULL: cannot be used, see complaint */
	ServerStats *stats;           /* NULL with server */
	char *complaint;              /* malloc'd; NULL with a server */
	struct ServerQueue *fallback; /* takes jobs when this one cannot; or NULL */
	char *fallback_trouble;       /* malloc'd: why it takes none, or not all; or NULL */
	dlist_head bound;             /* due jobs that the fallback may not run; not in turns */
	bool must_release;            /* the reason for that may have changed */

	/* Its next job finds no room in memory */
	size_t wants_memory;     /* bytes that this job takes; 0: none is known to wait */
	uint64 waits_for_memory; /* its number in the line for memory; 0: it has none */

	MemoryAccount requests; /* memory that the requests of its jobs take */
	MemoryAccount answers;  /* memory that its answers take */
	Limits limits;
	PollPace pace;  /* of polls of its predictions */
	Line questions; /* jobs that wait to poll their predictions */
	Line cancels;   /* jobs that wait to cancel their predictions */
	dlist_head
		storing; /* where this is an object store: jobs that wait for a place (life/storeline.c) */

	/* Calls that cancel */
	double cancel_window;        /* calls at a time; 0: as at first */
	MonoTime cancels_held_until; /* the server asked to wait with them */
	int n_stored_cancels;        /* jobs in memory that were read from its stored cancels */
	bool has_unread_cancels;     /* the table has more of these */
	int64 cancels_read_to;       /* the last id that was read */
	dlist_node unread_node;      /* on the list of queue/cancels.c, while has_unread_cancels */
	uint64 served_at;            /* the number of its last job that got a place, of all jobs */
	uint64 listed;               /* private to schedule_list_usable() */
} ServerQueue;

/* A job that may be started now. */
typedef struct Turn
{
	int64 id;
	ServerQueue *queue; /* of the server that runs it */
	ServerQueue *home;  /* of the server that it is queued for */
	Place place;        /* at queue; whoever does not use it gives it back */
	bool is_paid;       /* it was the job's turn; else it came out of turn */
} Turn;

/* queues.c: which queues there are, and the server of each */
extern ServerQueue *schedule_queue(const char *server_name);
extern ServerQueue *schedule_find_queue(const char *server_name);
extern dlist_head *queues_active(void);
extern bool queue_has_waiting(const ServerQueue *queue);
extern void queue_touch(ServerQueue *queue);
extern void queues_rest(MonoTime now);
extern void queue_set_fallback_trouble(ServerQueue *queue, const char *why);
extern void schedule_refresh(void);
extern void schedule_weights_changed(void);
extern void schedule_drop_unseen(void);

/* schedule.c: the jobs in them */
extern void schedule_add(int64 id, const char *server_name, Oid owner, const char *tenant,
						 int priority, TimestampTz run_at, TimestampTz expires_at);
extern void schedule_remove(int64 id);
extern bool schedule_knows(int64 id);
extern void schedule_put_off(int64 id, MonoTime until, bool is_shunned);

extern void schedule_bind(int64 id, ServerQueue *home, const char *why);
extern int schedule_release(int64 *ids, int max, MonoTime now);

extern void schedule_put_off_for_memory(int64 id, MonoTime until, size_t bytes);

extern void schedule_drop(ServerQueue *queue);
extern ServerQueue *schedule_next_without_server(void);
extern ServerQueue *schedule_next_stuck(TimestampTz now);

extern bool schedule_could_take(ServerQueue *queue, MonoTime now);
extern bool schedule_can_take(int room, MonoTime now);
extern int schedule_take(Turn *turns, int max, int room, MonoTime now);
extern int schedule_list_usable(Turn *const *turns, int n_turns, const char **urls, int max);
extern MonoTime schedule_next_change(MonoTime now);
extern void schedule_show(int room, MonoTime now);

/* When the table must be looked at; 0: unknown. */
typedef struct ScheduleTimes
{
	TimestampTz due;    /* when a queued job's run_at comes */
	TimestampTz expiry; /* when a queued job's expires_at comes */
	MonoTime rescan;    /* when rows may be free that putoff.c had no room for */
} ScheduleTimes;

extern ScheduleTimes schedule_times;
extern void schedule_note_time(int64 *time, int64 candidate);

#endif /* GENJOB_SCHEDULE_H */
