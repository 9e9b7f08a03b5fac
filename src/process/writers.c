/*
 * writers.c
 *		Large answers are read and written by processes beside the dispatcher, so that no other answer waits for them.
 *
 * To read an answer of megabytes, or to write it into a table, takes as long as its bytes are many: a turn of the
 * dispatcher's loop must not.  So it hands them to a writer (writer.c), a background worker that is started when there is
 * something for it and leaves when there was nothing for IDLE_US.  An errand is one of two:
 *
 *		an answer, to be judged: what comes back is the verdict, with which the job goes on as with any other;
 *		jobs in the state JOB_SAVING or JOB_REPORTING, to be written in a transaction, each over its own attempt.
 *
 * The dispatcher decides all that follows, and keeps what it has handed over until the errand is done.  So nothing is lost
 * where a writer ends: the errand is then done here, as it is where there is no writer, because genjob.max_writers is 0 or no
 * background worker is free.  Nothing is done twice either: of a transaction of whose end nobody knows the second one
 * finds that the row is not running any more.
 *
 * A job that goes (it was cancelled, say) while it is out takes its errand with it; what comes back then is for nobody.
 *
 * What is sent and received goes through a queue of a megabyte in either direction (shared/pipe.c), as much of it in a turn as takes a
 * fraction of a millisecond.  A writer's copy of an answer counts as memory of answers (base/memory.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/guard.h"
#include "base/marker.h"
#include "base/media.h"
#include "base/memory.h"
#include "base/settings.h"
#include "process/parcels.h"
#include "process/reporter.h"
#include "process/writers.h"
#include "shared/pipe.h"
#include "shared/shmem.h"

StaticAssertDecl(SETTINGS_MAX_WRITERS <= MARKER_WRITERS, "each writer has its part of the marker");

#define IDLE_US (30 * USECS_PER_SEC)
#define TURN_BYTES ((size_t) 2 * 1024 * 1024) /* to and from a writer in a turn of the loop */

/* How long judging an answer takes, in ns, and from when on a writer does it. */
#define NS_A_BYTE 4
#define NS_A_VALUE 180 /* for each of its commas, colons and brackets */
#define JUDGE_NS (8 * 1000000)
#define SMALLEST (64 * 1024)      /* that is looked at */
#define LARGEST (2 * 1024 * 1024) /* of which the values are counted */

/* Jobs that are written together */
#define MAX_JOBS 50
#define MAX_BYTES (4 * 1024 * 1024)

#define RETRY_MIN_MS \
	1000 /* before a writer is started again, after one could not be or has failed */
#define RETRY_MAX_MS 60000
#define FINISH_US \
	(2 * USECS_PER_SEC) /* for writers to end what they do, once it was to have ended */
#define NO_WRITER \
	"no background worker is free to read and write large answers: the dispatcher does it itself, and others wait meanwhile. Increase max_worker_processes"

struct Errand;

/* What has an errand end when its job does: in a memory context of the job. */
typedef struct Tie
{
	MemoryContextCallback callback;
	struct Errand *errand; /* NULL: it is done */
} Tie;

typedef struct Errand
{
	dlist_node node; /* while is_waiting */
	bool is_waiting; /* no writer has it */
	bool is_void;    /* its jobs have gone */
	ParcelKind kind;
	MemoryContext context;
	List *ties;
	size_t counted; /* of memory, while a writer has it */
	Parcel parcel;

	/* PARCEL_JUDGE */
	void *tag;
	HttpReply *reply;

	/* PARCEL_SAVE, PARCEL_REPORT */
	size_t bytes;
	bool is_full; /* no other job may come along */
	bool has_large;
	JobBatch batch; /* of PARCEL_JUDGE the one job alone */
} Errand;

typedef struct Writer
{
	BackgroundWorkerHandle *handle; /* NULL: not running */
	Pipe *pipe;
	MemoryContext inbox; /* for what it sends */
	Errand *errand;      /* NULL: it is idle */
	MonoTime idle_since;
} Writer;

