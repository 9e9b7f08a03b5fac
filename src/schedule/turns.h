/*
 * turns.h
 *		Whose turn it is at a server.
 */
#ifndef GENJOB_TURNS_H
#define GENJOB_TURNS_H

#include "schedule/crowd.h"
#include "schedule/lanes.h"
#include "schedule/stride.h"

/*
 * The owners and tenants of one server that have, or lately had, ready jobs.
 */
typedef struct Turns
{
	Lanes lanes;
	Stride stride;      /* of owners */
	dlist_head owners;  /* all */
	int n_tenants;      /* of all owners */
	int prune_at;       /* at this many tenants, those without jobs are forgotten */
	const char *server; /* must stay */
} Turns;

extern void turns_init(Turns *turns, const char *server_name);
extern void turns_free(Turns *turns);

extern Lane *turns_lane(Turns *turns, Oid owner, const char *tenant, int priority);
extern bool turns_read_left_out(Crowd *crowd, const char *tenant, int priority, TimestampTz run_at,
								int64 id);
extern void turns_lane_changed(struct Tenant *tenant);
extern void turns_lane_gone(Lane *lane);
extern bool turns_have_left_out(const Turns *turns);
extern void turns_drop(Turns *turns);
extern void turns_drop_unseen(Turns *turns);

extern bool turns_pop(Turns *turns, int64 *id);
extern void turns_give_back(int64 id);
extern bool turns_pop_expiring(Turns *turns, TimestampTz by, int64 *id);

extern void turns_apply_weights(Turns *turns);

#endif /* GENJOB_TURNS_H */
