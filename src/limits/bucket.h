/*
 * bucket.h
 *		A token bucket: limits calls a second (rate), and calls at once (burst).
 */
#ifndef GENJOB_BUCKET_H
#define GENJOB_BUCKET_H

#include "base/clock.h"

typedef struct TokenBucket
{
	double per_second; /* 0: there is no limit */
	double burst;      /* tokens at most */
	double tokens;     /* as of filled_at */
	MonoTime filled_at;
} TokenBucket;

extern void bucket_set(TokenBucket *bucket, double per_second, double burst, MonoTime now);
extern int bucket_room(TokenBucket *bucket, MonoTime now);
extern void bucket_take(TokenBucket *bucket);
extern void bucket_give_back(TokenBucket *bucket);
extern MonoTime bucket_next(const TokenBucket *bucket);

#endif /* GENJOB_BUCKET_H */
