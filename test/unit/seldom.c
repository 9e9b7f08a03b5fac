/*
 * seldom.c
 *		The log repeats something once a minute, and a few times if there are many reasons.
 */
#include "unit.h"

#include "base/seldom.h"

#define START (1000 * USECS_PER_SEC)

static void
test_one_reason(void)
{
	Seldom seldom = {0};
	int64 unsaid = -1;

	unit_ok(seldom_must_say(&seldom, 0, START, &unsaid), "a first time is said");
	unit_is_int(unsaid, 0, "... and nothing was left out");
	unit_ok(!seldom_must_say(&seldom, 0, START + 1, &unsaid), "a second time is not");
	unit_ok(!seldom_must_say(&seldom, 0, START + 60 * USECS_PER_SEC - 1, &unsaid),
			"... for a minute");
	unit_ok(seldom_must_say(&seldom, 0, START + 60 * USECS_PER_SEC, &unsaid),
			"after a minute it is");
	unit_is_int(unsaid, 2, "... with the number left out");
	unit_is_text(seldom_describe(0), "", "nothing that was left out is not described");
	unit_is_text(seldom_describe(2),
				 " 2 similar errors were not logged since the last one: genjob logs at most one a minute.",
				 "what was left out is");
}

/*
 * Returns how many of n are said, one each ms, whose reasons take turns.
 */
static int
count_said(int n, int reasons)
{
	Seldom seldom = {0};
	int64 unsaid;
	int count = 0;
	int i;

	for (i = 0; i < n; i++)
		count += seldom_must_say(&seldom, 100 + i % reasons, START + i * INT64CONST(1000), &unsaid);
	return count;
}

static void
test_many_reasons(void)
{
	unit_is_int(count_said(50000, 2), 2, "two reasons that take turns are said once each");
	unit_is_int(count_said(50000, 1000), SELDOM_REASONS, "a thousand reasons are not all said");
	unit_is_int(count_said(70000, 1000), 2 * SELDOM_REASONS, "... but others a minute later");
}

void
unit_run(void)
{
	test_one_reason();
	test_many_reasons();
}
