/*
 * lanes.c
 *		The ready jobs of each server, owner, tenant and priority, as far as
 *		they are in memory.
 *
 * A lane has the front of what the table has: all jobs up to a key, and none
 * behind it while the table has more.  So a job with a lower key is added,
 * whenever it commits.  A job with a higher key is read when the lane gets
 * there.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "schedule/lanes.h"
#include "schedule/turns.h"

#define WINDOW 10000  /* ready jobs of a server in memory, shared out among its lanes */
#define MAX_FILL 2000 /* jobs read into a lane at a time */
#define MIN_FILL 2
#define MAX_LANE 40000 /* jobs of a lane; from there on, what comes behind stays in the table */
#define MAX_READY \
	60000 /* of a server; from there on that is so for each lane that has its part of WINDOW */

typedef struct Ready
{
	int64 id; /* key */
	pairingheap_node node;
	pairingheap_node expiring_node; /* in its server's heap, if it expires */
	Lane *lane;
	TimestampTz run_at;
	TimestampTz expires_at; /* 0: it does not */
} Ready;

static HTAB *ready_jobs = NULL;
static uint64 scans = 0;
static dlist_head hungry = DLIST_STATIC_INIT(hungry);

static const LaneKey before_all = {DT_NOBEGIN, PG_INT64_MIN};

/* ---------- order ---------- */

/*
 * The largest is on top of a pairing heap: so the better one must be the
 * larger.
 */
static int
compare_ready(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Ready *left = pairingheap_const_container(Ready, node, a);
	const Ready *right = pairingheap_const_container(Ready, node, b);

	if (left->run_at != right->run_at)
		return left->run_at < right->run_at ? 1 : -1;
	return left->id < right->id ? 1 : -1;
}

static int
compare_expiries(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Ready *left = pairingheap_const_container(Ready, expiring_node, a);
	const Ready *right = pairingheap_const_container(Ready, expiring_node, b);

	if (left->expires_at == right->expires_at)
		return 0;
	return left->expires_at < right->expires_at ? 1 : -1;
}

static bool
is_behind(TimestampTz run_at, int64 id, const LaneKey *key)
{
	return run_at > key->run_at || (run_at == key->run_at && id > key->id);
}

/* ---------- lanes ---------- */

/*
 * Prepares a server to have lanes.
 */
void
lanes_init(Lanes *lanes)
{
	HASHCTL by_id = {.keysize = sizeof(int64), .entrysize = sizeof(Ready)};
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	if (ready_jobs == NULL)
		ready_jobs = hash_create("genjob ready jobs", 1024, &by_id, HASH_ELEM | HASH_BLOBS);
	memset(lanes, 0, sizeof(*lanes));
	lanes->expiring = pairingheap_allocate(compare_expiries, NULL);
	MemoryContextSwitchTo(caller);
}

/*
 * Frees what lanes_init() made, for a server that has no jobs any more.
 */
void
lanes_free(Lanes *lanes)
{
	pairingheap_free(lanes->expiring);
}

/*
 * Creates a lane of a server; the names must stay.  It has no jobs, and is
 * freed at the next change unless it gets some.
 */
Lane *
lane_create(Lanes *lanes, struct Tenant *tenant, const char *server_name, Oid owner,
			const char *tenant_name, int priority)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	Lane *lane = palloc0(sizeof(Lane));

	lane->lanes = lanes;
	lane->tenant = tenant;
	lane->server_name = server_name;
	lane->owner = owner;
	lane->tenant_name = tenant_name;
	lane->priority = priority;
	lane->ready = pairingheap_allocate(compare_ready, NULL);
	lane->last = before_all;
	MemoryContextSwitchTo(caller);
	return lane;
}

/*
 * Returns how many jobs to read into a lane at a time.
 */
int
lane_fill_size(const Lane *lane)
{
	int share = WINDOW / Max(lane->lanes->n_unread, 1);

	Assert(lane->lanes->n_unread >= 0);
	return Max(MIN_FILL, Min(share, MAX_FILL));
}

