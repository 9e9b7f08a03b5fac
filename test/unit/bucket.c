/*
 * bucket.c
 *		A token bucket lets through its rate, and no more than its burst at once.
 */
#include "unit.h"

#include <limits.h>

#include "limits/bucket.h"

static void
test_rate(void)
{
	TokenBucket bucket = {0};
	MonoTime start = 1000 * USECS_PER_SEC;

	bucket_set(&bucket, 2, 4, start);
	unit_is_int(bucket_room(&bucket, start), 4, "a new bucket is full");
	bucket_take(&bucket);
	bucket_take(&bucket);
	bucket_take(&bucket);
	bucket_take(&bucket);
	unit_is_int(bucket_room(&bucket, start), 0, "then it is empty");
	unit_is_int(bucket_next(&bucket), start + USECS_PER_SEC / 2, "the next token takes 1/rate");
	unit_is_int(bucket_room(&bucket, start + USECS_PER_SEC / 2), 1, "... and is there then");
	unit_is_int(bucket_room(&bucket, start + 3600 * USECS_PER_SEC), 4, "an hour fills it, no more");
	bucket_take(&bucket);
	bucket_give_back(&bucket);
	bucket_give_back(&bucket);
	unit_is_int(bucket_room(&bucket, start + 3600 * USECS_PER_SEC), 4,
				"what is given back does not overflow");
}

static void
test_clock(void)
{
	TokenBucket bucket = {0};
	MonoTime start = 1000 * USECS_PER_SEC;

	bucket_set(&bucket, 1, 1, start);
	bucket_take(&bucket);
	unit_is_int(bucket_room(&bucket, start - USECS_PER_SEC), 0,
				"a clock read before gives nothing");
	unit_is_int(bucket_room(&bucket, start + USECS_PER_SEC), 1, "... and takes nothing");
}

static void
test_change(void)
{
	TokenBucket bucket = {0};

	unit_is_int(bucket_room(&bucket, 5), INT_MAX, "without a rate there is always room");
	unit_is_int(bucket_next(&bucket), 0, "... at once");
	bucket_set(&bucket, 10, 100, 5);
	bucket_set(&bucket, 10, 3, 5);
	unit_is_int(bucket_room(&bucket, 5), 3, "a smaller burst cuts what it holds");
	bucket_set(&bucket, 10, 100, 5);
	unit_is_int(bucket_room(&bucket, 5), 3, "a larger one fills nothing");
}

void
unit_run(void)
{
	test_rate();
	test_clock();
	test_change();
}
