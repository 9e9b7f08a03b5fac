/*
 * capacity.c
 *		How many calls at a time a server can do: more while it keeps up, fewer when it refuses or slows down.
 */
#include "unit.h"

#include "limits/capacity.h"

#define MS INT64CONST(1000)

static MonoTime now;

/*
 * Ends n windows of calls of ms each, as many at a time as the limit allows; full: none is left free.
 */
static void
run_windows(Capacity *capacity, int n, int ms, bool full)
{
	int i;

	for (i = 0; i < n; i++)
	{
		MonoTime window = capacity->began_at;

		while (capacity->began_at == window)
		{
			MonoTime began_at = now;

			capacity_begun(capacity, full ? capacity_limit(capacity) : 1);
			now += ms * MS;
			capacity_answered(capacity, began_at, now);
		}
	}
}

static Capacity
grown(int windows)
{
	Capacity capacity = {0};

	now = 1000 * USECS_PER_SEC;
	run_windows(&capacity, windows, 100, true);
	return capacity;
}

static void
test_growth(void)
{
	static const struct
	{
		int windows;
		int limit;
	} cases[] = {{0, 1}, {1, 2}, {2, 4}, {3, 8}, {4, 16}};
	Capacity idle = grown(2);
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		Capacity capacity = grown(cases[i].windows);

		unit_is_int(capacity_limit(&capacity), cases[i].limit, "after %d full windows",
					cases[i].windows);
	}
	run_windows(&idle, 5, 100, false);
	unit_is_int(capacity_limit(&idle), 4, "a limit that is not reached does not grow");
}

static void
test_refusal(void)
{
	Capacity capacity = grown(4);
	MonoTime began_at = now;
	MonoTime before = now - 1;

	capacity_refused(&capacity, 10, began_at, now + MS);
	unit_is_int(capacity_limit(&capacity), 9, "a refusal of ten leaves nine tenths of them");
	capacity_refused(&capacity, 10, before, now + 2 * MS);
	unit_is_int(capacity_limit(&capacity), 9, "a call that began before says nothing new");
	now += 10 * MS;
	run_windows(&capacity, 3, 100, true);
	unit_is_int(capacity_limit(&capacity), 9, "then it stays below what was too many");
	run_windows(&capacity, 4, 100, true);
	unit_ok(capacity_limit(&capacity) >= 10, "... for some windows");
	capacity = (Capacity){0};
	capacity_refused(&capacity, 1, now, now);
	unit_is_int(capacity_limit(&capacity), 1, "one is always left");
}

static void
test_slowness(void)
{
	Capacity capacity = grown(4);

	run_windows(&capacity, 1, 104, true);
	unit_ok(capacity_limit(&capacity) >= 16, "four percent more is nothing");
	capacity = grown(4);
	run_windows(&capacity, 1, 200, true);
	unit_is_int(capacity_limit(&capacity), 8, "calls that take twice as long halve it");
	capacity = grown(4);
	run_windows(&capacity, 1, 2000, true);
	unit_is_int(capacity_limit(&capacity), 8, "... and no more at once");
}

void
unit_run(void)
{
	test_growth();
	test_refusal();
	test_slowness();
}
