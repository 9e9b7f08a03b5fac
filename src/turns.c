/*
 * turns.c
 *		Whose turn it is at a server: its tenants.
 *
 * Tenants are served in the order of their passes: a turn moves a tenant's pass on by the inverse of its
 * weight, and one that comes anew begins where the others are.  So the next free place goes to whoever
 * had least, in proportion; a million jobs of one delay the first of another by one place at most.
 * (Waldspurger and Weihl, "Stride Scheduling", 1995: deficit round robin without its bursts.)
 *
 * A tenant's jobs stand in lanes (lanes.c), one for each priority.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "turns.h"
#include "weights.h"

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

static HTAB *tenants = NULL;

/* Of a heap the largest is on top: the better one is the larger. */
static int
compare_tenants(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Tenant *left = pairingheap_const_container(Tenant, waiting_node, a);
	const Tenant *right = pairingheap_const_container(Tenant, waiting_node, b);

	if (left->pass != right->pass)
		return left->pass < right->pass ? 1 : -1;
	return left->served_at < right->served_at ? 1 : -1;
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

	tenants =
		hash_create("genjob tenants", 64, &by_tenant, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE);
}

void
turns_init(Turns *turns)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	if (tenants == NULL)
		create_tables();
	memset(turns, 0, sizeof(*turns));
	turns->waiting = pairingheap_allocate(compare_tenants, NULL);
	lanes_init(&turns->lanes);
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
void
turns_lane_changed(Tenant *tenant)
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
 * The lane of that tenant and priority, made on first use; server_name must stay.  One that is made has
 * no jobs, and goes with the next change unless it is given some.
 */
Lane *
turns_lane(Turns *turns, const char *server_name, const char *tenant_name, int priority)
{
	Tenant *tenant = find_tenant(turns, server_name, tenant_name);
	dlist_node *before = &tenant->lanes.head;
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
	lane = lane_create(&turns->lanes, tenant, server_name, tenant->key.name, priority);
	dlist_insert_after(before, &lane->node);
	return lane;
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

			if (!only_unseen || !lane_is_seen(lane))
				lane_drop(lane);
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
 * Forgets the lanes that the table has not, now that all that it has were reset.
 */
void
turns_drop_unseen(Turns *turns)
{
	drop_lanes(turns, true);
}

/* ---------- turns ---------- */

/*
 * Takes the job whose turn it is; false when none is ready.
 */
bool
turns_pop(Turns *turns, int64 *id)
{
	Tenant *tenant;

	if (pairingheap_is_empty(turns->waiting))
		return false;
	tenant = pairingheap_container(Tenant, waiting_node, pairingheap_remove_first(turns->waiting));
	tenant->is_waiting = false;
	turns->time = tenant->pass;
	tenant->pass += 1 / tenant->weight;
	tenant->served_at = ++turns->served;
	*id = lane_first(first_lane(tenant));
	lanes_remove(*id);
	return true;
}

/*
 * Gives its tenant back the turn of a job that was taken, could not be started, and is ready again.
 */
void
turns_give_back(int64 id)
{
	Lane *lane = lanes_find(id);
	Tenant *tenant = lane ? lane->tenant : NULL;

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
	TimestampTz expiry = lanes_next_expiry(&turns->lanes);

	if (expiry == 0 || expiry > by)
		return false;
	*id = lanes_first_to_expire(&turns->lanes);
	lanes_remove(*id);
	return true;
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
