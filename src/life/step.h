/*
 * step.h
 *		The steps of a job's life, for the files of this folder: what each offers, and what it returns.
 *
 * The functions of a step return what comes next, and call no other step: drive.c carries it out.  They run in the
 * memory context of the job, except build(), which runs in that of the call.
 */
#ifndef GENJOB_STEP_H
#define GENJOB_STEP_H

#include "life/job.h"

typedef enum NextKind
{
	NEXT_STAY,  /* the job stays as it is; if until is set, its present step is woken then */
	NEXT_CALL,  /* step's call begins now */
	NEXT_LINE,  /* step's call begins when it is the job's turn in the line of its server */
	NEXT_WAIT,  /* step is woken at until; what the call has brought is freed, except outputs */
	NEXT_SAVE,  /* verdict is written into the row, whose state stays as it is; then step goes on */
	NEXT_GO_ON, /* the row is written; step goes on with the call that ran meanwhile */
	NEXT_VERDICT, /* verdict has come: it is saved, dealt with by another step, or reported */
	NEXT_REPORT,  /* verdict ends the attempt */
	NEXT_GONE     /* nothing is left to do: the Job is freed */
} NextKind;

/* What comes next in a job's life. */
typedef struct Next
{
	NextKind kind;
	JobStep step;   /* NEXT_CALL, NEXT_LINE, NEXT_WAIT, NEXT_SAVE, NEXT_GO_ON */
	MonoTime until; /* NEXT_WAIT, NEXT_STAY */
	Verdict *verdict; /* NEXT_SAVE, NEXT_VERDICT, NEXT_REPORT; lives as long as the job, or its call */
} Next;

/*
 * What a step offers.  All but the name may be missing.
 */
typedef struct Step
{
	const char *name;
	ActivityPhase phase; /* what genjob.activity shows while its call is under way */
	bool only_asks; /* cutting its call loses nothing; it counts against the budget of questions */
	bool is_beside; /* its call runs beside the call of the job's step */
	bool may_be_judged_apart; /* a writer may judge a large answer, by judge() or in process/writer.c */
	bool counts_crashes; /* crashes during its calls are counted, so that it is given up (cuts.c) */
	bool needs_no_body;  /* a large answer is not worth reading: its status is enough */
	void (*line_up)(Job *job); /* puts the job into its server's line; it is admitted there */

	/* Work that job->verdict needs before it is reported */
	bool (*is_due)(const Job *job);
	Next (*begin)(Job *job);

	/*
	 * Builds the call in its memory context.  Returns NULL if there is no call
	 * to make; *why may then say why, as a sentence.  unbuilt() gets *why, or
	 * the error that build() raised.  If unbuilt is missing, the job fails
	 * with that text.
	 */
	HttpRequest *(*build)(Job *job, char **why);
	Next (*unbuilt)(Job *job, const char *why, const ErrorData *error);
	Next (*given_up)(Job *job, const char *why); /* the call crashes PostgreSQL, again and again: it
													is not made; missing: the job fails */
	Next (*starved)(
		Job *job); /* no memory was left to begin the call; missing: it begins in a second */
	Next (*began)(Job *job); /* the call is under way */

	Next (*answered)(Job *job, HttpReply *reply); /* the call has ended */
	Verdict *(*judge)(const ReplySource *source, HttpReply *reply,
					  Remote *remote); /* judges for answered(); another process may run it */
	Next (*uploaded)(Job *job);        /* a call of its upload has ended */
	Next (*woken)(Job *job);    /* the alarm has come; missing: the call begins, or lines up */
	Next (*admitted)(Job *job); /* it is its turn in the line; missing: the call begins */
	Next (*saved)(
		Job *job); /* the row is written, or is not the job's any more: see job->write.outcome */
} Step;

/* steps.c */
extern const Step steps_table[JOB_STEPS];

/* next.c */
extern Next next_stay(void);
extern Next next_stay_until(MonoTime until);
extern Next next_call(JobStep step);
extern Next next_submit(const Job *job);
extern Next next_line(JobStep step);
extern Next next_wait(JobStep step, MonoTime until);
extern Next next_save(JobStep step, Verdict *verdict);
extern Next next_go_on(JobStep step);
extern Next next_verdict(Verdict *verdict);
extern Next next_report(Verdict *verdict);
extern Next next_fail(Job *job, const char *error);
extern Next next_gone(void);

