/*
 * bound.c
 *		Jobs that only their own server may run: each is on one list, and leaves it in the order it came.
 */
#include "unit.h"

#include "schedule/bound.h"

static void
test_lists(void)
{
	dlist_head one;
	dlist_head other;
	int64 ids[3] = {0};

	dlist_init(&one);
	dlist_init(&other);
	unit_ok(!bound_has(1), "before there was any");
	bound_remove(1);
	bound_add(&one, 1);
	bound_add(&one, PG_INT64_MIN);
	bound_add(&one, 3);
	bound_add(&other, 4);
	bound_add(&other, 1);
	unit_ok(bound_has(1) && bound_has(PG_INT64_MIN) && !bound_has(2), "who is on a list");
	unit_is_int(bound_take(&other, ids, 3), 1, "who is on one list gets on no other");
	unit_is_int(ids[0], 4, "... so this is the other list's");
	unit_is_int(bound_take(&one, ids, 2), 2, "no more are taken than were asked for");
	unit_ok(ids[0] == 1 && ids[1] == PG_INT64_MIN, "... first come, first served");
	unit_ok(!bound_has(1) && bound_has(3), "who is taken is on no list any more");
	bound_remove(3);
	unit_is_int(bound_take(&one, ids, 3), 0, "nor is who was removed");
	bound_add(&other, 3);
	unit_is_int(bound_take(&other, ids, 3), 1, "who was removed may come again");
}

void
unit_run(void)
{
	test_lists();
}
