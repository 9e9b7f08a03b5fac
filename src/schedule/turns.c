/*
 * turns.c
 *		Whose turn it is at a server: its owners, and the tenants of each.
 *
 * The owners of jobs share a server, and the tenants of an owner share that
 * owner's turns (stride.c).  So a role with thousands of tenants gets no more
 * for it, and a million jobs of one tenant delay the first job of another by
 * one place at most.  A tenant's jobs stand in lanes (lanes.c), one for each
 * priority.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "schedule/turns.h"
#include "schedule/weights.h"

#define SPARE_TENANTS 256 /* without jobs, before they are forgotten */

typedef struct OwnerKey
{
	Turns *turns;
	Oid role;
	Oid unused; /* the key is hashed with what lies behind the role */
} OwnerKey;

typedef struct Owner
{
	OwnerKey key;
	dlist_node node; /* on its server's list */
	Share share;     /* of the server's turns */
	Stride stride;   /* of its tenants */
	dlist_head tenants;
	Crowd crowd;
} Owner;

typedef struct TenantKey
{
	Owner *owner;
	const char *name;
} TenantKey;

typedef struct Tenant
{
	TenantKey key;
	dlist_node node; /* on its owner's list */
	Share share;     /* of the owner's turns */
	dlist_head lanes;
	pairingheap by_priority; /* the same lanes: the highest on top */
} Tenant;

typedef struct OwnerEntry
{
	OwnerKey key;
	Owner *owner;
} OwnerEntry;

typedef struct TenantEntry
{
	TenantKey key;
	Tenant *tenant;
} TenantEntry;

/*
 * A tenant may have a lane for each of its jobs.  This finds one without
 * looking at all.
 */
typedef struct LaneName
{
	Tenant *tenant;
	int priority;
	int unused; /* the key is hashed with what lies behind the priority */
} LaneName;

typedef struct LaneEntry
{
	LaneName name;
	Lane *lane;
} LaneEntry;

static HTAB *owners = NULL;
static HTAB *tenants = NULL;
static HTAB *lanes_by_name = NULL;

static uint32
hash_tenant(const void *key, Size size)
{
	const TenantKey *tenant = key;

	return hash_combine(string_hash(tenant->name, strlen(tenant->name) + 1),
						murmurhash32((uint32) (uintptr_t) tenant->owner));
}

static int
match_tenant(const void *a, const void *b, Size size)
{
	const TenantKey *left = a;
	const TenantKey *right = b;

	return left->owner == right->owner ? strcmp(left->name, right->name) : 1;
}

static int
compare_priorities(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	int left = pairingheap_const_container(Lane, priority_node, a)->priority;
	int right = pairingheap_const_container(Lane, priority_node, b)->priority;

	return (left > right) - (left < right);
}

static void
create_tables(void)
{
	HASHCTL by_role = {.keysize = sizeof(OwnerKey), .entrysize = sizeof(OwnerEntry)};
	HASHCTL by_tenant = {
		.keysize = sizeof(TenantKey),
		.entrysize = sizeof(TenantEntry),
		.hash = hash_tenant,
		.match = match_tenant,
	};
	HASHCTL by_name = {.keysize = sizeof(LaneName), .entrysize = sizeof(LaneEntry)};

	lanes_by_name = hash_create("genjob lanes", 64, &by_name, HASH_ELEM | HASH_BLOBS);
	owners = hash_create("genjob owners", 16, &by_role, HASH_ELEM | HASH_BLOBS);
	tenants =
		hash_create("genjob tenants", 64, &by_tenant, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE);
}

/*
 * Initializes the turns of a server; the name must stay.
 */
void
turns_init(Turns *turns, const char *server_name)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	if (tenants == NULL)
		create_tables();
	memset(turns, 0, sizeof(*turns));
	stride_init(&turns->stride);
	lanes_init(&turns->lanes);
	dlist_init(&turns->owners);
	turns->prune_at = SPARE_TENANTS;
	turns->server = server_name;
	MemoryContextSwitchTo(caller);
}