static Writer writers[SETTINGS_MAX_WRITERS];
static int my_slot;

/* Errands that wait for a writer: answers to be judged, and jobs to be written; each in turn */
static dlist_head to_judge = DLIST_STATIC_INIT(to_judge);
static dlist_head to_write = DLIST_STATIC_INIT(to_write);
static bool judged_last = false;

/* After one could not be started */
static MonoTime not_before = 0;
static int failures = 0;       /* in a row */
static bool is_closed = false; /* this dispatcher is about to leave */

void
writers_init(int slot)
{
	my_slot = slot;
}

static int
count_running(void)
{
	int n = 0;
	int i;

	for (i = 0; i < lengthof(writers); i++)
		n += writers[i].handle != NULL;
	return n;
}

/*
 * Whether what is large may be handed over.
 */
bool
writers_can_be_had(void)
{
	if (is_closed || genjob_max_writers == 0)
		return false;
	return count_running() > 0 || clock_mono() >= not_before;
}

/* ---------- errands ---------- */

static void
errand_settle(Errand *errand)
{
	ListCell *cell;

	foreach(cell, errand->ties)
		((Tie *) lfirst(cell))->errand = NULL;
	errand->ties = NIL;
}

/*
 * Takes an errand off its list, and its jobs off the errand.
 */
static void
errand_withdraw(Errand *errand)
{
	errand_settle(errand);
	if (errand->is_waiting)
		dlist_delete(&errand->node);
	errand->is_waiting = false;
}

static void
errand_free(Errand *errand)
{
	errand_withdraw(errand);
	memory_resize(MEMORY_ANSWERS, NULL, errand->counted, 0);
	MemoryContextDelete(errand->context);
}

/*
 * A job of an errand goes.  The others are written another time.
 */
static void
errand_lost(void *arg)
{
	Errand *errand = ((Tie *) arg)->errand;
	bool was_waiting;
	int i;

	if (errand == NULL)
		return;
	was_waiting = errand->is_waiting;
	errand_withdraw(errand);
	errand->is_void = true;
	for (i = 0; i < errand->batch.n; i++)
		errand->batch.jobs[i]->is_out = false;
	for (i = 0; i < lengthof(writers); i++)
	{
		if (writers[i].errand == errand)
			pipe_abandon(writers[i].pipe);
	}
	if (was_waiting)
		errand_free(errand);
}

static void
errand_tie(Errand *errand, MemoryContext context)
{
	Tie *tie = MemoryContextAllocZero(context, sizeof(Tie));
	MemoryContext caller = MemoryContextSwitchTo(errand->context);

	tie->errand = errand;
	tie->callback.func = errand_lost;
	tie->callback.arg = tie;
	MemoryContextRegisterResetCallback(context, &tie->callback);
	errand->ties = lappend(errand->ties, tie);
	MemoryContextSwitchTo(caller);
}

static void
errand_add(Errand *errand, Job *job, size_t bytes)
{
	errand->batch.jobs[errand->batch.n++] = job;
	errand->bytes += bytes;
	errand_tie(errand, job->context);
	if (job->call_context != NULL)
		errand_tie(errand, job->call_context);
}

static Errand *
errand_create(ParcelKind kind, dlist_head *list)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "genjob errand", ALLOCSET_SMALL_SIZES);
	Errand *errand = MemoryContextAllocZero(context, sizeof(Errand));

	errand->context = context;
	errand->kind = kind;
	errand->batch.jobs = MemoryContextAllocZero(context, MAX_JOBS * sizeof(Job *));
	dlist_push_tail(list, &errand->node);
	errand->is_waiting = true;
	return errand;
}

/*
 * Does in this process what no writer can.
 */
