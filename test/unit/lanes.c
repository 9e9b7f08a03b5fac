/*
 * lanes.c
 *		A lane has the front of what the table has: in what order, up to where, and what is read again.
 */
#include "unit.h"

#include "schedule/lanes.h"
#include "schedule/turns.h"

#define OWNER 10

typedef struct Job
{
	int64 id;
	TimestampTz run_at;
} Job;

static Turns turns;

static Lane *
begin(void)
{
	turns_init(&turns, "s");
	return turns_lane(&turns, OWNER, "acme", 0);
}

static void
end(void)
{
	turns_free(&turns);
}

/*
 * Gives a lane the table's jobs from..to, each at ten times its id.
 */
static void
fill(Lane *lane, int64 from, int64 to, bool has_more)
{
	int64 id;

	for (id = from; id <= to; id++)
		lane_read(lane, id, 10 * id, 0, true);
	lane_filled(lane, has_more);
}

static int64
pop(void)
{
	int64 id = 0;

	return turns_pop(&turns, &id) ? id : 0;
}

static bool
is_hungry(const Lane *lane)
{
	Lane *hungry = NULL;

	while ((hungry = lanes_next_hungry(hungry)) != NULL)
	{
		if (hungry == lane)
			return true;
	}
	return false;
}

/* ---------- order ---------- */

/* By priority, then run_at, then id: whatever the order in which they commit. */
static void
test_order(void)
{
	static const struct
	{
		int priority;
		TimestampTz run_at;
		int64 id;
	} in_order[] = {
		{9, 500, 41}, {9, 500, 42}, {5, 100, 77}, {5, 200, 3},  {5, 200, 8}, {5, 200, 9},
		{0, -50, 60}, {0, 0, 61},   {0, 1, 1},    {-1, 0, -30}, {-1, 0, 30}, {-1, 7, 29},
	};
	static const int steps[] = {1, 5, 7, 11}; /* each reaches all */
	int n = lengthof(in_order);
	int i;
	int j;

	for (i = 0; i < lengthof(steps); i++)
	{
		begin();
		for (j = 0; j < n; j++)
		{
			int at = (j * steps[i] + 5) % n;

			lane_add(turns_lane(&turns, OWNER, "acme", in_order[at].priority), in_order[at].id,
					 in_order[at].run_at, 0);
		}
		for (j = 0; j < n; j++)
			unit_is_int(pop(), in_order[j].id, "steps of %d: place %d", steps[i], j);
		unit_is_int(pop(), 0, "steps of %d: no more", steps[i]);
		end();
	}
}

/* ---------- what is in memory ---------- */

/* The lane has the jobs 10, 11 and 12 in memory; another one commits. */
static void
test_add(void)
{
	static const struct
	{
		const char *what;
		Job job;
		bool has_more;
		bool is_added;
	} cases[] = {
		{"before all", {1, 5}, true, true},
		{"among them", {99, 105}, true, true},
		{"at the same time as the last, with a lower id", {9, 120}, true, true},
		{"just behind the last", {13, 120}, true, false},
		{"behind", {8, 121}, true, false},
		{"before all, and the table has no more", {1, 5}, false, true},
		{"behind, and the table has no more", {13, 500}, false, true},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		Lane *lane = begin();

		lane_reset(lane, 100, 10);
		fill(lane, 10, 12, cases[i].has_more);
		lane_add(lane, cases[i].job.id, cases[i].job.run_at, 0);
		unit_ok((lanes_find(cases[i].job.id) == lane) == cases[i].is_added, "%s", cases[i].what);
		unit_is_int(lane->n_ready, cases[i].is_added ? 4 : 3, "%s: the others stay", cases[i].what);
		end();
	}
}

/* A job that was left to the next read is read then, and what comes behind the end is not. */
static void
test_read(void)
{
	Lane *lane = begin();

	lane_reset(lane, 100, 10);
	unit_ok(is_hungry(lane), "a lane that was reset is to be read");
	unit_ok(lane->last.run_at == 100 && lane->last.id == 9, "... just from its first job on");
	lane_read(lane, 10, 100, 0, true);
	lane_read(lane, 11, 110, 0, false);
	lane_filled(lane, true);
	unit_ok(lanes_find(11) == NULL, "a job that is not wanted is passed over");
	lane_add(lane, 7, 109, 0);
	unit_ok(lanes_find(7) == lane, "what commits before it is added nevertheless");
	lane_read(lane, 10, 100, 0, true);
	unit_is_int(lane->n_ready, 2, "who is read twice is there once");
	lane_filled(lane, false);
	unit_ok(!is_hungry(lane), "the table has no more: it is not read again");
	unit_is_text(lanes_server(10), "s", "whose job it is");
	unit_is_text(lanes_server(11), NULL, "... who knows it");
	end();
}