/* ---------- owners and tenants ---------- */

static void
forget_owner(Owner *owner)
{
	crowd_forget_left_out(&owner->crowd);
	dlist_delete(&owner->node);
	hash_search(owners, &owner->key, HASH_REMOVE, NULL);
	stride_free(&owner->stride);
	pfree(owner);
}

static void
forget_tenant(Tenant *tenant)
{
	dlist_delete(&tenant->node);
	tenant->key.owner->key.turns->n_tenants--;
	hash_search(tenants, &tenant->key, HASH_REMOVE, NULL);
	pfree(unconstify(char *, tenant->key.name));
	pfree(tenant);
}

/*
 * Forgets tenants and owners that have no jobs: all of them, or only those
 * that are not ahead of their share.  Tenants of an owner with lanes that were
 * left out are forgotten even then, because these lanes have turns one after
 * the other anyway.
 */
static void
forget_idle(Turns *turns, bool all)
{
	dlist_mutable_iter owner_iter;

	dlist_foreach_modify(owner_iter, &turns->owners)
	{
		Owner *owner = dlist_container(Owner, node, owner_iter.cur);
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, &owner->tenants)
		{
			Tenant *tenant = dlist_container(Tenant, node, iter.cur);

			if (dlist_is_empty(&tenant->lanes) && (all || owner->crowd.has_left_out ||
												   stride_is_even(&owner->stride, &tenant->share)))
				forget_tenant(tenant);
		}
		if (dlist_is_empty(&owner->tenants) &&
			(all || (!owner->crowd.has_left_out && stride_is_even(&turns->stride, &owner->share))))
			forget_owner(owner);
	}
	turns->prune_at = Max(SPARE_TENANTS, 2 * turns->n_tenants);
}

static Owner *
find_owner(Turns *turns, Oid role)
{
	OwnerKey key = {turns, role, InvalidOid};
	OwnerEntry *entry = hash_search(owners, &key, HASH_FIND, NULL);
	MemoryContext caller;
	Owner *owner;

	if (entry != NULL)
		return entry->owner;
	caller = MemoryContextSwitchTo(TopMemoryContext);
	owner = palloc0(sizeof(Owner));
	owner->key = key;
	stride_init(&owner->stride);
	stride_add(&turns->stride, &owner->share, weights_get_owner(turns->server, role));
	dlist_init(&owner->tenants);
	crowd_init(&owner->crowd, turns->server, role);
	dlist_push_tail(&turns->owners, &owner->node);
	entry = hash_search(owners, &key, HASH_ENTER, NULL);
	entry->owner = owner;
	MemoryContextSwitchTo(caller);
	return owner;
}

