/*
 * breaker.c
 *		A circuit breaker: what cannot be reached is tried by one call at a time, less and less often.
 *		Pure: the caller has the clock.
 *
 *		closed -(failures in a row)-> open -(time passes, a probe begins)-> probing
 *		   ^                            ^------------(it fails)----------------|
 *		   |------------------------(any call gets an answer)------------------|
 */
#include "postgres.h"

#include <limits.h>

#include "limits/breaker.h"

/*
 * How many calls may begin now, as far as the breaker is concerned.
 */
int
breaker_room(const Breaker *breaker, MonoTime now)
{
	if (!breaker->is_open)
		return INT_MAX;
	return breaker->is_probing || now < breaker->until ? 0 : 1;
}

/*
 * A call begins; whether it is the probe, whose end must be told by breaker_probe_ended().
 */
bool
breaker_begin(Breaker *breaker)
{
	if (!breaker->is_open || breaker->is_probing)
		return false;
	breaker->is_probing = true;
	return true;
}

/*
 * An answer came, of whatever kind.
 */
void
breaker_succeeded(Breaker *breaker)
{
	breaker->failures = 0;
	breaker->is_open = false;
}

/*
 * A call did not reach its server.  Calls that were under way when the breaker opened add nothing; a
 * probe doubles the delay.
 */
void
breaker_failed(Breaker *breaker, bool was_probe, int64 base_ms, int64 max_ms, MonoTime now)
{
	breaker->failures++;
	if (breaker->is_open && !was_probe)
		return;
	if (!breaker->is_open && breaker->failures < BREAKER_THRESHOLD)
		return;
	breaker->delay = breaker->is_open ? Min(breaker->delay * 2, max_ms) : Min(base_ms, max_ms);
	breaker->is_open = true;
	breaker->until = now + breaker->delay * INT64CONST(1000);
}

void
breaker_probe_ended(Breaker *breaker)
{
	breaker->is_probing = false;
}
