/*
 * turns.c
 *		Owners share a server, the tenants of each share its turns: whose job is taken, of many or of one.
 */
#include "unit.h"

#include "schedule/turns.h"
#include "schedule/weights.h"

#define FIRST 10 /* owners */
#define SECOND 11

static Turns turns;
static int64 next_id; /* of the next job */

/* What a job was of: its id says it, as owner * NAMES + the tenant's number. */
#define NAMES 1000
static int served[SECOND + 1][NAMES];

static void
begin(void)
{
	turns_init(&turns, "s");
	next_id = 1;
}

static void
end(void)
{
	turns_free(&turns);
	weights_forget();
}

/*
 * Adds n jobs of a tenant.
 */
static void
add(Oid owner, int tenant, int n)
{
	while (n-- > 0)
	{
		int64 id = (next_id * (SECOND + 1) + owner) * NAMES + tenant;

		lane_add(turns_lane(&turns, owner, psprintf("tenant %d", tenant), 0), id, next_id, 0);
		next_id++;
	}
}

/*
 * Takes n jobs, and counts whose they are.
 */
static void
take(int n)
{
	memset(served, 0, sizeof(served));
	while (n-- > 0)
	{
		int64 id;

		if (!turns_pop(&turns, &id))
			break;
		served[id / NAMES % (SECOND + 1)][id % NAMES]++;
	}
}

static int
served_owner(Oid owner)
{
	int sum = 0;
	int i;

	for (i = 0; i < NAMES; i++)
		sum += served[owner][i];
	return sum;
}

/* ---------- owners, then tenants ---------- */

static void
test_owners_first(void)
{
	int i;

	begin();
	for (i = 0; i < 9; i++)
		add(FIRST, i, 200);
	add(SECOND, 0, 1000);
	take(900);
	unit_is_int(served_owner(FIRST), 450, "nine tenants of one owner have half of the turns");
	unit_is_int(served_owner(SECOND), 450, "the tenant of the other has the other half");
	for (i = 0; i < 9; i++)
		unit_is_int(served[FIRST][i], 50, "... and the nine share theirs: %d", i);
	end();
}

static void
test_weights(void)
{
	static const struct
	{
		const char *what;
		double owners[2];
		double tenants[2]; /* of the first owner; the second one has one */
		int expected[3];   /* of 1,000 */
	} cases[] = {
		{"all alike", {1, 1}, {1, 1}, {250, 250, 500}},
		{"owners 1:3", {1, 3}, {1, 1}, {125, 125, 750}},
		{"tenants 1:3", {1, 1}, {1, 3}, {125, 375, 500}},
		{"owners 3:1, tenants 1:3", {3, 1}, {1, 3}, {188, 563, 250}},
		{"a tenant's weight does not help its owner", {1, 1}, {1000, 1000}, {250, 250, 500}},
		{"less than one", {0.01, 0.03}, {0.1, 0.3}, {63, 188, 750}},
	};
	int i;
	int when;

	for (i = 0; i < lengthof(cases); i++)
	{
		/* they are set before anyone comes, or change */
		for (when = 0; when < 2; when++)
		{
			weights_forget();
			begin();
			if (when == 1)
			{
				add(FIRST, 0, 1000);
				add(FIRST, 1, 1000);
				add(SECOND, 0, 1000);
			}
			weights_set_owner("s", FIRST, cases[i].owners[0]);
			weights_set_owner("s", SECOND, cases[i].owners[1]);
			weights_set_tenant("s", "tenant 0", cases[i].tenants[0]);
			weights_set_tenant("s", "tenant 1", cases[i].tenants[1]);
			turns_apply_weights(&turns);
			if (when == 0)
			{
				add(FIRST, 0, 1000);
				add(FIRST, 1, 1000);
				add(SECOND, 0, 1000);
			}
			take(1000);
			unit_is_near(served[FIRST][0], cases[i].expected[0], 2, "%s: 0", cases[i].what);
			unit_is_near(served[FIRST][1], cases[i].expected[1], 2, "%s: 1", cases[i].what);
			unit_is_near(served[SECOND][0], cases[i].expected[2], 2, "%s: 2", cases[i].what);
			end();
		}
	}
}

/* Where only one has jobs, it has all turns. */
static void
test_alone(void)
{
	begin();
	take(10);
	unit_is_int(served_owner(FIRST), 0, "nobody has a job");
	add(FIRST, 0, 5);
	add(SECOND, 0, 100);
	take(50);
	unit_is_int(served_owner(FIRST), 5, "who has few jobs has them done");
	unit_is_int(served_owner(SECOND), 45, "... and the others get the rest");
	end();
}

