/*
 * bucket.c
 *		A token bucket: limits calls a second (rate), and calls at once (burst).  Pure: the caller has the clock.
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "limits/bucket.h"

/*
 * Sets rate and size of the bucket.  A new one begins full; one in use keeps
 * its tokens.
 */
void
bucket_set(TokenBucket *bucket, double per_second, double burst, MonoTime now)
{
	bool is_new = bucket->per_second == 0;

	bucket->per_second = per_second;
	bucket->burst = burst;
	if (is_new)
		bucket->filled_at = now;
	bucket->tokens = is_new ? burst : Min(bucket->tokens, burst);
}

/*
 * Returns how many calls may go now.  now may be a little older than the bucket, because the caller read the clock
 * before the bucket was made.
 */
int
bucket_room(TokenBucket *bucket, MonoTime now)
{
	if (bucket->per_second == 0)
		return INT_MAX;
	if (now > bucket->filled_at)
	{
		bucket->tokens =
			Min(bucket->burst,
				bucket->tokens + bucket->per_second * (now - bucket->filled_at) / USECS_PER_SEC);
		bucket->filled_at = now;
	}
	return bucket->tokens < 1 ? 0 : (int) Min(bucket->tokens, INT_MAX);
}

void
bucket_take(TokenBucket *bucket)
{
	bucket->tokens -= 1;
}

/*
 * Undoes bucket_take() for a call that was not made.
 */
void
bucket_give_back(TokenBucket *bucket)
{
	bucket->tokens = Min(bucket->burst, bucket->tokens + 1);
}

/*
 * Returns when the next call may go; 0: at once.  Call it after bucket_room().
 */
MonoTime
bucket_next(const TokenBucket *bucket)
{
	if (bucket->per_second == 0 || bucket->tokens >= 1)
		return 0;
	return bucket->filled_at +
		   (MonoTime) ceil((1 - bucket->tokens) / bucket->per_second * USECS_PER_SEC);
}
