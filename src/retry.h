/*
 * retry.h
 *		When to try again.
 */
#ifndef GENJOB_RETRY_H
#define GENJOB_RETRY_H

#define RETRY_AFTER_MAX_MS INT64CONST(86400000) /* what a server may ask for at most */

extern bool retry_is_worthwhile(int http_status);
extern int64 retry_delay(int64 base_ms, int64 max_ms, int failures, double random);
extern int64 retry_after_ms(const char *value, int64 now_unix);

#endif /* GENJOB_RETRY_H */
