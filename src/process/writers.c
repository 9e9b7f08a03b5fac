/*
 * writers.c
 *		The processes that read and write large answers beside the dispatcher,
 *		so that no other answer waits for them.
 *
 * Reading an answer of megabytes, or writing it into a table, takes longer the
 * more bytes and values it has, but a turn of the loop must be short.  So the
 * answer goes to a writer (writer.c), a background worker.  It starts when
 * there is work for it, and ends after IDLE_US without work.  Each piece of
 * work is an errand (errand.c), one of four:
 *
 *		an answer, to be judged: what comes back is the verdict, with which the job goes on as with any other;
 *		an answer that an earlier dispatcher has saved, to be read from its row and judged;
 *		jobs in the state JOB_SAVING or JOB_REPORTING, to be written in a transaction, each over its own attempt;
 *		a request that takes long to build: what comes back is what to send, and the call begins.
 *
 * The dispatcher decides what follows, and keeps what it handed over until the
 * errand is done.  So nothing is lost: if the writer dies, or there is none
 * (genjob.max_writers is 0, or no background worker is free), the dispatcher
 * does the errand itself.  Nothing is done twice either: of two transactions
 * for the same attempt, the second finds that the row is no longer running.
 *
 * Parcels go through a queue of a megabyte in each direction (shared/pipe.c).
 * A turn moves only as much of them as takes a fraction of a millisecond.  A
 * writer's copy of an answer counts as memory of answers (base/memory.c).
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/guard.h"
#include "base/marker.h"
#include "base/media.h"
#include "base/seldom.h"
#include "base/settings.h"
#include "life/life.h"
#include "process/errand.h"
#include "process/parcels.h"
#include "process/writers.h"
#include "process/worker.h"
#include "protocol/judge.h"
#include "shared/pipe.h"
#include "shared/shmem.h"

StaticAssertDecl(SETTINGS_MAX_WRITERS <= MARKER_WRITERS, "each writer has its part of the marker");

#define IDLE_US (30 * USECS_PER_SEC)
#define TURN_BYTES ((size_t) 2 * 1024 * 1024) /* to and from a writer in a turn of the loop */

/* How long judging an answer takes, in ns. A writer does it above JUDGE_NS. */
#define NS_A_BYTE 4
#define NS_A_VALUE 180 /* for each of its commas, colons and brackets */
/* The same for each text that is searched for beyond those of one secret (disguise.c) */
#define FEW_SEARCHES 8
#define SEARCH_NS_A_BYTE 1
#define SEARCH_NS_A_VALUE 40
#define JUDGE_NS (8 * 1000000)
#define SMALLEST (64 * 1024)      /* bytes; with few secrets, a smaller body never takes long */
#define LARGEST (2 * 1024 * 1024) /* bytes; values of a larger body are not counted */
#define COUNTED 4096              /* bytes whose values are counted at a time */

/* Of a longer refusal that this process must judge, only the beginning is read; people are told no more of it anyway */
#define REFUSAL_READ (64 * 1024)

/* The same for building a request */
#define BUILD_NS_A_BYTE 20
#define BUILD_NS_A_VALUE 600

#define MUCH (8 * 1024 * 1024)    /* bytes; writes of as many have their WAL flushed meanwhile */
#define FLUSH_BYTES (1024 * 1024) /* of WAL, at a time */
#define FLUSH_US 2000             /* between two looks at it */

#define FINISH_US (2 * USECS_PER_SEC) /* for writers to end transactions after the deadline */

#define NO_WRITER \
	"no background worker is free to read and write large answers: the dispatcher does it itself, and other jobs wait meanwhile. Increase max_worker_processes"

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

/* After a writer could not be started */
static const Backoff start_again = {1000, 60000}; /* ms */
static MonoTime not_before = 0;
static int failures = 0;       /* in a row */
static bool is_closed = false; /* this dispatcher is about to leave */
static bool is_due = false;    /* there may be an errand to begin */

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
 * True if writers may be used.
 */
bool
writers_can_be_had(void)
{
	if (is_closed || genjob_max_writers == 0)
		return false;
	return count_running() > 0 || clock_mono() >= not_before;
}

/* ---------- what is handed over ---------- */

/*
 * Returns how many commas, colons and opening brackets text has.  Most large
 * bodies have none for thousands of bytes.
 */
static uint64
count_values(const char *text, size_t len)
{
	uint64 values = 0;
	size_t i;

	if (memchr(text, ',', len) == NULL && memchr(text, ':', len) == NULL &&
		memchr(text, '[', len) == NULL && memchr(text, '{', len) == NULL)
		return 0;
	for (i = 0; i < len; i++)
		values += text[i] == ',' || text[i] == ':' || text[i] == '[' || text[i] == '{';
	return values;
}

