/*
 * retry.c
 *		When to try again: pure functions of what they are given.
 */
#include "postgres.h"

#include "base/retry.h"

/*
 * True if another attempt may end otherwise: the status says "not now", not "not this".  The providers' own
 * clients try 408, 409, 429 and all from 500 on again (openai-python, anthropic-sdk-python, fal-client).
 */
bool
retry_is_worthwhile(int http_status)
{
	return http_status >= 500 || http_status == 408 || http_status == 409 || http_status == 425 ||
		   http_status == 429;
}

/*
 * True if a gateway says that it did not get the answer of a server that may have taken the call: 520, 522
 * and 524 are Cloudflare's.
 */
bool
retry_may_be_accepted(int http_status)
{
	return http_status == 502 || http_status == 504 || http_status == 520 || http_status == 522 ||
		   http_status == 524;
}

/*
 * True if a refusal says nothing about an earlier call with the same Idempotency-Key: it came from
 * something that did not look at the key, or (409) that call is still at work.
 */
bool
retry_leaves_doubt(int http_status)
{
	return http_status == 401 || http_status == 403 || http_status == 409 || http_status == 429 ||
		   http_status == 503 || http_status == 529;
}

/*
 * How many ms to wait after that many failures (from 1): exponential with full jitter, that is evenly
 * spread from nothing to base * 2^(failures - 1), at most max.  random is from 0 to below 1.  (Brooker,
 * "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)
 */
int64
retry_delay(int64 base_ms, int64 max_ms, int failures, double random)
{
	int64 ceiling = base_ms;

	while (--failures > 0 && ceiling < max_ms)
		ceiling *= 2;
	return (int64) (random * (Min(ceiling, max_ms) + 1));
}