static void
update_hunger(Lane *lane)
{
	bool is_hungry = lane->has_more && lane->n_ready <= lane_fill_size(lane) / 2;

	if (is_hungry && !lane->is_hungry)
		dlist_push_tail(&hungry, &lane->hungry_node);
	else if (!is_hungry && lane->is_hungry)
		dlist_delete(&lane->hungry_node);
	lane->is_hungry = is_hungry;
}

static void
set_has_more(Lane *lane, bool has_more)
{
	lane->lanes->n_unread += (int) has_more - (int) lane->has_more;
	lane->has_more = has_more;
	Assert(lane->lanes->n_unread >= 0);
	update_hunger(lane);
}

/*
 * Updates a lane after a change.  Frees it if it is empty and the table has
 * nothing more for it.
 */
static void
update_lane(Lane *lane)
{
	struct Tenant *tenant = lane->tenant;

	update_hunger(lane);
	if (lane->n_ready == 0 && !lane->has_more)
	{
		Assert(!lane->is_hungry && pairingheap_is_empty(lane->ready));
		turns_lane_gone(lane);
		pairingheap_free(lane->ready);
		pfree(lane);
	}
	turns_lane_changed(tenant);
}

static void
insert_ready(Lane *lane, int64 id, TimestampTz run_at, TimestampTz expires_at)
{
	Lanes *lanes = lane->lanes;
	bool is_known;
	Ready *ready = hash_search(ready_jobs, &id, HASH_ENTER, &is_known);

	Assert(!is_known);
	ready->lane = lane;
	ready->run_at = run_at;
	ready->expires_at = expires_at;
	pairingheap_add(lane->ready, &ready->node);
	if (expires_at != 0)
		pairingheap_add(lanes->expiring, &ready->expiring_node);
	lane->n_ready++;
	lanes->n_ready++;
}

/* Frees the entry. */
static void
remove_ready(Ready *ready)
{
	Lane *lane = ready->lane;
	Lanes *lanes = lane->lanes;

	Assert(lane->n_ready > 0 && lanes->n_ready >= lane->n_ready);
	pairingheap_remove(lane->ready, &ready->node);
	if (ready->expires_at != 0)
		pairingheap_remove(lanes->expiring, &ready->expiring_node);
	lane->n_ready--;
	lanes->n_ready--;
	hash_search(ready_jobs, &ready->id, HASH_REMOVE, NULL);
}

static void
remove_all_ready(Lane *lane)
{
	while (!pairingheap_is_empty(lane->ready))
		remove_ready(pairingheap_container(Ready, node, pairingheap_first(lane->ready)));
}

static void
reset_lane(Lane *lane)
{
	remove_all_ready(lane);
	lane->last = before_all;
	lane->seen = scans;
	set_has_more(lane, true);
	update_lane(lane);
}

/*
 * Empties a lane, to read it again from run_at and id on: the first job that
 * the table has.
 */
void
lane_reset(Lane *lane, TimestampTz run_at, int64 id)
{
	reset_lane(lane);
	lane->last = (LaneKey){run_at, id - 1};
}

/*
 * Reads a lane again from since on, and also its ready jobs before since.  No
 * other job has come in before since.
 */
void
lane_rewind(Lane *lane, TimestampTz since)
{
	LaneKey before = {since, PG_INT64_MIN};
	bool is_new = lane->n_ready == 0 && !lane->has_more;

	if (!is_new && !is_behind(lane->last.run_at, lane->last.id, &before))
		before = lane->last;
	else if (lane->n_ready > 0)
	{
		const Ready *first = pairingheap_container(Ready, node, pairingheap_first(lane->ready));

		if (!is_behind(first->run_at, first->id, &before))
			before = (LaneKey){first->run_at, first->id - 1};
		remove_all_ready(lane);
	}
	lane->last = before;
	lane->seen = scans;
	set_has_more(lane, true);
	update_lane(lane);
}

/*
 * Adds a new job that a commit reported, unless the lane reads it later.
 * expires_at is 0 if it does not expire.
 */
