/*
 * retention.c
 *		Deleting ended jobs after the time that their server's options retention and retention_failed say.
 *
 * The jobs of a server that ended in one state are a shelf, in the order in
 * which they ended.  A pass goes over a shelf, from the oldest job to the
 * youngest that is due, a few at a time with pauses in between, so that nobody
 * notices.  It steps over jobs that are still needed, or whose objects are not
 * deleted yet.  The next pass comes when the next job is due, or after a
 * back-off if the last one stepped over jobs.  If no server has the options,
 * no job is looked at.
 *
 * The index gen_jobs_ended has the jobs of the shelves.  A job that succeeds
 * at a server without retention is not in it, because an entry costs each job
 * 3 % of its time.  So when a server gets the option, and after each start of
 * a dispatcher, a walk goes over all jobs by id and adds those that the index
 * lacks.
 */
#include "postgres.h"

#include "lib/pairingheap.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "process/retention.h"
#include "queue/purge.h"
#include "queue/queue.h"
#include "life/rowstate.h"
#include "queue/trouble.h"
#include "schedule/schedule.h"

#define FIRST_BATCH 16
#define MAX_BATCH 500
#define WALK_BATCH 500
#define EASY_US 3000     /* after a batch that takes less, the next is twice as large */
#define HARD_US 10000    /* after a batch that takes longer, the next is half as large */
#define READ_US 5000     /* for reading servers at a time */
#define PAUSE 5          /* as many times as long as a batch took */
#define MAX_ORDERED 2000 /* objects that one pass orders to be deleted */
#define DAY_US (24 * USECS_PER_HOUR)

/* Before a pass after one that stepped over jobs */
static const Backoff again = {USECS_PER_SEC, 5 * USECS_PER_MINUTE};

/*
 * A server, and a state in which jobs end.  A hash key: all its bytes must be
 * set.
 */
typedef struct ShelfKey
{
	NameData server;
	RowState state;
} ShelfKey;

typedef struct Shelf
{
	ShelfKey key;
	int64 keep_us;
	int64 digest;          /* of the server's options */
	pairingheap_node node; /* in by_time */
	MonoTime next_at;      /* the next batch, or the next pass */
	uint64 reading;        /* number of the last reading that found it */

	/* ROW_SUCCEEDED */
	bool is_listed; /* the index has all of its jobs */
	bool is_walked; /* the present walk looks for them */

	/* Of the present pass */
	PurgePlace last; /* the job looked at last; finished_at is DT_NOBEGIN before the pass begins */
	bool stepped_over;
	bool has_moved; /* jobs were deleted, or deletions ordered */
	int64 ordered;

	bool waits;      /* the last pass has stepped over jobs */
	int idle_passes; /* in a row, that stepped over jobs and did nothing */
} Shelf;

/* How far the reading of servers that may have the options has come */
typedef struct Reading
{
	MemoryContext context; /* owns servers; NULL: no reading is under way */
	List *servers;         /* of PurgeServer */
	int at;
	uint64 generation; /* of the servers, when it began */
	uint64 number;
} Reading;

/* The walk over jobs that the index does not have */
typedef struct Walk
{
	List *names; /* of servers whose jobs it looks for; NIL: there is no walk */
	int64 last;  /* id that was looked at last */
	bool stepped_over;
	MonoTime next_at; /* the next batch */
	int failures;     /* in a row */
} Walk;

static HTAB *shelves = NULL;
static pairingheap *by_time = NULL; /* the shelf that is due first on top */
static Reading reading;
static uint64 shelves_generation = 0; /* of the servers from which the shelves were made */
static Walk walk;
static MonoTime not_before = 0; /* no reading before this: the last one failed */
static int batch_size = FIRST_BATCH;

/* ---------- shelves ---------- */

static int
compare_times(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	MonoTime left = pairingheap_const_container(Shelf, node, a)->next_at;
	MonoTime right = pairingheap_const_container(Shelf, node, b)->next_at;

	return left == right ? 0 : left < right ? 1 : -1;
}