/* submit.c */
extern HttpRequest *submit_build(Job *job, char **why);
extern void submit_built(Job *job);
extern Next submit_unbuilt(Job *job, const char *why, const ErrorData *error);
extern Next submit_starved(Job *job);
extern Next submit_answered(Job *job, HttpReply *reply);

/* fetch.c: stored objects that the request needs, before it is sent */
extern HttpRequest *fetch_build(Job *job, char **why);
extern Next fetch_unbuilt(Job *job, const char *why, const ErrorData *error);
extern Next fetch_starved(Job *job);
extern Next fetch_answered(Job *job, HttpReply *reply);
extern Next fetch_woken(Job *job);
extern Next fetch_saved(Job *job);
extern Next fetch_give_back(Job *job);

/* progress.c: how far a submission is, asked beside it */
extern Next progress_expect(Job *job);
extern Next progress_woken(Job *job);
extern HttpRequest *progress_build(Job *job, char **why);
extern Next progress_unbuilt(Job *job, const char *why, const ErrorData *error);
extern Next progress_starved(Job *job);
extern Next progress_answered(Job *job, HttpReply *reply);
extern void progress_end(Job *job);

/* lookup.c: whether a submission without an answer arrived */
extern bool lookup_comes_first(const Job *job);
extern bool lookup_is_due(const Job *job);
extern Next lookup_begin(Job *job);
extern HttpRequest *lookup_build(Job *job, char **why);
extern Next lookup_unbuilt(Job *job, const char *why, const ErrorData *error);
extern Next lookup_given_up(Job *job, const char *why);
extern Next lookup_answered(Job *job, HttpReply *reply);

/* poll.c: a prediction that the provider works on */
extern bool poll_is_due(const Job *job);
extern Next poll_begin(Job *job);
extern Next poll_woken(Job *job);
extern HttpRequest *poll_build(Job *job, char **why);
extern HttpRequest *poll_build_result(Job *job, char **why);
extern Next poll_unbuilt(Job *job, const char *why, const ErrorData *error);
extern Next poll_answered(Job *job, HttpReply *reply);
extern Next poll_answered_result(Job *job, HttpReply *reply);
extern Verdict *poll_judge(const ReplySource *source, HttpReply *reply, Remote *remote);
extern Verdict *poll_judge_result(const ReplySource *source, HttpReply *reply, Remote *remote);

/* download.c: outputs that are URLs */
extern bool download_is_due(const Job *job);
extern Next download_begin(Job *job);
extern HttpRequest *download_build(Job *job, char **why);
extern Next download_unbuilt(Job *job, const char *why, const ErrorData *error);
extern Next download_given_up(Job *job, const char *why);
extern Next download_answered(Job *job, HttpReply *reply);
extern Next download_woken(Job *job);

/* store.c: outputs that go to an object store */
extern bool store_is_due(const Job *job);
extern Next store_begin(Job *job);
extern HttpRequest *store_build(Job *job, char **why);
extern Next store_unbuilt(Job *job, const char *why, const ErrorData *error);
extern Next store_given_up(Job *job, const char *why);
extern Next store_starved(Job *job);
extern Next store_answered(Job *job, HttpReply *reply);
extern Next store_woken(Job *job);
extern Next store_uploaded(Job *job);
extern Next store_rescue(Job *job);

/* cancel.c: tells the provider to cancel a prediction */
extern Next cancel_begin(Job *job);
extern Next cancel_resume(Job *job);
extern HttpRequest *cancel_build(Job *job, char **why);
extern Next cancel_unbuilt(Job *job, const char *why, const ErrorData *error);
extern Next cancel_given_up(Job *job, const char *why);
extern Next cancel_starved(Job *job);
extern Next cancel_answered(Job *job, HttpReply *reply);
extern Next cancel_admitted(Job *job);
extern Next cancel_saved(Job *job);

/* resume.c: jobs that an earlier dispatcher has begun */
extern Next resume_begin(Job *job);

#endif /* GENJOB_STEP_H */