/*
 * Returns how many texts more than usual the answer to a request is searched for: a user mapping may have a hundred
 * secret headers, each of which an answer may repeat in several forms.
 */
static uint64
count_searches(const HttpRequest *request)
{
	int n = list_length(request->secrets) + list_length(request->disguises);

	return Max(n - FEW_SEARCHES, 0);
}

/*
 * True if the body of an answer takes long to judge.  A picture becomes an output as it is; JSON takes time for its
 * values.
 */
static bool
takes_long(const HttpRequest *request, const Bytes *body)
{
	uint64 searches = count_searches(request);
	uint64 ns = body->len * (NS_A_BYTE + searches * SEARCH_NS_A_BYTE);
	uint64 ns_a_value = NS_A_VALUE + searches * SEARCH_NS_A_VALUE;
	size_t i;

	if ((body->len < SMALLEST && searches == 0) ||
		media_is_playable(media_type_of(body->data, body->len)))
		return false;
	if (body->len > LARGEST)
		return true;
	for (i = 0; i < body->len && ns <= JUDGE_NS; i += COUNTED)
		ns += ns_a_value * count_values(body->data + i, Min(body->len - i, COUNTED));
	return ns > JUDGE_NS;
}

/*
 * Takes an answer that takes long to judge.  False if the dispatcher should judge it.
 */
bool
writers_take_answer(void *tag, HttpReply *reply)
{
	Call *call = tag;

	/* of a failed call, only the failure is judged */
	if (reply->error != HTTP_OK || !takes_long(call->http, reply->body))
		return false;
	if (life_can_do_without(call))
		bytes_clear(reply->body);
	if (life_judges_here(call, reply))
	{
		if (!reply_is_success(reply))
			reply->body->len = Min(reply->body->len, REFUSAL_READ);
		return false;
	}
	/* a writer parses the options from defs */
	if (!writers_can_be_had() || life_source(call->job).options->defs == NIL)
		return false;
	errand_judge(call, reply);
	is_due = true;
	return true;
}

/*
 * Takes a job whose row has saved a large answer.  False if the dispatcher must read it.
 */
bool
writers_take_saved(Job *job)
{
	if (!writers_can_be_had() || job->complaint != NULL || job->options == NULL ||
		job->options->defs == NIL)
		return false;
	errand_resume(job);
	is_due = true;
	return true;
}

/*
 * Returns how many bytes a request is built from, with the job's inputs and
 * the outputs that it refers to.
 */
static size_t
source_bytes(const Job *job)
{
	size_t bytes = strlen(job->request);
	int i;

	for (i = 0; i < job->submission.n_inputs; i++)
		bytes += job->submission.inputs[i].len;
	for (i = 0; i < job->submission.n_references; i++)
		bytes += job->submission.references[i].data ? job->submission.references[i].len : 0;
	return bytes;
}

/*
 * Takes a request that takes long to build.  False if the dispatcher should build it.
 */
bool
writers_take_request(Job *job)
{
	size_t bytes = source_bytes(job);
	uint64 ns = bytes * BUILD_NS_A_BYTE;

	if (bytes < SMALLEST)
		return false;
	if (ns <= JUDGE_NS)
		ns += BUILD_NS_A_VALUE * count_values(job->request, strlen(job->request));
	if (ns <= JUDGE_NS || !writers_can_be_had() || job->options->defs == NIL)
		return false;
	errand_build(job, bytes);
	is_due = true;
	return true;
}

/*
 * Takes a job whose verdict takes as long to write as a picture of that many
 * bytes: alone, or with others, of which at most one is_large.  False if the
 * dispatcher should write it.
 */
bool
writers_take_job(Job *job, size_t bytes, bool alone, bool is_large)
{
	if (job->write.stays_here || job->report.must_cancel || job->step == STEP_CANCEL ||
		!writers_can_be_had())
		return false;
	errand_write(job, bytes, alone, is_large);
	is_due = true;
	return true;
}

/* ---------- processes ---------- */

static void
postpone_start(void)
{
	not_before = clock_mono() + backoff_delay(&start_again, failures++) * 1000;
}

static void
writer_is_idle(Writer *writer)
{
	errand_free(writer->errand);
	writer->errand = NULL;
	writer->idle_since = clock_mono();
	failures = 0;
	is_due = true;
}

