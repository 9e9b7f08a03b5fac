/*
 * turns.c
 *		Whose turn it is at a server: its tenants, and the ready jobs of each.
 *
 * Tenants are served in the order of their passes: a turn moves a tenant's pass on by the inverse of its
 * weight, and one that comes anew begins where the others are.  So the next free place goes to whoever
 * had least, in proportion; a million jobs of one delay the first of another by one place at most.
 * (Waldspurger and Weihl, "Stride Scheduling", 1995: deficit round robin without its bursts.)
 *
 * A tenant's jobs stand in lanes, one for each priority.  A lane holds the front of what the table has:
 * all up to a key, and nothing behind it while it has more.  So whoever comes with a lower key is added,
 * at whatever time it commits, and whoever comes with a higher one is read when the lane gets there.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "turns.h"
#include "weights.h"

#define WINDOW 10000  /* ready jobs of a server in memory, shared out among its lanes */
#define MAX_FILL 2000 /* of a lane at a time */
#define MIN_FILL 2
#define MAX_LANE 40000    /* before what comes behind is left in the table */
#define SPARE_TENANTS 256 /* without jobs, before they are forgotten */

typedef struct TenantKey
{
	Turns *turns;
	const char *name;
} TenantKey;

typedef struct Tenant
{
	TenantKey key;
	dlist_node node;               /* on its server's list */
	pairingheap_node waiting_node; /* in its server's heap while is_waiting */
	bool is_waiting;
	const char *server_name;
	double weight;
	double pass;
	uint64 served_at; /* the number of its last turn */
	dlist_head lanes;
} Tenant;

typedef struct TenantEntry
{
	TenantKey key;
	Tenant *tenant;
} TenantEntry;

typedef struct Ready
{
	int64 id; /* key */
	pairingheap_node node;
	pairingheap_node expiring_node; /* in its server's heap, if it expires */
	Lane *lane;
	TimestampTz run_at;
	TimestampTz expires_at; /* 0: it does not */
} Ready;

static HTAB *tenants = NULL;
static HTAB *ready_jobs = NULL;
static uint64 scans = 0;
static dlist_head hungry = DLIST_STATIC_INIT(hungry);

static const LaneKey before_all = {DT_NOBEGIN, PG_INT64_MIN};

/* ---------- order ---------- */

/*
 * Of a heap the largest is on top: the better one is the larger.
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

static int
compare_tenants(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Tenant *left = pairingheap_const_container(Tenant, waiting_node, a);
	const Tenant *right = pairingheap_const_container(Tenant, waiting_node, b);

	if (left->pass != right->pass)
		return left->pass < right->pass ? 1 : -1;
	return left->served_at < right->served_at ? 1 : -1;
}

static bool
is_behind(TimestampTz run_at, int64 id, const LaneKey *key)
{
	return run_at > key->run_at || (run_at == key->run_at && id > key->id);
}

/* ---------- tenants ---------- */

static uint32
hash_tenant(const void *key, Size size)
{
	const TenantKey *tenant = key;

	return hash_combine(string_hash(tenant->name, strlen(tenant->name) + 1),
						murmurhash32((uint32) (uintptr_t) tenant->turns));
}

static int
match_tenant(const void *a, const void *b, Size size)
{
	const TenantKey *left = a;
	const TenantKey *right = b;

	return left->turns == right->turns ? strcmp(left->name, right->name) : 1;
}

static void
create_tables(void)
{
	HASHCTL by_tenant = {
		.keysize = sizeof(TenantKey),
		.entrysize = sizeof(TenantEntry),
		.hash = hash_tenant,
		.match = match_tenant,
	};
	HASHCTL by_id = {.keysize = sizeof(int64), .entrysize = sizeof(Ready)};

	tenants =
		hash_create("genjob tenants", 64, &by_tenant, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE);
	ready_jobs = hash_create("genjob ready jobs", 1024, &by_id, HASH_ELEM | HASH_BLOBS);
}

void
turns_init(Turns *turns)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	if (tenants == NULL)
		create_tables();
	memset(turns, 0, sizeof(*turns));
	turns->waiting = pairingheap_allocate(compare_tenants, NULL);
	turns->expiring = pairingheap_allocate(compare_expiries, NULL);
	dlist_init(&turns->tenants);
	turns->prune_at = SPARE_TENANTS;
	MemoryContextSwitchTo(caller);
}

