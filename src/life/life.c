/*
 * life.c
 *		A job's life: what carries out what its steps return.
 *
 *		claimed -> calling -> reporting -> written and forgotten
 *		              |                ^
 *		              v                |
 *		            saving -> waiting <-> calling
 *
 * The upper row is a server that answers with the result.  The lower row is a provider that names a prediction: its name
 * is saved in the table before anything else, then the provider is polled until the prediction has ended.  If nobody
 * knows whether a submission arrived, and the provider can be asked, it is asked first.  A job that cannot be sent goes
 * from claimed to reporting.  One with a prediction that a crash left goes from claimed to waiting.  One whose row is
 * cancelled goes from any state to cancelling, and never back.
 *
 * Each step has a file, and a row in steps.c.  Its functions return what comes next (step.h), and never call another step.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/guard.h"
#include "base/marker.h"
#include "base/trace.h"
#include "life/asking.h"
#include "life/calls.h"
#include "life/cancelline.h"
#include "life/leftover.h"
#include "life/life.h"
#include "life/outcome.h"
#include "life/postponed.h"
#include "life/pour.h"
#include "life/step.h"
#include "life/store.h"
#include "life/traced.h"
#include "life/upload.h"
#include "life/verdict.h"
#include "schedule/schedule.h"

/* ---------- carrying out ---------- */

/*
 * Moves the job to a step.  A job whose row is not running any more only cancels, whatever the state.
 */
static void
enter(Job *job, JobState state, JobStep step)
{
	if (step == STEP_CANCEL && job->step != STEP_CANCEL)
		job_enter(job, JOB_CANCELLING, step);
	if (step == STEP_CANCEL && state != JOB_SAVING)
		state = JOB_CANCELLING;
	if (job->state != state || job->step != step)
		job_enter(job, state, step);
}

/* A call that is built. */
typedef struct Building
{
	const Step *step;
	Job *job;
	HttpRequest *http;
	char *why; /* there is none */
} Building;

static void
build(void *arg)
{
	Building *building = arg;

	building->http = building->step->build(building->job, &building->why);
}

static Next
unbuilt(const Building *building, const ErrorData *error)
{
	if (building->step->unbuilt != NULL)
		return building->step->unbuilt(building->job, error ? NULL : building->why, error);
	return next_fail(building->job, error ? error->message : building->why);
}

static Next
starve(Job *job, JobStep id)
{
	if (steps_table[id].starved != NULL)
		return steps_table[id].starved(job);
	return next_wait(id, clock_mono() + USECS_PER_SEC);
}

/*
 * Begins a step's call.  Returns what comes next, also if there is no call to make.
 */
static Next
begin_call(Job *job, JobStep id)
{
	const Step *step = &steps_table[id];
	Call *call = step->is_beside ? &job->beside : &job->call;
	Building building = {step, job, NULL, NULL};
	ErrorData *error;

	Assert(step->build != NULL && step->answered != NULL);
	Assert(!step->is_beside || job->state == JOB_CALLING);
	if (!step->is_beside)
		job_stop_waking(job);
	if (!calls_prepare(call, id))
		return starve(job, id);
	if (!calls_run(call, build, &building, &error) || building.http == NULL)
		return unbuilt(&building, error);
	if (!step->is_beside && id != STEP_CANCEL)
		calls_appear(job);
	if (!calls_begin(call, building.http))
		return starve(job, id);
	trace("job " INT64_FORMAT " attempt %d: %s calls %s %s", job->id, job->attempt, step->name,
		  building.http->method, trace_name(building.http->shown_url));
	if (step->is_beside)
		return next_stay();
	enter(job, JOB_CALLING, id);
	calls_show(job, step->phase);
	if (step->only_asks)
		asking_begin(job);
	return step->began ? step->began(job) : next_stay();
}

static void carry_out(Job *job, Next next);