/*
 * Ends a writer, and does its errand here.
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
report_shortage(const char *why)
{
	static Seldom said;
	int64 unsaid;

	shmem_set_my_error(why);
	if (seldom_must_say(&said, 0, clock_mono(), &unsaid))
		ereport(LOG, (errmsg("genjob: %s", why),
					  errhint("It will be tried again.%s", seldom_describe(unsaid))));
}

static bool
writer_register(Writer *writer, dsm_handle handle)
{
	WriterPost post = {MyDatabaseId, my_slot, writer - writers, clock_started_at()};
	const char *database = strchr(MyBgworkerEntry->bgw_name, ':');

	StaticAssertStmt(sizeof(WriterPost) <= BGW_EXTRALEN, "a writer's post must fit");
	return worker_register("writer", database ? database : "", &post, sizeof(post),
						   UInt32GetDatum(handle), &writer->handle);
}

static bool
writer_start(Writer *writer)
{
	Start start = {NULL};
	char *error;

	if (!guard_run(make_pipe, &start, &error))
	{
		report_shortage(
			psprintf("no shared memory is left to hand large answers to another process: %s",
					 error));
		postpone_start();
		return false;
	}
	if (!writer_register(writer, start.handle))
	{
		pipe_close(start.pipe);
		writer->handle = NULL;
		report_shortage(NO_WRITER);
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
 * Returns an idle writer, perhaps a new one; NULL: all are busy, or none can start.
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

	is_due = false;
	while ((errand = errand_next()) != NULL)
	{
		Writer *writer = free_writer();

		if (writer == NULL)
			break;
		if (errand_begin(errand, writer->pipe))
			writer->errand = errand;
	}
	while (count_running() == 0 && (errand = errand_next()) != NULL)
		errand_do_here(errand);
}

/*
 * Sends to a writer and receives from it, as much as a turn may.
 */
static void
writer_work(Writer *writer)
{
	PipeResult result = pipe_send(writer->pipe, TURN_BYTES);
	Errand *errand = writer->errand;
	Parcel parcel;

	/* a parcel that was not sent to its end gets no answer */
	if (result == PIPE_DONE && errand != NULL && errand->is_void && pipe_was_abandoned(writer->pipe))
	{
		writer_is_idle(writer);
		return;
	}
	if (writer->inbox == NULL)
		writer->inbox =
			AllocSetContextCreate(TopMemoryContext, "genjob returned", ALLOCSET_SMALL_SIZES);
	if (result != PIPE_ENDED)
		result = pipe_receive(writer->pipe, writer->inbox, TURN_BYTES, &parcel);
	if (result == PIPE_DONE)
	{
		MemoryContext inbox = writer->inbox;

		writer->inbox = NULL;
		if (errand != NULL && errand_take(errand, &parcel, inbox))
			writer_is_idle(writer);
		else
			result = PIPE_ENDED;
	}
	if (result != PIPE_ENDED)
		return;
	/* an idle writer may have been told to end */
	if (writer->errand != NULL)
		postpone_start();
	writer_end(writer);
}

static bool
writes_much(const Writer *writer)
{
	return writer->errand != NULL && writer->errand->bytes >= MUCH &&
		   (writer->errand->kind == PARCEL_SAVE || writer->errand->kind == PARCEL_REPORT);
}

static bool
any_writes_much(void)
{
	int i;

	for (i = 0; i < lengthof(writers); i++)
	{
		if (writes_much(&writers[i]))
			return true;
	}
	return false;
}

/*
 * Wakes PostgreSQL's WAL writer while a writer makes WAL.  Otherwise the next
 * commit of the dispatcher, on which all jobs wait, would flush all of it.
 */
static void
flush_ahead(void)
{
	static XLogRecPtr told = InvalidXLogRecPtr;
	XLogRecPtr end = GetXLogInsertRecPtr();

	if (end < told + FLUSH_BYTES)
		return;
	told = end;
	XLogSetAsyncXactLSN(end);
}

/*
 * Moves the errands under way on, and begins others.
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
	if (any_writes_much())
		flush_ahead();
	/* send at once what was begun just now */
	for (i = 0; i < lengthof(writers); i++)
	{
		if (writers[i].errand != NULL && pipe_is_sending(writers[i].pipe))
			(void) pipe_send(writers[i].pipe, TURN_BYTES);
	}
}

/*
 * Returns when there is work for writers that no latch reports; 0: never.
 */
MonoTime
writers_next(void)
{
	MonoTime next = is_due ? 1 : any_writes_much() ? clock_mono() + FLUSH_US : 0;
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
any_writer_works(void)
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
 * Lets writers finish until deadline (a time of clock_uptime()) or a little
 * later, then ends them.  The dispatcher does what they have not done.  A late
 * write of a writer cannot take effect once the next dispatcher has written.
 */
void
writers_finish(MonoTime deadline)
{
	Errand *errand;
	int i;

	is_closed = true;
	errands_close();
	while ((errand = errand_next()) != NULL)
		errand_do_here(errand);
	while (any_writer_works() && clock_uptime() < deadline + FINISH_US)
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
