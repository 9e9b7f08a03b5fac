/*
 * crowd.c
 *		How many lanes an owner has in memory; the others are read in rounds, once there is room.
 */
#include "unit.h"

#include "schedule/crowd.h"

#define OWNER 10

static void
make(Crowd *crowd, int n)
{
	while (n-- > 0)
		crowd_lane_made(crowd);
}

static void
drop(Crowd *crowd, int n)
{
	while (n-- > 0)
		crowd_lane_gone(crowd);
}

static void
test_room(void)
{
	static const struct
	{
		int here;
		int elsewhere;
		bool has_room;
		bool is_filling; /* all but the last quarter */
	} cases[] = {
		{0, 0, true, true},        {7499, 0, true, true},    {7500, 0, true, false},
		{9999, 0, true, false},    {10000, 0, false, false}, {500, 9499, true, false},
		{500, 9500, false, false}, {374, 10000, true, true}, {375, 10000, true, false},
		{499, 10000, true, false}, {375, 7000, true, true},  {0, 10000, true, true},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		Crowd crowd;
		Crowd elsewhere;
		Crowd stranger;

		crowd_init(&crowd, "s", OWNER);
		crowd_init(&elsewhere, "t", OWNER);
		crowd_init(&stranger, "s", OWNER + 1);
		make(&crowd, cases[i].here);
		make(&elsewhere, cases[i].elsewhere);
		unit_ok(crowd_has_room(&crowd) == cases[i].has_room, "%d and %d: room", cases[i].here,
				cases[i].elsewhere);
		unit_ok(crowd_is_filling(&crowd) == cases[i].is_filling, "%d and %d: room for old ones",
				cases[i].here, cases[i].elsewhere);
		unit_ok(crowd_has_room(&stranger) && crowd_is_filling(&stranger), "of another owner");
		drop(&crowd, cases[i].here);
		drop(&elsewhere, cases[i].elsewhere);
	}
}

/* A round begins when half of the room is free, and goes on until three quarters are taken. */
static void
test_filling(void)
{
	Crowd crowd;

	crowd_init(&crowd, "s", OWNER);
	make(&crowd, 10000);
	unit_ok(crowd_next() == NULL, "none was left out");
	crowd_leave_out(&crowd);
	drop(&crowd, 5000);
	unit_ok(crowd_next() == NULL, "too little room to begin");
	drop(&crowd, 1);
	unit_ok(crowd_next() == &crowd, "room to begin");
	make(&crowd, 2500);
	unit_ok(crowd_next() == &crowd, "... and to go on");
	make(&crowd, 1);
	unit_ok(crowd_next() == NULL, "... until there is little");
	drop(&crowd, 2000);
	unit_ok(crowd_next() == NULL, "then it needs much room again");
	crowd_forget_left_out(&crowd);
	drop(&crowd, 5500);
	unit_ok(crowd_next() == NULL, "none is left out any more");
}

/* A round goes through the table from its first lane to its last one. */
static void
test_rounds(void)
{
	static const struct
	{
		const char *what;
		bool while_it_runs;
		bool another;
	} cases[] = {
		{"a round that leaves none out is the last", false, false},
		{"what is left out while it runs, it may have passed", true, true},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		Crowd crowd;
		char name[] = "acme";

		crowd_init(&crowd, "s", OWNER);
		crowd_leave_out(&crowd);
		crowd_passed(&crowd, name, 5);
		name[0] = 'x';
		unit_is_text(crowd.tenant, "acme", "%s: how far it has come", cases[i].what);
		unit_is_int(crowd.priority, 5, "%s: ... and the priority", cases[i].what);
		if (cases[i].while_it_runs)
			crowd_leave_out(&crowd);
		crowd_passed(&crowd, "beta", 0);
		crowd_round_ends(&crowd);
		unit_ok(crowd.has_left_out == cases[i].another, "%s", cases[i].what);
		unit_is_text(crowd.tenant, NULL, "%s: the next one begins at the first", cases[i].what);
		crowd_forget_left_out(&crowd);
	}
}

/* Owners that left lanes out are looked at one by one. */
static void
test_several(void)
{
	Crowd full;
	Crowd roomy;

	crowd_init(&full, "s", OWNER);
	crowd_init(&roomy, "s", OWNER + 1);
	make(&full, 10000);
	crowd_leave_out(&full);
	crowd_leave_out(&roomy);
	crowd_leave_out(&full);
	unit_ok(crowd_next() == &roomy, "one without room delays no other");
	crowd_forget_left_out(&roomy);
	unit_ok(crowd_next() == NULL, "who was forgotten is not looked at");
	crowd_forget_left_out(&full);
	drop(&full, 10000);
}

void
unit_run(void)
{
	test_room();
	test_filling();
	test_rounds();
	test_several();
}