static void
forget_tenant(Tenant *tenant)
{
	dlist_delete(&tenant->node);
	tenant->key.turns->n_tenants--;
	hash_search(tenants, &tenant->key, HASH_REMOVE, NULL);
	pfree(unconstify(char *, tenant->key.name));
	pfree(tenant);
}

/*
 * Forgets tenants that have nothing, but not those that had more than their share.
 */
static void
prune_tenants(Turns *turns)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &turns->tenants)
	{
		Tenant *tenant = dlist_container(Tenant, node, iter.cur);

		if (dlist_is_empty(&tenant->lanes) && tenant->pass <= turns->time)
			forget_tenant(tenant);
	}
	turns->prune_at = Max(SPARE_TENANTS, 2 * turns->n_tenants);
}

static Tenant *
find_tenant(Turns *turns, const char *server_name, const char *name)
{
	TenantKey key = {turns, name};
	TenantEntry *entry = hash_search(tenants, &key, HASH_FIND, NULL);
	Tenant *tenant;

	if (entry != NULL)
		return entry->tenant;
	if (turns->n_tenants >= turns->prune_at)
		prune_tenants(turns);
	tenant = MemoryContextAllocZero(TopMemoryContext, sizeof(Tenant));
	key.name = MemoryContextStrdup(TopMemoryContext, name);
	tenant->key = key;
	tenant->server_name = server_name;
	tenant->weight = weights_get(server_name, name);
	tenant->pass = turns->time;
	dlist_init(&tenant->lanes);
	dlist_push_tail(&turns->tenants, &tenant->node);
	turns->n_tenants++;
	entry = hash_search(tenants, &key, HASH_ENTER, NULL);
	entry->tenant = tenant;
	return tenant;
}

static Lane *
first_lane(Tenant *tenant)
{
	return dlist_is_empty(&tenant->lanes) ? NULL
										  : dlist_container(Lane, node, tenant->lanes.head.next);
}

/*
 * Puts a tenant among those whose turn can come, or takes it out: its best lane must have a job.
 */
static void
update_tenant(Tenant *tenant)
{
	Turns *turns = tenant->key.turns;
	Lane *lane = first_lane(tenant);
	bool can_go = lane != NULL && lane->n_ready > 0;

	if (can_go && !tenant->is_waiting)
	{
		tenant->pass = Max(tenant->pass, turns->time);
		pairingheap_add(turns->waiting, &tenant->waiting_node);
	}
	else if (!can_go && tenant->is_waiting)
		pairingheap_remove(turns->waiting, &tenant->waiting_node);
	tenant->is_waiting = can_go;
}

/* ---------- lanes ---------- */

/*
 * How many jobs to read into a lane at a time.
 */
int
turns_fill_size(const Lane *lane)
{
	int share = WINDOW / Max(lane->tenant->key.turns->n_unread, 1);

	return Max(MIN_FILL, Min(share, MAX_FILL));
}

static void
update_hunger(Lane *lane)
{
	bool is_hungry = lane->has_more && lane->n_ready <= turns_fill_size(lane) / 2;

	if (is_hungry && !lane->is_hungry)
		dlist_push_tail(&hungry, &lane->hungry_node);
	else if (!is_hungry && lane->is_hungry)
		dlist_delete(&lane->hungry_node);
	lane->is_hungry = is_hungry;
}

static void
set_has_more(Lane *lane, bool has_more)
{
	lane->tenant->key.turns->n_unread += (int) has_more - (int) lane->has_more;
	lane->has_more = has_more;
	update_hunger(lane);
}

/*
 * Draws the consequence of a change: a lane that is empty and has nothing behind it goes.
 */
static void
update_lane(Lane *lane)
{
	Tenant *tenant = lane->tenant;

	update_hunger(lane);
	if (lane->n_ready == 0 && !lane->has_more)
	{
		dlist_delete(&lane->node);
		pairingheap_free(lane->ready);
		pfree(lane);
	}
	update_tenant(tenant);
}

/*
 * The lane of that tenant and priority, made on first use; server_name must stay.  One that is made has
 * no jobs, and goes with the next change unless it is given some.
 */
