/*
 * breaker.c
 *		A circuit breaker opens after failures in a row or at a word of the server, lets one probe through at a time,
 *		and closes with what gets through.
 */
#include "unit.h"

#include "limits/breaker.h"

static const Backoff pace = {1000, 60000};

static void
fail(Breaker *breaker, BreakerReason reason, int64 job, bool was_probe, int64 asked_ms,
	 MonoTime now)
{
	BreakerFailure failure = {.reason = reason,
							  .job = job,
							  .is_of_job = reason == BREAKER_FAILING,
							  .was_probe = was_probe,
							  .asked_ms = asked_ms,
							  .pace = &pace,
							  .random = 1};

	breaker_failed(breaker, &failure, now);
}

/* A row of failures of closed breaker: does it open, and why? */
typedef struct OpeningCase
{
	const char *what;
	BreakerReason reason;
	int n;
	int n_jobs; /* that they are of, by turns */
	bool opens;
} OpeningCase;

static const OpeningCase openings[] = {
	{"one call that does not get there", BREAKER_UNREACHABLE, 1, 1, false},
	{"four calls", BREAKER_UNREACHABLE, 4, 4, false},
	{"five calls", BREAKER_UNREACHABLE, 5, 5, true},
	{"five calls of one job", BREAKER_UNREACHABLE, 5, 1, true},
	{"fifty failures of one job", BREAKER_FAILING, 50, 1, false},
	{"fifty failures of four jobs", BREAKER_FAILING, 50, 4, false},
	{"failures of five jobs", BREAKER_FAILING, 5, 5, true},
	{"one word that it is busy", BREAKER_BUSY, 1, 1, true},
	{"one word that its quota is used up", BREAKER_STUCK, 1, 1, true},
};

static void
test_cut(void)
{
	MonoTime now = 1000 * USECS_PER_SEC;
	Breaker breaker = {0};
	int i;

	breaker_cut(&breaker);
	for (i = 0; i < BREAKER_THRESHOLD - 1; i++)
	{
		unit_ok(!breaker.is_open, "a call that is cut, and %d that do not get there", i);
		fail(&breaker, BREAKER_UNREACHABLE, 1, false, 0, now);
	}
	unit_ok(breaker.is_open, "a call that is cut, and four that do not get there");
	breaker_cut(&breaker);
	unit_ok(!breaker.is_open, "one that got there closes it");
	for (i = 0; i < 50; i++)
		breaker_cut(&breaker);
	unit_ok(!breaker.is_open, "fifty calls that are cut");
}

static void
test_opening(void)
{
	MonoTime now = 1000 * USECS_PER_SEC;
	int i;
	int j;

	for (i = 0; i < lengthof(openings); i++)
	{
		const OpeningCase *c = &openings[i];
		Breaker breaker = {0};

		for (j = 0; j < c->n; j++)
			fail(&breaker, c->reason, j % c->n_jobs, false, 0, now);
		unit_is_int(breaker.is_open, c->opens, "%s: opens", c->what);
		if (!c->opens)
			continue;
		unit_is_int(breaker.reason, c->reason, "%s: the reason", c->what);
		unit_is_int(breaker_room(&breaker, now), 0, "%s: no call now", c->what);
		unit_is_int(breaker_room(&breaker, breaker.until), 1, "%s: then one", c->what);
	}
}

static void
test_row_is_broken(void)
{
	Breaker breaker = {0};
	MonoTime now = 1000 * USECS_PER_SEC;
	int i;

	for (i = 0; i < 4; i++)
		fail(&breaker, BREAKER_UNREACHABLE, i, false, 0, now);
	breaker_answered(&breaker, false, now);
	for (i = 0; i < 4; i++)
		fail(&breaker, BREAKER_UNREACHABLE, i, false, 0, now);
	unit_ok(!breaker.is_open, "any answer between them starts the count of calls again");
	for (i = 0; i < 4; i++)
		fail(&breaker, BREAKER_FAILING, i, false, 0, now);
	breaker_answered(&breaker, false, now);
	fail(&breaker, BREAKER_FAILING, 4, false, 0, now);
	unit_ok(breaker.is_open, "an answer to a question does not start the count of jobs again");
}

static void
test_probing(BreakerReason reason, const char *what)
{
	Breaker breaker = {0};
	MonoTime now = 1000 * USECS_PER_SEC;
	int64 delay = 1000;
	int i;

	for (i = 0; i < BREAKER_THRESHOLD; i++)
		fail(&breaker, reason, i, false, 0, now);
	for (i = 0; i < 50; i++)
	{
		unit_is_int(breaker.until - now, delay * 1000, "%s: pause %d", what, i);
		now = breaker.until;
		unit_ok(breaker_begin(&breaker), "%s: the call that begins then is the probe", what);
		unit_is_int(breaker_room(&breaker, now), 0, "%s: beside it there is no other", what);
		fail(&breaker, reason, 99, false, 0, now - 1);
		unit_ok(breaker.until == now, "%s: calls that were under way add nothing", what);
		fail(&breaker, reason, i, true, 0, now);
		breaker_probe_ended(&breaker);
		delay = Min(delay * 2, pace.most);
	}
	now = breaker.until;
	breaker_begin(&breaker);
	breaker_answered(&breaker, true, now);
	breaker_probe_ended(&breaker);
	unit_ok(!breaker.is_open, "%s: a probe that is accepted closes it", what);
	for (i = 0; i < BREAKER_THRESHOLD; i++)
		fail(&breaker, reason, i, false, 0, now);
	unit_is_int(breaker.until - now, 1000 * 1000, "%s: the next time the pause is the first one",
				what);
}

