/*
 * clock.c
 *		What time it is, and how much of it has passed.
 *
 * Four clocks, of two types that must not be mixed:
 *
 *		clock_now()		the calendar (TimestampTz): for run_at, expires_at, and
 *						what is stored or shown.  An administrator or NTP may
 *						set it, by an hour or a year, while a dispatcher runs.
 *		clock_mono()	a dispatcher's own (MonoTime): when to poll, to retry,
 *						to end a hold, to issue a token.
 *		clock_wire()	the same, but tests do not speed it up: how long a call
 *						may take.
 *		clock_uptime()	the machine's (MonoTime): how long work or stops take.
 *
 * A dispatcher's clock stands still while the dispatcher does.  Its process
 * may be stopped, wait for a lock or for a standby, or write large answers.
 * Meanwhile what servers send waits in sockets, and must not be judged as
 * late.  So the clock goes on for at most CLOCK_GRACE_MS after the time
 * promised in clock_attended(), and every deadline moves by the rest.
 *
 * A test that must see a minute pass makes clock_now() and clock_mono() run
 * faster (genjob.debug_clock_speed).
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>
#ifdef __linux__
#include <sys/timerfd.h>
#endif
#include <time.h>
#include <unistd.h>

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/settings.h"

#define CLOCK_GRACE_MS 200 /* a turn seldom takes 60 ms */

static TimestampTz started_at = 0;
static MonoTime wire_started_at = 0;

static MonoTime skipped = 0;             /* how long the clock stood still, in all */
static MonoTime promised = PG_INT64_MAX; /* of clock_wire(): it stands still from here on */

/*
 * Returns microseconds since the machine started.  Signal handlers may call
 * it.
 */
MonoTime
clock_uptime(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

/*
 * Returns the microseconds that this thread was on a processor.
 */
int64
clock_processor(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

/*
 * Starts a dispatcher's clock.
 */
void
clock_init(void)
{
	started_at = GetCurrentTimestamp();
	wire_started_at = clock_uptime();
	clock_attended(0);
}

/*
 * Returns when the clock was started, for clock_join().
 */
TimestampTz
clock_started_at(void)
{
	return started_at;
}

/*
 * Makes this process's calendar agree with that of the process whose clock was
 * started at other_started_at.
 */
void
clock_join(TimestampTz other_started_at)
{
	started_at = other_started_at;
}

/*
 * Returns the calendar time.
 */
TimestampTz
clock_now(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (genjob_debug_clock_speed == 1.0 || started_at == 0)
		return now;
	return started_at + (TimestampTz) ((now - started_at) * genjob_debug_clock_speed);
}

#ifdef TFD_TIMER_CANCEL_ON_SET

/*
 * Sets a timer to a time that never comes.  The kernel cancels it when the
 * calendar is set.
 */
static bool
arm_calendar(int fd)
{
	const struct itimerspec never = {.it_value.tv_sec = LONG_MAX};

	return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) == 0;
}

/*
 * Returns a descriptor that becomes readable when the calendar is set (not
 * when NTP slews it); clock_take_set() makes it wait for the next time.  -1:
 * the system has none.
 */
int
clock_watch_calendar(void)
{
	int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);

	if (fd < 0 || arm_calendar(fd))
		return fd;
	close(fd);
	return -1;
}

/*
 * True if the calendar was set since the last call.
 */
bool
clock_take_set(int fd)
{
	uint64 n;

	if (read(fd, &n, sizeof(n)) >= 0 || errno != ECANCELED)
		return false;
	(void) arm_calendar(fd);
	return true;
}

#else

int
clock_watch_calendar(void)
{
	return -1;
}

bool
clock_take_set(int fd)
{
	return false;
}

#endif

/*
 * Returns the time for calls: as clock_mono(), but tests do not speed it up.
 */
MonoTime
clock_wire(void)
{
	return Min(clock_uptime() - skipped, promised);
}

/*
 * Returns the time by which a dispatcher decides.
 */
MonoTime
clock_mono(void)
{
	MonoTime now = clock_wire();

	if (genjob_debug_clock_speed == 1.0)
		return now;
	return wire_started_at + (MonoTime) ((now - wire_started_at) * genjob_debug_clock_speed);
}

/*
 * Notes that all sockets have been served, and will be served again in
 * next_ms, or as soon as there is something to do.  If this call comes later
 * than the last one promised, the dispatcher's clock stood still meanwhile.
 */
void
clock_attended(long next_ms)
{
	MonoTime now = clock_uptime() - skipped;

	if (now > promised)
	{
		skipped += now - promised;
		now = promised;
	}
	promised = now + (Max(next_ms, 0) + CLOCK_GRACE_MS) * INT64CONST(1000);
}

/*
 * Returns how long the dispatcher's clock has stood still in all.
 */
MonoTime
clock_stall(void)
{
	return Max(skipped, clock_uptime() - promised);
}

/*
 * Converts a calendar time to clock_mono().  Wrong as soon as the calendar is
 * set again.
 */
MonoTime
clock_mono_at(TimestampTz time)
{
	if (TIMESTAMP_NOT_FINITE(time))
		return TIMESTAMP_IS_NOBEGIN(time) ? MONO_EARLIEST : PG_INT64_MAX;
	return clock_mono() + (time - clock_now());
}

/*
 * Converts a time of clock_mono() to the calendar as it is set now.
 */
TimestampTz
clock_wall_at(MonoTime time)
{
	return clock_now() + (time - clock_mono());
}

/*
 * Returns how many ms lie between two moments, rounded up; 0 if the second comes first.
 */
long
clock_ms_between(MonoTime from, MonoTime to)
{
	int64 us = to - from;

	return us <= 0 ? 0 : (long) Min((us + 999) / 1000, INT_MAX);
}

/*
 * As clock_ms_between() for two times of clock_mono(), but in ms of the real
 * world.
 */
long
clock_real_ms(MonoTime from, MonoTime to)
{
	long ms = clock_ms_between(from, to);

	return genjob_debug_clock_speed == 1.0 ? ms : (long) ceil(ms / genjob_debug_clock_speed);
}
