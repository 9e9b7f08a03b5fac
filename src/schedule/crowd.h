/*
 * crowd.h
 *		How many lanes an owner has in memory, and which lanes are only in the
 *		table.
 */
#ifndef GENJOB_CROWD_H
#define GENJOB_CROWD_H

#include "lib/ilist.h"

/*
 * The lanes of one owner at one server.
 */
typedef struct Crowd
{
	const char *server; /* must stay */
	Oid role;
	int n_lanes; /* in memory */

	/*
	 * Lanes that were left out for lack of room are read later, by name, in a
	 * round through the table
	 */
	bool has_left_out;
	dlist_node node;    /* on the list of crowds that left some out, while has_left_out */
	bool needs_another; /* some were left out since the round began */
	bool is_filling;    /* the round goes on: from much room until there is little */
	char *tenant;       /* malloc'd: the last lane that the round has passed; NULL: it begins */
	int priority;
} Crowd;

extern void crowd_init(Crowd *crowd, const char *server, Oid role);
extern void crowd_lane_made(Crowd *crowd);
extern void crowd_lane_gone(Crowd *crowd);
extern bool crowd_has_room(const Crowd *crowd);
extern bool crowd_is_filling(const Crowd *crowd);
extern void crowd_leave_out(Crowd *crowd);
extern void crowd_forget_left_out(Crowd *crowd);

extern Crowd *crowd_next(void);
extern void crowd_passed(Crowd *crowd, const char *tenant, int priority);
extern void crowd_round_ends(Crowd *crowd);

#endif /* GENJOB_CROWD_H */