void
lane_add(Lane *lane, int64 id, TimestampTz run_at, TimestampTz expires_at)
{
	bool behind = is_behind(run_at, id, &lane->last);
	int most = lane->lanes->n_ready < MAX_READY ? MAX_LANE : lane_fill_size(lane);

	lane->seen = scans;
	if (lane->has_more && behind)
		return;
	if (lane->n_ready >= most && behind)
		set_has_more(lane, true);
	else if (lane->n_ready >= 2 * most)
		reset_lane(lane);
	else
	{
		insert_ready(lane, id, run_at, expires_at);
		if (behind)
			lane->last = (LaneKey){run_at, id};
		update_lane(lane);
	}
}

/*
 * Takes the next job of a lane as the table has it; skips it if it is not
 * wanted.  Call lane_filled() after the last one.
 */
void
lane_read(Lane *lane, int64 id, TimestampTz run_at, TimestampTz expires_at, bool wanted)
{
	if (wanted)
	{
		lanes_remove(id);
		insert_ready(lane, id, run_at, expires_at);
	}
	lane->last = (LaneKey){run_at, id};
}

/*
 * Notes that a lane was read, and whether the table has more.
 */
void
lane_filled(Lane *lane, bool has_more)
{
	set_has_more(lane, has_more);
	update_lane(lane);
}

/*
 * Forgets a job that is no longer ready, if it was known.
 */
void
lanes_remove(int64 id)
{
	Ready *ready = ready_jobs ? hash_search(ready_jobs, &id, HASH_FIND, NULL) : NULL;
	Lane *lane;

	if (ready == NULL)
		return;
	lane = ready->lane;
	remove_ready(ready);
	update_lane(lane);
}

/*
 * Returns the lane in which a job is ready; NULL if it is not known.
 */
Lane *
lanes_find(int64 id)
{
	Ready *ready = ready_jobs ? hash_search(ready_jobs, &id, HASH_FIND, NULL) : NULL;

	return ready ? ready->lane : NULL;
}

/*
 * Returns the server of a ready job; NULL if it is not known.
 */
const char *
lanes_server(int64 id)
{
	const Ready *ready = ready_jobs ? hash_search(ready_jobs, &id, HASH_FIND, NULL) : NULL;

	return ready ? ready->lane->server_name : NULL;
}

/*
 * Forgets the lane's jobs.  The table still has them.
 */
void
lane_drop(Lane *lane)
{
	reset_lane(lane);
	lane_filled(lane, false);
}

/* ---------- scans ---------- */

/*
 * Begins a scan that resets every lane which the table has.
 */
void
lanes_begin_scan(void)
{
	scans++;
}

/*
 * True if the last scan found the lane, or the lane got a job since.
 */
bool
lane_is_seen(const Lane *lane)
{
	return lane->seen == scans;
}

/*
 * Returns the hungry lane behind after (NULL: the first one); NULL if there is
 * none.
 */
Lane *
lanes_next_hungry(Lane *after)
{
	if (after == NULL ? dlist_is_empty(&hungry) : !dlist_has_next(&hungry, &after->hungry_node))
		return NULL;
	return dlist_container(Lane, hungry_node, after ? after->hungry_node.next : hungry.head.next);
}

/* ---------- the first ---------- */

/*
 * Returns the first job of a lane that has one.
 */
int64
lane_first(const Lane *lane)
{
	Assert(lane->n_ready > 0);
	return pairingheap_container(Ready, node, pairingheap_first(lane->ready))->id;
}

/*
 * Returns when the first of a server's ready jobs expires; 0: none does.
 */
TimestampTz
lanes_next_expiry(const Lanes *lanes)
{
	if (pairingheap_is_empty(lanes->expiring))
		return 0;
	return pairingheap_container(Ready, expiring_node, pairingheap_first(lanes->expiring))
		->expires_at;
}

/*
 * Returns the job that expires first; the server must have one that expires.
 */
int64
lanes_first_to_expire(const Lanes *lanes)
{
	return pairingheap_container(Ready, expiring_node, pairingheap_first(lanes->expiring))->id;
}
