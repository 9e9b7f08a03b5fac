/*
 * orphan.c
 *		Takes up the jobs that were running when the last dispatcher ended, and
 *		fails those that must not be taken up.
 *
 * A row that cannot be read, or that crashes PostgreSQL, does not keep other
 * rows from being taken up.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/marker.h"
#include "base/memory.h"
#include "queue/ended.h"
#include "queue/jobrow.h"
#include "queue/queue.h"
#include "queue/sent.h"
#include "queue/statement.h"
#include "schedule/schedule.h"
#include "queue/trouble.h"

/* ---------- putting aside ---------- */

/* A job to fail. */
typedef struct Aside
{
	int64 id;
	int attempt;
	const char *error;
	bool keeps_answer;
} Aside;

static void
put_orphan_aside(void *arg)
{
	const Aside *aside = arg;
	Datum args[5] = {Int64GetDatum(aside->id), Int32GetDatum(aside->attempt),
					 CStringGetTextDatum(aside->error), TimestampTzGetDatum(clock_now()),
					 BoolGetDatum(aside->keeps_answer)};

	JobEnd end = {.id = aside->id, .to = ROW_FAILED};

	if (statement_run(PUT_ASIDE, args, NULL) == 0)
		return;
	end.server = statement_name(0, 2);
	end.has_on_done = DatumGetBool(statement_not_null(0, 3));
	end.from = rowstate_parse(TextDatumGetCString(statement_not_null(0, 4)));
	if (!rowstate_is_final(end.from))
		job_ended(&end);
}

/*
 * Fails a job that runs this attempt, or would be claimed for it, without
 * reading its columns.  If that fails, too, returns false and the database's
 * error in *refusal.
 */
bool
queue_put_aside(int64 id, int attempt, const char *error, ErrorData **refusal)
{
	Aside aside = {id, attempt, error, true};

	if (queue_guard(put_orphan_aside, &aside, refusal))
		return true;
	/* it may be the answer that cannot be read */
	aside.keeps_answer = false;
	return queue_guard(put_orphan_aside, &aside, refusal);
}

static const char crash_error[] =
	"PostgreSQL crashed while this job's answer was handled, and not for the first time. genjob does not touch it again by itself: look for the answer in the column result, or at the provider, and report the crash with the server's log before you call genjob.retry().";

/*
 * Fails the jobs that crash PostgreSQL.
 */
void
queue_put_condemned_aside(void)
{
	Suspect suspect;
	ErrorData *refusal;
	int i = 0;

	while (marker_next_condemned(&i, &suspect))
	{
		if (!queue_put_aside(suspect.job, suspect.attempt, crash_error, &refusal))
			trouble_show_job(TROUBLE_FAIL, suspect.job, NULL, refusal);
	}
}

/*
 * Removes jobs from the marker once their failure is committed.  Others stay.
 */
void
queue_acquit_put_aside(void)
{
	Suspect suspect;
	int i = 0;

	while (marker_next_condemned(&i, &suspect))
	{
		Datum args[1] = {Int64GetDatum(suspect.job)};

		if (statement_run(FIND_ATTEMPT, args, NULL) > 0)
			continue;
		marker_acquit(suspect.job);
		i--;
	}
}

/* ---------- rows that cannot be read ---------- */

static const Backoff look_again = {10 * USECS_PER_SEC, 10 * USECS_PER_MINUTE};

/* A row that can neither be read nor failed. */
typedef struct Unreadable
{
	int64 id; /* key */
	int times;
	MonoTime again_at;
} Unreadable;

static HTAB *unreadable = NULL;

