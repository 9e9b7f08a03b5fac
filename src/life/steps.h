/*
 * steps.h
 *		What a claimed job does next.
 */
#ifndef GENJOB_STEPS_H
#define GENJOB_STEPS_H

#include "life/job.h"

/* steps.c: from the claim to the verdict, and what it makes of the row */
extern void steps_start(Job *job);
extern void steps_conclude(Job *job, Verdict *verdict);
extern void steps_fail(Job *job, char *error);
extern void steps_saved(Job *job);
extern void steps_reported(Job *job);
extern void steps_submit(Job *job);
extern void steps_give_back(Job *job);
extern void steps_forget_input(Job *job);
extern void steps_simplify(Job *job, bool result, bool usage);
extern RequestSource steps_request_source(const Job *job);
extern ReplySource steps_reply_source(const Job *job, const HttpRequest *request);

/* outcome.c: what a verdict means for the row */
extern void outcome_decide(Job *job);
extern bool outcome_apply_on_unknown(Job *job, Verdict *verdict);

/* download.c: outputs that are URLs */
extern void download_next(Job *job);
extern void download_ended(Job *job, HttpReply *reply);

/* follow.c: a prediction that the provider works on */
extern void follow_wait(Job *job);
extern void follow_answered(void *tag, HttpReply *reply);
extern void follow_wake(MonoTime now);
extern MonoTime follow_next_wake(void);
extern bool follow_can_be_asked(const Job *job);
extern void follow_begin(Job *job, JobStep step, HttpRequest *http, ActivityPhase phase);
extern void follow_begin_question(Job *job, HttpRequest *http);
extern char *follow_split_address(const char *text, const char **places);

/* progress.c: of a call, asked for beside it */

/* What http_take_finished() gives for a call that is not the job's main one has this bit set. */
#define PROBE_TAG 1

extern void progress_submitted(Job *job);
extern void progress_ask(Job *job);
extern void progress_answered(Job *job, HttpReply *reply);

/* cancel.c: telling the provider of what was cancelled or deleted */
extern void cancel_begin(Job *job);
extern void cancel_resume(Job *job);
extern void cancel_saved(Job *job);
extern void cancel_line_up(Job *job);
extern void cancel_work(MonoTime now);
extern MonoTime cancel_next(MonoTime now);
extern char *cancel_describe_delay(const Job *job);
extern int cancel_count_calls(void);
extern int cancel_count_unfinished(void);
extern void cancel_answered(Job *job, HttpReply *reply);

/* lookup.c: a submission of which it is not known whether it arrived */
extern bool lookup_is_due(const Job *job);
extern bool lookup_comes_first(const Job *job);
extern void lookup_begin(Job *job);
extern void lookup_ask(Job *job);
extern void lookup_answered(Job *job, HttpReply *reply);

/* A call that is built of what a provider, or whoever wrote the row, has said. */
typedef struct Building
{
	const Job *job;
	const char *text; /* an address, and perhaps more of them */
	const char *rest; /* behind it */
	Address address;
	HttpRequest *http; /* or NULL: nobody has said where */
	bool is_trusted;   /* with the server's secrets */
} Building;

/* Runs calls_read_secrets(job) in a transaction. */
typedef void (*CallsReadSecrets)(Job *job);

/* calls.c: a job's calls and what they hold */
extern void calls_init(CallsReadSecrets read);
extern void calls_read_secrets(void *job);
extern void calls_build(void *building);
extern bool calls_begin(Job *job, JobStep step, HttpRequest *http);
extern void calls_prepare(Job *job);
extern void calls_forget(Job *job);
extern void calls_doubt_secrets(Job *job);
extern void calls_hold_request(Job *job);
extern void calls_hold_answer(Job *job);
extern void calls_show(Job *job, ActivityPhase phase);

#endif /* GENJOB_STEPS_H */
