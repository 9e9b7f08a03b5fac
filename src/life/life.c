/*
 * life.c
 *		A job's life: what happens to a job, from its claim to its end.
 *
 *		claimed -> calling -> reporting -> written and forgotten
 *		              |                ^
 *		              v                |
 *		            saving -> waiting <-> calling
 *
 * The upper row is a server that answers with the result.  The lower row is a
 * provider that names a prediction: its name is saved in the table before
 * anything else, then the provider is polled until the prediction has ended.
 * If nobody knows whether a submission arrived, the provider is asked first,
 * where it can be asked.  A job that cannot be sent goes from claimed to
 * reporting.  A job whose prediction outlived a crash goes from claimed to
 * waiting.  A job whose row is cancelled goes from any state to cancelling,
 * and never back.
 *
 * Each step has a file, and a row in steps.c.  Its functions return what comes next (step.h), and never call another
 * step; drive.c carries it out.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/marker.h"
#include "base/trace.h"
#include "life/asking.h"
#include "life/calls.h"
#include "life/cancelline.h"
#include "life/drive.h"
#include "life/fetch.h"
#include "life/leftover.h"
#include "life/life.h"
#include "life/postponed.h"
#include "life/pour.h"
#include "life/store.h"
#include "life/sweeps.h"
#include "life/traced.h"
#include "life/upload.h"
#include "life/verdict.h"
#include "protocol/judge.h"
#include "schedule/schedule.h"

/* What life_rescue() left to do. */
typedef struct Rescue
{
	int n_storing; /* jobs whose outputs are on their way into a store */
	MonoTime due;  /* when the first of them must be moved on; 0: when a call has ended */
} Rescue;

static Rescue rescue;

/*
 * Returns what comes first for a job that was just claimed, or that an earlier
 * dispatcher left.
 */
static Next
begin_job(Job *job)
{
	Assert(job->state == JOB_CLAIMED && job->queue != NULL);
	trace("job " INT64_FORMAT " attempt %d: %s, server \"%s\"", job->id, job->attempt,
		  job->request != NULL ? "claimed" : "taken up", NameStr(job->queue->name));
	if (job->waits_for == NULL && job->fetch == NULL)
		postponed_forget(job->id);
	if (job->cancel.stored_at != NULL)
		return cancel_resume(job);
	if (job->request == NULL)
		return resume_begin(job);
	if (job->complaint != NULL)
		return next_fail(job, job->complaint);
	if (job->waits_for != NULL)
		return next_report(postponed_verdict(job));
	if (lookup_comes_first(job))
		return lookup_begin(job);
	return next_submit(job);
}

void
life_start(Job *job)
{
	drive_marked(job, begin_job);
}

/*
 * Starts a job after another process has read its column remote and judged the
 * answer in it.  The caller may free *judged afterwards; what it points to
 * must live as long as the job.
 */
void
life_resumed(Job *job, Judged *judged)
{
	Assert(job->state == JOB_CLAIMED && job->remote.is_unread);
	job->remote = judged->remote;
	job->judged = judged->verdict != NULL || judged->why != NULL ? judged : NULL;
	life_start(job);
}

static Next
given_back(Job *job)
{
	Verdict *verdict = palloc0(sizeof(Verdict));

	verdict->kind = VERDICT_POSTPONE;
	return next_report(verdict);
}

/*
 * Puts a claimed job back into the queue, because its call has not begun and will not.  It does not count as an
 * attempt.
 */
void
life_give_back(Job *job)
{
	Assert(job_is_unsent(job));
	drive_job(job, given_back);
}

/*
 * Goes on with a request that another process has built, or with the error that it raised.
 */
void
life_built(Job *job, HttpRequest *http, const ErrorData *error)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	if (http != NULL)
		submit_built(job);
	marker_begin(job->id, job->attempt);
	if (http != NULL)
		drive_built(job, STEP_SUBMIT, http);
	else
		drive_carry_out(job, submit_unbuilt(job, NULL, error));
	marker_end();
	MemoryContextSwitchTo(caller);
}

static Next
built_again(Job *job)
{
	job->submission.stays_here = true;
	return next_call(STEP_SUBMIT);
}

/*
 * Builds the request in this process after all, because no other process did.
 */
void
life_build_here(Job *job)
{
	drive_marked(job, built_again);
}

/*
 * Handles the end of a call of the job's upload.  If the job's row is being written, the job continues afterwards.
 */