/* ---------- who comes, and who was away ---------- */

static void
test_newcomers(void)
{
	begin();
	add(FIRST, 0, 1000);
	take(500);
	add(FIRST, 1, 100);
	take(1);
	unit_is_int(served[FIRST][1], 1, "a tenant's first job waits for no more than one of another");
	take(20);
	unit_is_int(served[FIRST][1], 10, "... and it has no backlog of turns");
	add(SECOND, 0, 100);
	take(1);
	unit_is_int(served_owner(SECOND), 1, "nor does a new owner wait");
	take(20);
	unit_is_int(served_owner(SECOND), 10, "... or get more than its part");
	end();
}

static void
test_idle(void)
{
	begin();
	add(FIRST, 0, 1000);
	add(FIRST, 1, 5);
	add(SECOND, 0, 5);
	take(300);
	unit_is_int(served_owner(SECOND) + served[FIRST][1], 10, "two have no jobs any more");
	add(FIRST, 1, 100);
	take(20);
	unit_is_int(served[FIRST][1], 10, "a tenant that comes back has saved up nothing");
	add(SECOND, 0, 100);
	take(20);
	unit_is_int(served_owner(SECOND), 10, "nor has an owner");
	end();
}

/*
 * Hundreds of tenants come and go, beside one that stays, so that those who need not be remembered are forgotten.
 */
static void
come_and_go(void)
{
	int i;

	add(FIRST, 999, 1000);
	for (i = 1; i < 600; i++)
	{
		add(FIRST, i, 1);
		take(2);
	}
}

static void
test_ahead(void)
{
	begin();
	weights_set_tenant("s", "tenant 0", 0.0005);
	add(FIRST, 0, 1);
	take(1);
	come_and_go();
	unit_ok(turns.n_tenants < 400, "of 600 without jobs, %d are remembered", turns.n_tenants);
	add(FIRST, 0, 10);
	take(300);
	unit_is_int(served[FIRST][999], 300, "a tenant that is ahead of its share is not forgotten");
	end();
}

static void
test_owner_ahead(void)
{
	begin();
	weights_set_owner("s", SECOND, 0.0005);
	add(SECOND, 0, 1);
	take(1);
	come_and_go();
	add(SECOND, 0, 10);
	take(300);
	unit_is_int(served[FIRST][999], 300, "an owner that is ahead of its share is not forgotten");
	end();
}

/* ---------- one job ---------- */

/* A job of higher priority that is only in the table is not overtaken by one in memory. */
static void
test_priority_in_table(void)
{
	Lane *high;
	int64 id;

	begin();
	high = turns_lane(&turns, FIRST, "a", 5);
	lane_reset(high, 10, 1);
	lane_add(turns_lane(&turns, FIRST, "a", 0), 2, 5, 0);
	unit_ok(!turns_pop(&turns, &id), "its tenant has to wait until it is read");
	lane_add(turns_lane(&turns, FIRST, "b", 0), 3, 5, 0);
	unit_ok(turns_pop(&turns, &id) && id == 3, "others have not");
	lane_read(high, 1, 10, 0, true);
	lane_filled(high, false);
	unit_ok(turns_pop(&turns, &id) && id == 1, "then it is first");
	unit_ok(turns_pop(&turns, &id) && id == 2, "and the lower one follows");
	unit_ok(!turns_pop(&turns, &id), "that was all");
	end();
}

/* A dear turn, alone: then another tenant or owner comes, who would catch up. */
static void
test_give_back(void)
{
	static const struct
	{
		const char *what;
		double owner;
		double tenant;
		Oid other_owner;
		bool gives_back;
		int expected; /* of the next 15 turns */
	} cases[] = {
		{"an owner that had its turn", 0.1, 1, SECOND, false, 1},
		{"an owner that gave it back", 0.1, 1, SECOND, true, 2},
		{"a tenant that had its turn", 1, 0.1, FIRST, false, 1},
		{"a tenant that gave it back", 1, 0.1, FIRST, true, 2},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		int64 id = 0;

		weights_forget();
		weights_set_owner("s", FIRST, cases[i].owner);
		weights_set_tenant("s", "tenant 0", cases[i].tenant);
		begin();
		add(FIRST, 0, 20);
		unit_ok(turns_pop(&turns, &id), "%s: a job is taken", cases[i].what);
		/* it could not start, and is ready again */
		lane_add(turns_lane(&turns, FIRST, "tenant 0", 0), id, 1, 0);
		if (cases[i].gives_back)
			turns_give_back(id);
		add(cases[i].other_owner, 1, 30);
		take(15);
		unit_is_int(served[FIRST][0], cases[i].expected, "%s", cases[i].what);
		turns_give_back(12345);
		unit_ok(turns_pop(&turns, &id), "%s: a turn of no job is nobody's", cases[i].what);
		end();
	}
}

