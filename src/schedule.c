/*
 * schedule.c
 *		Which job runs next: the jobs that are ready, in memory, per server.
 *
 * The table is the queue; this is only a picture of its front, and can be thrown away and read again
 * at any time.  Each server has its own heap, by priority, then run_at, then id, so that a server
 * that is slow, full, paused or gone holds back nobody else's jobs.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "schedule.h"

typedef struct Ready
{
	int64 id; /* key */
	pairingheap_node node;
	ServerQueue *queue;
	int priority;
	TimestampTz run_at;
} Ready;

ScheduleTimes schedule_times = {0, 0, 0};

static HTAB *queues = NULL;
static HTAB *ready_jobs = NULL;
static uint64 refreshed_generation = 0;
static bool has_new_queue = false;
static uint32 turn = 0; /* which server is asked first */

/* Jobs that could not be claimed because their rows raise errors: left alone for a while */
#define MAX_SHUNNED 64
static struct
{
	int64 id;
	TimestampTz until;
} shunned[MAX_SHUNNED];
static int next_shunned = 0;

/*
 * The better of two jobs is the larger, as the heap keeps the largest on top.
 */
static int
compare_ready(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Ready *left = pairingheap_const_container(Ready, node, a);
	const Ready *right = pairingheap_const_container(Ready, node, b);

	if (left->priority != right->priority)
		return left->priority > right->priority ? 1 : -1;
	if (left->run_at != right->run_at)
		return left->run_at < right->run_at ? 1 : -1;
	return left->id < right->id ? 1 : -1;
}

static void
create_tables(void)
{
	HASHCTL by_name = {.keysize = NAMEDATALEN, .entrysize = sizeof(ServerQueue)};
	HASHCTL by_id = {.keysize = sizeof(int64), .entrysize = sizeof(Ready)};

	queues = hash_create("genjob server queues", 16, &by_name, HASH_ELEM | HASH_STRINGS);
	ready_jobs = hash_create("genjob ready jobs", 1024, &by_id, HASH_ELEM | HASH_BLOBS);
}

/*
 * The queue of the server of that name, made on first use.
 */
ServerQueue *
schedule_queue(const char *server_name)
{
	ServerQueue *queue;
	bool found;

	if (queues == NULL)
		create_tables();
	queue = hash_search(queues, server_name, HASH_ENTER, &found);
	if (!found)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
		NameData name = queue->name;

		memset(queue, 0, sizeof(*queue));
		queue->name = name;
		queue->ready = pairingheap_allocate(compare_ready, NULL);
		MemoryContextSwitchTo(caller);
		has_new_queue = true;
	}
	return queue;
}

/*
 * Keeps a job out of the schedule until that time.
 */
void
schedule_shun(int64 id, TimestampTz until)
{
	shunned[next_shunned].id = id;
	shunned[next_shunned].until = until;
	next_shunned = (next_shunned + 1) % MAX_SHUNNED;
	schedule_remove(id);
	schedule_note_time(&schedule_times.rescan, until);
}

static bool
is_shunned(int64 id)
{
	int i;

	for (i = 0; i < MAX_SHUNNED; i++)
	{
		if (shunned[i].id == id && shunned[i].until > GetCurrentTimestamp())
			return true;
	}
	return false;
}

/*
 * Notes that a job is queued in the table and due, or that what decides its turn has changed.
 */
void
schedule_add(int64 id, const char *server_name, int priority, TimestampTz run_at)
{
	ServerQueue *queue = schedule_queue(server_name);
	Ready *ready;
	bool found;

	if (queue->n_ready >= 4 * SCHEDULE_WINDOW && !schedule_contains(id))
	{
		/* the front is read anew, for among those that came may be better ones */
		schedule_drop_ready(queue);
		queue->has_more = true;
	}
	schedule_remove(id);
	if (is_shunned(id))
		return;
	ready = hash_search(ready_jobs, &id, HASH_ENTER, &found);
	ready->queue = queue;
	ready->priority = priority;
	ready->run_at = run_at;
	pairingheap_add(queue->ready, &ready->node);
	queue->n_ready++;
}

