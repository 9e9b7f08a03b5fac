/*
 * retry.h
 *		When to try again.
 */
#ifndef GENJOB_RETRY_H
#define GENJOB_RETRY_H

extern bool retry_is_worthwhile(int http_status);
extern bool retry_may_be_accepted(int http_status);
extern bool retry_leaves_doubt(int http_status);
extern int64 retry_delay(int64 base_ms, int64 max_ms, int failures, double random);

#endif /* GENJOB_RETRY_H */