static Tenant *
find_tenant(Turns *turns, Oid role, const char *name)
{
	TenantKey key = {NULL, name};
	TenantEntry *entry;
	Tenant *tenant;

	if (turns->n_tenants >= turns->prune_at)
		forget_idle(turns, false);
	key.owner = find_owner(turns, role);
	entry = hash_search(tenants, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->tenant;
	tenant = MemoryContextAllocZero(TopMemoryContext, sizeof(Tenant));
	key.name = MemoryContextStrdup(TopMemoryContext, name);
	tenant->key = key;
	stride_add(&key.owner->stride, &tenant->share, weights_get_tenant(turns->server, name));
	dlist_init(&tenant->lanes);
	tenant->by_priority.ph_compare = compare_priorities;
	dlist_push_tail(&key.owner->tenants, &tenant->node);
	turns->n_tenants++;
	entry = hash_search(tenants, &key, HASH_ENTER, NULL);
	entry->tenant = tenant;
	return tenant;
}

static Lane *
first_lane(Tenant *tenant)
{
	if (pairingheap_is_empty(&tenant->by_priority))
		return NULL;
	return pairingheap_container(Lane, priority_node, pairingheap_first(&tenant->by_priority));
}

/*
 * Updates whether a tenant waits for a turn: its best lane must have a job.  An owner waits while one of its tenants
 * does.
 */
void
turns_lane_changed(Tenant *tenant)
{
	Owner *owner = tenant->key.owner;
	Lane *lane = first_lane(tenant);

	stride_set_waiting(&owner->stride, &tenant->share, lane != NULL && lane->n_ready > 0);
	stride_set_waiting(&owner->key.turns->stride, &owner->share,
					   stride_next(&owner->stride) != NULL);
}

/* ---------- lanes ---------- */

static Lane *
find_lane(Owner *owner, const char *tenant_name, int priority)
{
	TenantKey key = {owner, tenant_name};
	const TenantEntry *tenant = hash_search(tenants, &key, HASH_FIND, NULL);
	LaneName name = {tenant ? tenant->tenant : NULL, priority, 0};
	const LaneEntry *entry = tenant ? hash_search(lanes_by_name, &name, HASH_FIND, NULL) : NULL;

	return entry ? entry->lane : NULL;
}

static Lane *
make_lane(Owner *owner, const char *tenant_name, int priority)
{
	Turns *turns = owner->key.turns;
	Tenant *tenant = find_tenant(turns, owner->key.role, tenant_name);
	LaneName name = {tenant, priority, 0};
	Lane *lane = lane_create(&turns->lanes, tenant, turns->server, owner->key.role,
							 tenant->key.name, priority);
	LaneEntry *entry = hash_search(lanes_by_name, &name, HASH_ENTER, NULL);

	entry->lane = lane;
	dlist_push_tail(&tenant->lanes, &lane->node);
	pairingheap_add(&tenant->by_priority, &lane->priority_node);
	crowd_lane_made(&owner->crowd);
	return lane;
}

/*
 * Returns the lane of an owner, tenant and priority, created on first use.  A
 * new lane has no jobs, and is freed at the next change unless it gets some.
 * NULL: the owner has too many lanes, and this one is left out.
 */
Lane *
turns_lane(Turns *turns, Oid role, const char *tenant_name, int priority)
{
	Owner *owner = find_owner(turns, role);
	Lane *lane = find_lane(owner, tenant_name, priority);

	if (lane != NULL)
		return lane;
	if (!crowd_has_room(&owner->crowd))
	{
		crowd_leave_out(&owner->crowd);
		return NULL;
	}
	lane = make_lane(owner, tenant_name, priority);
	/* the table may have more of it */
	if (owner->crowd.has_left_out)
		lane_reset(lane, DT_NOBEGIN, 0);
	return lane;
}

/*
 * Reads a lane that was left out, from its first job in the table on, unless
 * it is in memory.  False: there is no room for it.
 */
bool
turns_read_left_out(Crowd *crowd, const char *tenant_name, int priority, TimestampTz run_at,
					int64 id)
{
	Owner *owner = (Owner *) ((char *) crowd - offsetof(Owner, crowd));

	if (find_lane(owner, tenant_name, priority) != NULL)
		return true;
	if (!crowd_is_filling(crowd))
		return false;
	lane_reset(make_lane(owner, tenant_name, priority), run_at, id);
	return true;
}

/*
 * Removes a lane that is about to be freed.
 */
void
turns_lane_gone(Lane *lane)
{
	LaneName name = {lane->tenant, lane->priority, 0};

	crowd_lane_gone(&lane->tenant->key.owner->crowd);
	dlist_delete(&lane->node);
	pairingheap_remove(&lane->tenant->by_priority, &lane->priority_node);
	hash_search(lanes_by_name, &name, HASH_REMOVE, NULL);
}

static void
drop_lanes(Tenant *tenant, bool only_unseen)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &tenant->lanes)
	{
		Lane *lane = dlist_container(Lane, node, iter.cur);

		if (!only_unseen || !lane_is_seen(lane))
			lane_drop(lane);
	}
}

