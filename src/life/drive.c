/*
 * drive.c
 *		The driver of a job's life: carries out what steps return.  No other file does.
 *
 * A step's build() runs in the memory context of the call, and guarded: an
 * error in it ends only this job's attempt.  All else runs in the job's
 * context.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/marker.h"
#include "base/trace.h"
#include "life/asking.h"
#include "life/built.h"
#include "life/calls.h"
#include "life/cuts.h"
#include "life/drive.h"
#include "life/outcome.h"
#include "life/pour.h"
#include "life/store.h"
#include "life/traced.h"
#include "life/upload.h"
#include "life/verdict.h"

/*
 * Moves the job to a step.  A job whose row is not running any more only cancels, whatever the state.
 */
static void
enter_step(Job *job, JobState state, JobStep step)
{
	if (step == STEP_CANCEL && job->step != STEP_CANCEL)
		job_enter(job, JOB_CANCELLING, step);
	if (step == STEP_CANCEL && state != JOB_SAVING)
		state = JOB_CANCELLING;
	if (job->state != state || job->step != step)
		job_enter(job, state, step);
}

/*
 * Begins a step's call, which is built already.
 */
static Next
begin_built(Job *job, JobStep id, HttpRequest *http)
{
	const Step *step = &steps_table[id];
	Call *call = step->is_beside ? &job->beside : &job->call;

	if (!step->is_beside && id != STEP_CANCEL)
		calls_appear(job);
	if (!calls_begin(call, http))
		return built_starved(job, id);
	trace("job " INT64_FORMAT " attempt %d: %s calls %s %s", job->id, job->attempt, step->name,
		  http->method, trace_name(http->shown_url));
	if (step->is_beside)
		return next_stay();
	enter_step(job, JOB_CALLING, id);
	calls_show(job, step->phase);
	if (step->only_asks)
		asking_begin(job);
	return step->began ? step->began(job) : next_stay();
}

/*
 * Begins a step's call.  Returns what comes next, also if there is no call to make.
 */
static Next
begin_call(Job *job, JobStep id)
{
	const Step *step = &steps_table[id];
	Call *call = step->is_beside ? &job->beside : &job->call;
	HttpRequest *http;
	Next next;

	Assert(step->build != NULL && step->answered != NULL);
	Assert(!step->is_beside || job->state == JOB_CALLING);
	if (!step->is_beside)
		job_stop_waking(job);
	if (cuts_prevent(job, id, &next))
		return next;
	if (!calls_prepare(call, id))
		return built_starved(job, id);
	if (id == STEP_SUBMIT && built_elsewhere(job))
	{
		calls_appear(job);
		enter_step(job, JOB_CALLING, id);
		calls_show(job, step->phase);
		return next_stay();
	}
	http = built_here(call, step, &next);
	return http != NULL ? begin_built(job, id, http) : next;
}

static void
wait_until(Job *job, JobStep step, MonoTime until)
{
	calls_forget(job);
	if (step != STEP_CANCEL)
		calls_appear(job);
	/* the provider works, or an answer is still being fetched */
	calls_show(job, steps_table[step].only_asks ? ACTIVITY_WAITING : steps_table[step].phase);
	enter_step(job, JOB_WAITING, step);
	job_wake_at(job, until);
	trace("job " INT64_FORMAT " attempt %d: %s in " INT64_FORMAT " ms", job->id, job->attempt,
		  steps_table[step].name, Max(until - clock_mono(), 0) / 1000);
}

static void
enter_line(Job *job, JobStep step)
{
	job_stop_waking(job);
	Assert(steps_table[step].line_up != NULL);
	enter_step(job, JOB_WAITING, step);
	steps_table[step].line_up(job);
}

static void
save_verdict(Job *job, JobStep step, Verdict *verdict)
{
	job_stop_waking(job);
	job->verdict = verdict;
	calls_show(job, ACTIVITY_SAVING);
	enter_step(job, JOB_SAVING, step);
}

static void
report_verdict(Job *job, Verdict *verdict)
{
	job_stop_waking(job);
	pour_end_uploads(job);
	job->verdict = verdict;
	calls_show(job, ACTIVITY_SAVING);
	outcome_decide(job);
	enter_step(job, JOB_REPORTING, job->step);
}

/*
 * True if a resumed job would need something that is not in the table yet.
 */
static bool
must_be_saved(const Job *job)
{
	return !job->is_saved &&
		   (verdict_names_prediction(job) || job->remote.answer != NULL || job->remote.has_verdict);
}

/*
 * Returns what comes next after a verdict.
 */
static Next
follow_verdict(Job *job, Verdict *verdict)
{
	JobStep id;

	Assert(job->state != JOB_REPORTING && job->state != JOB_CANCELLING);
	job->verdict = verdict;
	traced_verdict(job, verdict);
	if (verdict->kind == VERDICT_FETCH && verdict->answer != NULL && job->remote.answer == NULL)
	{
		job->remote.answer = verdict->answer;
		job->is_saved = false;
	}
	if (must_be_saved(job))
		return next_save(job->step, verdict);
	for (id = 0; id < JOB_STEPS; id++)
	{
		if (steps_table[id].is_due != NULL && steps_table[id].is_due(job))
			return steps_table[id].begin(job);
	}
	return next_report(verdict);
}

/*
 * Goes on with step, after the row was written.
 */
static void
continue_step(Job *job, JobStep step)
{
	HttpReply *ended = job->store->ended;

	job->store->ended = NULL;
	enter_step(job, JOB_CALLING, step);
	calls_show(job, steps_table[step].phase);
	if (ended != NULL)
		drive_carry_out(job, steps_table[step].answered(job, ended));
	else
		job_wake_at(job, clock_mono());
}

static void
free_gone_job(Job *job)
{
	MemoryContextSwitchTo(TopMemoryContext);
	job_destroy(job);
}

/*
 * Carries out what a step returned, and what follows, until the job must wait.
 */
void
drive_carry_out(Job *job, Next next)
{
	while (next.kind == NEXT_CALL || next.kind == NEXT_VERDICT)
	{
		MemoryContextSwitchTo(job->context);
		next =
			next.kind == NEXT_CALL ? begin_call(job, next.step) : follow_verdict(job, next.verdict);
	}
	switch (next.kind)
	{
		case NEXT_STAY:
			if (next.until != 0)
				job_wake_at(job, next.until);
			break;
		case NEXT_LINE:
			enter_line(job, next.step);
			break;
		case NEXT_WAIT:
			wait_until(job, next.step, next.until);
			break;
		case NEXT_GO_ON:
			continue_step(job, next.step);
			break;
		case NEXT_SAVE:
			save_verdict(job, next.step, next.verdict);
			break;
		case NEXT_REPORT:
			report_verdict(job, next.verdict);
			break;
		case NEXT_GONE:
			free_gone_job(job);
			break;
		case NEXT_CALL:
		case NEXT_VERDICT:
			Assert(false);
	}
}

/*
 * Begins a step's call that another process has built.
 */
void
drive_built(Job *job, JobStep step, HttpRequest *http)
{
	drive_carry_out(job, begin_built(job, step, http));
}

/*
 * Runs an event in the job's memory context, and carries out what it returns.
 */
void
drive_job(Job *job, Event event)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	drive_carry_out(job, event(job));
	MemoryContextSwitchTo(caller);
}

/*
 * Like drive_job(), for an event that reads foreign bytes: if they crash the
 * process, the marker names the job.
 */
void
drive_marked(Job *job, Event event)
{
	marker_begin(job->id, job->attempt);
	drive_job(job, event);
	marker_end();
}