static void
wait_until(Job *job, JobStep step, MonoTime until)
{
	calls_forget(job);
	if (step != STEP_CANCEL)
		calls_appear(job);
	/* the provider works, or an answer is still being fetched */
	calls_show(job, steps_table[step].only_asks ? ACTIVITY_WAITING : steps_table[step].phase);
	enter(job, JOB_WAITING, step);
	job_wake_at(job, until);
	trace("job " INT64_FORMAT " attempt %d: %s in " INT64_FORMAT " ms", job->id, job->attempt,
		  steps_table[step].name, Max(until - clock_mono(), 0) / 1000);
}

static void
line_up(Job *job, JobStep step)
{
	job_stop_waking(job);
	Assert(steps_table[step].line_up != NULL);
	enter(job, JOB_WAITING, step);
	steps_table[step].line_up(job);
}

static void
save(Job *job, JobStep step, Verdict *verdict)
{
	job_stop_waking(job);
	job->verdict = verdict;
	calls_show(job, ACTIVITY_SAVING);
	enter(job, JOB_SAVING, step);
}

static void
report(Job *job, Verdict *verdict)
{
	job_stop_waking(job);
	pour_drop(job, true);
	upload_drop(job, true);
	job->verdict = verdict;
	calls_show(job, ACTIVITY_SAVING);
	outcome_decide(job);
	enter(job, JOB_REPORTING, job->step);
}

/*
 * True if a resumed job would need something that is not in the table yet.
 */
static bool
must_be_saved(const Job *job)
{
	return !job->is_saved && (verdict_names_prediction(job) || job->remote.answer != NULL);
}

/*
 * Returns what comes next after a verdict.
 */
static Next
conclude(Job *job, Verdict *verdict)
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
 * Goes on with a step whose row is written.
 */
static void
go_on(Job *job, JobStep step)
{
	HttpReply *ended = job->store->ended;

	job->store->ended = NULL;
	enter(job, JOB_CALLING, step);
	calls_show(job, steps_table[step].phase);
	if (ended != NULL)
		carry_out(job, steps_table[step].answered(job, ended));
	else
		job_wake_at(job, clock_mono());
}

static void
forget(Job *job)
{
	MemoryContextSwitchTo(TopMemoryContext);
	job_destroy(job);
}

static void
carry_out(Job *job, Next next)
{
	/* as long as nothing is waited for */
	while (next.kind == NEXT_CALL || next.kind == NEXT_VERDICT)
	{
		MemoryContextSwitchTo(job->context);
		next = next.kind == NEXT_CALL ? begin_call(job, next.step) : conclude(job, next.verdict);
	}
	switch (next.kind)
	{
		case NEXT_STAY:
			if (next.until != 0)
				job_wake_at(job, next.until);
			break;
		case NEXT_LINE:
			line_up(job, next.step);
			break;
		case NEXT_WAIT:
			wait_until(job, next.step, next.until);
			break;
		case NEXT_GO_ON:
			go_on(job, next.step);
			break;
		case NEXT_SAVE:
			save(job, next.step, next.verdict);
			break;
		case NEXT_REPORT:
			report(job, next.verdict);
			break;
		case NEXT_GONE:
			forget(job);
			break;
		case NEXT_CALL:
		case NEXT_VERDICT:
			Assert(false);
	}
}

/* Something that has happened to a job: says what comes next. */
typedef Next (*Event)(Job *job);

/*
 * Runs an event in the job's memory context, and carries out what it returns.
 */
static void
move_on(Job *job, Event event)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	carry_out(job, event(job));
	MemoryContextSwitchTo(caller);
}

/*
 * As move_on(), for an event that handles bytes of strangers: the marker names the job if that crashes the process.
 */
static void
move_on_marked(Job *job, Event event)
{
	marker_begin(job->id, job->attempt);
	move_on(job, event);
	marker_end();
}

/* ---------- events ---------- */

/*
 * Returns what a job does first that was just claimed, or that an earlier dispatcher left.
 */
