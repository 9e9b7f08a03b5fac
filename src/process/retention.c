/*
 * retention.c
 *		Deleting ended jobs after the time that their server's options retention and retention_failed say.
 *
 * The jobs of a server that ended in one state are a shelf, in the order in which they ended.  A pass goes over a shelf,
 * from the oldest job to the youngest that is due, a few at a time with pauses in between, so that nobody notices.  What is
 * still needed, or has objects that are not deleted yet, is stepped over.  The next pass comes when the next job is due,
 * and for what was stepped over after a back-off.  Where no server has the options, nothing is looked at.
 *
 * The index gen_jobs_ended has the jobs of the shelves.  What succeeds at a server without retention is not in it, for
 * an entry costs each job 3 % of its time.  So once a server is found to have the option, after its dispatcher has
 * started too, a walk goes over all jobs by id, and puts into the index what is missing there.
 */
#include "postgres.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "process/retention.h"
#include "queue/purge.h"
#include "queue/queue.h"
#include "life/rowstate.h"
#include "queue/trouble.h"
#include "schedule/schedule.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FIRST_BATCH 16
#define MAX_BATCH 500
#define WALK_BATCH 500
#define EASY_US 3000     /* a batch that takes less is followed by one twice as large */
#define HARD_US 10000    /* one that takes longer, by one half as large */
#define PAUSE 5          /* times as long as a batch took */
#define MAX_ORDERED 2000 /* objects whose deletion a pass orders */
#define DAY_US (24 * USECS_PER_HOUR)

/* Before a pass over what an earlier one has stepped over */
static const Backoff again = {USECS_PER_SEC, 5 * USECS_PER_MINUTE};

typedef struct Shelf
{
	NameData server;
	RowState state;
	int64 keep_us;
	MonoTime next_at; /* the next batch, or the next pass */

	/* Of the present pass */
	PurgePlace last; /* that was looked at; its time DT_NOBEGIN: it has not begun */
	bool stepped_over;
	bool has_moved; /* jobs were deleted, or deletions ordered */
	int64 ordered;

	int idle_passes; /* in a row, that stepped over jobs and did nothing */
} Shelf;

/* The walk over jobs that the index does not have */
typedef struct Walk
{
	List *names; /* of servers, whose jobs it looks for; NIL: there is no walk */
	int64 last;  /* id that was looked at */
	bool stepped_over;
	MonoTime next_at; /* the next batch */
	int failures;     /* in a row */
} Walk;

static Walk walk;
static List *walked = NIL;            /* names of servers whose jobs the index has all */
static List *shelves = NIL;           /* of Shelf, in TopMemoryContext */
static uint64 shelves_generation = 0; /* of the servers, that they were made of */
static MonoTime not_before = 0;       /* the servers could not be read */
static int batch_size = FIRST_BATCH;

/* ---------- shelves ---------- */

static Shelf *
find_shelf(const List *list, const char *server, RowState state, int64 keep_us)
{
	ListCell *cell;

	foreach(cell, list)
	{
		Shelf *shelf = lfirst(cell);

		if (strcmp(NameStr(shelf->server), server) == 0 && shelf->state == state &&
			shelf->keep_us == keep_us)
			return shelf;
	}
	return NULL;
}

/*
 * Adds the shelf of a server's jobs in a state, as an earlier list has it if it does.
 */
static List *
add_shelf(List *list, const List *earlier, const char *server, RowState state, int64 keep_ms)
{
	const Shelf *known = find_shelf(earlier, server, state, keep_ms * 1000);
	Shelf *shelf;

	if (keep_ms == 0)
		return list;
	shelf = MemoryContextAllocZero(TopMemoryContext, sizeof(Shelf));
	if (known != NULL)
		*shelf = *known;
	else
	{
		namestrcpy(&shelf->server, server);
		shelf->state = state;
		shelf->keep_us = keep_ms * 1000;
		shelf->last.finished_at = DT_NOBEGIN;
	}
	shelf->next_at = clock_mono();
	return lappend(list, shelf);
}

/* ---------- what the index does not have ---------- */