static void
errand_do_here(Errand *errand)
{
	int i;

	errand_withdraw(errand);
	if (!errand->is_void && errand->kind == PARCEL_JUDGE)
		follow_answered(errand->tag, errand->reply);
	for (i = 0; !errand->is_void && errand->kind != PARCEL_JUDGE && i < errand->batch.n; i++)
		reporter_take_back(errand->batch.jobs[i]);
	errand_free(errand);
}

static void
do_all_here(dlist_head *list)
{
	while (!dlist_is_empty(list))
		errand_do_here(dlist_head_element(Errand, node, list));
}

/* ---------- what is handed over ---------- */

/*
 * Whether it would take long to judge a body.  A picture is an output as it is; of JSON it is its values that take
 * time.
 */
static bool
takes_long(const Bytes *body)
{
	const char *p = body->data;
	const char *end = p + body->len;
	uint64 values = 0;

	if (body->len < SMALLEST || media_is_playable(media_type_of(body->data, body->len)))
		return false;
	if (body->len > LARGEST)
		return true;
	for (; p < end; p++)
		values += *p == ',' || *p == ':' || *p == '[' || *p == '{';
	return body->len * NS_A_BYTE + values * NS_A_VALUE > JUDGE_NS;
}

/*
 * Takes an answer that takes long to judge.  False where it is to be judged at once.
 */
bool
writers_take_answer(void *tag, HttpReply *reply)
{
	Job *job = tag;
	Errand *errand;

	if (((uintptr_t) tag & PROBE_TAG) || !takes_long(reply->body) || !writers_can_be_had())
		return false;
	if (job->step != STEP_SUBMIT && job->step != STEP_RESULT &&
		(job->step != STEP_POLL || job->asks_unended))
		return false;
	errand = errand_create(PARCEL_JUDGE, &to_judge);
	errand->tag = tag;
	errand->reply = reply;
	errand_add(errand, job, reply->body->len);
	/* its call is over */
	job->transfer = NULL;
	job_stop_waking(job);
	return true;
}

static Errand *
errand_with_room(ParcelKind kind, size_t bytes, bool alone, bool is_large)
{
	Errand *last;

	if (dlist_is_empty(&to_write))
		return NULL;
	last = dlist_tail_element(Errand, node, &to_write);
	if (last->kind != kind || last->is_full || last->batch.n == MAX_JOBS || alone ||
		last->bytes + bytes > MAX_BYTES || (is_large && last->has_large))
		return NULL;
	return last;
}

/*
 * Takes a job whose verdict is to be written, which takes as long as that of a picture of so many bytes: alone, or with
 * others of which none is_large, too.  False where it is to be written here.
 */
bool
writers_take_job(Job *job, size_t bytes, bool alone, bool is_large)
{
	ParcelKind kind = job->state == JOB_SAVING ? PARCEL_SAVE : PARCEL_REPORT;
	Errand *errand;

	if (job->stays_here || job->must_cancel || job->step == STEP_CANCEL || !writers_can_be_had())
		return false;
	errand = errand_with_room(kind, bytes, alone, is_large);
	if (errand == NULL)
		errand = errand_create(kind, &to_write);
	errand->is_full |= alone;
	errand->has_large |= is_large;
	errand_add(errand, job, bytes);
	job->is_out = true;
	return true;
}

/* ---------- sending and receiving ---------- */

static void
pack_question(SpoolStream *stream, Errand *errand)
{
	Job *job = errand->batch.jobs[0];
	Question question = {.job = job->id,
						 .attempt = job->attempt,
						 .step = job->step,
						 .source = steps_reply_source(job, job->http),
						 .remote = job->remote,
						 .reply = errand->reply};

	parcel_pass_question(stream, &question);
}

