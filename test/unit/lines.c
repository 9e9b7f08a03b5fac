/*
 * lines.c
 *		Who waits for a call: first come, first served at each server, and the servers take turns.
 */
#include "unit.h"

#include "schedule/lines.h"

#define SERVERS 3
#define EACH 4 /* waiters at a server */

static Lines lines;
static Line at[SERVERS];
static LineWaiter waiters[SERVERS][EACH];
static bool closed[SERVERS];

static void
begin(void)
{
	int i;

	memset(&lines, 0, sizeof(lines));
	memset(at, 0, sizeof(at));
	memset(waiters, 0, sizeof(waiters));
	memset(closed, 0, sizeof(closed));
	dlist_init(&lines.waiting);
	for (i = 0; i < SERVERS; i++)
		dlist_init(&at[i].waiters);
}

static bool
is_open(const Line *line, MonoTime now)
{
	return !closed[line - at];
}

/*
 * Lets up to n go; returns them as server and number, "00 10 01".
 */
static const char *
take(int n)
{
	static char taken[8 * SERVERS * EACH];

	taken[0] = '\0';
	while (n-- > 0)
	{
		LineWaiter *waiter = lines_take(&lines, is_open, 1);
		int number = waiter ? (int) (waiter - &waiters[0][0]) : 0;

		if (waiter == NULL)
			break;
		sprintf(taken + strlen(taken), "%s%d%d", *taken ? " " : "", number / EACH, number % EACH);
	}
	return taken;
}

static void
join(int server, int n)
{
	int i;

	for (i = 0; i < n; i++)
		lines_join(&lines, &at[server], &waiters[server][i]);
}

static void
test_order(void)
{
	static const struct
	{
		const char *what;
		int n[SERVERS]; /* waiters; negative: the server may have no call */
		const char *expected;
	} cases[] = {
		{"nobody", {0, 0, 0}, ""},
		{"one line", {3, 0, 0}, "00 01 02"},
		{"lines take turns", {2, 2, 2}, "00 10 20 01 11 21"},
		{"a long one does not delay a short one", {4, 1, 0}, "00 10 01 02 03"},
		{"one that may have no call delays nobody", {-4, 2, 1}, "10 20 11"},
		{"none may", {-1, -1, -1}, ""},
	};
	int i;
	int j;

	for (i = 0; i < lengthof(cases); i++)
	{
		begin();
		for (j = 0; j < SERVERS; j++)
		{
			closed[j] = cases[i].n[j] < 0;
			join(j, abs(cases[i].n[j]));
		}
		unit_is_text(take(SERVERS * EACH), cases[i].expected, "%s", cases[i].what);
	}
	closed[0] = false;
	unit_is_text(take(9), "00", "one that may again goes on");
}

static void
test_leaving(void)
{
	begin();
	join(0, 3);
	lines_leave(&waiters[0][1]);
	lines_leave(&waiters[0][1]);
	unit_ok(waiters[0][1].line == NULL, "who has left waits nowhere");
	unit_is_text(take(9), "00 02", "... and is not taken");
	unit_ok(!line_has_waiters(&at[0]), "the line is empty");
	join(1, 1);
	join(0, 1);
	unit_is_text(take(9), "10 00", "who comes back is served again");
	lines_forget(&at[0]);
	lines_forget(&at[1]);
	lines_forget(&at[2]);
	unit_ok(dlist_is_empty(&lines.waiting), "forgotten lines are on no list");
}

static void
test_calls(void)
{
	begin();
	lines_begin_call(&lines, &at[0], &waiters[0][0]);
	lines_begin_call(&lines, &at[0], &waiters[0][1]);
	lines_begin_call(&lines, &at[1], &waiters[1][0]);
	unit_ok(lines.n_calls == 3 && at[0].n_calls == 2 && at[1].n_calls == 1, "calls are counted");
	lines_begin_call(&lines, &at[1], &waiters[0][1]);
	unit_ok(lines.n_calls == 3 && at[0].n_calls == 1 && at[1].n_calls == 2,
			"a waiter has one call at a time");
	lines_end_call(&waiters[0][1]);
	lines_end_call(&waiters[0][1]);
	lines_end_call(&waiters[2][0]);
	unit_ok(lines.n_calls == 2 && at[1].n_calls == 1, "and ends it once");
}

void
unit_run(void)
{
	test_order();
	test_leaving();
	test_calls();
}
