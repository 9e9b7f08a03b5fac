/*
 * turns.h
 *		Whose turn it is at a server: its tenants, and the ready jobs of each.
 */
#ifndef GENJOB_TURNS_H
#define GENJOB_TURNS_H

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"

/* Where a job stands in its lane. */
typedef struct LaneKey
{
	TimestampTz run_at;
	int64 id;
} LaneKey;

struct Tenant;

/*
 * The ready jobs of one server, tenant and priority, by run_at and then id.
 */
typedef struct Lane
{
	dlist_node node; /* on its tenant's list, higher priorities first */
	struct Tenant *tenant;
	int priority;
	pairingheap *ready; /* first on top */
	int n_ready;
	LaneKey last;  /* the last of those that were ever in memory */
	bool has_more; /* the table has some behind last that are not */
	uint64 seen; /* the last scan in which it was found in the table, or since which it was given a job */
	bool is_hungry;
	dlist_node hungry_node; /* on the list of those to be filled, while is_hungry */
} Lane;

/*
 * The tenants of one server that have, or lately had, ready jobs.
 */
typedef struct Turns
{
	pairingheap *waiting;  /* tenants whose turn can come: next on top */
	pairingheap *expiring; /* jobs that expire: first on top */
	dlist_head tenants;    /* all */
	int n_tenants;
	int prune_at;  /* tenants, before those without jobs are forgotten */
	int n_ready;   /* jobs */
	int n_unread;  /* lanes that have more in the table */
	double time;   /* the pass of the tenant that was served last */
	uint64 served; /* turns so far */
} Turns;

extern void turns_init(Turns *turns);

/* What is ready */
extern Lane *turns_lane(Turns *turns, const char *server_name, const char *tenant, int priority);
extern void turns_add(Lane *lane, int64 id, TimestampTz run_at, TimestampTz expires_at);
extern void turns_remove(int64 id);
extern const char *turns_server(int64 id);
extern void turns_drop(Turns *turns);
extern void turns_begin_scan(void);
extern void turns_drop_unseen(Turns *turns);

/* Lanes that are read from the table */
extern void turns_reset_lane(Lane *lane);
extern Lane *turns_next_hungry(Lane *after);
extern const char *turns_lane_server(const Lane *lane);
extern const char *turns_lane_tenant(const Lane *lane);
extern int turns_fill_size(const Lane *lane);
extern void turns_read(Lane *lane, int64 id, TimestampTz run_at, TimestampTz expires_at,
					   bool wanted);
extern void turns_filled(Lane *lane, bool has_more);

/* Who goes next */
extern bool turns_pop(Turns *turns, int64 *id);
extern void turns_give_back(int64 id);
extern bool turns_pop_expiring(Turns *turns, TimestampTz by, int64 *id);
extern TimestampTz turns_next_expiry(const Turns *turns);

extern void turns_apply_weights(Turns *turns);

#endif /* GENJOB_TURNS_H */