/* Who expires is taken without a turn. */
static void
test_expiring(void)
{
	int64 id;

	begin();
	add(FIRST, 0, 10);
	add(SECOND, 0, 10);
	lane_add(turns_lane(&turns, FIRST, "tenant 0", 0), FIRST * NAMES, 100, 1000);
	unit_ok(turns_pop_expiring(&turns, 1000, &id) && id == FIRST * NAMES, "it is taken");
	unit_ok(!turns_pop_expiring(&turns, DT_NOEND, &id), "the others do not expire");
	take(10);
	unit_is_int(served_owner(FIRST), 5, "nobody is charged");
	end();
}

/* ---------- too many lanes ---------- */

static void
fill_room(const char *server, int n)
{
	int i;

	turns_init(&turns, server);
	for (i = 0; i < n; i++)
		lane_add(turns_lane(&turns, FIRST, psprintf("%d", i), 0), i + 1, i, 0);
}

static void
test_left_out(void)
{
	int64 id = 0;
	Crowd *crowd;
	int n;

	fill_room("s", 10000);
	unit_ok(!turns_have_left_out(&turns), "an owner has room for 10,000 lanes");
	unit_ok(turns_lane(&turns, FIRST, "one more", 0) == NULL && turns_have_left_out(&turns),
			"one more is left out");
	unit_ok(turns_lane(&turns, FIRST, "17", 0) != NULL, "one that is there is found");
	unit_ok(turns_lane(&turns, SECOND, "one more", 0) != NULL, "another owner has room");
	unit_ok(crowd_next() == NULL, "it is not read while there is no room");
	for (n = 0; crowd_next() == NULL && turns_pop(&turns, &id); n++)
		;
	unit_is_int(n, 5001, "half of the lanes must go first");
	crowd = crowd_next();
	for (id = 1; lanes_find(id) == NULL; id++)
		;
	unit_ok(turns_read_left_out(crowd, lanes_find(id)->tenant_name, 0, 10, 20000),
			"one in memory need not be read");
	for (n = 0; turns_read_left_out(crowd, psprintf("late %d", n), 0, 10, 20000); n++)
		;
	unit_is_int(n, 2501, "lanes that are read: the last quarter is for those that commits report");
	unit_is_int(turns.lanes.n_unread, n, "they are filled from the table");
	turns_drop(&turns);
	unit_ok(!turns_have_left_out(&turns) && crowd_next() == NULL, "a dropped server has none");
	end();
}

/* While some are left out, a lane that was served gives up its place, and comes again in its turn. */
static void
test_gives_way(void)
{
	Lane *lane;
	int64 id;

	fill_room("s", 10000);
	lane = turns_lane(&turns, FIRST, "0", 0);
	lane_add(lane, 20000, 1, 0);
	(void) turns_lane(&turns, FIRST, "one more", 0);
	while (turns_pop(&turns, &id) && id != 1)
		;
	unit_ok(lanes_find(20000) == NULL, "its other job is only in the table");
	end();
}

/* An owner with 10,000 lanes elsewhere may have 500 at each server. */
static void
test_few(void)
{
	static Turns other;
	int n;

	fill_room("s", 10000);
	turns_init(&other, "t");
	for (n = 0; n < 1000; n++)
	{
		Lane *lane = turns_lane(&other, FIRST, psprintf("%d", n), 0);

		if (lane == NULL)
			break;
		lane_add(lane, 20000 + n, 1, 0);
	}
	unit_is_int(n, 500, "lanes at another server");
	turns_free(&other);
	end();
}

void
unit_run(void)
{
	test_owners_first();
	test_weights();
	test_alone();
	test_newcomers();
	test_idle();
	test_ahead();
	test_owner_ahead();
	test_priority_in_table();
	test_give_back();
	test_expiring();
	test_left_out();
	test_gives_way();
	test_few();
}
