/*
 * backoff.c
 *		How long is waited when something fails again and again.
 */
#include "unit.h"

#include "base/backoff.h"

typedef struct Case
{
	Backoff backoff;
	int failures; /* before this one */
	int64 delay;
} Case;

static const Case cases[] = {
	{{1000, 60000}, 0, 1000},
	{{1000, 60000}, 1, 2000},
	{{1000, 60000}, 5, 32000},
	{{1000, 60000}, 6, 60000},
	{{1000, 60000}, 1000000000, 60000},
	{{1000, 60000}, PG_INT32_MAX, 60000},
	{{1000, 60000}, -1, 1000},
	{{5000, 1000}, 0, 1000},
	{{5000, 1000}, 3, 1000},
	{{0, 1000}, 3, 0},
	{{1, PG_INT64_MAX}, 62, INT64CONST(1) << 62},
	{{1, PG_INT64_MAX}, 63, PG_INT64_MAX},
	{{1, PG_INT64_MAX}, PG_INT32_MAX, PG_INT64_MAX},
	{{700, 1000}, 1, 1000},
};

static const int schedule[] = {5, 300, 36000, 0};

void
unit_run(void)
{
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		const Case *c = &cases[i];
		int64 halves = backoff_halves(&c->backoff, c->failures, 0);

		unit_is_int(backoff_delay(&c->backoff, c->failures), c->delay, "case %d", i);
		unit_is_int(backoff_spread(&c->backoff, c->failures, 0), 0, "case %d: spread from nothing",
					i);
		unit_is_int(backoff_halves(&c->backoff, c->failures, 1), c->delay, "case %d: up to all", i);
		unit_ok(halves >= c->delay / 2 && halves <= c->delay / 2 + 1, "case %d: from half of it",
				i);
	}
	unit_is_int(backoff_scheduled(schedule, 0, 0), 5000, "the first of a schedule");
	unit_is_int(backoff_scheduled(schedule, 1, 1), 330000, "... up to a tenth more");
	unit_is_int(backoff_scheduled(schedule, 2, 0), 36000000, "the last");
	unit_is_int(backoff_scheduled(schedule, PG_INT32_MAX, 0), 36000000, "... again and again");
	unit_is_int(backoff_spread(&cases[0].backoff, 0, 0.999999), 1000, "full jitter goes up to all");
	unit_is_int(backoff_spread(&cases[0].backoff, 2, 0.5), 2000, "... evenly");
}