static void
drop_all_lanes(Turns *turns, bool only_unseen)
{
	dlist_iter owner_iter;

	dlist_foreach(owner_iter, &turns->owners)
	{
		Owner *owner = dlist_container(Owner, node, owner_iter.cur);
		dlist_iter iter;

		if (!only_unseen)
			crowd_forget_left_out(&owner->crowd);
		dlist_foreach(iter, &owner->tenants)
			drop_lanes(dlist_container(Tenant, node, iter.cur), only_unseen);
	}
}

/*
 * True if an owner has lanes that were left out.
 */
bool
turns_have_left_out(const Turns *turns)
{
	dlist_iter iter;

	dlist_foreach(iter, unconstify(dlist_head *, &turns->owners))
	{
		if (dlist_container(Owner, node, iter.cur)->crowd.has_left_out)
			return true;
	}
	return false;
}

/*
 * Forgets all ready jobs of a server.  The table still has them.
 */
void
turns_drop(Turns *turns)
{
	drop_all_lanes(turns, false);
}

/*
 * Forgets the lanes that the last scan did not find in the table.
 */
void
turns_drop_unseen(Turns *turns)
{
	drop_all_lanes(turns, true);
}

/*
 * Frees everything of a server's turns.
 */
void
turns_free(Turns *turns)
{
	turns_drop(turns);
	forget_idle(turns, true);
	stride_free(&turns->stride);
	lanes_free(&turns->lanes);
}

/* ---------- turns ---------- */

/*
 * Removes the first job of a lane.  If the owner has lanes that were left out,
 * this lane gives up its place.
 */
static int64
take_first_job(Owner *owner, Lane *lane)
{
	int64 id = lane_first(lane);
	bool has_others = lane->n_ready > 1 || lane->has_more;

	lanes_remove(id);
	if (owner->crowd.has_left_out && has_others)
	{
		lane_drop(lane);
		crowd_leave_out(&owner->crowd);
	}
	return id;
}

/*
 * Takes the job whose turn it is; false when none is ready.
 */
bool
turns_pop(Turns *turns, int64 *id)
{
	Share *next = stride_next(&turns->stride);
	Owner *owner;
	Tenant *tenant;

	if (next == NULL)
		return false;
	owner = ((Owner *) ((char *) next - offsetof(Owner, share)));
	Assert(owner->key.turns == turns && stride_next(&owner->stride) != NULL);
	tenant = ((Tenant *) ((char *) stride_next(&owner->stride) - offsetof(Tenant, share)));
	stride_serve(&turns->stride, &owner->share);
	stride_serve(&owner->stride, &tenant->share);
	Assert(tenant->key.owner == owner && first_lane(tenant) != NULL);
	*id = take_first_job(owner, first_lane(tenant));
	return true;
}

/*
 * Gives a turn back to its tenant and owner: turns_pop() took this job, which
 * could not start and is ready again.
 */
void
turns_give_back(int64 id)
{
	Lane *lane = lanes_find(id);
	Owner *owner;

	if (lane == NULL)
		return;
	owner = lane->tenant->key.owner;
	stride_give_back(&owner->stride, &lane->tenant->share);
	stride_give_back(&owner->key.turns->stride, &owner->share);
}

/*
 * Takes, out of turn, the job that expires first, if it expires at by or
 * earlier.
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
 * Applies changed weights.
 */
void
turns_apply_weights(Turns *turns)
{
	dlist_iter owner_iter;

	dlist_foreach(owner_iter, &turns->owners)
	{
		Owner *owner = dlist_container(Owner, node, owner_iter.cur);
		dlist_iter iter;

		stride_set_weight(&turns->stride, &owner->share,
						  weights_get_owner(turns->server, owner->key.role));
		dlist_foreach(iter, &owner->tenants)
		{
			Tenant *tenant = dlist_container(Tenant, node, iter.cur);

			stride_set_weight(&owner->stride, &tenant->share,
							  weights_get_tenant(turns->server, tenant->key.name));
		}
	}
}