static bool
has_name(const List *names, const char *name)
{
	ListCell *cell;

	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

static bool
has_shelf(const char *server)
{
	ListCell *cell;

	foreach(cell, shelves)
	{
		const Shelf *shelf = lfirst(cell);

		if (shelf->state == ROW_SUCCEEDED && strcmp(NameStr(shelf->server), server) == 0)
			return true;
	}
	return false;
}

/*
 * Plans a walk for the servers that got the option since the last one: from the beginning, unless the present walk is for
 * all of them.  Where a job has succeeded meanwhile that the index does not have, the server was without the option, if only
 * for a moment.
 */
static void
plan_walk(void)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	bool is_new = false;
	List *known = NIL;
	List *wanted = NIL;
	ListCell *cell;

	foreach(cell, walked)
	{
		if (has_shelf(lfirst(cell)) && !schedule_queue(lfirst(cell))->has_unretained)
			known = lappend(known, pstrdup(lfirst(cell)));
	}
	foreach(cell, shelves)
	{
		const Shelf *shelf = lfirst(cell);
		ServerQueue *queue = schedule_queue(NameStr(shelf->server));

		if (shelf->state != ROW_SUCCEEDED || has_name(known, NameStr(shelf->server)))
			continue;
		wanted = lappend(wanted, pstrdup(NameStr(shelf->server)));
		is_new |= queue->has_unretained || !has_name(walk.names, NameStr(shelf->server));
		queue->has_unretained = false;
	}
	list_free_deep(walked);
	list_free_deep(walk.names);
	walked = known;
	walk.names = wanted;
	if (is_new)
		walk = (Walk){.names = wanted, .last = PG_INT64_MIN, .next_at = clock_mono()};
	MemoryContextSwitchTo(caller);
}

static void
walk_work(void *arg)
{
	purge_retain(arg);
}

/*
 * The walk is at its end.  What another transaction held is looked for once more.
 */
static void
end_walk(void)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	if (walk.stepped_over)
	{
		walk.last = PG_INT64_MIN;
		walk.stepped_over = false;
		walk.next_at = clock_mono() + backoff_delay(&again, walk.failures++);
	}
	else
	{
		walked = list_concat(walked, walk.names);
		walk.names = NIL;
	}
	MemoryContextSwitchTo(caller);
}

static void
look_soon(void)
{
	MonoTime soon = clock_mono() + USECS_PER_SEC;
	ListCell *cell;

	foreach(cell, shelves)
	{
		Shelf *shelf = lfirst(cell);

		shelf->next_at = Min(shelf->next_at, soon);
	}
}

/*
 * Looks at some jobs of the walk, in a transaction of its own.  The shelves are looked at again where any were found.
 */
static void
go_on_walking(void)
{
	RetainBatch batch = {.servers = walk.names, .last = walk.last, .max = WALK_BATCH};
	MonoTime began = clock_uptime();
	ErrorData *error;

	if (!queue_transact("listing jobs for the option retention", walk_work, &batch, &error))
	{
		trouble_show(TROUBLE_PURGE, error);
		walk.next_at = clock_mono() + backoff_delay(&again, walk.failures++);
		return;
	}
	walk.last = batch.last;
	walk.stepped_over |= batch.stepped_over;
	walk.next_at = clock_mono() + PAUSE * (clock_uptime() - began);
	if (batch.n > 0)
		look_soon();
	if (!batch.has_more)
		end_walk();
}

/* ---------- which servers ---------- */

static void
read_shelves_work(void *arg)
{
	List **found = arg;
	MemoryContext caller;
	List *names = purge_list_servers();
	ListCell *cell;

	/* whatever is reported from now on goes by options that are as new as the shelves */
	schedule_refresh();
	caller = MemoryContextSwitchTo(TopMemoryContext);
	foreach(cell, names)
	{
		const char *name = lfirst(cell);
		ServerComplaint complaint;
		const Server *server = server_get(name, &complaint);

		if (server == NULL)
			continue;
		*found = add_shelf(*found, shelves, name, ROW_SUCCEEDED, server->options.retention);
		*found = add_shelf(*found, shelves, name, ROW_FAILED, server->options.retention_failed);
		*found = add_shelf(*found, shelves, name, ROW_CANCELLED, server->options.retention_failed);
	}
	MemoryContextSwitchTo(caller);
}

/*
 * Reads again which servers have the options.
 */
static void
read_shelves(void)
{
	uint64 generation = server_generation();
	List *found = NIL;
	ErrorData *error;

	if (!queue_transact("looking for servers with the option retention", read_shelves_work, &found,
						&error))
	{
		trouble_show(TROUBLE_PURGE, error);
		list_free_deep(found);
		not_before = clock_mono() + TROUBLE_MAX_MS * INT64CONST(1000);
		return;
	}
	list_free_deep(shelves);
	shelves = found;
	shelves_generation = generation;
	not_before = 0;
	plan_walk();
}

/*
 * Returns when there is something to do; 0: never, as far as is known.
 */
MonoTime
retention_next(void)
{
	MonoTime next = 0;
	ListCell *cell;

	if (shelves_generation != server_generation())
		return Max(not_before, 1);
	foreach(cell, shelves)
		schedule_note_time(&next, ((Shelf *) lfirst(cell))->next_at);
	if (walk.names != NIL)
		schedule_note_time(&next, walk.next_at);
	return next;
}

/* ---------- a pass ---------- */

