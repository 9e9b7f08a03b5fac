/*
 * followup.h
 *		The follow-ups of jobs that have ended; for ended.c only.
 */
#ifndef GENJOB_FOLLOWUP_H
#define GENJOB_FOLLOWUP_H

extern void followup_begin(void);
extern bool followup_has_notified(void);
extern bool followup_write(const int64 *ids, const int *follow_ups, int n);

/* In ended.c */
extern bool ended_may_notify(void);

#endif /* GENJOB_FOLLOWUP_H */