bool
schedule_contains(int64 id)
{
	return ready_jobs != NULL && hash_search(ready_jobs, &id, HASH_FIND, NULL) != NULL;
}

/*
 * Forgets a job that is no longer queued, if it was known.
 */
void
schedule_remove(int64 id)
{
	Ready *ready = ready_jobs ? hash_search(ready_jobs, &id, HASH_FIND, NULL) : NULL;

	if (ready == NULL)
		return;
	pairingheap_remove(ready->queue->ready, &ready->node);
	ready->queue->n_ready--;
	hash_search(ready_jobs, &id, HASH_REMOVE, NULL);
}

/*
 * Forgets the ready jobs of one server; the table still has them.
 */
void
schedule_drop_ready(ServerQueue *queue)
{
	while (!pairingheap_is_empty(queue->ready))
		schedule_remove(pairingheap_container(Ready, node, pairingheap_first(queue->ready))->id);
	queue->has_more = false;
}

/*
 * Forgets all ready jobs, before they are read again.
 */
void
schedule_clear(void)
{
	HASH_SEQ_STATUS scan;
	ServerQueue *queue;

	if (queues == NULL)
		return;
	hash_seq_init(&scan, queues);
	while ((queue = hash_seq_search(&scan)) != NULL)
		schedule_drop_ready(queue);
}

/* ---------- servers ---------- */

static void
refresh_queue(ServerQueue *queue)
{
	ServerComplaint complaint;
	Server *server = server_get(NameStr(queue->name), &complaint);

	if (server == queue->server && server != NULL)
		return;
	server_release(queue->server);
	free(queue->complaint);
	queue->complaint = NULL;
	queue->server = server ? server_hold(server) : NULL;
	queue->stats = server ? shmem_stats_find(server->oid) : NULL;
	if (server != NULL)
		queue->stats->in_flight = queue->in_flight;
	else
		queue->complaint = strdup(psprintf("%s. %s", complaint.message, complaint.hint));
}

/*
 * Looks up the servers of all queues again if the catalogs have changed.  In a transaction.
 */
void
schedule_refresh(void)
{
	HASH_SEQ_STATUS scan;
	ServerQueue *queue;
	uint64 generation = server_generation();

	if (queues == NULL || (generation == refreshed_generation && !has_new_queue))
		return;
	hash_seq_init(&scan, queues);
	while ((queue = hash_seq_search(&scan)) != NULL)
		refresh_queue(queue);
	refreshed_generation = generation;
	has_new_queue = false;
}

static ServerQueue *
find_queue(bool (*matches)(const ServerQueue *queue))
{
	HASH_SEQ_STATUS scan;
	ServerQueue *queue;

	if (queues == NULL)
		return NULL;
	hash_seq_init(&scan, queues);
	while ((queue = hash_seq_search(&scan)) != NULL)
	{
		if (matches(queue))
		{
			hash_seq_term(&scan);
			return queue;
		}
	}
	return NULL;
}

static bool
lacks_server(const ServerQueue *queue)
{
	return queue->server == NULL && queue->n_ready > 0;
}

static bool
runs_low(const ServerQueue *queue)
{
	return queue->has_more && queue->n_ready < SCHEDULE_WINDOW / 2;
}

static bool
has_ready(const ServerQueue *queue)
{
	return queue->n_ready > 0 || queue->has_more;
}

/*
 * A queue whose jobs cannot be run, because the server cannot be used; NULL when there is none.
 */
ServerQueue *
schedule_next_without_server(void)
{
	return find_queue(lacks_server);
}

/*
 * A queue that has drained so far that more should be read in; NULL when there is none.
 */
ServerQueue *
schedule_next_to_fill(void)
{
	return find_queue(runs_low);
}

/* ---------- limits ---------- */

static void
set_held_reason(ServerQueue *queue, TimestampTz until, const char *reason)
{
	queue->stats->held_until = until;
	if (strcmp(queue->stats->held_reason, reason) != 0)
		strlcpy(queue->stats->held_reason, reason, STATS_REASON_LEN);
}

