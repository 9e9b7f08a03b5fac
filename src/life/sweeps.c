/*
 * sweeps.c
 *		When which object store is swept of uploads that nobody knows.
 *
 * A store that a server of this database names is swept every SWEEP_US
 * (leftover.c does it), also while no job uses it: what a primary that died
 * left open must not stay because its jobs have ended.  A job that uses the
 * store lends its owner's secrets; without one, the sweep uses those of the
 * last one's owner or of the server's owner, if that role may use the store.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "base/clock.h"
#include "life/calls.h"
#include "life/leftover.h"
#include "life/store.h"
#include "life/sweeps.h"
#include "schedule/schedule.h"
#include "server/stores.h"

#define MAX_STORES 64

/*
 * Between two sweeps of a store.  The first must come after the jobs of an
 * earlier process were taken up.
 */
#define FIRST_SWEEP_US (10 * USECS_PER_MINUTE)
#define SWEEP_US (4 * USECS_PER_HOUR)
#define PAST_US (2 * LEFTOVER_STALE_S * USECS_PER_SEC)

/*
 * When the next sweep of a store is due.  If the store's options change, the
 * place where uploads were begun before is swept for another PAST_US.
 */
typedef struct Sweep
{
	NameData store;
	NameData server; /* whose outputs go there */
	Oid user;        /* who used it last */
	Server *seen;    /* the store's server, with the options of then; referenced */
	MonoTime due;
	MonoTime until; /* 0: seen has the present options */
} Sweep;

static Sweep sweeps[MAX_STORES];
static int n_sweeps = 0;
static MonoTime look_at = 0; /* the next look at all servers; 0: there was none */

static bool
is_sweep_of(const Sweep *sweep, const Job *job)
{
	return strcmp(NameStr(sweep->store), NameStr(job->store->queue->name)) == 0 &&
		   strcmp(NameStr(sweep->server), NameStr(job->server->name)) == 0;
}

/*
 * True if a sweep by the options of a looks at the same uploads as one by
 * those of b.
 */
static bool
are_swept_alike(const Server *a, const Server *b)
{
	StorePlace place = storeplace_of(&a->options);

	return a == b || (storeplace_is_of(&place, b) && strcmp(a->options.key, b->options.key) == 0);
}

/*
 * Marks which sweeps of the job's store are by its present options; adds one
 * if none is, and there is room.
 */
static void
note_present(const Job *job, MonoTime now)
{
	Server *present = job->store->server;
	bool found = false;
	int i;

	for (i = 0; i < n_sweeps; i++)
	{
		Sweep *sweep = &sweeps[i];

		if (!is_sweep_of(sweep, job))
			continue;
		sweep->user = job->owner;
		if (are_swept_alike(sweep->seen, present))
		{
			sweep->until = 0;
			found = true;
		}
		else if (sweep->until == 0)
			sweep->until = now + PAST_US;
	}
	if (found || n_sweeps == MAX_STORES)
		return;
	sweeps[n_sweeps] = (Sweep){.store = job->store->queue->name,
							   .server = job->server->name,
							   .user = job->owner,
							   .seen = server_hold(present),
							   .due = now + FIRST_SWEEP_US};
	n_sweeps++;
}

/*
 * Notes that a job uses its store.  Sweeps the store, if it is time.
 */
void
sweeps_note_store(const Job *job)
{
	const JobStore *store = job->store;
	MonoTime now = clock_mono();
	int i;

	if (store == NULL || store->server == NULL || store->server->options.key == NULL)
		return;
	note_present(job, now);
	for (i = n_sweeps - 1; i >= 0; i--)
	{
		Sweep *sweep = &sweeps[i];

		if (!is_sweep_of(sweep, job) || now < sweep->due)
			continue;
		sweep->due = now + SWEEP_US;
		leftover_sweep(job, sweep->seen);
		if (sweep->until != 0 && sweep->until < now)
		{
			server_release(sweep->seen);
			*sweep = sweeps[--n_sweeps];
		}
	}
}

/* ---------- stores that no job uses now ---------- */

/*
 * Returns text in UTF-8, palloc'd.
 */
static char *
utf8_of(const char *text)
{
	return pstrdup(pg_server_to_any(text, (int) strlen(text), PG_UTF8));
}

/*
 * As sweeps_note_store(), for a job of user that is not there.  False if user
 * may not use the store.
 */
static bool
note_for(Server *server, Oid user)
{
	bool may_use;
	JobStore store = {.queue = schedule_queue(server->options.store)};
	Job job = {.server = server, .store = &store, .owner = user};
	ServerComplaint ignored;

	store.queue->n_jobs++; /* or schedule_refresh() may free it */
	if (store.queue->is_stale)
		schedule_refresh();
	store.server = stores_of(server, user, &ignored);
	may_use =
		store.server != NULL && server_read_secrets(store.server, user, &store.secrets, &ignored);
	store.server_name = utf8_of(NameStr(server->name));
	store.database_name = utf8_of(get_database_name(MyDatabaseId));
	if (may_use)
		sweeps_note_store(&job);
	store.queue->n_jobs--;
	return may_use;
}

/*
 * Returns who used the store of a server last; InvalidOid if that is not known.
 */
static Oid
last_user(const Server *server)
{
	int i;

	for (i = 0; i < n_sweeps; i++)
	{
		if (strcmp(NameStr(sweeps[i].server), NameStr(server->name)) == 0)
			return sweeps[i].user;
	}
	return InvalidOid;
}

/*
 * Sweeps, if it is time, the stores of all servers.  Call it in a transaction.
 */
static void
note_servers(void *arg)
{
	ServerComplaint ignored;
	ListCell *cell;

	foreach(cell, stores_list_servers())
	{
		Server *server = server_get(lfirst(cell), &ignored);
		Oid user = server ? last_user(server) : InvalidOid;

		if (server == NULL || server->options.store == NULL)
			continue;
		if (!OidIsValid(user) || !note_for(server, user))
			(void) note_for(server, server->owner);
	}
}

/*
 * Sweeps, if it is time, stores that no job uses.
 */
void
sweeps_work(MonoTime now)
{
	int i;

	if (now < sweeps_next())
		return;
	look_at = now + SWEEP_US;
	calls_transact(note_servers, NULL);
	for (i = 0; i < n_sweeps; i++)
		look_at = Min(look_at, sweeps[i].due);
	/* what nobody may sweep now stays due */
	look_at = Max(look_at, now + FIRST_SWEEP_US);
}

/*
 * Returns when sweeps_work() has something to do.
 */
MonoTime
sweeps_next(void)
{
	if (look_at == 0)
		look_at = clock_mono() + USECS_PER_SEC;
	return look_at;
}
