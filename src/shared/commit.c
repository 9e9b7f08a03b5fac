/*
 * commit.c
 *		What a transaction tells others when it has committed.
 *
 * Triggers and hooks only take notes; this file wakes others once they can see
 * the change.  A transaction that is rolled back wakes nobody.  PREPARE
 * TRANSACTION forgets the notes; COMMIT PREPARED makes the dispatcher look at
 * everything (hooks.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/resowner.h"

#include "shared/commit.h"
#include "shared/shmem.h"

#define MAX_NOTED_JOBS 2048

typedef struct Notes
{
	bool any;
	int64 changed[MAX_NOTED_JOBS]; /* for the dispatcher */
	int n_changed;
	int64 ended[MAX_NOTED_JOBS]; /* for sessions that wait */
	int n_ended;
	bool many_changed; /* more than fit */
	bool many_ended;
	BulkChange bulk; /* of all that changed */
	bool servers;
	bool callbacks;
	bool follow_ups;
	bool extension;
	bool databases;
	bool settings;   /* of the database below changed */
	Oid settings_of; /* InvalidOid: of all or of several */
	bool evicts;
} Notes;

static Notes notes;
static bool committed = false; /* but others were not told yet */

static void
forget_notes(void)
{
	notes.any = notes.many_changed = notes.many_ended = false;
	notes.follow_ups = notes.callbacks = notes.servers = notes.extension = notes.databases =
		notes.settings = notes.evicts = false;
	notes.n_changed = notes.n_ended = 0;
	notes.bulk = (BulkChange){DT_NOEND, DT_NOEND};
}

static void
release_holds(void)
{
	if (notes.evicts)
		shmem_end_evictions();
}

static void
tell_others(void)
{
	bool needs_dispatcher = notes.n_changed > 0 || notes.many_changed || notes.extension;

	/* first, so that new jobs are claimed with them */
	if (notes.settings)
		shmem_tell_settings(notes.settings_of);
	if ((needs_dispatcher || notes.servers) &&
		!shmem_tell_dispatcher(MyDatabaseId, notes.changed, notes.n_changed, notes.bulk,
							   notes.many_changed, notes.servers || notes.extension) &&
		needs_dispatcher)
		shmem_wake_launcher(MyDatabaseId);
	if (notes.callbacks)
		shmem_tell_callbacks(MyDatabaseId);
	if (notes.follow_ups)
		shmem_tell_follow_ups(MyDatabaseId);
	if (notes.databases)
		shmem_wake_launcher(InvalidOid);
	/* without the extension no job ends any more */
	if (notes.many_ended || notes.extension)
		shmem_wake_waiters(MyDatabaseId, NULL, -1);
	else
		shmem_wake_waiters(MyDatabaseId, notes.ended, notes.n_ended);
}

static void
commit_callback(XactEvent event, void *arg)
{
	if (!notes.any)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			committed = true;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			release_holds();
			forget_notes();
			break;
		default:
			break;
	}
}

/*
 * Reports what was committed.  Not at XACT_EVENT_COMMIT: a process woken then can see the rows, but may still have old
 * catalogs in its caches.  Invalidations are sent after that, then locks are released.
 */
static void
release_callback(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (!committed || !is_top_level || phase != RESOURCE_RELEASE_AFTER_LOCKS)
		return;
	committed = false;
	tell_others();
	release_holds();
	forget_notes();
}

void
commit_init(void)
{
	forget_notes();
	RegisterXactCallback(commit_callback, NULL);
	RegisterResourceReleaseCallback(release_callback, NULL);
}

static bool
note_id(int64 *ids, int *n, int64 id)
{
	notes.any = true;
	if (*n == MAX_NOTED_JOBS)
		return false;
	ids[(*n)++] = id;
	return true;
}

/*
 * Notes a new job that is queued from run_at on until expires_at; DT_NOEND: it does not expire.
 */
void
commit_note_added(int64 id, TimestampTz run_at, TimestampTz expires_at)
{
	/* DT_NOEND would mean "no change" */
	notes.bulk.since = Min(notes.bulk.since, Min(run_at, DT_NOEND - 1));
	notes.bulk.expiry = Min(notes.bulk.expiry, expires_at);
	if (!note_id(notes.changed, &notes.n_changed, id))
		notes.many_changed = true;
}

/*
 * Notes that someone other than the dispatcher changed or deleted a job.
 */
void
commit_note_job(int64 id)
{
	commit_note_added(id, DT_NOBEGIN, DT_NOBEGIN);
}

/*
 * Notes that a job has ended, or its row is deleted.
 */
void
commit_note_ended(int64 id)
{
	if (!note_id(notes.ended, &notes.n_ended, id))
		notes.many_ended = true;
}

/*
 * Notes that any job may have changed or ended.
 */
void
commit_note_all_jobs(void)
{
	notes.any = notes.many_changed = notes.many_ended = true;
	notes.bulk = (BulkChange){DT_NOBEGIN, DT_NOBEGIN};
}

void
commit_note_servers(void)
{
	notes.any = notes.servers = true;
}

/*
 * Notes that calls of on_done are due.
 */
void
commit_note_callbacks(void)
{
	notes.any = notes.callbacks = true;
}

/*
 * Notes that ended jobs have follow-ups.
 */
void
commit_note_follow_ups(void)
{
	notes.any = notes.follow_ups = true;
}

/*
 * Notes that the extension was created, altered or dropped in this database.
 */
void
commit_note_extension(void)
{
	notes.any = notes.extension = true;
}

void
commit_note_databases(void)
{
	notes.any = notes.databases = true;
}

/*
 * Notes that settings of a database changed; InvalidOid: of all databases.
 */
void
commit_note_settings(Oid database)
{
	notes.settings_of = notes.settings && notes.settings_of != database ? InvalidOid : database;
	notes.any = notes.settings = true;
}

/*
 * Notes that this transaction keeps the dispatcher out of a database until it ends.
 */
void
commit_note_eviction(void)
{
	notes.any = notes.evicts = true;
}
