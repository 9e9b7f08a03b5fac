/*
 * crowd.c
 *		How many lanes an owner has in memory, and which lanes are only in the
 *		table.
 *
 * A lane takes about a kilobyte, and an application may have a million
 * tenants, or a priority for each job.  So an owner has at most MAX_LANES
 * lanes in memory, of all servers together, and FEW_LANES of each server in
 * any case.  Other lanes are left out: they are only in the table.  Once half
 * of the room is free, they are read in the order of their names, round after
 * round.  While an owner has lanes that were left out, each lane gives up its
 * place after a turn (turns.c), so that all get theirs.
 */
#include "postgres.h"

#include "utils/hsearch.h"

#include "schedule/crowd.h"

#define MAX_LANES 10000 /* of an owner */
#define FEW_LANES 500   /* of an owner at a server */

typedef struct Role
{
	Oid role; /* key */
	int n_lanes;
} Role;

static HTAB *roles = NULL;
static dlist_head left_out = DLIST_STATIC_INIT(left_out);

void
crowd_init(Crowd *crowd, const char *server, Oid role)
{
	memset(crowd, 0, sizeof(*crowd));
	crowd->server = server;
	crowd->role = role;
}

static int
count_lanes(Oid role)
{
	const Role *entry = roles ? hash_search(roles, &role, HASH_FIND, NULL) : NULL;

	return entry ? entry->n_lanes : 0;
}

void
crowd_lane_made(Crowd *crowd)
{
	HASHCTL by_role = {.keysize = sizeof(Oid), .entrysize = sizeof(Role)};
	Role *entry;
	bool found;

	if (roles == NULL)
		roles = hash_create("genjob lanes of roles", 16, &by_role, HASH_ELEM | HASH_BLOBS);
	entry = hash_search(roles, &crowd->role, HASH_ENTER, &found);
	entry->n_lanes = found ? entry->n_lanes + 1 : 1;
	crowd->n_lanes++;
}

void
crowd_lane_gone(Crowd *crowd)
{
	Role *entry = hash_search(roles, &crowd->role, HASH_FIND, NULL);

	Assert(entry != NULL && entry->n_lanes > 0 && crowd->n_lanes > 0);
	crowd->n_lanes--;
	if (--entry->n_lanes == 0)
		hash_search(roles, &crowd->role, HASH_REMOVE, NULL);
}

static bool
has_room_of(const Crowd *crowd, int quarters)
{
	return crowd->n_lanes < FEW_LANES * quarters / 4 ||
		   count_lanes(crowd->role) < MAX_LANES * quarters / 4;
}

/*
 * True if another lane may be made.
 */
bool
crowd_has_room(const Crowd *crowd)
{
	return has_room_of(crowd, 4);
}

/*
 * True if the owner has room for another lane that was left out.
 */
bool
crowd_is_filling(const Crowd *crowd)
{
	/* the last quarter is for lanes that commits report */
	return has_room_of(crowd, 3);
}

/*
 * Notes that a lane is in the table, and not in memory.
 */
void
crowd_leave_out(Crowd *crowd)
{
	crowd->needs_another = true;
	if (!crowd->has_left_out)
		dlist_push_tail(&left_out, &crowd->node);
	crowd->has_left_out = true;
}

/*
 * Forgets that lanes were left out.
 */
void
crowd_forget_left_out(Crowd *crowd)
{
	if (crowd->has_left_out)
		dlist_delete(&crowd->node);
	free(crowd->tenant);
	crowd->tenant = NULL;
	crowd->has_left_out = crowd->needs_another = crowd->is_filling = false;
}

/* ---------- rounds ---------- */

/*
 * Returns a crowd whose left out lanes must be read now; NULL: there is none.
 */
Crowd *
crowd_next(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &left_out)
	{
		Crowd *crowd = dlist_container(Crowd, node, iter.cur);

		crowd->is_filling = crowd->is_filling ? crowd_is_filling(crowd) : has_room_of(crowd, 2);
		if (crowd->is_filling)
			return crowd;
	}
	return NULL;
}

/*
 * Notes how far the round has come.
 */
void
crowd_passed(Crowd *crowd, const char *tenant, int priority)
{
	if (crowd->tenant == NULL)
		crowd->needs_another = false;
	free(crowd->tenant);
	crowd->tenant = strdup(tenant);
	crowd->priority = priority;
}

/*
 * Notes that the round has come to its end.  There is another one if lanes were left out meanwhile.
 */
void
crowd_round_ends(Crowd *crowd)
{
	bool needs_another = crowd->needs_another && crowd->tenant != NULL;

	crowd_forget_left_out(crowd);
	if (needs_another)
		crowd_leave_out(crowd);
}