Lane *
turns_lane(Turns *turns, const char *server_name, const char *tenant_name, int priority)
{
	Tenant *tenant = find_tenant(turns, server_name, tenant_name);
	dlist_node *before = &tenant->lanes.head;
	MemoryContext caller;
	Lane *lane;
	dlist_iter iter;

	dlist_foreach(iter, &tenant->lanes)
	{
		lane = dlist_container(Lane, node, iter.cur);
		if (lane->priority == priority)
			return lane;
		if (lane->priority < priority)
			break;
		before = iter.cur;
	}
	caller = MemoryContextSwitchTo(TopMemoryContext);
	lane = palloc0(sizeof(Lane));
	lane->tenant = tenant;
	lane->priority = priority;
	lane->ready = pairingheap_allocate(compare_ready, NULL);
	lane->last = before_all;
	dlist_insert_after(before, &lane->node);
	MemoryContextSwitchTo(caller);
	return lane;
}

static void
insert_ready(Lane *lane, int64 id, TimestampTz run_at, TimestampTz expires_at)
{
	Turns *turns = lane->tenant->key.turns;
	Ready *ready = hash_search(ready_jobs, &id, HASH_ENTER, NULL);

	ready->lane = lane;
	ready->run_at = run_at;
	ready->expires_at = expires_at;
	pairingheap_add(lane->ready, &ready->node);
	if (expires_at != 0)
		pairingheap_add(turns->expiring, &ready->expiring_node);
	lane->n_ready++;
	turns->n_ready++;
}

/* Frees the entry. */
static void
remove_ready(Ready *ready)
{
	Lane *lane = ready->lane;
	Turns *turns = lane->tenant->key.turns;

	pairingheap_remove(lane->ready, &ready->node);
	if (ready->expires_at != 0)
		pairingheap_remove(turns->expiring, &ready->expiring_node);
	lane->n_ready--;
	turns->n_ready--;
	hash_search(ready_jobs, &ready->id, HASH_REMOVE, NULL);
}

/*
 * Has a lane read from its beginning.
 */
void
turns_reset_lane(Lane *lane)
{
	while (!pairingheap_is_empty(lane->ready))
		remove_ready(pairingheap_container(Ready, node, pairingheap_first(lane->ready)));
	lane->last = before_all;
	lane->seen = scans;
	set_has_more(lane, true);
	update_lane(lane);
}

/*
 * Adds a job that is not known yet, of which a commit told: unless it will be read when the lane gets
 * to it.  expires_at is 0 where it does not.
 */
void
turns_add(Lane *lane, int64 id, TimestampTz run_at, TimestampTz expires_at)
{
	bool behind = is_behind(run_at, id, &lane->last);

	lane->seen = scans;
	if (lane->has_more && behind)
		return;
	if (lane->n_ready >= MAX_LANE && behind)
		set_has_more(lane, true);
	else if (lane->n_ready >= 2 * MAX_LANE)
		turns_reset_lane(lane);
	else
	{
		insert_ready(lane, id, run_at, expires_at);
		if (behind)
			lane->last = (LaneKey){run_at, id};
		update_lane(lane);
	}
}

/*
 * Takes in the next job of a lane as the table has it; unwanted: it is passed over.  After the last one
 * turns_filled() must be called.
 */
void
turns_read(Lane *lane, int64 id, TimestampTz run_at, TimestampTz expires_at, bool wanted)
{
	if (wanted)
	{
		turns_remove(id);
		insert_ready(lane, id, run_at, expires_at);
	}
	lane->last = (LaneKey){run_at, id};
}

/*
 * Takes notice that a lane was read, and whether the table has more.
 */
void
turns_filled(Lane *lane, bool has_more)
{
	set_has_more(lane, has_more);
	update_lane(lane);
}

/*
 * Forgets a job that is no longer ready, if it was known.
 */
void
turns_remove(int64 id)
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
 * The server of whose ready jobs this is one; NULL when it is not known.
 */
const char *
turns_server(int64 id)
{
	const Ready *ready = ready_jobs ? hash_search(ready_jobs, &id, HASH_FIND, NULL) : NULL;

	return ready ? ready->lane->tenant->server_name : NULL;
}

static void
drop_lanes(Turns *turns, bool only_unseen)
{
	dlist_mutable_iter tenant_iter;

	dlist_foreach_modify(tenant_iter, &turns->tenants)
	{
		Tenant *tenant = dlist_container(Tenant, node, tenant_iter.cur);
		dlist_mutable_iter lane_iter;

		dlist_foreach_modify(lane_iter, &tenant->lanes)
		{
			Lane *lane = dlist_container(Lane, node, lane_iter.cur);

			if (only_unseen && lane->seen == scans)
				continue;
			turns_reset_lane(lane);
			turns_filled(lane, false);
		}
	}
}

