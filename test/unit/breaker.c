/*
 * breaker.c
 *		A circuit breaker opens after failures in a row, lets one probe through, and closes with an answer.
 */
#include "unit.h"

#include "limits/breaker.h"

#define BASE 1000 /* ms */
#define MOST 60000

static void
fail(Breaker *breaker, int times, MonoTime now)
{
	while (times-- > 0)
		breaker_failed(breaker, false, BASE, MOST, now);
}

static void
test_opening(void)
{
	Breaker breaker = {0};
	MonoTime now = 1000 * USECS_PER_SEC;

	fail(&breaker, BREAKER_THRESHOLD - 1, now);
	unit_ok(!breaker.is_open, "one failure less than the threshold leaves it closed");
	breaker_succeeded(&breaker);
	fail(&breaker, BREAKER_THRESHOLD - 1, now);
	unit_ok(!breaker.is_open, "a success between them begins the count anew");
	fail(&breaker, 1, now);
	unit_ok(breaker.is_open, "that many in a row open it");
	unit_is_int(breaker_room(&breaker, now), 0, "open: no call");
	unit_ok(breaker.until > now, "... until a later time");
	unit_is_int(breaker_room(&breaker, breaker.until), 1, "then one call");
}

static void
test_probing(void)
{
	Breaker breaker = {0};
	MonoTime now = 1000 * USECS_PER_SEC;
	int64 delay;
	int i;

	fail(&breaker, BREAKER_THRESHOLD, now);
	now = breaker.until;
	unit_ok(breaker_begin(&breaker), "the call that begins now is the probe");
	unit_is_int(breaker_room(&breaker, now), 0, "beside the probe there is no other");
	delay = breaker.delay;
	breaker_failed(&breaker, true, BASE, MOST, now);
	unit_is_int(breaker.delay, 2 * delay, "a probe that fails doubles the delay");
	unit_is_int(breaker_room(&breaker, now), 0, "... and nothing goes before that");
	for (i = 0; i < 50; i++)
	{
		now = breaker.until;
		breaker_begin(&breaker);
		breaker_failed(&breaker, true, BASE, MOST, now);
	}
	unit_ok(breaker.delay <= MOST, "the delay is bounded");
	now = breaker.until;
	breaker_begin(&breaker);
	breaker_succeeded(&breaker);
	unit_ok(!breaker.is_open && breaker.failures == 0, "a probe that is answered closes it");
}

static void
test_probe_without_outcome(void)
{
	Breaker breaker = {0};
	MonoTime now = 1000 * USECS_PER_SEC;

	fail(&breaker, BREAKER_THRESHOLD, now);
	now = breaker.until;
	breaker_begin(&breaker);
	breaker_probe_ended(&breaker);
	unit_is_int(breaker_room(&breaker, now), 1, "a probe that was cut leaves its turn to another");
}

void
unit_run(void)
{
	test_opening();
	test_probing();
	test_probe_without_outcome();
}
