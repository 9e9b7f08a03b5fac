/*
 * lanes.h
 *		The ready jobs of each server, owner, tenant and priority.
 */
#ifndef GENJOB_LANES_H
#define GENJOB_LANES_H

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"

/* Where a job stands in its lane. */
typedef struct LaneKey
{
	TimestampTz run_at;
	int64 id;
} LaneKey;

/* What the lanes of one server share. */
typedef struct Lanes
{
	pairingheap *expiring; /* jobs that expire: first on top */
	int n_ready;           /* jobs */
	int n_unread;          /* lanes that have more in the table */
} Lanes;

struct Tenant;

/*
 * The ready jobs of one server, owner, tenant and priority, by run_at and then id.
 */
typedef struct Lane
{
	dlist_node node;                /* on its tenant's list */
	pairingheap_node priority_node; /* in its tenant's heap: the highest priority on top */
	Lanes *lanes;
	struct Tenant *tenant;
	const char *server_name;
	Oid owner;
	const char *tenant_name;
	int priority;
	pairingheap *ready; /* first on top */
	int n_ready;
	LaneKey last;  /* the last key that was ever in memory */
	bool has_more; /* the table has jobs behind last */
	uint64 seen;   /* the last scan that found it in the table, or since which it got a job */
	bool is_hungry;
	dlist_node hungry_node; /* on the list of lanes to be filled, while is_hungry */
} Lane;

extern void lanes_init(Lanes *lanes);
extern void lanes_free(Lanes *lanes);
extern Lane *lane_create(Lanes *lanes, struct Tenant *tenant, const char *server_name, Oid owner,
						 const char *tenant_name, int priority);

/* What commits report */
extern void lane_add(Lane *lane, int64 id, TimestampTz run_at, TimestampTz expires_at);
extern void lanes_remove(int64 id);
extern Lane *lanes_find(int64 id);
extern const char *lanes_server(int64 id);

/* What is read from the table */
extern void lanes_begin_scan(void);
extern bool lane_is_seen(const Lane *lane);
extern void lane_reset(Lane *lane, TimestampTz run_at, int64 id);
extern void lane_rewind(Lane *lane, TimestampTz since);
extern void lane_drop(Lane *lane);
extern Lane *lanes_next_hungry(Lane *after);
extern int lane_fill_size(const Lane *lane);
extern void lane_read(Lane *lane, int64 id, TimestampTz run_at, TimestampTz expires_at,
					  bool wanted);
extern void lane_filled(Lane *lane, bool has_more);

/* Who goes first */
extern int64 lane_first(const Lane *lane);
extern TimestampTz lanes_next_expiry(const Lanes *lanes);
extern int64 lanes_first_to_expire(const Lanes *lanes);

#endif /* GENJOB_LANES_H */
