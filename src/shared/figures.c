/*
 * figures.c
 *		What dispatchers show in shared memory: their calls in flight, and
 *		statistics of their servers.
 *
 * A dispatcher writes the meters and statistics of its own calls and servers
 * without a lock, so a reader may see old values.  genjob decides nothing by
 * them except when to poll a prediction.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "shared/shmem.h"
#include "shared/shown.h"

#define MAX_ACTIVITIES 16384
#define MAX_STATS 1024
#define MAX_TAILS 1024 /* streams whose text is shown; more streams show none */

/* The last text of a stream in flight. */
typedef struct Tail
{
	int activity; /* its index, from 1; 0: free */
	char text[ACTIVITY_TEXT_LEN];
} Tail;

/* The server of a ServerStats. */
typedef struct StatsKey
{
	Oid database; /* invalid: free */
	Oid server;
	int pid;        /* of the dispatcher that writes the statistics; 0: none now */
	uint64 used_at; /* by stats_clock */
} StatsKey;

typedef struct Figures
{
	/* Protects all but meters, statistics, remote_state and the atomics. */
	LWLock *lock;

	int activity_end;  /* entries from here on were never used */
	int activity_free; /* where to begin the search for a free one */
	Activity activities[MAX_ACTIVITIES];
	Tail tails[MAX_TAILS];
	StatsKey stats_keys[MAX_STATS]; /* the servers of stats */
	uint64 stats_clock;             /* incremented whenever an entry is used */
	ServerStats stats[MAX_STATS];
} Figures;

static Figures *figures = NULL;

Size
figures_size(void)
{
	return MAXALIGN(sizeof(Figures));
}

/*
 * Creates or finds the figures.  Call it under AddinShmemInitLock; lock
 * protects them.
 */
void
figures_startup(LWLock *lock)
{
	bool found;

	figures = ShmemInitStruct("genjob figures", figures_size(), &found);
	if (found)
		return;
	memset(figures, 0, figures_size());
	figures->lock = lock;
}

/*
 * Frees the place of a call's text.  The caller holds the lock.
 */
static void
free_tail(Activity *activity)
{
	if (activity->tail >= 0)
		figures->tails[activity->tail].activity = 0;
	activity->tail = -1;
}

/*
 * Removes the calls of this dispatcher, which is about to exit.  Keeps the
 * statistics of its servers until other servers need the places.
 */
void
figures_end(void)
{
	int i;

	LWLockAcquire(figures->lock, LW_EXCLUSIVE);
	for (i = 0; i < figures->activity_end; i++)
	{
		if (figures->activities[i].pid != MyProcPid || !OidIsValid(figures->activities[i].database))
			continue;
		figures->activities[i].database = InvalidOid;
		free_tail(&figures->activities[i]);
	}
	for (i = 0; i < MAX_STATS; i++)
	{
		if (figures->stats_keys[i].pid == MyProcPid)
			figures->stats_keys[i].pid = 0;
	}
	LWLockRelease(figures->lock);
}

/* ---------- calls in flight ---------- */

/*
 * Returns an entry of genjob.activity for a call of this dispatcher; NULL when
 * all are taken: then the call is not shown.
 */
Activity *
shmem_activity_add(Oid owner, int64 job, int attempt, const char *server)
{
	Activity *activity = NULL;
	int i;

	LWLockAcquire(figures->lock, LW_EXCLUSIVE);
	for (i = figures->activity_free; i < figures->activity_end; i++)
	{
		if (!OidIsValid(figures->activities[i].database))
			break;
	}
	if (i < MAX_ACTIVITIES)
	{
		activity = &figures->activities[i];
		activity->database = MyDatabaseId;
		activity->owner = owner;
		activity->job = job;
		activity->attempt = attempt;
		activity->pid = MyProcPid;
		activity->started_at = GetCurrentTimestamp();
		namestrcpy(&activity->server, server);
		activity->remote_state[0] = '\0';
		pg_atomic_init_u32(&activity->phase, ACTIVITY_CALLING);
		pg_atomic_init_u64(&activity->progress, ACTIVITY_NO_PROGRESS);
		pg_atomic_init_u64(&activity->tokens, 0);
		activity->tail = -1;
		http_meter_init(&activity->meter);
		figures->activity_free = i + 1;
		figures->activity_end = Max(figures->activity_end, i + 1);
	}
	LWLockRelease(figures->lock);
	return activity;
}

void
shmem_activity_remove(Activity *activity)
{
	LWLockAcquire(figures->lock, LW_EXCLUSIVE);
	activity->database = InvalidOid;
	free_tail(activity);
	figures->activity_free = Min(figures->activity_free, activity - figures->activities);
	LWLockRelease(figures->lock);
}

/*
 * Shows the last text of a stream, if there is a place for it, and its number of tokens.
 */
void
shmem_activity_show(Activity *activity, const char *utf8, int64 tokens)
{
	int i;

	pg_atomic_write_u64(&activity->tokens, tokens);
	LWLockAcquire(figures->lock, LW_EXCLUSIVE);
	for (i = 0; i < MAX_TAILS && activity->tail < 0; i++)
	{
		if (figures->tails[i].activity == 0)
			activity->tail = i;
	}
	if (activity->tail >= 0)
	{
		figures->tails[activity->tail].activity = (int) (activity - figures->activities) + 1;
		shown_keep(figures->tails[activity->tail].text, utf8, ACTIVITY_TEXT_LEN);
	}
	LWLockRelease(figures->lock);
}

