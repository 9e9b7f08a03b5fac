/*
 * pace.c
 *		The first question about a prediction follows what predictions take, and is not held up by late questions.
 */
#include "unit.h"

#include "limits/pace.h"

#define TENTH(elapsed) Max(1000, (elapsed) / 10)

/*
 * Plays n predictions that take duration_ms each, asked about first when the pace says, then a tenth later each time;
 * lag_ms: how late a question comes.
 */
static void
play(PollPace *pace, int n, int64 duration_ms, int64 lag_ms)
{
	while (n-- > 0)
	{
		int64 elapsed = Max(1000, (int64) pace->first_ms) + lag_ms;
		bool is_first = true;

		while (elapsed < duration_ms)
		{
			elapsed += TENTH(elapsed) + lag_ms;
			is_first = false;
		}
		pace_note_end(pace, elapsed, is_first);
	}
}

static void
test_first(void)
{
	PollPace pace = {0};

	play(&pace, 100, 10000, 0);
	unit_is_near(pace.first_ms, 8000, 1500, "predictions of 10 s are first asked about after 8 s");
	play(&pace, 20, 1000, 0);
	unit_ok(pace.first_ms <= 1000, "twenty of 1 s later they are after 1 s: %f", pace.first_ms);
	play(&pace, 200, 60000, 0);
	unit_is_near(pace.first_ms, 48000, 8000, "and those of 60 s after 48 s");
	play(&pace, 40, 1000, 500);
	unit_ok(pace.first_ms <= 2100,
			"late questions keep it up by no more than that they are late: %f", pace.first_ms);
}

/* All of a batch are asked at the time that was right for the one before: that is one step, not one for each. */
static void
test_batch(void)
{
	PollPace pace = {.first_ms = 8000};
	int i;

	for (i = 0; i < 3000; i++)
		pace_note_end(&pace, 8000, true);
	unit_is_near(pace.first_ms, 6400, 1, "a batch that is late moves it once");
	pace_note_end(&pace, 0, true);
	unit_ok(pace.first_ms > 0, "it stays above nothing");
}

static void
test_window(void)
{
	PollPace pace = {0};
	int i;

	unit_is_int(pace_window(&pace), PACE_WINDOW_FIRST, "it begins so");
	pace_answered(&pace, false);
	unit_is_int(pace_window(&pace), PACE_WINDOW_FIRST, "what is not used does not grow");
	for (i = 0; i < 1000; i++)
		pace_answered(&pace, true);
	unit_is_int(pace_window(&pace), PACE_WINDOW_MAX, "what is used grows, up to so many");
	pace_refused(&pace);
	unit_is_int(pace_window(&pace), PACE_WINDOW_MAX / 2, "a refusal halves it");
	for (i = 0; i < 20; i++)
		pace_refused(&pace);
	unit_is_int(pace_window(&pace), PACE_WINDOW_MIN, "one is always left");
	pace_answered(&pace, true);
	unit_is_int(pace_window(&pace), PACE_WINDOW_MIN + 1, "and it grows again");
}

void
unit_run(void)
{
	test_first();
	test_batch();
	test_window();
}
