/*
 * schedule.h
 *		Which job runs next: the jobs that are ready, in memory, per server.
 */
#ifndef GENJOB_SCHEDULE_H
#define GENJOB_SCHEDULE_H

#include "lib/pairingheap.h"

#include "server.h"
#include "shmem.h"

#define SCHEDULE_WINDOW 10000 /* ready jobs of a server that are read in at a time */

/*
 * The ready jobs of one server and what limits them.
 */
typedef struct ServerQueue
{
	NameData name; /* key; a server of that name need not exist */

	/* Jobs that are queued in the table and due */
	pairingheap *ready; /* best first */
	int n_ready;
	bool has_more; /* the table has some that are not in memory */

	/* The server, as of the last schedule_refresh() */
	Server *server;     /* NULL: cannot be used, see complaint */
	ServerStats *stats; /* NULL with server */
	char *complaint;    /* malloc'd; NULL with a server */

	/* Limits */
	int in_flight;
	TimestampTz held_until; /* the server asked to wait */
} ServerQueue;

extern void schedule_clear(void);
extern ServerQueue *schedule_queue(const char *server_name);
extern void schedule_add(int64 id, const char *server_name, int priority, TimestampTz run_at);
extern void schedule_remove(int64 id);
extern bool schedule_contains(int64 id);

extern void schedule_refresh(void);
extern ServerQueue *schedule_next_without_server(void);
extern ServerQueue *schedule_next_to_fill(void);
extern void schedule_drop_ready(ServerQueue *queue);
extern int schedule_take(int64 *ids, int max, int room, TimestampTz now);

extern bool schedule_can_take(int room, TimestampTz now);
extern void schedule_shun(int64 id, TimestampTz until);

extern void schedule_call_begun(ServerQueue *queue);
extern void schedule_call_ended(ServerQueue *queue);
extern void schedule_hold(ServerQueue *queue, TimestampTz until);
extern TimestampTz schedule_next_hold_end(TimestampTz now);

/* Moments at which the table must be looked at; 0: none is known. */
typedef struct ScheduleTimes
{
	TimestampTz due;    /* a queued job's run_at comes */
	TimestampTz expiry; /* a queued job's expires_at comes */
	TimestampTz rescan; /* rows that were locked may be free */
} ScheduleTimes;

extern ScheduleTimes schedule_times;
extern void schedule_note_time(TimestampTz *time, TimestampTz candidate);

#endif /* GENJOB_SCHEDULE_H */
