/*
 * retry.c
 *		When to try again: pure functions of what they are given.
 */
#include "postgres.h"

#include <time.h>

#include "retry.h"


/*
 * Whether another attempt may end otherwise: what says "not now", not what says "not this".
 */
bool
retry_is_worthwhile(int http_status)
{
	switch (http_status)
	{
		case 408: /* Request Timeout */
		case 425: /* Too Early */
		case 429: /* Too Many Requests */
		case 500: /* Internal Server Error */
		case 502: /* Bad Gateway */
		case 503: /* Service Unavailable */
		case 504: /* Gateway Timeout */
		case 529: /* Site is overloaded (Anthropic, others) */
			return true;
		default:
			return false;
	}
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

/*
 * The ms that a Retry-After header asks for: seconds (also with a fraction), or a date in the
 * preferred format of RFC 9110, 5.6.7.  -1 when value is neither; never more than a day.
 */
int64
retry_after_ms(const char *value, int64 now_unix)
{
	struct tm date;
	char *end;
	double seconds = strtod(value, &end);

	while (*end == ' ')
		end++;
	if (end != value && *end == '\0')
	{
		if (!(seconds >= 0))
			return -1;
		return seconds > RETRY_AFTER_MAX_MS / 1000 ? RETRY_AFTER_MAX_MS : (int64) (seconds * 1000);
	}
	memset(&date, 0, sizeof(date));
	end = strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &date);
	if (end == NULL || *end != '\0')
		return -1;
	return Max(0, Min((timegm(&date) - now_unix) * 1000, RETRY_AFTER_MAX_MS));
}