static void
pack(void *arg)
{
	Errand *errand = arg;
	SpoolStream stream;

	MemoryContextSwitchTo(errand->context);
	spool_begin_packing(&stream);
	if (errand->kind == PARCEL_JUDGE)
		pack_question(&stream, errand);
	else
	{
		errand->batch.looks = queue_looks();
		parcel_pass_batch(&stream, &errand->batch,
						  errand->kind == PARCEL_SAVE ? JOB_SAVING : JOB_REPORTING);
	}
	errand->parcel = spool_end_packing(&stream, errand->kind);
}

static void
writer_begin(Writer *writer, Errand *errand)
{
	char *error;
	int i;

	if (!guard_run(pack, errand, &error))
	{
		errand_do_here(errand);
		return;
	}
	dlist_delete(&errand->node);
	errand->is_waiting = false;
	for (i = 1; i < errand->parcel.n; i++)
		errand->counted += errand->parcel.pieces[i].len;
	memory_resize(MEMORY_ANSWERS, NULL, 0, errand->counted);
	writer->errand = errand;
	pipe_put(writer->pipe, &errand->parcel);
}

/* What a writer has sent back. */
typedef struct Returned
{
	Errand *errand;
	Parcel parcel;
	SpoolStream stream;
	Judged judged;
	Written *written;
} Returned;

static void
unpack(void *arg)
{
	Returned *returned = arg;
	int n = returned->errand->batch.n;

	if (!spool_begin_unpacking(&returned->stream, &returned->parcel))
		returned->stream.failed = true;
	else if (returned->parcel.kind == PARCEL_JUDGED)
		parcel_pass_judged(&returned->stream, &returned->judged);
	else
	{
		returned->written = palloc0(n * sizeof(Written));
		parcel_pass_written(&returned->stream, returned->written, n);
	}
}

/*
 * Goes on with an answer that was judged; the memory of what came back becomes the call's.
 */
static void
take_judged(Writer *writer, Returned *returned)
{
	Errand *errand = returned->errand;
	Job *job = errand->batch.jobs[0];

	MemoryContextSetParent(writer->inbox, job->call_context);
	writer->inbox = NULL;
	if (returned->judged.why == NULL)
		bytes_clear(errand->reply->body);
	/* only the answer to a submission adds something, which is the job's own soon */
	if (job->step != STEP_SUBMIT)
		returned->judged.remote = job->remote;
	job->judged = &returned->judged;
	errand_withdraw(errand);
	follow_answered(errand->tag, errand->reply);
}

static void
take_written(Returned *returned)
{
	Errand *errand = returned->errand;
	int i;

	errand_withdraw(errand);
	for (i = 0; i < errand->batch.n; i++)
		reporter_take_written(errand->batch.jobs[i], &returned->written[i]);
}

static void
writer_is_idle(Writer *writer)
{
	writer->errand = NULL;
	writer->idle_since = clock_mono();
	failures = 0;
	if (writer->inbox != NULL)
		MemoryContextReset(writer->inbox);
}

/*
 * Goes on with what a writer has brought.  False where that makes no sense.
 */
static bool
writer_take(Writer *writer, Parcel *parcel)
{
	Errand *errand = writer->errand;
	bool judges = errand->kind == PARCEL_JUDGE;
	Returned returned = {.errand = errand, .parcel = *parcel};
	MemoryContext caller = CurrentMemoryContext;
	char *error;
	bool is_sound;

	if (!errand->is_void)
	{
		MemoryContextSwitchTo(judges ? writer->inbox : errand->context);
		is_sound = (parcel->kind == PARCEL_JUDGED) == judges &&
				   guard_run(unpack, &returned, &error) && !returned.stream.failed;
		MemoryContextSwitchTo(caller);
		if (!is_sound)
			return false;
		if (judges)
			take_judged(writer, &returned);
		else
			take_written(&returned);
	}
	writer_is_idle(writer);
	errand_free(errand);
	return true;
}

/* ---------- processes ---------- */

static void
postpone_start(void)
{
	int64 ms = Min((int64) RETRY_MIN_MS << Min(failures, 10), RETRY_MAX_MS);

	failures++;
	not_before = clock_mono() + ms * 1000;
}