static Next
started(Job *job)
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
	move_on_marked(job, started);
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
	Assert(job->state == JOB_CLAIMED);
	move_on(job, given_back);
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
		carry_out(job, steps_table[job->step].uploaded(job));
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
	call->transfer = NULL;
	traced_answer(job, step->name, reply);
	calls_settle_status(call, reply);
	if (job->state == JOB_SAVING)
	{
		job->store->ended = reply;
		return;
	}
	if (!step->is_beside)
		lines_end_call(&job->waiter);
	next = step->answered(job, reply);
	if (step->is_beside)
		MemoryContextReset(call->context);
	carry_out(job, next);
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
 * A piece is complete of an answer that comes in pieces: what http_take_full() has given.
 */
void
life_poured(void *tag)
{
	Job *job = ((Call *) tag)->job;

	/* while its row is being written, or once it is cancelled, there is time */
	if (job->state == JOB_CALLING && job->step == STEP_DOWNLOAD)
		move_on_marked(job, pour_go_on);
}

/*
 * True if this process judges the answer, however large it is.
 */
bool
life_judges_here(const Call *call)
{
	return call->step == STEP_PART || call->step == STEP_FETCH ||
		   (call->step == STEP_DOWNLOAD && pour_is_under_way(call->job));
}

/*
 * True if only the status of the call's answer matters.
 */
bool
life_can_do_without(const Call *call)
{
	return call->step == STEP_CANCEL || call->step == STEP_PROGRESS;
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
woken(Job *job)
{
	const Step *step = &steps_table[job->step];

	if (step->woken != NULL)
		return step->woken(job);
	return step->line_up ? next_line(job->step) : next_call(job->step);
}

static Next
admitted(Job *job)
{
	const Step *step = &steps_table[job->step];

	return step->admitted ? step->admitted(job) : next_call(job->step);
}

/*
 * Moves on the jobs whose alarm has come, and those whose turn it is to ask.
 */
void
life_wake(MonoTime now)
{
	Job *job;

	while ((job = job_next_to_wake()) != NULL && job->wake_at <= now)
	{
		job_stop_waking(job);
		move_on_marked(job, woken);
	}
	while ((job = asking_next(now)) != NULL)
		move_on_marked(job, admitted);
	leftover_work(now);
}

/*
 * Saves results that are paid for and only in memory, before this process ends.  Jobs that have not been sent yet go back
 * into the queue.
 */
void
life_rescue(void)
{
	static const JobState states[] = {JOB_WAITING, JOB_CALLING};
	int i;

	for (i = 0; i < lengthof(states); i++)
	{
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, job_list(states[i]))
		{
			Job *job = dlist_container(Job, node, iter.cur);

			if (store_holds_unsaved(job))
				move_on(job, store_rescue);
			else if (job->step == STEP_FETCH)
				move_on(job, fetch_give_back);
		}
	}
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

	if (job != NULL)
		schedule_note_time(&next, job->wake_at);
	if (leftover_due != 0)
		schedule_note_time(&next, leftover_due);
	return next;
}

/*
 * Begins the cancelling calls that may go now.  A dispatcher that leaves calls it, too.
 */
void
life_wake_cancels(MonoTime now)
{
	Job *job;

	while ((job = cancelline_next(now)) != NULL)
		move_on_marked(job, admitted);
	cancelline_note_waiting(now);
}

static Next
saved(Job *job)
{
	if (steps_table[job->step].saved != NULL)
		return steps_table[job->step].saved(job);
	if (job->write.outcome == WRITE_FENCED)
		return cancel_begin(job);
	job->is_saved = true;
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
	move_on(job, saved);
}

/*
 * Ends a job whose row was cancelled or deleted: cuts its calls, and tells the provider where possible.
 */
void
life_cancel(Job *job)
{
	move_on(job, cancel_begin);
}

/*
 * Tells the provider to cancel the prediction of a job that was just reported, and whose row says so.
 */
void
life_cancel_reported(Job *job)
{
	Assert(job->state == JOB_REPORTING && job->report.must_cancel);
	move_on(job, cancel_resume);
}