static void
part_answered(Call *call, HttpReply *reply)
{
	Job *job = call->job;
	bool may_go_on = job->state == JOB_CALLING || job->state == JOB_WAITING;

	traced_answer(job, steps_table[STEP_PART].name, reply);
	upload_answered(call, reply);
	if (may_go_on && steps_table[job->step].uploaded != NULL)
		drive_carry_out(job, steps_table[job->step].uploaded(job));
}

static void
call_answered(Call *call, HttpReply *reply)
{
	Job *job = call->job;
	const Step *step = &steps_table[call->step];
	Next next;

	Assert(step->is_beside ||
		   (job->step == call->step &&
			(job->state == JOB_CALLING || job->state == JOB_CANCELLING || pour_is_under_way(job))));
	calls_end(call);
	traced_answer(job, step->name, reply);
	calls_read_status(call, reply);
	if (job->state == JOB_SAVING && !step->is_beside)
	{
		Assert(job->store != NULL);
		job->store->ended = reply;
		return;
	}
	if (!step->is_beside)
		lines_end_call(&job->waiter);
	next = step->answered(job, reply);
	/* other steps may make several calls, and the crash come from one of them */
	if (step->only_asks && call->step != STEP_LOOKUP)
		marker_forget_cuts(job->id, job->attempt, call->step);
	if (step->is_beside)
		MemoryContextReset(call->context);
	drive_carry_out(job, next);
}

/*
 * Moves a job on after one of its calls has ended, as http_take_finished() returned it.
 */
void
life_answered(void *tag, HttpReply *reply)
{
	Call *call = tag;
	MemoryContext caller = CurrentMemoryContext;

	if (call->job == NULL)
	{
		leftover_answered(call, reply);
		return;
	}
	MemoryContextSwitchTo(call->job->context);
	marker_begin(call->job->id, call->job->attempt);
	if (call->step == STEP_PART)
		part_answered(call, reply);
	else
		call_answered(call, reply);
	marker_end();
	MemoryContextSwitchTo(caller);
}

/*
 * A piece of a poured answer is complete.  tag is what http_take_full() set.
 */
void
life_poured(void *tag)
{
	Job *job = ((Call *) tag)->job;

	/* a job in any other state takes the piece later, or drops it */
	if (job->state == JOB_CALLING && job->step == STEP_DOWNLOAD)
		drive_marked(job, pour_go_on);
}

/*
 * True if this process judges the answer, however large it is.  So it does with a store's refusal of an object, which
 * it reads once more.
 */
bool
life_judges_here(const Call *call, const HttpReply *reply)
{
	return !steps_table[call->step].may_be_judged_apart ||
		   (call->step == STEP_FETCH && !reply_is_success(reply)) ||
		   (call->step == STEP_DOWNLOAD && pour_is_under_way(call->job));
}

/*
 * Returns what an answer to the job's present call is judged by.
 */
ReplySource
life_source(const Job *job)
{
	return job->step == STEP_FETCH ? fetch_source(job) : verdict_source(job, job->call.http);
}

/*
 * True if only the status of the call's answer matters.
 */
bool
life_can_do_without(const Call *call)
{
	return steps_table[call->step].needs_no_body;
}

/*
 * Returns what an answer at a step means, in the current memory context, and fills in *remote.  Pure; may raise an
 * error.
 */
Verdict *
life_judge(JobStep step, const ReplySource *source, HttpReply *reply, Remote *remote)
{
	Assert(steps_table[step].judge != NULL);
	return steps_table[step].judge(source, reply, remote);
}

static Next
wake_step(Job *job)
{
	const Step *step = &steps_table[job->step];

	if (step->woken != NULL)
		return step->woken(job);
	return step->line_up ? next_line(job->step) : next_call(job->step);
}

static Next
admit_step(Job *job)
{
	const Step *step = &steps_table[job->step];

	return step->admitted ? step->admitted(job) : next_call(job->step);
}

/*
 * Moves on the jobs whose alarm has come.
 */
void
life_wake_due(MonoTime now)
{
	Job *job;

	while ((job = job_next_to_wake()) != NULL && job->wake_at <= now)
	{
		job_stop_waking(job);
		drive_marked(job, wake_step);
	}
}

/*
 * Moves on the jobs whose alarm has come, and those whose turn it is to ask.
 */