static Unreadable *
find_unreadable(int64 id, bool create)
{
	bool found;
	Unreadable *entry;

	if (unreadable == NULL)
	{
		HASHCTL control = {.keysize = sizeof(int64),
						   .entrysize = sizeof(Unreadable),
						   .hcxt = TopMemoryContext};

		if (!create)
			return NULL;
		unreadable = hash_create("genjob unreadable jobs", 16, &control,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(unreadable, &id, create ? HASH_ENTER : HASH_FIND, &found);
	if (create && !found)
		entry->times = 0;
	return entry;
}

/*
 * Returns when to look again at an orphan that could neither be read nor
 * failed; 0: the job is no such orphan.
 */
static MonoTime
unreadable_until(int64 id)
{
	const Unreadable *entry = find_unreadable(id, false);

	return entry ? entry->again_at : 0;
}

/*
 * Fails an orphan whose columns cannot be read.  If that fails, too, returns
 * when to look at the orphan again; else 0.
 */
static MonoTime
fail_unreadable(int64 id, int attempt, const ErrorData *error)
{
	char *words =
		psprintf("the column remote of this job cannot be read: %s. The call of this attempt may have been paid for: look for it at the provider before you call genjob.retry().",
				 error->message);
	ErrorData *refusal;
	Unreadable *entry;

	if (queue_put_aside(id, attempt, words, &refusal))
		return 0;
	trouble_show_job(TROUBLE_FAIL, id, NULL, refusal);
	entry = find_unreadable(id, true);
	entry->again_at = clock_mono() + backoff_delay(&look_again, entry->times++);
	return entry->again_at;
}

/* ---------- orphans ---------- */

#define ORPHANS_READ 500 /* rows at a time */
#define ORPHANS_MS 10    /* for reading them; answers wait meanwhile */

/* How far the reading of orphans has come. */
typedef struct Reading
{
	int64 from;       /* the id to go on from */
	size_t room;      /* bytes for the saved answers of this page */
	size_t taken;     /* bytes of room that are taken */
	bool any_size;    /* the first answer may be larger than room */
	MonoTime look_at; /* when to look again; 0: need not */
	size_t lacking;   /* bytes of the smallest answer without memory; 0: none */
	bool any_other;   /* something else must be looked at again, too */
	List *jobs;       /* taken up from this page */
} Reading;

static const Reading from_start = {.from = PG_INT64_MIN};
static Reading reading = {.from = PG_INT64_MIN};
static bool made_some = false; /* there are new orphans since the last reading began */
static size_t lacking = 0;     /* lacking of the last reading; 0 if it had any_other */

/*
 * True if there is memory for the answer that a row has saved.
 */
static bool
fits_memory(uint64 row)
{
	bool isnull;
	Datum remote = statement_value(row, 13, &isnull);
	size_t size = isnull ? 0 : toast_raw_datum_size(remote);

	if (size <= MEMORY_SMALL)
		return true;
	if (reading.taken + size > reading.room && (!reading.any_size || reading.taken > 0))
	{
		reading.lacking = reading.lacking == 0 ? size : Min(reading.lacking, size);
		return false;
	}
	reading.taken += size;
	return true;
}

static void
read_orphan(uint64 row)
{
	int64 id = DatumGetInt64(statement_not_null(row, 1));
	int attempt = DatumGetInt32(statement_not_null(row, 7));
	ServerQueue *queue;
	ErrorData *error;
	Job *job;

	if (job_find(id) != NULL || marker_is_condemned(id))
		return;
	if (unreadable_until(id) > clock_mono())
	{
		reading.any_other = true;
		schedule_note_time(&reading.look_at, unreadable_until(id));
	}
	else if (!fits_memory(row))
		schedule_note_time(&reading.look_at, clock_mono() + LOCKED_RETRY_MS * INT64CONST(1000));
	else if (!jobrow_try(row, false, &job, &error))
	{
		MonoTime again_at = fail_unreadable(id, attempt, error);

		reading.any_other |= again_at != 0;
		if (again_at != 0)
			schedule_note_time(&reading.look_at, again_at);
	}
	else
	{
		queue = jobrow_queue(row, job);
		schedule_refresh();
		jobrow_assign(job, queue,
					  limits_resume(&queue->limits, jobrow_text(row, 20), clock_mono()));
		limits_started(&job->place);
		reading.jobs = lappend(reading.jobs, job);
	}
}

/*
 * Reads what went into the calls of these jobs, as far as genjob.sent has it.
 */
static void
read_sent(const List *jobs)
{
	Job **all = palloc((list_length(jobs) + 1) * sizeof(Job *));
	ListCell *cell;
	int n = 0;

	foreach(cell, jobs)
		all[n++] = lfirst(cell);
	queue_read_sent(all, n);
}

/*
 * Reads some orphans, for as long as answers may wait.  False if there may be more.
 */
static bool
read_page(void)
{
	Datum args[2] = {Int64GetDatum(reading.from), Int32GetDatum(ORPHANS_READ)};
	uint64 rows = statement_run(FIND_ORPHANS, args, NULL);
	MonoTime enough = clock_uptime() + ORPHANS_MS * INT64CONST(1000);
	int64 id = 0;
	uint64 row;

	jobrow_begin();
	for (row = 0; row < rows && (row == 0 || clock_uptime() < enough); row++)
	{
		CHECK_FOR_INTERRUPTS();
		id = DatumGetInt64(statement_not_null(row, 1));
		read_orphan(row);
	}
	if ((row == rows && rows < ORPHANS_READ) || id == PG_INT64_MAX)
		return true;
	reading.from = id + 1;
	return false;
}

/*
 * Makes Jobs of some running rows that this dispatcher does not know: their
 * calls were under way when genjob last stopped.  is_first: starts again from
 * the first row.  Returns when to look again, at more rows or at rows left for
 * later, such as saved answers without memory; 0: never.
 */
MonoTime
queue_read_orphans(bool is_first)
{
	MonoTime look_at;
	bool is_done;

	if (is_first || made_some)
		reading = from_start;
	if (reading.from == PG_INT64_MIN)
		lacking = 0;
	made_some = false;
	reading.room = memory_room_for_answers() / SAVED_COPIES;
	reading.any_size = memory_held() == 0;
	reading.taken = 0;
	reading.jobs = NIL;
	is_done = read_page();
	read_sent(reading.jobs);
	if (!is_done)
		return clock_mono();
	queue_forget_stale_sent();
	lacking = reading.any_other ? 0 : reading.lacking;
	look_at = reading.look_at;
	if (look_at != 0)
		schedule_note_time(&schedule_times.rescan, look_at);
	reading = from_start;
	return look_at;
}

/*
 * Notes that there are running rows without a Job, which must be read.
 */
void
queue_note_orphans(void)
{
	made_some = true;
}

/*
 * Forgets an orphan whose saved answer another process should have read, and
 * did not.  This process will read the whole row.
 */
void
queue_read_again(Job *job)
{
	jobrow_read_whole(job->id);
	job_destroy(job);
	queue_note_orphans();
}

bool
queue_has_new_orphans(void)
{
	return made_some;
}

/*
 * True if there is still no memory for what the last reading left: to read all
 * running rows again would change nothing.
 */
bool
queue_orphans_lack_memory(void)
{
	return !made_some && lacking > 0 && memory_held() > 0 &&
		   lacking > memory_room_for_answers() / SAVED_COPIES;
}

/*
 * Returns what became of a spooled job's row.
 */
static SpooledRow
find_spooled(const Job *job)
{
	Datum args[1] = {Int64GetDatum(job->id)};
	char *key;
	bool has_key;

	if (statement_run(FIND_SPOOLED, args, NULL) == 0 ||
		DatumGetInt32(statement_not_null(0, 1)) != job->attempt)
		return SPOOLED_GONE;
	key = jobrow_text(0, 2);
	has_key = key != NULL && strcmp(key, job->idempotency_key) == 0;
	if (DatumGetBool(statement_not_null(0, 3)))
		return has_key ? SPOOLED_RUNNING : SPOOLED_GONE;
	if (!has_key && key != NULL)
		return SPOOLED_GONE;
	if (DatumGetBool(statement_not_null(0, 5)))
		return SPOOLED_RETRIED;
	return DatumGetBool(statement_not_null(0, 4)) ? SPOOLED_ENDED : SPOOLED_GONE;
}

static void
forget_key(const Job *job)
{
	Datum args[2] = {Int64GetDatum(job->id), Int32GetDatum(job->attempt)};

	statement_run(FORGET_KEY, args, NULL);
}

/*
 * Gives a spooled job its server.  Returns what became of its row;
 * SPOOLED_GONE if there is nothing left to write.
 */
SpooledRow
queue_take_spooled(Job *job, const SpooledJob *spooled)
{
	SpooledRow row = find_spooled(job);
	Place place = {NULL, NULL, false, false, 0};
	ServerQueue *queue;

	if (row == SPOOLED_GONE || (row != SPOOLED_RUNNING && !spooled->is_save))
		return SPOOLED_GONE;
	if (row == SPOOLED_RETRIED)
		forget_key(job);
	job->began_at = clock_mono() - Max(clock_now() - job->started_at, 0);
	queue = schedule_queue(spooled->ran_on);
	schedule_refresh();
	if (row == SPOOLED_RUNNING)
		place = limits_resume(&queue->limits, spooled->backend, clock_mono());
	jobrow_assign(job, queue, place);
	if (row == SPOOLED_RUNNING)
		limits_started(&job->place);
	return row;
}
