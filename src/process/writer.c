/*
 * writer.c
 *		A process that reads and writes large answers, and builds large requests, for its dispatcher (writers.c).
 *
 * It does one errand after another, and knows only what comes with each.  It
 * judges with the same code as the dispatcher, and writes with the same
 * statements, as the same role and within the same limits (queue/).  It sends
 * errors back.  If it cannot, this process ends; the dispatcher notices the
 * end of the pipe, and does the errand itself.
 *
 * It ends when the dispatcher closes the pipe: after some idle time, or when
 * the dispatcher ends.  If the whole server is told to stop, it works for as
 * long as the dispatcher does.  If it alone is told to stop, it ends as soon
 * as it is idle.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/guard.h"
#include "base/marker.h"
#include "life/life.h"
#include "process/parcels.h"
#include "process/reporter.h"
#include "process/worker.h"
#include "process/writer.h"
#include "protocol/found.h"
#include "queue/queue.h"
#include "shared/shmem.h"

#define NO_BOUND ((size_t) -1)
#define STOP_IDLE_MS 1000 /* without an errand, once it was told to stop */

static Pipe *pipe_to_dispatcher;
static MemoryContext errand_context;
static uint32 wait_event;

/*
 * Returns when a transaction must have ended.
 */
static MonoTime
transaction_deadline(void)
{
	return pipe_must_hurry(pipe_to_dispatcher) ? 1 : worker_stop_deadline();
}

/* ---------- the tables ---------- */

static void
look_for_tables(void *arg)
{
	if (queue_look() != QUEUE_PRESENT)
		ereport(ERROR, (errcode(QUEUE_GONE), errmsg("the tables of genjob are gone")));
}

/*
 * Looks for the tables again if the dispatcher did.  False, and *error, if
 * they cannot be found.
 */
static bool
find_tables(uint64 looks, ErrorData **error)
{
	static uint64 seen = 0;

	if (looks == seen)
		return true;
	if (!queue_transact("looking for the tables", look_for_tables, NULL, error))
		return false;
	seen = looks;
	return true;
}

/* ---------- judging ---------- */

/* An errand, and what is sent back. */
typedef struct Judgement
{
	Question question;
	Judged judged;
} Judgement;

/*
 * Judges the answer of the first address in question->lookup.
 */
static FoundState
judge_lookup(const Question *question)
{
	Address address;
	char *places;

	(void) grammar_read_lookup(question->lookup, &address, &places);
	return found_judge(question->reply, &address, places, question->source.idempotency_key);
}

static void
judge_answer(void *arg)
{
	Judgement *judgement = arg;
	Question *question = &judgement->question;
	const ReplySource *source = &question->source;
	Judged *judged = &judgement->judged;

	if (question->step == STEP_LOOKUP)
		judged->found = judge_lookup(question);
	else if (question->step == STEP_DOWNLOAD)
		judged->verdict =
			reply_judge_download(source, question->reply, &judged->output, &judged->redirect);
	else if (question->places != NULL)
		judged->verdict = reply_judge_unended(source, question->reply, question->places);
	else
		judged->verdict = life_judge(question->step, source, question->reply, &question->remote);
	judged->remote = question->remote;
}

static Parcel
run_judge_errand(SpoolStream *in)
{
	Judgement *judgement = palloc0(sizeof(Judgement));
	SpoolStream out;
	ErrorData *error;

	parcel_pass_question(in, &judgement->question);
	if (in->failed)
		elog(ERROR, "an answer to be judged is not complete");
	pgstat_report_activity(STATE_RUNNING, psprintf("reading the answer of job " INT64_FORMAT,
												   judgement->question.job));
	marker_begin(judgement->question.job, judgement->question.attempt);
	if (!guard_try_apart(judge_answer, judgement, &error))
		judgement->judged.why = error->message;
	marker_end();
	spool_begin_packing(&out);
	parcel_pass_judged(&out, &judgement->judged);
	return spool_end_packing(&out, PARCEL_JUDGED);
}

/* ---------- judging what a row has saved ---------- */

/* An errand, and what is sent back. */
typedef struct Resumption
{
	Recall recall;
	Recalled recalled;
} Resumption;

static void
read_remote(void *arg)
{
	Resumption *resumption = arg;
	const Question *question = &resumption->recall.question;
	MemoryContext caller = MemoryContextSwitchTo(errand_context);

	resumption->recalled.is_read =
		queue_read_remote(question->job, question->attempt, &resumption->recalled.judged.remote);
	MemoryContextSwitchTo(caller);
}

static void
judge_saved(void *arg)
{
	Resumption *resumption = arg;
	ReplySource *source = &resumption->recall.question.source;
	Judged *judged = &resumption->recalled.judged;
	bool is_named = judged->remote.id != NULL || judged->remote.urls != NULL;

	source->remote = is_named ? &judged->remote : NULL;
	judged->verdict = life_judge_saved(source, &judged->remote);
}

/*
 * Reads and judges what a row has saved.  If it cannot be read, the dispatcher
 * finds out why.
 */
static Parcel
run_resume_errand(SpoolStream *in)
{
	Resumption *resumption = palloc0(sizeof(Resumption));
	Question *question = &resumption->recall.question;
	Recalled *recalled = &resumption->recalled;
	SpoolStream out;
	ErrorData *error;

	parcel_pass_recall(in, &resumption->recall);
	if (in->failed)
		elog(ERROR, "a saved answer to be read is not complete");
	recalled->judged.remote.id = question->remote.id;
	marker_begin(question->job, question->attempt);
	if (!find_tables(resumption->recall.looks, &error) ||
		!queue_transact("reading what was saved of a job", read_remote, resumption, &error))
		recalled->is_read = false;
	if (recalled->is_read && !guard_try_apart(judge_saved, resumption, &error))
		recalled->judged.why = error->message;
	marker_end();
	spool_begin_packing(&out);
	parcel_pass_recalled(&out, recalled);
	return spool_end_packing(&out, PARCEL_RESUMED);
}