/*
 * Forgets all ready jobs of a server; the table still has them.
 */
void
turns_drop(Turns *turns)
{
	drop_lanes(turns, false);
}

/*
 * All lanes that the table has are about to be reset.
 */
void
turns_begin_scan(void)
{
	scans++;
}

/*
 * Forgets the lanes that the table has not, now that all that it has were reset.
 */
void
turns_drop_unseen(Turns *turns)
{
	drop_lanes(turns, true);
}

/*
 * The lane that is to be filled after another, from the first for NULL; NULL when there is none.
 */
Lane *
turns_next_hungry(Lane *after)
{
	if (after == NULL ? dlist_is_empty(&hungry) : !dlist_has_next(&hungry, &after->hungry_node))
		return NULL;
	return dlist_container(Lane, hungry_node, after ? after->hungry_node.next : hungry.head.next);
}

const char *
turns_lane_server(const Lane *lane)
{
	return lane->tenant->server_name;
}

const char *
turns_lane_tenant(const Lane *lane)
{
	return lane->tenant->key.name;
}

/* ---------- turns ---------- */

/*
 * Takes the job whose turn it is; false when none is ready.
 */
bool
turns_pop(Turns *turns, int64 *id)
{
	Tenant *tenant;
	Ready *ready;

	if (pairingheap_is_empty(turns->waiting))
		return false;
	tenant = pairingheap_container(Tenant, waiting_node, pairingheap_remove_first(turns->waiting));
	tenant->is_waiting = false;
	turns->time = tenant->pass;
	tenant->pass += 1 / tenant->weight;
	tenant->served_at = ++turns->served;
	ready = pairingheap_container(Ready, node, pairingheap_first(first_lane(tenant)->ready));
	*id = ready->id;
	turns_remove(*id);
	return true;
}

/*
 * Gives its tenant back the turn of a job that was taken, could not be started, and is ready again.
 */
void
turns_give_back(int64 id)
{
	Ready *ready = ready_jobs ? hash_search(ready_jobs, &id, HASH_FIND, NULL) : NULL;
	Tenant *tenant = ready ? ready->lane->tenant : NULL;

	if (tenant == NULL)
		return;
	if (tenant->is_waiting)
		pairingheap_remove(tenant->key.turns->waiting, &tenant->waiting_node);
	tenant->pass -= 1 / tenant->weight;
	if (tenant->is_waiting)
		pairingheap_add(tenant->key.turns->waiting, &tenant->waiting_node);
}

/*
 * Takes the job that expires first, if it does by that time, out of turn.
 */
bool
turns_pop_expiring(Turns *turns, TimestampTz by, int64 *id)
{
	if (turns_next_expiry(turns) == 0 || turns_next_expiry(turns) > by)
		return false;
	*id = pairingheap_container(Ready, expiring_node, pairingheap_first(turns->expiring))->id;
	turns_remove(*id);
	return true;
}

/*
 * When the first of the ready jobs expires; 0: none does.
 */
TimestampTz
turns_next_expiry(const Turns *turns)
{
	if (pairingheap_is_empty(turns->expiring))
		return 0;
	return pairingheap_container(Ready, expiring_node, pairingheap_first(turns->expiring))
		->expires_at;
}

/* ---------- weights ---------- */

/*
 * Gives a tenant another weight: what it is ahead of the others is paid off at the new one.
 */
static void
change_weight(Tenant *tenant, double weight)
{
	Turns *turns = tenant->key.turns;

	if (weight == tenant->weight)
		return;
	if (tenant->is_waiting)
		pairingheap_remove(turns->waiting, &tenant->waiting_node);
	if (tenant->pass > turns->time)
		tenant->pass = turns->time + (tenant->pass - turns->time) * tenant->weight / weight;
	tenant->weight = weight;
	if (tenant->is_waiting)
		pairingheap_add(turns->waiting, &tenant->waiting_node);
}

/*
 * Obeys weights that were set anew.
 */
void
turns_apply_weights(Turns *turns)
{
	dlist_iter iter;

	dlist_foreach(iter, &turns->tenants)
	{
		Tenant *tenant = dlist_container(Tenant, node, iter.cur);

		change_weight(tenant, weights_get(tenant->server_name, tenant->key.name));
	}
}
