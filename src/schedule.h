/*
 * schedule.h
 *		Which job runs next: the jobs that are ready, in memory, per server.
 */
#ifndef GENJOB_SCHEDULE_H
#define GENJOB_SCHEDULE_H

#include "limits/limits.h"
#include "memory.h"
#include "server.h"
#include "shmem.h"
#include "turns.h"

/*
 * What there is to do for one server, and what it may be given.
 */
typedef struct ServerQueue
{
	NameData name; /* key; a server of that name need not exist */
	Turns turns;   /* the jobs that are queued in the table and due */

	/* The server, as of the last schedule_refresh() */
	Server *server;               /* NULL: cannot be used, see complaint */
	ServerStats *stats;           /* NULL with server */
	char *complaint;              /* malloc'd; NULL with a server */
	struct ServerQueue *fallback; /* takes jobs when this one cannot; or NULL */
	char *fallback_trouble;       /* malloc'd: why it takes none, or not all; or NULL */
	dlist_head bound;             /* jobs that it does not take: queued and due, but not in turns */
	bool must_release;            /* what bound them may have changed */

	/* Its next job finds no room in memory */
	size_t wants_memory;     /* bytes that it takes; 0: it is not known to be held back */
	uint64 waits_for_memory; /* its number in the line of those that are; 0: it has none */

	MemoryAccount answers; /* what its answers take of the memory */
	Limits limits;
	uint64 served_at; /* the number of the last of its jobs that was given a place, of all jobs */
} ServerQueue;

/* A job that may be started now. */
typedef struct Turn
{
	int64 id;
	ServerQueue *queue; /* of the server that is to run it */
	ServerQueue *home;  /* of the server that it is queued for */
	Place place;        /* at queue; whoever does not use it gives it back */
} Turn;

extern ServerQueue *schedule_queue(const char *server_name);
extern void schedule_add(int64 id, const char *server_name, const char *tenant, int priority,
						 TimestampTz run_at, TimestampTz expires_at);
extern void schedule_remove(int64 id);
extern bool schedule_knows(int64 id);
extern void schedule_put_off(int64 id, MonoTime until, bool is_shunned);

extern void schedule_bind(int64 id, ServerQueue *home, const char *why);
extern int schedule_release(int64 *ids, int max, MonoTime now);

extern void schedule_memory_given(ServerQueue *queue, size_t bytes);
extern void schedule_memory_refused(ServerQueue *queue, size_t bytes);
extern ServerQueue *schedule_next_for_memory(MonoTime now);

extern void schedule_refresh(void);
extern void schedule_weights_changed(void);
extern void schedule_drop(ServerQueue *queue);
extern void schedule_drop_unseen(void);
extern ServerQueue *schedule_next_without_server(void);

extern bool schedule_can_take(int room, MonoTime now);
extern int schedule_take(Turn *turns, int max, int room, MonoTime now);
extern int schedule_list_usable(const char **urls, int max);
extern MonoTime schedule_next_change(MonoTime now);
extern void schedule_show(int room, MonoTime now);

/* Moments at which the table must be looked at; 0: none is known. */
typedef struct ScheduleTimes
{
	TimestampTz due;    /* a queued job's run_at comes */
	TimestampTz expiry; /* a queued job's expires_at comes */
	MonoTime rescan;    /* rows that were put off, more of them than are remembered, may be free */
} ScheduleTimes;

extern ScheduleTimes schedule_times;
extern void schedule_note_time(int64 *time, int64 candidate);

#endif /* GENJOB_SCHEDULE_H */
