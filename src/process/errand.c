/*
 * errand.c
 *		What writers do for their dispatcher: judge an answer (that has just
 *		come, or that the row has saved), build a request, or write jobs.
 *
 * An errand points into its jobs, and never outlives them.  A job that goes
 * (say, because it was cancelled) makes its errand void, and what the writer
 * sends back is dropped.  Until then nothing of the job is changed or freed,
 * so the dispatcher can do the errand itself at any time.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/guard.h"
#include "base/memory.h"
#include "base/settings.h"
#include "life/calls.h"
#include "life/life.h"
#include "life/verdict.h"
#include "process/errand.h"
#include "process/reporter.h"
#include "queue/queue.h"

/* Jobs that are written together */
#define MAX_JOBS 50
#define MAX_BYTES (4 * 1024 * 1024)

/*
 * Makes an errand void when its job goes.  Lives in a memory context of the
 * job.
 */
typedef struct Tie
{
	MemoryContextCallback callback;
	Errand *errand; /* NULL: it is done */
} Tie;

/* Lists of errands that wait for a writer, served in turn */
enum
{
	TO_JUDGE,
	TO_WRITE,
	TO_BUILD,
	ERRAND_LISTS
};

/* What each kind of errand is. */
static const struct
{
	int list;
	ParcelKind comes_back;
	JobState state; /* in which its jobs wait for it */
} kinds[] = {
	[PARCEL_JUDGE] = {TO_JUDGE, PARCEL_JUDGED, JOB_CALLING},
	[PARCEL_RESUME] = {TO_JUDGE, PARCEL_RESUMED, JOB_CLAIMED},
	[PARCEL_SAVE] = {TO_WRITE, PARCEL_WRITTEN, JOB_SAVING},
	[PARCEL_REPORT] = {TO_WRITE, PARCEL_WRITTEN, JOB_REPORTING},
	[PARCEL_BUILD] = {TO_BUILD, PARCEL_BUILT, JOB_CALLING},
};

static dlist_head waiting[ERRAND_LISTS] = {DLIST_STATIC_INIT(waiting[TO_JUDGE]),
										   DLIST_STATIC_INIT(waiting[TO_WRITE]),
										   DLIST_STATIC_INIT(waiting[TO_BUILD])};
static int last_list = TO_WRITE; /* the list whose errand was begun last */
static int n_building = 0;       /* requests, in writers */
static bool is_leaving = false;

/* ---------- its life ---------- */

/*
 * Takes an errand off its list, and its jobs off the errand.
 */
static void
withdraw_errand(Errand *errand)
{
	ListCell *cell;

	foreach(cell, errand->ties)
		((Tie *) lfirst(cell))->errand = NULL;
	errand->ties = NIL;
	if (errand->is_waiting)
		dlist_delete(&errand->node);
	errand->is_waiting = false;
}

/*
 * Ends an errand, done or not.
 */
void
errand_free(Errand *errand)
{
	withdraw_errand(errand);
	n_building -= errand->is_building;
	memory_resize(MEMORY_ANSWERS, NULL, errand->counted, 0);
	MemoryContextDelete(errand->context);
}

/*
 * Makes an errand void, because a job of it goes.  Its other jobs are written
 * another time.
 */
static void
void_errand(void *arg)
{
	Errand *errand = ((Tie *) arg)->errand;
	int i;

	if (errand == NULL)
		return;
	withdraw_errand(errand);
	errand->is_void = true;
	for (i = 0; i < errand->batch.n; i++)
		errand->batch.jobs[i]->write.is_out = false;
	if (errand->pipe != NULL)
		pipe_abandon(errand->pipe);
	else
		errand_free(errand);
}

static void
tie_errand(Errand *errand, MemoryContext context)
{
	Tie *tie = MemoryContextAllocZero(context, sizeof(Tie));
	MemoryContext caller = MemoryContextSwitchTo(errand->context);

	tie->errand = errand;
	tie->callback.func = void_errand;
	tie->callback.arg = tie;
	MemoryContextRegisterResetCallback(context, &tie->callback);
	errand->ties = lappend(errand->ties, tie);
	MemoryContextSwitchTo(caller);
}

static void
add_job(Errand *errand, Job *job, size_t bytes)
{
	errand->steps[errand->batch.n] = job->step;
	errand->batch.jobs[errand->batch.n++] = job;
	errand->bytes += bytes;
	tie_errand(errand, job->context);
	if (job->call.context != NULL)
		tie_errand(errand, job->call.context);
}

