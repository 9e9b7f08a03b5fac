/*
 * status.c
 *		What an HTTP status says at each step of a job, and what the option retry_status changes.
 */
#include "unit.h"

#include "base/status.h"

#define T ACTION_TAKE
#define A ACTION_AGAIN
#define D ACTION_DEFER
#define G ACTION_FOLLOW
#define M ACTION_MISS
#define F ACTION_FAIL

typedef struct StatusCase
{
	int status;
	StatusAction submit, poll, result, download, cancel, lookup;
	bool may_be_accepted;
	bool leaves_doubt;
} StatusCase;

static const StatusCase statuses[] = {
	{200, T, T, T, T, T, T, false, false}, {202, T, T, T, T, T, T, false, false},
	{204, T, T, T, T, T, T, false, false}, {302, F, A, A, G, F, A, false, false},
	{307, F, A, A, G, F, A, false, false}, {400, F, A, F, F, F, A, false, false},
	{401, F, A, A, F, A, A, false, true},  {402, F, A, F, F, F, A, false, false},
	{403, F, A, A, F, A, A, false, true},  {404, F, M, M, M, F, M, false, false},
	{408, A, A, A, A, A, A, false, false}, {409, A, A, A, A, F, A, false, true},
	{410, F, M, M, M, F, M, false, false}, {413, F, A, F, F, F, A, false, false},
	{422, F, A, F, F, F, A, false, false}, {425, A, A, A, A, A, A, false, false},
	{429, D, A, A, A, A, A, false, true},  {500, A, A, A, A, A, A, false, false},
	{501, A, A, A, A, A, A, false, false}, {502, A, A, A, A, A, A, true, false},
	{503, D, A, A, A, A, A, false, true},  {504, A, A, A, A, A, A, true, false},
	{505, A, A, A, A, A, A, false, false}, {507, A, A, A, A, A, A, false, false},
	{520, A, A, A, A, A, A, true, false},  {521, A, A, A, A, A, A, false, true},
	{522, A, A, A, A, A, A, true, true},   {523, A, A, A, A, A, A, false, true},
	{524, A, A, A, A, A, A, true, false},  {525, A, A, A, A, A, A, false, true},
	{526, A, A, A, A, A, A, false, true},  {527, A, A, A, A, A, A, false, false},
	{529, D, A, A, A, A, A, false, true},  {530, A, A, A, A, A, A, false, true},
	{598, A, A, A, A, A, A, true, false},  {599, A, A, A, A, A, A, true, false},
};

static void
test_statuses(void)
{
	int i;
	int step;

	for (i = 0; i < lengthof(statuses); i++)
	{
		const StatusCase *c = &statuses[i];
		const StatusAction expected[STATUS_STEPS] = {c->submit,   c->poll,   c->result,
													 c->download, c->cancel, c->lookup};

		for (step = 0; step < STATUS_STEPS; step++)
			unit_is_int(status_action(step, c->status, NULL), expected[step], "%d at step %d",
						c->status, step);
		unit_is_int(status_may_be_accepted(c->status), c->may_be_accepted,
					"%d may hide that the call was taken", c->status);
		unit_is_int(status_leaves_doubt(c->status), c->leaves_doubt,
					"%d says nothing of the call before", c->status);
	}
}

typedef struct SetCase
{
	const char *text;
	int status;
	StatusAction submit;
	StatusAction result;
} SetCase;

static const SetCase sets[] = {
	{"418", 418, A, A},
	{"418", 500, F, A},
	{"418", 429, F, A},
	{"418", 200, T, T},
	{"429, 500-504", 429, D, A},
	{"429, 500-504", 500, A, A},
	{"429, 500-504", 504, A, A},
	{"429, 500-504", 505, F, A},
	{"429,5xx", 599, A, A},
	{"4XX 503", 404, A, M},
	{"4xx", 404, A, M},
	{"4xx", 401, A, A},
	{"", 500, F, A},
	{"409", 409, A, A},
	{"500", 409, F, A},
};

static const char *const wrong[] = {
	"x",    "42",       "4290", "399", "600",     "504-500", "500-",     "500-600",
	"-500", "500--504", "3xx",  "5x",  "429;500", "5xxx",    "500 -504",
};

static void
test_option(void)
{
	StatusSet set;
	int i;

	for (i = 0; i < lengthof(sets); i++)
	{
		const SetCase *c = &sets[i];

		unit_ok(status_read_set(c->text, &set) == NULL, "\"%s\" is right", c->text);
		unit_is_int(status_action(STATUS_OF_SUBMIT, c->status, &set), c->submit,
					"\"%s\": %d to a submission", c->text, c->status);
		unit_is_int(status_action(STATUS_OF_RESULT, c->status, &set), c->result,
					"\"%s\": %d to a result", c->text, c->status);
	}
	for (i = 0; i < lengthof(wrong); i++)
		unit_ok(status_read_set(wrong[i], &set) != NULL, "\"%s\" is wrong", wrong[i]);
	unit_ok(!status_is_in(&set, -1) && !status_is_in(&set, 1000000), "any number may be asked for");
}

void
unit_run(void)
{
	test_statuses();
	test_option();
}