/* A job may have moved: it is in the lane in which the table has it now. */
static void
test_moved(void)
{
	Lane *old = begin();
	Lane *new;

	lane_add(old, 5, 50, 0);
	lane_add(old, 6, 60, 0);
	new = turns_lane(&turns, OWNER, "acme", 3);
	lane_reset(new, 50, 5);
	lane_read(new, 5, 50, 0, true);
	lane_filled(new, false);
	unit_ok(lanes_find(5) == new && old->n_ready == 1, "it is in its new lane only");
	unit_is_int(pop(), 5, "... and has its priority");
	end();
}

static void
test_remove(void)
{
	Lane *lane = begin();

	lane_add(lane, 1, 10, 0);
	lanes_remove(2);
	unit_is_int(turns.lanes.n_ready, 1, "to remove one that is not known is nothing");
	lanes_remove(1);
	unit_is_int(turns.lanes.n_ready, 0, "it is removed");
	unit_ok(lanes_find(1) == NULL && pop() == 0, "... and not found");
	lane = turns_lane(&turns, OWNER, "acme", 0);
	lane_reset(lane, 10, 1);
	fill(lane, 1, 3, true);
	lane_drop(lane);
	unit_ok(lanes_find(1) == NULL && lanes_next_hungry(NULL) == NULL, "a dropped lane is not read");
	unit_is_int(turns.lanes.n_unread, 0, "... nor counted");
	end();
}

/* ---------- what is read again ---------- */

/* The lane has the jobs 10, 11 and 12, at 100, 110 and 120; a bulk of others began at since. */
static void
test_rewind(void)
{
	static const struct
	{
		const char *what;
		TimestampTz since;
		int n_left;        /* in memory */
		LaneKey read_from; /* the first key that is read */
	} cases[] = {
		{"since before all", 50, 0, {50, PG_INT64_MIN + 1}},
		{"since the first", 100, 0, {100, PG_INT64_MIN + 1}},
		{"since the middle: the first, which is forgotten, is read, too", 110, 0, {100, 10}},
		{"since the last", 120, 0, {100, 10}},
		{"since behind the last: it is read anyway", 121, 3, {120, 13}},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		Lane *lane = begin();

		lane_reset(lane, 100, 10);
		fill(lane, 10, 12, true);
		lane_rewind(lane, cases[i].since);
		unit_is_int(lane->n_ready, cases[i].n_left, "%s: in memory", cases[i].what);
		unit_is_int(lane->last.run_at, cases[i].read_from.run_at, "%s: from", cases[i].what);
		unit_is_int(lane->last.id, cases[i].read_from.id - 1, "%s: from id", cases[i].what);
		unit_ok(lane->has_more && is_hungry(lane), "%s: it is to be read", cases[i].what);
		end();
	}
}

static void
test_rewind_new(void)
{
	Lane *lane = begin();

	lane_rewind(lane, 300);
	unit_ok(lane->has_more && lane->last.run_at == 300 && lane->last.id == PG_INT64_MIN,
			"a new lane has nothing before the bulk");
	lane_add(lane, 1, 299, 0);
	unit_ok(lanes_find(1) == lane, "... but what commits there");
	end();
}

/* ---------- limits ---------- */

static void
test_fill_size(void)
{
	static const struct
	{
		int n_unread;
		int expected;
	} cases[] = {{0, 2000},  {1, 2000}, {5, 2000},  {6, 1666},   {10, 1000},
				 {100, 100}, {4000, 2}, {10000, 2}, {1000000, 2}};
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		Lanes lanes = {.n_unread = cases[i].n_unread};
		Lane lane = {.lanes = &lanes};

		unit_is_int(lane_fill_size(&lane), cases[i].expected, "%d lanes to be read",
					cases[i].n_unread);
	}
}

/* A lane is read on once half of what it was filled with is used up. */
static void
test_hunger(void)
{
	Lane *lane = begin();
	int n;

	lane_reset(lane, 10, 1);
	fill(lane, 1, 2000, true);
	for (n = 2000; !is_hungry(lane) && n > 0; n--)
		pop();
	unit_is_int(n, 1000, "jobs that are left when it is read on");
	fill(lane, 2001, 3000, true);
	unit_ok(!is_hungry(lane), "it is full again");
	end();
}