static Errand *
create_errand(ParcelKind kind)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "genjob errand", ALLOCSET_SMALL_SIZES);
	Errand *errand = MemoryContextAllocZero(context, sizeof(Errand));

	errand->context = context;
	errand->kind = kind;
	errand->batch.jobs = MemoryContextAllocZero(context, MAX_JOBS * sizeof(Job *));
	errand->steps = MemoryContextAllocZero(context, MAX_JOBS * sizeof(JobStep));
	dlist_push_tail(&waiting[kinds[kind].list], &errand->node);
	errand->is_waiting = true;
	return errand;
}

/*
 * Creates an errand that judges an answer.  life_answered() follows when it is
 * done.
 */
void
errand_judge(Call *call, HttpReply *reply)
{
	Job *job = call->job;
	Errand *errand = create_errand(PARCEL_JUDGE);

	errand->call = call;
	errand->reply = reply;
	errand->call_context = call->context;
	add_job(errand, job, reply->body->len);
	calls_end(call);
	job_stop_waking(job);
}

/*
 * Creates an errand that reads and judges what the row of a job has saved, and then starts the job.
 */
void
errand_resume(Job *job)
{
	add_job(create_errand(PARCEL_RESUME), job, 0);
	job->is_read_apart = true;
}

/*
 * Creates an errand that builds the request of a job, and then begins its
 * call.
 */
void
errand_build(Job *job, size_t bytes)
{
	Errand *errand = create_errand(PARCEL_BUILD);

	errand->call_context = job->call.context;
	add_job(errand, job, bytes);
	/* the step that the job enters next */
	errand->steps[0] = STEP_SUBMIT;
}

/*
 * Notes that this process is about to end: no call begins any more.
 */
void
errands_close(void)
{
	is_leaving = true;
}

static Errand *
find_room(ParcelKind kind, size_t bytes, bool alone, bool is_large)
{
	Errand *last;

	if (dlist_is_empty(&waiting[TO_WRITE]))
		return NULL;
	last = dlist_tail_element(Errand, node, &waiting[TO_WRITE]);
	if (last->kind != kind || last->is_full || last->batch.n == MAX_JOBS || alone ||
		last->bytes + bytes > MAX_BYTES || (is_large && last->has_large))
		return NULL;
	return last;
}

/*
 * Creates an errand that writes a job: alone, or together with others.  At
 * most one job of an errand is_large.
 */
void
errand_write(Job *job, size_t bytes, bool alone, bool is_large)
{
	ParcelKind kind = job->state == JOB_SAVING ? PARCEL_SAVE : PARCEL_REPORT;
	Errand *errand = find_room(kind, bytes, alone, is_large);

	if (errand == NULL)
		errand = create_errand(kind);
	errand->is_full |= alone;
	errand->has_large |= is_large;
	add_job(errand, job, bytes);
	job->write.is_out = true;
}

/*
 * True if a writer may build a request now.  Of several writers, one stays
 * free for answers, which have been paid for.
 */
static bool
may_build(void)
{
	return is_leaving || n_building == 0 || n_building < genjob_max_writers - 1;
}

/*
 * Returns the errand to begin next, or NULL.
 */
Errand *
errand_next(void)
{
	int i;

	for (i = 1; i <= ERRAND_LISTS; i++)
	{
		int list = (last_list + i) % ERRAND_LISTS;

		if (!dlist_is_empty(&waiting[list]) && (list != TO_BUILD || may_build()))
			return dlist_head_element(Errand, node, &waiting[list]);
	}
	return NULL;
}

/*
 * True if job i of the errand still waits for it.  The job may have been
 * cancelled meanwhile.
 */
static bool
still_waits(const Errand *errand, int i)
{
	const Job *job = errand->batch.jobs[i];

	if (job->state != kinds[errand->kind].state || job->step != errand->steps[i])
		return false;
	if (errand->kind == PARCEL_BUILD)
		return job->call.context == errand->call_context && job->call.transfer == NULL;
	return errand->kind != PARCEL_JUDGE ||
		   (errand->call->context == errand->call_context && errand->call->transfer == NULL);
}

static void
build_here(Job *job)
{
	if (is_leaving)
		life_give_back(job);
	else
		life_build_here(job);
}

/*
 * Does an errand in this process, because no writer can.
 */