/*
 * Lets a writer go, with what it was doing done here.
 */
static void
writer_end(Writer *writer)
{
	Errand *errand = writer->errand;

	pipe_close(writer->pipe);
	pfree(writer->handle);
	if (writer->inbox != NULL)
		MemoryContextDelete(writer->inbox);
	*writer = (Writer){0};
	if (errand != NULL)
		errand_do_here(errand);
}

typedef struct Start
{
	Pipe *pipe;
	dsm_handle handle;
} Start;

static void
make_pipe(void *arg)
{
	Start *start = arg;

	start->pipe = pipe_create(&start->handle);
}

static void
complain(const char *why)
{
	static MonoTime complained_at = 0;
	MonoTime now = clock_mono();

	shmem_set_my_error(why);
	if (complained_at != 0 && now < complained_at + USECS_PER_MINUTE)
		return;
	complained_at = now;
	ereport(LOG, (errmsg("genjob: %s", why)));
}

static bool
writer_register(Writer *writer, dsm_handle handle)
{
	WriterPost post = {MyDatabaseId, my_slot, writer - writers, clock_started_at()};
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_library_name = "genjob",
		.bgw_function_name = "genjob_writer_main",
		.bgw_type = "genjob writer",
		.bgw_notify_pid = MyProcPid,
	};
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	bool succeeded;

	StaticAssertStmt(sizeof(WriterPost) <= BGW_EXTRALEN, "a writer's post must fit");
	snprintf(worker.bgw_name, BGW_MAXLEN, "genjob writer%s",
			 strchr(MyBgworkerEntry->bgw_name, ':') ? strchr(MyBgworkerEntry->bgw_name, ':') : "");
	memcpy(worker.bgw_extra, &post, sizeof(post));
	worker.bgw_main_arg = UInt32GetDatum(handle);
	succeeded = RegisterDynamicBackgroundWorker(&worker, &writer->handle);
	MemoryContextSwitchTo(caller);
	return succeeded;
}

static bool
writer_start(Writer *writer)
{
	Start start = {NULL};
	char *error;

	if (!guard_run(make_pipe, &start, &error))
	{
		complain(psprintf("no shared memory is left to hand large answers to another process: %s",
						  error));
		postpone_start();
		return false;
	}
	if (!writer_register(writer, start.handle))
	{
		pipe_close(start.pipe);
		writer->handle = NULL;
		complain(NO_WRITER);
		postpone_start();
		return false;
	}
	pipe_set_process(start.pipe, writer->handle);
	writer->pipe = start.pipe;
	writer->idle_since = clock_mono();
	return true;
}

/* ---------- the loop's part ---------- */

/*
 * The errand that is to be done next, or NULL.
 */
static Errand *
next_errand(void)
{
	dlist_head *first = judged_last ? &to_write : &to_judge;
	dlist_head *second = judged_last ? &to_judge : &to_write;
	dlist_head *list = dlist_is_empty(first) ? second : first;

	return dlist_is_empty(list) ? NULL : dlist_head_element(Errand, node, list);
}

/*
 * A writer for another errand, which may have to be started; NULL: all have something to do, or none can be.
 */
static Writer *
free_writer(void)
{
	Writer *unused = NULL;
	int i;

	for (i = 0; i < lengthof(writers); i++)
	{
		if (writers[i].handle != NULL && writers[i].errand == NULL)
			return &writers[i];
		if (writers[i].handle == NULL && unused == NULL && marker_is_free(i))
			unused = &writers[i];
	}
	if (unused == NULL || count_running() >= genjob_max_writers || is_closed ||
		clock_mono() < not_before)
		return NULL;
	return writer_start(unused) ? unused : NULL;
}