static void
test_probe_without_outcome(void)
{
	Breaker breaker = {0};
	MonoTime now = 1000 * USECS_PER_SEC;

	fail(&breaker, BREAKER_BUSY, 1, false, 0, now);
	now = breaker.until;
	breaker_begin(&breaker);
	breaker_probe_ended(&breaker);
	unit_is_int(breaker_room(&breaker, now), 1, "a probe that was cut leaves its turn to another");
}

static void
test_asked(void)
{
	Breaker breaker = {0};
	MonoTime now = 1000 * USECS_PER_SEC;

	fail(&breaker, BREAKER_BUSY, 1, false, 7000, now);
	unit_is_int(breaker.until - now, 7000 * 1000, "a server that says how long is believed");
	fail(&breaker, BREAKER_BUSY, 2, false, 3000, now);
	unit_is_int(breaker.until - now, 7000 * 1000, "... the longest of several");
	fail(&breaker, BREAKER_BUSY, 2, false, 9000, now);
	unit_is_int(breaker.until - now, 9000 * 1000, "... also of calls that were under way");
}

/* Which answer closes a breaker that is open for that reason? */
typedef struct ClosingCase
{
	BreakerReason reason;
	bool accepts;
	bool began_after;
	bool closes;
} ClosingCase;

static const ClosingCase closings[] = {
	{BREAKER_UNREACHABLE, false, false, true}, {BREAKER_UNREACHABLE, true, true, true},
	{BREAKER_FAILING, false, true, false},     {BREAKER_FAILING, true, false, true},
	{BREAKER_BUSY, false, true, false},        {BREAKER_BUSY, true, false, true},
	{BREAKER_STUCK, true, false, false},       {BREAKER_STUCK, false, true, false},
	{BREAKER_STUCK, true, true, true},
};

static void
test_closing(void)
{
	MonoTime now = 1000 * USECS_PER_SEC;
	int i;
	int j;

	for (i = 0; i < lengthof(closings); i++)
	{
		const ClosingCase *c = &closings[i];
		Breaker breaker = {0};

		for (j = 0; j < BREAKER_THRESHOLD; j++)
			fail(&breaker, c->reason, j, false, 0, now);
		breaker_answered(&breaker, c->accepts, c->began_after ? now + 1 : now - 1);
		unit_is_int(!breaker.is_open, c->closes, "case %d closes", i);
	}
}

static void
test_model_of_one_job(void)
{
	BreakerFailure failure = {.reason = BREAKER_STUCK,
							  .is_of_job = true,
							  .pace = &pace,
							  .random = 1};
	Breaker breaker = {0};
	MonoTime now = 1000 * USECS_PER_SEC;
	int i;

	for (i = 0; i < 20; i++)
		breaker_failed(&breaker, &failure, now);
	unit_ok(!breaker.is_open, "one job whose model is not allowed keeps no other waiting");
	fail(&breaker, BREAKER_BUSY, 1, false, 0, now);
	breaker_failed(&breaker, &failure, now);
	unit_ok(!breaker.is_open, "... and shows that the server takes calls");
	for (i = 1; i < BREAKER_THRESHOLD; i++)
	{
		failure.job = i;
		breaker_failed(&breaker, &failure, now);
	}
	unit_ok(breaker.is_open && breaker.reason == BREAKER_STUCK, "several do");
	now = breaker.until;
	failure.was_probe = breaker_begin(&breaker);
	breaker_failed(&breaker, &failure, now);
	unit_ok(breaker.is_open && breaker.until > now, "... for as long as probes say so");
}

static void
test_worse(void)
{
	Breaker breaker = {0};
	MonoTime now = 1000 * USECS_PER_SEC;

	fail(&breaker, BREAKER_BUSY, 1, false, 0, now);
	fail(&breaker, BREAKER_STUCK, 2, false, 0, now);
	unit_is_int(breaker.reason, BREAKER_STUCK, "that the quota is used up is worse than busy");
	fail(&breaker, BREAKER_BUSY, 3, false, 0, now);
	unit_is_int(breaker.reason, BREAKER_STUCK, "... and not the other way round");
}

void
unit_run(void)
{
	test_opening();
	test_cut();
	test_row_is_broken();
	test_probing(BREAKER_UNREACHABLE, "not reached");
	test_probing(BREAKER_FAILING, "failing");
	test_probing(BREAKER_BUSY, "busy");
	test_probe_without_outcome();
	test_asked();
	test_closing();
	test_model_of_one_job();
	test_worse();
}