void
life_wake(MonoTime now)
{
	Job *job;

	life_wake_due(now);
	sweeps_work(now);
	while ((job = asking_next(now)) != NULL)
		drive_marked(job, admit_step);
}

/*
 * Moves on a job whose outputs may still reach their store before this process ends.
 */
static void
continue_storing(Job *job, MonoTime now)
{
	rescue.n_storing++;
	if (job->state == JOB_WAITING && job->wake_at <= now)
	{
		job_stop_waking(job);
		drive_marked(job, wake_step);
	}
	if (job->state == JOB_WAITING)
		schedule_note_time(&rescue.due, job->wake_at);
}

/*
 * Saves results that are paid for and only in memory, before this process ends.  What rows cannot keep goes on into a
 * healthy store until is_last, and then into the table of outputs.  Jobs that have not been sent yet go back into the
 * queue.
 */
void
life_rescue(bool is_last)
{
	static const JobState states[] = {JOB_WAITING, JOB_CALLING};
	MonoTime now = clock_mono();
	int i;

	rescue = (Rescue){0};
	for (i = 0; i < lengthof(states); i++)
	{
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, job_list(states[i]))
		{
			Job *job = dlist_container(Job, node, iter.cur);

			if (!is_last && store_may_finish(job))
				continue_storing(job, now);
			else if (store_holds_unsaved(job))
				drive_job(job, store_rescue);
			else if (job->step == STEP_FETCH)
				drive_job(job, fetch_give_back);
		}
	}
}

/*
 * Returns how many jobs were on their way into a store at the last life_rescue().
 */
int
life_count_storing(void)
{
	return rescue.n_storing;
}

/*
 * Returns when life_rescue() or life_wake_cancels() must be called again before this process ends; 0: when something
 * happens.
 */
MonoTime
life_next_rescue(void)
{
	MonoTime next = rescue.due;
	MonoTime leftover_due = leftover_next();

	if (leftover_due != 0)
		schedule_note_time(&next, leftover_due);
	return next;
}

/*
 * Returns when life_wake() has something to do; 0: never.
 */
MonoTime
life_next_wake(MonoTime now)
{
	Job *job = job_next_to_wake();
	MonoTime next = asking_next_time(now);
	MonoTime leftover_due = leftover_next();

	schedule_note_time(&next, sweeps_next());
	if (job != NULL)
		schedule_note_time(&next, job->wake_at);
	if (leftover_due != 0)
		schedule_note_time(&next, leftover_due);
	return next;
}

/*
 * Begins the calls that may go now and cancel predictions or abort uploads.  A
 * dispatcher that is about to end calls it, too.
 */
void
life_wake_cancels(MonoTime now)
{
	Job *job;

	while ((job = cancelline_next(now)) != NULL)
		drive_marked(job, admit_step);
	cancelline_note_waiting(now);
	leftover_work(now);
}

/*
 * Frees the text of an answer that is in the table now.  Keeps it if outputs
 * go to a store, because the row is then saved once more.
 */
static void
forget_saved_answer(Job *job)
{
	Remote *remote = &job->remote;

	if (remote->answer == NULL || remote->answer != job->verdict->answer ||
		job->options->store != NULL)
		return;
	pfree(remote->answer);
	job->verdict->answer = NULL;
	remote->answer = pstrdup("{}"); /* a cancel must know that the row has one */
}

static Next
follow_save(Job *job)
{
	if (steps_table[job->step].saved != NULL)
		return steps_table[job->step].saved(job);
	if (job->write.outcome == WRITE_FENCED)
		return cancel_begin(job);
	job->is_saved = true;
	forget_saved_answer(job);
	return next_verdict(job->verdict);
}

/*
 * Moves a job on after its row was written, or found to belong to another attempt (job->write.outcome).
 */
void
life_saved(Job *job)
{
	Assert(job->state == JOB_SAVING && job->write.outcome != WRITE_PENDING);
	job->write.again_at = job->write.failures = 0;
	drive_job(job, follow_save);
}

/*
 * Ends a job whose row was cancelled or deleted: cuts its calls, and tells the provider where possible.
 */
void
life_cancel(Job *job)
{
	drive_job(job, cancel_begin);
}

/*
 * Tells the provider to cancel the prediction of a job that was just reported, and whose row says so.
 */
void
life_cancel_reported(Job *job)
{
	Assert(job->state == JOB_REPORTING && job->report.must_cancel);
	drive_job(job, cancel_resume);
}
