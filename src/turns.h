/*
 * turns.h
 *		Whose turn it is at a server.
 */
#ifndef GENJOB_TURNS_H
#define GENJOB_TURNS_H

#include "lanes.h"

/*
 * The tenants of one server that have, or lately had, ready jobs.
 */
typedef struct Turns
{
	Lanes lanes;
	pairingheap *waiting; /* tenants whose turn can come: next on top */
	dlist_head tenants;   /* all */
	int n_tenants;
	int prune_at;  /* tenants, before those without jobs are forgotten */
	double time;   /* the pass of the tenant that was served last */
	uint64 served; /* turns so far */
} Turns;

extern void turns_init(Turns *turns);

extern Lane *turns_lane(Turns *turns, const char *server_name, const char *tenant, int priority);
extern void turns_lane_changed(struct Tenant *tenant);
extern void turns_drop(Turns *turns);
extern void turns_drop_unseen(Turns *turns);

extern bool turns_pop(Turns *turns, int64 *id);
extern void turns_give_back(int64 id);
extern bool turns_pop_expiring(Turns *turns, TimestampTz by, int64 *id);

extern void turns_apply_weights(Turns *turns);

#endif /* GENJOB_TURNS_H */