static void
create_shelves(void)
{
	HASHCTL by_key = {.keysize = sizeof(ShelfKey),
					  .entrysize = sizeof(Shelf),
					  .hcxt = TopMemoryContext};
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	shelves = hash_create("genjob retention", 16, &by_key, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	by_time = pairingheap_allocate(compare_times, NULL);
	MemoryContextSwitchTo(caller);
}

static void
set_time(Shelf *shelf, MonoTime next_at)
{
	pairingheap_remove(by_time, &shelf->node);
	shelf->next_at = next_at;
	pairingheap_add(by_time, &shelf->node);
}

/*
 * Notes how long a server keeps jobs that ended in a state; 0: for ever.
 * Makes a pass due if the server has changed, or if the last pass stepped over
 * jobs: what kept them may have changed.
 */
static void
note_shelf(const PurgeServer *server, RowState state, int64 keep_ms)
{
	ShelfKey key;
	Shelf *shelf;
	bool found;

	if (keep_ms == 0)
		return;
	memset(&key, 0, sizeof(key));
	namestrcpy(&key.server, NameStr(server->name));
	key.state = state;
	shelf = hash_search(shelves, &key, HASH_ENTER, &found);
	if (found)
		pairingheap_remove(by_time, &shelf->node);
	else
	{
		memset((char *) shelf + sizeof(key), 0, sizeof(*shelf) - sizeof(key));
		shelf->last.finished_at = DT_NOBEGIN;
	}
	if (!found || shelf->waits || shelf->digest != server->digest)
		shelf->next_at = clock_mono();
	if (shelf->keep_us != keep_ms * 1000)
		shelf->last.finished_at = DT_NOBEGIN;
	shelf->keep_us = keep_ms * 1000;
	shelf->digest = server->digest;
	shelf->reading = reading.number;
	pairingheap_add(by_time, &shelf->node);
}

/*
 * Forgets the shelves that the last reading has not found.
 */
static void
forget_shelves(void)
{
	HASH_SEQ_STATUS all;
	Shelf *shelf;

	hash_seq_init(&all, shelves);
	while ((shelf = hash_seq_search(&all)) != NULL)
	{
		if (shelf->reading == reading.number)
			continue;
		pairingheap_remove(by_time, &shelf->node);
		hash_search(shelves, &shelf->key, HASH_REMOVE, NULL);
	}
}

/* ---------- what the index does not have ---------- */

/*
 * Plans a walk for the servers that got the option since the last walk.  It
 * starts from the beginning, unless the present walk covers all of them.
 * has_unretained: a job succeeded without an index entry, because the server
 * lacked the option, if only for a moment.
 */
static void
plan_walk(void)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	bool is_new = false;
	List *wanted = NIL;
	HASH_SEQ_STATUS all;
	Shelf *shelf;

	hash_seq_init(&all, shelves);
	while ((shelf = hash_seq_search(&all)) != NULL)
	{
		ServerQueue *queue;

		if (shelf->key.state != ROW_SUCCEEDED)
			continue;
		queue = schedule_find_queue(NameStr(shelf->key.server));
		if (queue != NULL && queue->has_unretained)
			shelf->is_listed = shelf->is_walked = queue->has_unretained = false;
		if (shelf->is_listed)
			continue;
		wanted = lappend(wanted, pstrdup(NameStr(shelf->key.server)));
		is_new |= !shelf->is_walked;
		shelf->is_walked = true;
	}
	list_free_deep(walk.names);
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
 * Ends the walk, or walks once more if it stepped over rows that another
 * transaction had locked.
 */
static void
end_walk(void)
{
	HASH_SEQ_STATUS all;
	Shelf *shelf;

	if (walk.stepped_over)
	{
		walk.last = PG_INT64_MIN;
		walk.stepped_over = false;
		walk.next_at = clock_mono() + backoff_delay(&again, walk.failures++);
		return;
	}
	hash_seq_init(&all, shelves);
	while ((shelf = hash_seq_search(&all)) != NULL)
	{
		shelf->is_listed |= shelf->is_walked;
		shelf->is_walked = false;
	}
	list_free_deep(walk.names);
	walk.names = NIL;
}

static void
hasten_shelves(void)
{
	MonoTime soon = clock_mono() + USECS_PER_SEC;
	HASH_SEQ_STATUS all;
	Shelf *shelf;

	hash_seq_init(&all, shelves);
	while ((shelf = hash_seq_search(&all)) != NULL)
	{
		if (shelf->next_at > soon)
			set_time(shelf, soon);
	}
}

/*
 * Looks at some jobs of the walk, in a transaction of its own.  If it found
 * any, all shelves are looked at soon.
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
		hasten_shelves();
	if (!batch.has_more)
		end_walk();
}

/* ---------- which servers ---------- */

static void
begin_reading(void)
{
	MemoryContext caller;

	if (shelves == NULL)
		create_shelves();
	reading.context = AllocSetContextCreate(TopMemoryContext, "genjob servers with retention",
											ALLOCSET_SMALL_SIZES);
	reading.number++;
	reading.at = 0;
	caller = MemoryContextSwitchTo(reading.context);
	reading.servers = purge_list_servers();
	MemoryContextSwitchTo(caller);
}

static void
end_reading(void)
{
	if (reading.context != NULL)
		MemoryContextDelete(reading.context);
	reading.context = NULL;
}

/*
 * Reads some servers, for as long as others may wait.
 */
static void
read_servers_work(void *arg)
{
	MonoTime enough = clock_uptime() + READ_US;

	if (reading.context == NULL)
	{
		reading.generation = server_generation();
		begin_reading();
	}
	/* from now on, reports use options that are as new as the shelves */
	schedule_refresh();
	for (; reading.at < list_length(reading.servers) && clock_uptime() < enough; reading.at++)
	{
		const PurgeServer *listed = list_nth(reading.servers, reading.at);
		ServerComplaint complaint;
		const Server *server = server_get(NameStr(listed->name), &complaint);

		CHECK_FOR_INTERRUPTS();
		if (server == NULL)
			continue;
		note_shelf(listed, ROW_SUCCEEDED, server->options.retention);
		note_shelf(listed, ROW_FAILED, server->options.retention_failed);
		note_shelf(listed, ROW_CANCELLED, server->options.retention_failed);
	}
}

/*
 * Continues to read which servers have the options, because servers have
 * changed.
 */
static void
read_servers(void)
{
	ErrorData *error;

	if (!queue_transact("looking for servers with the option retention", read_servers_work, NULL,
						&error))
	{
		trouble_show(TROUBLE_PURGE, error);
		end_reading();
		not_before = clock_mono() + TROUBLE_MAX_MS * INT64CONST(1000);
		return;
	}
	not_before = 0;
	if (reading.at < list_length(reading.servers))
		return;
	end_reading();
	forget_shelves();
	shelves_generation = reading.generation;
	plan_walk();
}

/*
 * Returns when there is something to do; 0: never, as far as is known.
 */
MonoTime
retention_next(void)
{
	MonoTime next = 0;

	if (shelves_generation != server_generation())
		return Max(not_before, 1);
	if (by_time != NULL && !pairingheap_is_empty(by_time))
		next = pairingheap_container(Shelf, node, pairingheap_first(by_time))->next_at;
	if (walk.names != NIL)
		schedule_note_time(&next, walk.next_at);
	return next;
}

/* ---------- a pass ---------- */

/*
 * Ends a pass, and sets when the next one begins.  If jobs end all the time,
 * the next pass waits for a tenth of the retention (1 s to 5 min), so that it
 * deletes many.
 */
static void
end_pass(Shelf *shelf, const PurgeBatch *batch)
{
	MonoTime now = clock_mono();
	MonoTime soonest = now + Min(Max(shelf->keep_us / 10, USECS_PER_SEC), again.most);
	MonoTime due = now + Min(shelf->keep_us, DAY_US);

	if (batch->next != DT_NOEND)
		due = Min(due, clock_mono_at(batch->next + shelf->keep_us));
	due = Max(due, soonest);
	if (shelf->stepped_over)
	{
		shelf->idle_passes = shelf->has_moved ? 0 : shelf->idle_passes + 1;
		due = Min(due, now + backoff_delay(&again, shelf->idle_passes));
	}
	else
		shelf->idle_passes = 0;
	set_time(shelf, due);
	shelf->last.finished_at = DT_NOBEGIN;
	shelf->waits = shelf->stepped_over;
	shelf->stepped_over = shelf->has_moved = false;
	shelf->ordered = 0;
}

/*
 * Shows at the server why an object is not deleted.
 */
static void
show_problem(const Shelf *shelf, const PurgeBatch *batch)
{
	ServerStats *stats = schedule_queue(NameStr(shelf->key.server))->stats;
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
		set_time(shelf, clock_mono() + PAUSE * took_us);
}

/*
 * True if a job is kept without an error: a user's table refers to it, or its
 * row is locked.
 */
static bool
is_wanted(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_FOREIGN_KEY_VIOLATION ||
		   error->sqlerrcode == ERRCODE_RESTRICT_VIOLATION ||
		   error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

/*
 * Retries a failed batch one by one, and steps over the job that fails alone.
 */
static void
batch_failed(Shelf *shelf, const PurgeBatch *batch, const ErrorData *error)
{
	bool wanted = is_wanted(error);

	batch_size = 1;
	set_time(shelf, clock_mono() + PAUSE * HARD_US);
	if (batch->n == 0 || !(wanted || trouble_is_of_row(error)))
	{
		trouble_show(TROUBLE_PURGE, error);
		set_time(shelf, clock_mono() + backoff_delay(&again, shelf->idle_passes++));
		return;
	}
	if (batch->n > 1)
		return;
	shelf->last = batch->last;
	shelf->stepped_over = true;
	if (!wanted)
		trouble_show_job(TROUBLE_PURGE, batch->last.id,
						 schedule_queue(NameStr(shelf->key.server))->stats, error);
}

static void
batch_work(void *arg)
{
	PurgeBatch *batch = arg;

	/* a server without jobs has no place for what goes wrong */
	(void) schedule_queue(batch->server);
	schedule_refresh();
	purge_run(batch);
}

static Shelf *
next_shelf(void)
{
	Shelf *next;

	if (by_time == NULL || pairingheap_is_empty(by_time))
		return NULL;
	next = pairingheap_container(Shelf, node, pairingheap_first(by_time));
	return next->next_at <= clock_mono() ? next : NULL;
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

	if (shelves_generation != server_generation() && not_before <= clock_mono())
		read_servers();
	if (walk.names != NIL && walk.next_at <= clock_mono())
		go_on_walking();
	shelf = next_shelf();
	if (shelf == NULL)
		return;
	batch.server = NameStr(shelf->key.server);
	batch.state = rowstate_name(shelf->key.state);
	batch.before = clock_now() - shelf->keep_us;
	batch.after = shelf->last;
	batch.last = shelf->last;
	began = clock_uptime();
	if (queue_transact("deleting jobs that have been kept long enough", batch_work, &batch, &error))
		batch_done(shelf, &batch, clock_uptime() - began);
	else
		batch_failed(shelf, &batch, error);
}