/* ---------- building ---------- */

/* An order, and what is sent back. */
typedef struct Building
{
	Order order;
	Built built;
} Building;

static void
build_request(void *arg)
{
	Building *building = arg;

	building->built.http = request_build(&building->order.source);
}

static Parcel
run_build_errand(SpoolStream *in)
{
	Building *building = palloc0(sizeof(Building));
	SpoolStream out;

	parcel_pass_order(in, &building->order);
	if (in->failed)
		elog(ERROR, "a request to be built is not complete");
	pgstat_report_activity(STATE_RUNNING, psprintf("building the request of job " INT64_FORMAT,
												   building->order.job));
	marker_begin(building->order.job, building->order.attempt);
	if (!guard_try_apart(build_request, building, &building->built.error))
		building->built.http = NULL;
	marker_end();
	spool_begin_packing(&out);
	parcel_pass_built(&out, &building->built);
	return spool_end_packing(&out, PARCEL_BUILT);
}

/* ---------- writing ---------- */

static void
write_jobs(const JobBatch *batch, JobState state, Written *written)
{
	ErrorData *error;
	int i;

	for (i = 0; i < batch->n; i++)
		job_enter(batch->jobs[i], state, batch->jobs[i]->step);
	if (find_tables(batch->looks, &error))
	{
		reporter_write_apart(state, batch->jobs, batch->n, written);
		return;
	}
	for (i = 0; i < batch->n; i++)
		written[i] = (Written){WRITE_PENDING, error};
}

static Parcel
run_write_errand(SpoolStream *in, JobState state)
{
	JobBatch batch = {0};
	Written *written;
	SpoolStream out;
	int i;

	parcel_pass_batch(in, &batch, state);
	if (in->failed)
		elog(ERROR, "a result to be written is not complete");
	written = palloc0(batch.n * sizeof(Written));
	write_jobs(&batch, state, written);
	spool_begin_packing(&out);
	parcel_pass_written(&out, written, batch.n);
	for (i = 0; i < batch.n; i++)
		job_destroy(batch.jobs[i]);
	return spool_end_packing(&out, PARCEL_WRITTEN);
}

/* ---------- the process ---------- */

/*
 * Waits for the dispatcher, or for a signal.
 */
static void
wait_for_dispatcher(void)
{
	int timeout = ShutdownRequestPending ? WL_TIMEOUT : 0;

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | timeout, STOP_IDLE_MS,
					 wait_event);
	ResetLatch(MyLatch);
	if (worker_is_to_reload())
		worker_reload();
}

/*
 * Receives the next errand.  False when there will be none.
 */
static bool
receive_errand(Parcel *parcel)
{
	MonoTime since = clock_uptime();
	PipeResult result;

	while ((result = pipe_receive(pipe_to_dispatcher, errand_context, NO_BOUND, parcel)) ==
		   PIPE_WAITS)
	{
		if (ShutdownRequestPending && !pipe_is_receiving(pipe_to_dispatcher) &&
			clock_uptime() > since + STOP_IDLE_MS * INT64CONST(1000))
			return false;
		wait_for_dispatcher();
	}
	return result == PIPE_DONE;
}

/*
 * Sends a parcel to the dispatcher.  False when nobody takes it.
 */
static bool
send_parcel(const Parcel *parcel)
{
	PipeResult result;

	pipe_put(pipe_to_dispatcher, parcel);
	while ((result = pipe_send(pipe_to_dispatcher, NO_BOUND)) == PIPE_WAITS)
		wait_for_dispatcher();
	return result == PIPE_DONE;
}

static Parcel
run_errand(const Parcel *errand)
{
	SpoolStream in;

	if (spool_begin_unpacking(&in, errand))
	{
		switch (errand->kind)
		{
			case PARCEL_JUDGE:
				return run_judge_errand(&in);
			case PARCEL_BUILD:
				return run_build_errand(&in);
			case PARCEL_RESUME:
				return run_resume_errand(&in);
			case PARCEL_SAVE:
				return run_write_errand(&in, JOB_SAVING);
			case PARCEL_REPORT:
				return run_write_errand(&in, JOB_REPORTING);
		}
	}
	elog(ERROR, "the dispatcher sent an invalid errand");
}

static void
start_writer(dsm_handle handle)
{
	WriterPost post;

	memcpy(&post, MyBgworkerEntry->bgw_extra, sizeof(post));
	/* first, so that we notice what is sent while this process gets ready */
	pipe_to_dispatcher = pipe_open(handle);
	shmem_slot_join(post.slot);
	worker_start(post.database, transaction_deadline);
	clock_join(post.clock_started_at);
	marker_join(post.index);
	errand_context = AllocSetContextCreate(TopMemoryContext, "genjob errand", ALLOCSET_SMALL_SIZES);
	wait_event = compat_wait_event("GenjobWriterMain");
}

/*
 * Entry point of the background worker.
 */
void
genjob_writer_main(Datum handle)
{
	Parcel parcel;

	start_writer(DatumGetUInt32(handle));
	MemoryContextSwitchTo(errand_context);
	pgstat_report_activity(STATE_IDLE, NULL);
	while (receive_errand(&parcel))
	{
		Parcel returned = run_errand(&parcel);

		if (!send_parcel(&returned))
			break;
		MemoryContextReset(errand_context);
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	proc_exit(0);
}