static void
begin_errands(void)
{
	Errand *errand;

	while ((errand = next_errand()) != NULL)
	{
		Writer *writer = free_writer();

		if (writer == NULL)
			break;
		judged_last = errand->kind == PARCEL_JUDGE;
		writer_begin(writer, errand);
	}
	if (count_running() == 0)
	{
		do_all_here(&to_judge);
		do_all_here(&to_write);
	}
}

/*
 * Moves a writer on: what it is sent, and what it sends.
 */
static void
writer_work(Writer *writer)
{
	PipeResult result = pipe_send(writer->pipe, TURN_BYTES);
	Errand *errand = writer->errand;
	Parcel parcel;

	/* what was not sent to its end is answered by nothing */
	if (result == PIPE_DONE && errand != NULL && errand->is_void && pipe_was_abandoned(writer->pipe))
	{
		writer_is_idle(writer);
		errand_free(errand);
		return;
	}
	if (result != PIPE_ENDED)
	{
		if (writer->inbox == NULL)
			writer->inbox =
				AllocSetContextCreate(TopMemoryContext, "genjob returned", ALLOCSET_SMALL_SIZES);
		result = pipe_receive(writer->pipe, writer->inbox, TURN_BYTES, &parcel);
	}
	if (result == PIPE_DONE && (errand == NULL || !writer_take(writer, &parcel)))
		result = PIPE_ENDED;
	if (result == PIPE_ENDED)
	{
		/* one that was idle may have been told to leave */
		if (writer->errand != NULL)
			postpone_start();
		writer_end(writer);
	}
}

/*
 * Moves errands on, as far as they are; begins others.
 */
void
writers_work(void)
{
	MonoTime now = clock_mono();
	int i;

	for (i = 0; i < lengthof(writers); i++)
	{
		if (writers[i].handle != NULL)
			writer_work(&writers[i]);
	}
	begin_errands();
	for (i = 0; i < lengthof(writers); i++)
	{
		if (writers[i].handle != NULL && writers[i].errand == NULL &&
			(now >= writers[i].idle_since + IDLE_US || count_running() > genjob_max_writers))
			writer_end(&writers[i]);
	}
	/* what was begun just now is sent at once */
	for (i = 0; i < lengthof(writers); i++)
	{
		if (writers[i].errand != NULL && pipe_is_sending(writers[i].pipe))
			(void) pipe_send(writers[i].pipe, TURN_BYTES);
	}
}

/*
 * When a writer may leave; 0: there is none.  Whatever else concerns writers sets the latch.
 */
MonoTime
writers_next(void)
{
	MonoTime next = 0;
	int i;

	for (i = 0; i < lengthof(writers); i++)
	{
		MonoTime end = writers[i].idle_since + IDLE_US;

		if (writers[i].handle != NULL && writers[i].errand == NULL && (next == 0 || end < next))
			next = end;
	}
	return next;
}

static bool
any_works(void)
{
	int i;

	for (i = 0; i < lengthof(writers); i++)
	{
		if (writers[i].errand != NULL)
			return true;
	}
	return false;
}

/*
 * Lets writers end what they do, by a time of clock_uptime() or a little later, and go.  What they have not done by then
 * stays with its jobs: an answer is judged here, and who wrote something can write it no more once the next dispatcher has.
 */
void
writers_finish(MonoTime deadline)
{
	int i;

	is_closed = true;
	do_all_here(&to_judge);
	do_all_here(&to_write);
	while (any_works() && clock_uptime() < deadline + FINISH_US)
	{
		for (i = 0; i < lengthof(writers) && clock_uptime() >= deadline; i++)
		{
			if (writers[i].handle != NULL)
				pipe_hurry(writers[i].pipe);
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 100,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		writers_work();
	}
	for (i = 0; i < lengthof(writers); i++)
	{
		if (writers[i].handle == NULL)
			continue;
		pipe_hurry(writers[i].pipe);
		TerminateBackgroundWorker(writers[i].handle);
		writer_end(&writers[i]);
	}
}