/* Where commits report more than a lane bears, what is behind stays in the table, and what is before it does not. */
static void
test_most_of_lane(void)
{
	const int most = 40000;
	const int all = 60000; /* that a server bears */
	Lane *lane = begin();
	int64 id;

	for (id = 1; id <= most; id++)
		lane_add(lane, id, 1000000 + id, 0);
	unit_ok(lane->n_ready == most && !lane->has_more, "a lane bears %d", most);
	lane_add(lane, id, 1000000 + id, 0);
	unit_ok(lanes_find(id) == NULL && lane->has_more, "one more behind them is left to a read");
	for (id = -1; id >= most - all; id--)
		lane_add(lane, id, 1000000 + id, 0);
	unit_is_int(lane->n_ready, all, "what comes before them is added");
	lane_add(lane, id, 1000000 + id, 0);
	unit_ok(lane->n_ready == 0 && lane->has_more && is_hungry(lane),
			"one more, and the lane is read anew");
	unit_ok(lane->last.run_at == DT_NOBEGIN, "... from its beginning");
	end();
}

static void
test_most_of_server(void)
{
	Lane *lane = begin();
	Lane *other = turns_lane(&turns, OWNER, "other", 0);
	Lane *late = turns_lane(&turns, OWNER, "late", 0);
	int64 id;

	for (id = 1; id <= 60000; id++)
		lane_add(id % 2 == 0 ? lane : other, id, id, 0);
	unit_is_int(turns.lanes.n_ready, 60000, "a server bears 60,000");
	for (; id <= 65000; id++)
		lane_add(late, id, id, 0);
	unit_is_int(late->n_ready, 2000, "from there on each lane has its part");
	lane_add(lane, id, id, 0);
	unit_ok(lanes_find(id) == NULL && lane->has_more, "who has more gets no more");
	end();
}

/* ---------- expiry, scans ---------- */

static void
test_expiry(void)
{
	Lane *lane = begin();
	int64 id = 0;

	unit_is_int(lanes_next_expiry(&turns.lanes), 0, "none expires");
	lane_add(lane, 1, 10, 0);
	lane_add(lane, 2, 11, 900);
	lane_add(turns_lane(&turns, OWNER, "other", 9), 3, 12, 800);
	lane_add(lane, 4, 13, 1000);
	unit_is_int(lanes_next_expiry(&turns.lanes), 800, "the first expiry, of all lanes");
	unit_is_int(lanes_first_to_expire(&turns.lanes), 3, "... is that job's");
	unit_ok(!turns_pop_expiring(&turns, 799, &id), "before it, none has expired");
	unit_ok(turns_pop_expiring(&turns, 800, &id) && id == 3, "at it, one has");
	lanes_remove(2);
	unit_is_int(lanes_next_expiry(&turns.lanes), 1000, "who is removed does not expire");
	lane_drop(lane);
	unit_is_int(lanes_next_expiry(&turns.lanes), 0, "nor who is dropped");
	end();
}

/* A scan forgets the lanes that the table does not have. */
static void
test_scan(void)
{
	Lane *found = begin();
	Lane *added = turns_lane(&turns, OWNER, "added", 0);
	Lane *lost = turns_lane(&turns, OWNER, "lost", 0);

	lane_add(found, 1, 10, 0);
	lane_add(added, 2, 10, 0);
	lane_add(lost, 3, 10, 0);
	unit_ok(lane_is_seen(lost), "before the scan");
	lanes_begin_scan();
	unit_ok(!lane_is_seen(lost), "a new scan has seen none");
	lane_reset(found, 10, 1);
	lane_add(added, 4, 20, 0);
	turns_drop_unseen(&turns);
	unit_ok(lanes_find(3) == NULL, "what the scan did not find is forgotten");
	unit_ok(lanes_find(2) == added && lanes_find(4) == added, "what got a job since is not");
	unit_ok(is_hungry(found), "what it found is read");
	end();
}

void
unit_run(void)
{
	test_order();
	test_add();
	test_read();
	test_moved();
	test_remove();
	test_rewind();
	test_rewind_new();
	test_fill_size();
	test_hunger();
	test_most_of_lane();
	test_most_of_server();
	test_expiry();
	test_scan();
}