/*
 * The pass is over: when the next one begins.  One that comes often enough to keep up with jobs that end all the time is
 * not made for each of them.
 */
static void
end_pass(Shelf *shelf, const PurgeBatch *batch)
{
	MonoTime now = clock_mono();
	MonoTime soonest = now + Min(Max(shelf->keep_us / 10, USECS_PER_SEC), again.most);
	MonoTime due = now + Min(shelf->keep_us, DAY_US);

	if (batch->next != DT_NOEND)
		due = Min(due, clock_mono_at(batch->next + shelf->keep_us));
	shelf->next_at = Max(due, soonest);
	if (shelf->stepped_over)
	{
		shelf->idle_passes = shelf->has_moved ? 0 : shelf->idle_passes + 1;
		shelf->next_at = Min(shelf->next_at, now + backoff_delay(&again, shelf->idle_passes));
	}
	else
		shelf->idle_passes = 0;
	shelf->last.finished_at = DT_NOBEGIN;
	shelf->stepped_over = shelf->has_moved = false;
	shelf->ordered = 0;
}

/*
 * Shows at the server why an object stays.
 */
static void
show_problem(const Shelf *shelf, const PurgeBatch *batch)
{
	ServerStats *stats = schedule_queue(NameStr(shelf->server))->stats;
	ErrorData error = {.sqlerrcode = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   .message = batch->problem};

	trouble_show_job(TROUBLE_PURGE, batch->first, stats, &error);
}

static void
batch_done(Shelf *shelf, const PurgeBatch *batch, int64 took_us)
{
	shelf->last = batch->last;
	shelf->ordered += batch->ordered;
	shelf->has_moved |= batch->deleted > 0 || batch->ordered > 0;
	shelf->stepped_over |= batch->any_kept || batch->waiting > 0;
	if (batch->problem != NULL)
		show_problem(shelf, batch);
	if (took_us > HARD_US)
		batch_size = Max(batch_size / 2, 1);
	else if (took_us < EASY_US && batch->n == batch_size)
		batch_size = Min(batch_size * 2, MAX_BATCH);
	if (!batch->has_more || shelf->ordered >= MAX_ORDERED)
		end_pass(shelf, batch);
	else
		shelf->next_at = clock_mono() + PAUSE * took_us;
}

/*
 * A job that others' tables refer to is kept without a word: so they want it.
 */
static bool
is_wanted(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_FOREIGN_KEY_VIOLATION ||
		   error->sqlerrcode == ERRCODE_RESTRICT_VIOLATION ||
		   error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

/*
 * A batch has failed: it is tried again one by one, and the job that fails alone is stepped over.
 */
static void
batch_failed(Shelf *shelf, const PurgeBatch *batch, const ErrorData *error)
{
	bool wanted = is_wanted(error);

	batch_size = 1;
	shelf->next_at = clock_mono() + PAUSE * HARD_US;
	if (batch->n == 0 || !(wanted || trouble_is_of_row(error)))
	{
		trouble_show(TROUBLE_PURGE, error);
		shelf->next_at = clock_mono() + backoff_delay(&again, shelf->idle_passes++);
		return;
	}
	if (batch->n > 1)
		return;
	shelf->last = batch->last;
	shelf->stepped_over = true;
	if (!wanted)
		trouble_show_job(TROUBLE_PURGE, batch->last.id,
						 schedule_queue(NameStr(shelf->server))->stats, error);
}

static void
batch_work(void *arg)
{
	purge_run(arg);
}

static Shelf *
next_shelf(void)
{
	Shelf *next = NULL;
	ListCell *cell;

	foreach(cell, shelves)
	{
		Shelf *shelf = lfirst(cell);

		if (next == NULL || shelf->next_at < next->next_at)
			next = shelf;
	}
	return next != NULL && next->next_at <= clock_mono() ? next : NULL;
}

/*
 * Looks at some jobs that are due, in a transaction of its own.
 */
void
retention_work(void)
{
	PurgeBatch batch = {.max = batch_size};
	MonoTime began;
	ErrorData *error;
	Shelf *shelf;

	if (shelves_generation != server_generation())
		read_shelves();
	if (walk.names != NIL && walk.next_at <= clock_mono())
		go_on_walking();
	shelf = next_shelf();
	if (shelf == NULL)
		return;
	batch.server = NameStr(shelf->server);
	batch.state = rowstate_name(shelf->state);
	batch.before = clock_now() - shelf->keep_us;
	batch.after = shelf->last;
	batch.last = shelf->last;
	began = clock_uptime();
	if (queue_transact("deleting jobs that have been kept long enough", batch_work, &batch, &error))
		batch_done(shelf, &batch, clock_uptime() - began);
	else
		batch_failed(shelf, &batch, error);
}
