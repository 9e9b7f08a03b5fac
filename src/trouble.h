/*
 * trouble.h
 *		What a dispatcher does when the database refuses.
 */
#ifndef GENJOB_TROUBLE_H
#define GENJOB_TROUBLE_H

#define TROUBLE_MIN_MS 100
#define TROUBLE_MAX_MS 30000

extern bool trouble_blames_row(const ErrorData *error);
extern int64 trouble_backoff_us(int failures);
extern void trouble_show(const char *what, const ErrorData *error);
extern void trouble_show_job(const char *what, int64 job, const ErrorData *error);

#endif /* GENJOB_TROUBLE_H */