void
errand_do_here(Errand *errand)
{
	bool writes = errand->kind == PARCEL_SAVE || errand->kind == PARCEL_REPORT;
	int i;

	withdraw_errand(errand);
	errand->pipe = NULL;
	if (!errand->is_void && errand->kind == PARCEL_JUDGE && still_waits(errand, 0))
		life_answered(errand->call, errand->reply);
	if (!errand->is_void && errand->kind == PARCEL_BUILD && still_waits(errand, 0))
		build_here(errand->batch.jobs[0]);
	if (!errand->is_void && errand->kind == PARCEL_RESUME && still_waits(errand, 0))
		queue_read_again(errand->batch.jobs[0]);
	for (i = 0; !errand->is_void && writes && i < errand->batch.n; i++)
		reporter_take_back(errand->batch.jobs[i]);
	errand_free(errand);
}

/* ---------- its way to a writer ---------- */

static void
pack_question(SpoolStream *stream, Errand *errand)
{
	Job *job = errand->batch.jobs[0];
	Question question = {.job = job->id,
						 .attempt = job->attempt,
						 .step = job->step,
						 .lookup = job->step == STEP_LOOKUP ? (char *) job->lookup.address : NULL,
						 .source = life_source(job),
						 .remote = job->remote,
						 .reply = errand->reply};

	if (job->step == STEP_POLL && job->poll.asks_unended)
		(void) grammar_split_address(job->options->preset->unended,
									 (const char **) &question.places);
	parcel_pass_question(stream, &question);
}

static void
pack_recall(SpoolStream *stream, Errand *errand)
{
	Job *job = errand->batch.jobs[0];
	Recall recall = {.looks = queue_looks(),
					 .question = {.job = job->id,
								  .attempt = job->attempt,
								  .source = verdict_source(job, NULL),
								  .remote = job->remote}};

	parcel_pass_recall(stream, &recall);
}

static void
pack_order(SpoolStream *stream, Errand *errand)
{
	Job *job = errand->batch.jobs[0];
	Order order = {.job = job->id,
				   .attempt = job->attempt,
				   .secrets = job->secrets,
				   .source = calls_request_source(job)};

	parcel_pass_order(stream, &order);
}

static void
pack_errand(void *arg)
{
	Errand *errand = arg;
	SpoolStream stream;

	MemoryContextSwitchTo(errand->context);
	spool_begin_packing(&stream);
	if (errand->kind == PARCEL_JUDGE)
		pack_question(&stream, errand);
	else if (errand->kind == PARCEL_RESUME)
		pack_recall(&stream, errand);
	else if (errand->kind == PARCEL_BUILD)
		pack_order(&stream, errand);
	else
	{
		errand->batch.looks = queue_looks();
		parcel_pass_batch(&stream, &errand->batch,
						  errand->kind == PARCEL_SAVE ? JOB_SAVING : JOB_REPORTING);
	}
	errand->parcel = spool_end_packing(&stream, errand->kind);
}

/*
 * Takes those jobs off an errand that no longer wait for it.  False if none is
 * left.
 */
static bool
drop_moved_jobs(Errand *errand)
{
	int n = 0;
	int i;

	for (i = 0; i < errand->batch.n; i++)
	{
		if (!still_waits(errand, i))
		{
			errand->batch.jobs[i]->write.is_out = false;
			continue;
		}
		errand->batch.jobs[n] = errand->batch.jobs[i];
		errand->steps[n++] = errand->steps[i];
	}
	errand->batch.n = n;
	return n > 0;
}

/*
 * Begins to send an errand.  False if its jobs were cancelled, or if memory is
 * short; then the errand was done here.
 */
bool
errand_begin(Errand *errand, Pipe *pipe)
{
	MemoryContext caller = CurrentMemoryContext;
	char *error;
	bool is_packed;
	int i;

	if (!drop_moved_jobs(errand))
	{
		errand_free(errand);
		return false;
	}
	is_packed = guard_run(pack_errand, errand, &error);

	MemoryContextSwitchTo(caller);
	last_list = kinds[errand->kind].list;
	if (!is_packed)
	{
		errand_do_here(errand);
		return false;
	}
	dlist_delete(&errand->node);
	errand->is_waiting = false;
	errand->pipe = pipe;
	n_building += errand->kind == PARCEL_BUILD;
	errand->is_building = errand->kind == PARCEL_BUILD;
	for (i = 1; i < errand->parcel.n; i++)
		errand->counted += errand->parcel.pieces[i].len;
	memory_resize(MEMORY_ANSWERS, NULL, 0, errand->counted);
	pipe_put(pipe, &errand->parcel);
	return true;
}