/*
 * How many more calls the server may be given now, and, for genjob.servers, why not.
 */
static int
queue_room(ServerQueue *queue, int room, TimestampTz now)
{
	const ServerOptions *options;
	int slots;

	if (queue->server == NULL)
		return 0;
	options = &queue->server->options;
	slots = Max((int) options->max_in_flight - queue->in_flight, 0);
	if (options->paused)
		set_held_reason(queue, 0, "paused: genjob.resume() ends it");
	else if (queue->held_until > now)
		set_held_reason(queue, queue->held_until, "the server asked to wait");
	else if (slots == 0)
		set_held_reason(queue, 0, "max_in_flight is reached");
	else if (room <= 0)
		set_held_reason(queue, 0, "genjob.max_in_flight is reached");
	else
	{
		set_held_reason(queue, 0, "");
		return Min(slots, room);
	}
	return 0;
}

/*
 * Whether schedule_take() would take anything now.
 */
bool
schedule_can_take(int room, TimestampTz now)
{
	HASH_SEQ_STATUS scan;
	ServerQueue *queue;
	bool can = false;

	if (queues == NULL)
		return false;
	hash_seq_init(&scan, queues);
	while ((queue = hash_seq_search(&scan)) != NULL)
		can |= has_ready(queue) && queue_room(queue, room, now) > 0;
	return can;
}

static int
take_from(ServerQueue *queue, int64 *ids, int max)
{
	int n = 0;

	while (n < max && !pairingheap_is_empty(queue->ready))
	{
		Ready *best = pairingheap_container(Ready, node, pairingheap_first(queue->ready));

		ids[n++] = best->id;
		schedule_remove(best->id);
	}
	return n;
}

/*
 * Takes the jobs that may be started now off the queues, at most max, and at most room in all;
 * returns their number.  Servers take turns at being first.
 */
int
schedule_take(int64 *ids, int max, int room, TimestampTz now)
{
	HASH_SEQ_STATUS scan;
	ServerQueue *queue;
	long n_queues = queues ? hash_get_num_entries(queues) : 0;
	ServerQueue **order = palloc((n_queues + 1) * sizeof(ServerQueue *));
	int n = 0;
	int taken = 0;
	int i;

	if (n_queues > 0)
	{
		hash_seq_init(&scan, queues);
		while ((queue = hash_seq_search(&scan)) != NULL)
			order[n++] = queue;
	}
	turn++;
	for (i = 0; i < n; i++)
	{
		queue = order[(i + turn) % n];
		taken +=
			take_from(queue, ids + taken, Min(queue_room(queue, room - taken, now), max - taken));
	}
	pfree(order);
	return taken;
}

void
schedule_call_begun(ServerQueue *queue)
{
	queue->in_flight++;
	if (queue->stats != NULL)
		queue->stats->in_flight = queue->in_flight;
}

void
schedule_call_ended(ServerQueue *queue)
{
	queue->in_flight--;
	if (queue->stats != NULL)
		queue->stats->in_flight = queue->in_flight;
}

/*
 * Gives the server no further call before that time.
 */
void
schedule_hold(ServerQueue *queue, TimestampTz until)
{
	queue->held_until = Max(queue->held_until, until);
}

/*
 * When the next hold ends that keeps ready jobs waiting; 0 when none does.
 */
TimestampTz
schedule_next_hold_end(TimestampTz now)
{
	HASH_SEQ_STATUS scan;
	ServerQueue *queue;
	TimestampTz next = 0;

	if (queues == NULL)
		return 0;
	hash_seq_init(&scan, queues);
	while ((queue = hash_seq_search(&scan)) != NULL)
	{
		if (queue->n_ready > 0 && queue->held_until > now && (next == 0 || queue->held_until < next))
			next = queue->held_until;
	}
	return next;
}

/*
 * Moves a time forward to candidate if that comes first.
 */
void
schedule_note_time(TimestampTz *time, TimestampTz candidate)
{
	/* the one time that means "none" is put off by a microsecond */
	if (candidate == 0)
		candidate = 1;
	if (*time == 0 || candidate < *time)
		*time = candidate;
}