/*
 * Returns the last text of a stream, palloc'd, in the encoding of the database; NULL: none is shown, or its call has
 * ended since shmem_read_activity().
 */
char *
shmem_read_activity_text(const Activity *activity)
{
	char text[ACTIVITY_TEXT_LEN] = "";
	const Activity *now;
	bool is_same = false;

	if (activity->tail < 0)
		return NULL;
	LWLockAcquire(figures->lock, LW_SHARED);
	if (figures->tails[activity->tail].activity > 0)
	{
		now = &figures->activities[figures->tails[activity->tail].activity - 1];
		is_same = now->database == activity->database && now->job == activity->job &&
				  now->attempt == activity->attempt && now->owner == activity->owner;
		memcpy(text, figures->tails[activity->tail].text, ACTIVITY_TEXT_LEN);
	}
	LWLockRelease(figures->lock);
	return is_same ? shown_read(text, sizeof(text)) : NULL;
}

/*
 * Copies the calls in flight of one database into *activities, palloc'd;
 * returns their number.
 */
int
shmem_read_activity(Oid database, Activity **activities)
{
	int max = Max(figures->activity_end, 1);
	int n = 0;
	int i;

	*activities = palloc(max * sizeof(Activity));
	LWLockAcquire(figures->lock, LW_SHARED);
	for (i = 0; i < max; i++)
	{
		if (figures->activities[i].database == database)
			(*activities)[n++] = figures->activities[i];
	}
	LWLockRelease(figures->lock);
	return n;
}

/* ---------- what servers did ---------- */

/*
 * Chooses a place for the statistics of a server of this database: its own;
 * else a free one; else that of an unused server whose statistics were used
 * longest ago; -1: none.
 */
static int
choose_stats(Oid server)
{
	int best = -1;
	int i;

	for (i = 0; i < MAX_STATS; i++)
	{
		const StatsKey *key = &figures->stats_keys[i];

		if (key->database == MyDatabaseId && key->server == server)
			return i;
		if (key->pid == 0 && (best < 0 || key->used_at < figures->stats_keys[best].used_at))
			best = i;
	}
	return best;
}

/*
 * Returns the statistics of a server of this database; creates them on first
 * use.  The server keeps the place until shmem_stats_release().  NULL if too
 * many servers are in use: a server never shows another's figures.
 */
ServerStats *
shmem_stats_find(Oid server)
{
	ServerStats *stats = NULL;
	int i;

	LWLockAcquire(figures->lock, LW_EXCLUSIVE);
	i = choose_stats(server);
	if (i >= 0)
	{
		StatsKey *key = &figures->stats_keys[i];

		stats = &figures->stats[i];
		if (key->database != MyDatabaseId || key->server != server)
			memset(stats, 0, sizeof(ServerStats));
		*key = (StatsKey){MyDatabaseId, server, MyProcPid, ++figures->stats_clock};
		stats->server = server;
	}
	LWLockRelease(figures->lock);
	return stats;
}

/*
 * Releases statistics: another server may now take their place.
 */
void
shmem_stats_release(ServerStats *stats)
{
	StatsKey *key = &figures->stats_keys[stats - figures->stats];

	LWLockAcquire(figures->lock, LW_EXCLUSIVE);
	key->pid = 0;
	key->used_at = ++figures->stats_clock;
	LWLockRelease(figures->lock);
}

static void
free_stats(Oid database, Oid server)
{
	int i;

	LWLockAcquire(figures->lock, LW_EXCLUSIVE);
	for (i = 0; i < MAX_STATS; i++)
	{
		StatsKey *key = &figures->stats_keys[i];

		if (key->database == database && key->pid == 0 &&
			(key->server == server || !OidIsValid(server)))
			memset(key, 0, sizeof(*key));
	}
	LWLockRelease(figures->lock);
}

/*
 * Forgets the statistics of a dropped server of this database, unless they are in use.
 */
void
shmem_stats_forget(Oid server)
{
	free_stats(MyDatabaseId, server);
}

/*
 * As shmem_stats_forget(), for all servers of a database.
 */
void
shmem_stats_forget_database(Oid database)
{
	free_stats(database, InvalidOid);
}

/*
 * Lists the servers of this database that have statistics, palloc'd; returns
 * their number.
 */
int
shmem_stats_list(Oid **servers)
{
	int n = 0;
	int i;

	*servers = palloc(MAX_STATS * sizeof(Oid));
	LWLockAcquire(figures->lock, LW_SHARED);
	for (i = 0; i < MAX_STATS; i++)
	{
		if (figures->stats_keys[i].database == MyDatabaseId)
			(*servers)[n++] = figures->stats_keys[i].server;
	}
	LWLockRelease(figures->lock);
	return n;
}

/*
 * Copies the statistics of one database's servers into *stats, palloc'd;
 * returns their number.
 */
int
shmem_read_stats(Oid database, ServerStats **stats)
{
	int max = 0;
	int n = 0;
	int i;

	LWLockAcquire(figures->lock, LW_SHARED);
	for (i = 0; i < MAX_STATS; i++)
		max += figures->stats_keys[i].database == database;
	LWLockRelease(figures->lock);
	*stats = palloc(Max(max, 1) * sizeof(ServerStats));
	LWLockAcquire(figures->lock, LW_SHARED);
	for (i = 0; i < MAX_STATS && n < max; i++)
	{
		if (figures->stats_keys[i].database == database)
			(*stats)[n++] = figures->stats[i];
	}
	LWLockRelease(figures->lock);
	return n;
}
