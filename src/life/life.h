/*
 * life.h
 *		A claimed job's life: what moves it on.
 */
#ifndef GENJOB_LIFE_H
#define GENJOB_LIFE_H

#include "life/job.h"

/* A job was claimed, or an earlier dispatcher left it running */
extern void life_start(Job *job);
extern void life_give_back(Job *job);

/* Asks another process to build a job's request; false: build it here */
typedef bool (*LifeBuilder)(Job *job);
extern void life_set_builder(LifeBuilder builder);
extern void life_built(Job *job, HttpRequest *http, const ErrorData *error);
extern void life_build_here(Job *job);

/* A call has ended; call is the tag from http_take_finished() */
extern void life_answered(void *call, HttpReply *reply);
extern void life_poured(void *call);
extern ReplySource life_source(const Job *job);
extern bool life_judges_here(const Call *call, const HttpReply *reply);
extern bool life_can_do_without(const Call *call);
extern Verdict *life_judge(JobStep step, const ReplySource *source, HttpReply *reply,
						   Remote *remote);

/* Another process has read and judged what the row had saved */
extern Verdict *life_judge_saved(const ReplySource *source, Remote *remote);
extern void life_resumed(Job *job, Judged *judged);

/* Time has passed */
extern void life_wake_due(MonoTime now);
extern void life_wake(MonoTime now);
extern void life_rescue(bool is_last);
extern int life_count_storing(void);
extern MonoTime life_next_rescue(void);
extern MonoTime life_next_wake(MonoTime now);
extern void life_wake_cancels(MonoTime now);

/* The row was written, or it no longer belongs to this attempt */
extern void life_saved(Job *job);

/*
 * The row was cancelled or deleted; or it is final, but its prediction still
 * runs
 */
extern void life_cancel(Job *job);
extern void life_cancel_reported(Job *job);

extern const char *life_step_name(JobStep step);

#endif /* GENJOB_LIFE_H */
