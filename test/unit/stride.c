/*
 * stride.c
 *		Turns in proportion to weights, at every moment; who comes gets no backlog, who was away saved nothing up.
 */
#include "unit.h"

#include "schedule/stride.h"

#define MOST 10 /* shares */

static Stride stride;
static Share shares[MOST];
static int served[MOST];

/*
 * Begins with shares of those weights, up to the first 0; all wait.
 */
static void
begin(const double *weights)
{
	int i;

	stride_init(&stride);
	memset(served, 0, sizeof(served));
	for (i = 0; i < MOST && weights[i] > 0; i++)
	{
		stride_add(&stride, &shares[i], weights[i]);
		stride_set_waiting(&stride, &shares[i], true);
	}
}

/*
 * Serves the next one, who waits again at once; returns which it was, -1: none waits.
 */
static int
serve(void)
{
	Share *next = stride_next(&stride);

	if (next == NULL)
		return -1;
	stride_serve(&stride, next);
	stride_set_waiting(&stride, next, true);
	served[next - shares]++;
	return (int) (next - shares);
}

static void
serve_times(int n)
{
	memset(served, 0, sizeof(served));
	while (n-- > 0)
		serve();
}

static void
test_proportions(void)
{
	static const struct
	{
		double weights[MOST];
		int turns;
		int expected[MOST];
	} cases[] = {
		{{1, 1}, 1000, {500, 500}},
		{{1, 3}, 1000, {250, 750}},
		{{0.5, 1.5}, 1000, {250, 750}},
		{{1, 2, 7}, 1000, {100, 200, 700}},
		{{0.001, 1}, 1001, {1, 1000}},
		{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 5500, {100, 200, 300, 400, 500, 600, 700, 800, 900, 1000}},
		{{3}, 1000, {1000}},
	};
	int i;
	int j;

	for (i = 0; i < lengthof(cases); i++)
	{
		begin(cases[i].weights);
		serve_times(cases[i].turns);
		for (j = 0; j < MOST; j++)
			unit_is_near(served[j], cases[i].expected[j], 1, "case %d, share %d", i, j);
	}
}

/* Not only in the end: nobody is ever a turn ahead of the weight, or behind. */
static void
test_no_bursts(void)
{
	int order[30];
	int worst = 0;
	int n;

	begin((double[MOST]){1, 3});
	for (n = 1; n <= 1000; n++)
	{
		serve();
		worst = Max(worst, abs(4 * served[0] - n));
	}
	unit_ok(worst <= 4, "one of 1 beside one of 3 is off by %d quarters of a turn", worst);
	begin((double[MOST]){1, 1, 1});
	for (n = 0; n < lengthof(order); n++)
		order[n] = serve();
	for (n = 3; n < lengthof(order); n++)
		unit_is_int(order[n], order[n - 3], "equal ones keep their order: turn %d", n);
	unit_ok(order[0] != order[1] && order[1] != order[2] && order[2] != order[0],
			"... and each is in it");
}

static void
test_newcomer(void)
{
	begin((double[MOST]){1});
	serve_times(100);
	stride_add(&stride, &shares[1], 1);
	unit_ok(!shares[1].is_waiting, "who is added does not wait yet");
	stride_set_waiting(&stride, &shares[1], true);
	unit_is_int(serve(), 1, "who is new is next");
	serve_times(10);
	unit_is_int(served[1], 5, "... and has no backlog");
}

static void
test_idle(void)
{
	begin((double[MOST]){1, 1});
	serve_times(10);
	stride_set_waiting(&stride, &shares[1], false);
	serve_times(100);
	unit_is_int(served[1], 0, "who is away gets no turn");
	stride_set_waiting(&stride, &shares[1], true);
	serve_times(10);
	unit_is_int(served[1], 5, "... and has saved none up");
}

/* Who has had a dear turn alone pays it off, even if it goes away meanwhile. */
static void
test_ahead(void)
{
	begin((double[MOST]){0.1, 1});
	stride_set_waiting(&stride, &shares[1], false);
	unit_is_int(serve(), 0, "it has its turn");
	stride_set_waiting(&stride, &shares[0], false);
	unit_ok(!stride_is_even(&stride, &shares[0]), "it is ahead");
	stride_set_waiting(&stride, &shares[1], true);
	stride_set_waiting(&stride, &shares[0], true);
	serve_times(10);
	unit_is_int(served[0], 0, "the other catches up");
	serve_times(11);
	unit_is_int(served[0], 1, "then it is its turn again");
	stride_set_waiting(&stride, &shares[0], false);
	serve_times(12);
	unit_ok(stride_is_even(&stride, &shares[0]), "once the other has caught up, it is even");
	unit_ok(!stride_is_even(&stride, &shares[1]), "who waits is not to be forgotten");
}

static void
test_none(void)
{
	begin((double[MOST]){1});
	stride_set_waiting(&stride, &shares[0], true);
	stride_serve(&stride, &shares[0]);
	unit_ok(stride_next(&stride) == NULL, "who was served waits no more");
	stride_set_waiting(&stride, &shares[0], false);
	unit_ok(stride_next(&stride) == NULL, "nobody waits");
	begin((double[MOST]){0});
	unit_ok(stride_next(&stride) == NULL, "nobody is there");
}

/* Who had a dear turn and gave it back owes nothing. */
static void
test_give_back(void)
{
	int waits;

	for (waits = 0; waits < 2; waits++)
	{
		begin((double[MOST]){0.1, 1});
		stride_set_waiting(&stride, &shares[1], false);
		stride_serve(&stride, &shares[0]);
		if (waits)
			stride_set_waiting(&stride, &shares[0], true);
		stride_give_back(&stride, &shares[0]);
		unit_ok(stride_next(&stride) == (waits ? &shares[0] : NULL), "it waits as before: %d",
				waits);
		stride_set_waiting(&stride, &shares[0], true);
		stride_set_waiting(&stride, &shares[1], true);
		serve_times(11);
		unit_is_int(served[0], 1, "a turn that is given back was not had: %d", waits);
	}
}

static void
test_new_weight(void)
{
	begin((double[MOST]){1, 1});
	serve_times(100);
	stride_set_weight(&stride, &shares[1], 3);
	serve_times(1000);
	unit_is_near(served[1], 750, 1, "a new weight holds from now on");
	begin((double[MOST]){0.001, 1});
	serve_times(2); /* one each */
	stride_set_weight(&stride, &shares[0], 1);
	serve_times(10);
	unit_is_near(served[0], 5, 1, "what it owes, it pays at the new weight");
}

void
unit_run(void)
{
	test_proportions();
	test_no_bursts();
	test_newcomer();
	test_idle();
	test_ahead();
	test_none();
	test_give_back();
	test_new_weight();
}