/* ---------- and back ---------- */

/* What a writer has sent. */
typedef struct Returned
{
	Errand *errand;
	const Parcel *parcel;
	SpoolStream stream;
	Judged judged;
	Recalled recalled;
	Built built;
	Written *written;
} Returned;

static void
unpack_returned(void *arg)
{
	Returned *returned = arg;
	int n = returned->errand->batch.n;

	if (!spool_begin_unpacking(&returned->stream, returned->parcel))
		returned->stream.failed = true;
	else if (returned->parcel->kind == PARCEL_JUDGED)
		parcel_pass_judged(&returned->stream, &returned->judged);
	else if (returned->parcel->kind == PARCEL_RESUMED)
		parcel_pass_recalled(&returned->stream, &returned->recalled);
	else if (returned->parcel->kind == PARCEL_BUILT)
		parcel_pass_built(&returned->stream, &returned->built);
	else
	{
		returned->written = palloc0(n * sizeof(Written));
		parcel_pass_written(&returned->stream, returned->written, n);
	}
}

/*
 * Continues with a judged answer.  inbox, the memory of it, becomes the
 * call's.
 */
static void
take_judged(Returned *returned, MemoryContext inbox)
{
	Errand *errand = returned->errand;
	Job *job = errand->batch.jobs[0];

	MemoryContextSetParent(inbox, job->call.context);
	if (returned->judged.why == NULL)
		bytes_clear(errand->reply->body);
	/*
	 * only the answer to a submission adds to remote; submit_answered() copies
	 * it
	 */
	if (job->step != STEP_SUBMIT)
		returned->judged.remote = job->remote;
	job->judged = &returned->judged;
	withdraw_errand(errand);
	life_answered(errand->call, errand->reply);
}

/*
 * Starts a job whose saved answer is judged.  inbox, the memory of it, becomes
 * the job's.
 */
static void
take_resumed(Returned *returned, MemoryContext inbox)
{
	Job *job = returned->errand->batch.jobs[0];

	MemoryContextSetParent(inbox, job->context);
	withdraw_errand(returned->errand);
	job->is_read_apart = false;
	if (returned->recalled.is_read)
		life_resumed(job, &returned->recalled.judged);
	else
		queue_read_again(job);
}

/*
 * Begins the call of a request that is built.  inbox, the memory of it,
 * becomes the call's.
 */
static void
take_built(Returned *returned, MemoryContext inbox)
{
	Job *job = returned->errand->batch.jobs[0];

	MemoryContextSetParent(inbox, job->call.context);
	withdraw_errand(returned->errand);
	life_built(job, returned->built.http, returned->built.error);
}

static void
take_written(Returned *returned)
{
	Errand *errand = returned->errand;
	int i;

	withdraw_errand(errand);
	for (i = 0; i < errand->batch.n; i++)
	{
		if (still_waits(errand, i))
			reporter_take_written(errand->batch.jobs[i], &returned->written[i]);
		else
			errand->batch.jobs[i]->write.is_out = false;
	}
}

/*
 * Continues with the one job of an errand.  Takes over inbox.
 */
static void
take_single_job(Returned *returned, MemoryContext inbox)
{
	if (returned->errand->kind == PARCEL_JUDGE)
		take_judged(returned, inbox);
	else if (returned->errand->kind == PARCEL_RESUME)
		take_resumed(returned, inbox);
	else
		take_built(returned, inbox);
}

/*
 * Continues with the parcel that came back in the memory of inbox.  Takes over
 * inbox.  False if the parcel makes no sense; then the errand is not done.
 */
bool
errand_take(Errand *errand, const Parcel *parcel, MemoryContext inbox)
{
	ParcelKind wanted = kinds[errand->kind].comes_back;
	Returned returned = {.errand = errand, .parcel = parcel};
	MemoryContext caller = MemoryContextSwitchTo(inbox);
	char *error;
	bool is_sound = errand->is_void ||
					(parcel->kind == wanted && guard_run(unpack_returned, &returned, &error) &&
					 !returned.stream.failed);
	bool is_wanted = is_sound && !errand->is_void;

	MemoryContextSwitchTo(caller);
	if (is_wanted && wanted == PARCEL_WRITTEN)
		take_written(&returned);
	else if (is_wanted && still_waits(errand, 0))
	{
		take_single_job(&returned, inbox);
		return true;
	}
	MemoryContextDelete(inbox);
	return is_sound;
}
