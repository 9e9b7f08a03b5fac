/*
 * retry.c
 *		How long is waited before another attempt, and which statuses are worth one.
 */
#include "unit.h"

#include "base/retry.h"

typedef struct StatusCase
{
	int status;
	bool is_worthwhile;
	bool may_be_accepted;
	bool leaves_doubt;
} StatusCase;

static const StatusCase statuses[] = {
	{400, false, false, false}, {401, false, false, true},  {402, false, false, false},
	{403, false, false, true},  {404, false, false, false}, {408, true, false, false},
	{409, true, false, true},   {410, false, false, false}, {413, false, false, false},
	{422, false, false, false}, {425, true, false, false},  {429, true, false, true},
	{500, true, false, false},  {501, true, false, false},  {502, true, true, false},
	{503, true, false, true},   {504, true, true, false},   {520, true, true, false},
	{522, true, true, false},   {524, true, true, false},   {529, true, false, true},
	{598, true, false, false},
};

static void
test_statuses(void)
{
	int i;

	for (i = 0; i < lengthof(statuses); i++)
	{
		const StatusCase *c = &statuses[i];

		unit_is_int(retry_is_worthwhile(c->status), c->is_worthwhile, "%d is tried again",
					c->status);
		unit_is_int(retry_may_be_accepted(c->status), c->may_be_accepted,
					"%d may hide that the call was taken", c->status);
		unit_is_int(retry_leaves_doubt(c->status), c->leaves_doubt,
					"%d says nothing of the call before", c->status);
	}
}

static void
test_delay(void)
{
	int failures;

	unit_is_int(retry_delay(1000, 60000, 1, 0.0), 0, "the least delay is none");
	unit_is_int(retry_delay(1000, 60000, 1, 0.999999), 1000, "the first is at most the base");
	unit_is_int(retry_delay(1000, 60000, 3, 0.999999), 4000, "it doubles");
	unit_is_int(retry_delay(1000, 60000, 3, 0.5), 2000, "it is spread evenly");
	unit_is_int(retry_delay(5000, 1000, 1, 0.999999), 1000, "a base above the most is cut");
	for (failures = 1; failures < 10000; failures = failures * 3 + 1)
		unit_ok(retry_delay(1000, 60000, failures, 0.999999) <= 60000,
				"after %d failures it is at most the most", failures);
	unit_ok(retry_delay(1, PG_INT64_MAX / 4, PG_INT32_MAX, 0.999) >= 0, "no overflow");
}

void
unit_run(void)
{
	test_statuses();
	test_delay();
}
