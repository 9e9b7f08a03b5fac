/*
 * schedule.c
 *		Which job runs next, and where: the queues of all servers, in memory.
 *
 * The table is the queue; this is only a picture of its front, and can be thrown away and read again
 * at any time.  Each server has its own, so that one that is slow, full, paused or gone holds back
 * nobody else's jobs.  Whose turn it is at a server is decided by turns.c, how much it may be given by
 * limits.c; here one is matched with the other.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "bound.h"
#include "clock.h"
#include "job.h"
#include "memory.h"
#include "putoff.h"
#include "schedule.h"

ScheduleTimes schedule_times = {0, 0, 0};

static HTAB *queues = NULL;
static uint64 refreshed_generation = 0;
static bool has_new_queue = false;
static uint64 served = 0;         /* jobs so far, of all servers */
static uint64 refused_memory = 0; /* servers so far */

/* ---------- queues ---------- */

/*
 * The queue of the server of that name, made on first use.
 */
ServerQueue *
schedule_queue(const char *server_name)
{
	ServerQueue *queue;
	bool found;

	if (queues == NULL)
	{
		HASHCTL by_name = {.keysize = NAMEDATALEN, .entrysize = sizeof(ServerQueue)};

		queues = hash_create("genjob server queues", 16, &by_name, HASH_ELEM | HASH_STRINGS);
	}
	queue = hash_search(queues, server_name, HASH_ENTER, &found);
	if (!found)
	{
		NameData name = queue->name;

		memset(queue, 0, sizeof(*queue));
		queue->name = name;
		turns_init(&queue->turns);
		dlist_init(&queue->bound);
		has_new_queue = true;
	}
	return queue;
}

/*
 * All queues, palloc'd; their number in *n.
 */
static ServerQueue **
list_queues(int *n)
{
	HASH_SEQ_STATUS scan;
	ServerQueue *queue;
	ServerQueue **list =
		palloc(((queues ? hash_get_num_entries(queues) : 0) + 1) * sizeof(ServerQueue *));

	*n = 0;
	if (queues == NULL)
		return list;
	hash_seq_init(&scan, queues);
	while ((queue = hash_seq_search(&scan)) != NULL)
		list[(*n)++] = queue;
	return list;
}

static bool
has_ready(const ServerQueue *queue)
{
	return queue->turns.lanes.n_ready > 0 || queue->turns.lanes.n_unread > 0;
}

static bool
has_waiting(ServerQueue *queue)
{
	return has_ready(queue) || !dlist_is_empty(&queue->bound);
}

/* ---------- jobs ---------- */

/*
 * Keeps a job out of the schedule until that time: then it is to be looked at again.  One that is not shunned comes
 * back sooner if something is told of it.
 */
void
schedule_put_off(int64 id, MonoTime until, bool is_shunned)
{
	schedule_remove(id);
	if (!putoff_add(id, until, is_shunned))
		schedule_note_time(&schedule_times.rescan, until);
}

/*
 * Notes that a job is queued in the table and due, or that what decides its turn has changed.
 * expires_at is 0 where it does not.
 */
void
schedule_add(int64 id, const char *server_name, const char *tenant, int priority,
			 TimestampTz run_at, TimestampTz expires_at)
{
	ServerQueue *queue = schedule_queue(server_name);

	schedule_remove(id);
	if (!putoff_is_shunned(id))
		lane_add(turns_lane(&queue->turns, NameStr(queue->name), tenant, priority), id, run_at,
				 expires_at);
}

/*
 * Whether a job is on the schedule, or kept for its own server.
 */
bool
schedule_knows(int64 id)
{
	return lanes_server(id) != NULL || bound_has(id);
}

/*
 * Forgets a job that is no longer queued, if it was known.
 */
void
schedule_remove(int64 id)
{
	lanes_remove(id);
	bound_remove(id);
}

/* ---------- jobs that their server's fallback does not take ---------- */

static void
set_fallback_trouble(ServerQueue *queue, const char *why)
{
	if (why != NULL && queue->fallback_trouble != NULL && strcmp(why, queue->fallback_trouble) == 0)
		return;
	free(queue->fallback_trouble);
	queue->fallback_trouble = why ? strdup(why) : NULL;
}

/*
 * Keeps a job that is not on the queue any more for its own server, since the fallback may not run it:
 * why says so.
 */
void
schedule_bind(int64 id, ServerQueue *home, const char *why)
{
	set_fallback_trouble(home, psprintf("Its fallback \"%s\" takes no jobs of some owners: %s",
										home->server->options.fallback, why));
	bound_add(&home->bound, id);
}

/*
 * Takes as many jobs that were kept for their own servers as these have room for, at most max, or all
 * where servers have changed: the caller is to look at them again.  Returns their number.
 */
int
schedule_release(int64 *ids, int max, MonoTime now)
{
	int n_queues;
	ServerQueue **list = list_queues(&n_queues);
	int n = 0;
	int i;

	for (i = 0; i < n_queues; i++)
	{
		ServerQueue *queue = list[i];
		int room = queue->must_release ? max : limits_room(&queue->limits, now);

		n += bound_take(&queue->bound, ids + n, Min(room, max - n));
		queue->must_release &= !dlist_is_empty(&queue->bound);
		if (dlist_is_empty(&queue->bound) && queue->fallback != NULL)
			set_fallback_trouble(queue, NULL);
	}
	pfree(list);
	return n;
}

/* ---------- servers ---------- */

static void
refresh_queue(ServerQueue *queue)
{
	ServerComplaint complaint;
	Server *server = server_get(NameStr(queue->name), &complaint);

	if (server == queue->server && server != NULL)
		return;
	if (server != NULL)
		server_hold(server);
	queue->stats = server ? shmem_stats_find(server->oid) : NULL;
	limits_apply(&queue->limits, server, queue->stats, clock_mono());
	server_release(queue->server);
	queue->server = server;
	free(queue->complaint);
	queue->complaint =
		server ? NULL : strdup(psprintf("%s. %s", complaint.message, complaint.hint));
}

/*
 * Why a fallback cannot be used, or NULL.
 */
static char *
complain_of_fallback(const ServerQueue *queue, const ServerQueue *fallback)
{
	const char *name = NameStr(fallback->name);

	if (fallback == queue)
		return psprintf("Its fallback \"%s\" cannot be used: it is the server itself.", name);
	if (fallback->server == NULL)
		return psprintf("Its fallback \"%s\" cannot be used: %s", name, fallback->complaint);
	if (fallback->server->options.preset != queue->server->options.preset)
		return psprintf("Its fallback \"%s\" cannot be used: it speaks %s, not %s.", name,
						fallback->server->options.preset->api, queue->server->options.preset->api);
	if (!server_may_stand_in(queue->server, fallback->server))
		return psprintf("Its fallback \"%s\" cannot be used: it belongs to another role. ALTER SERVER %s OWNER TO the owner of server \"%s\", or a superuser.",
						name, quote_identifier(name), NameStr(queue->name));
	return NULL;
}

/*
 * The queue of the server that takes jobs when this one cannot: it must understand the same words.
 * Jobs that it did not take are looked at again, for it may be another one now, or allow more.
 */
static void
find_fallback(ServerQueue *queue)
{
	const char *name = queue->server ? queue->server->options.fallback : NULL;
	ServerQueue *fallback = name ? schedule_queue(name) : NULL;
	char *complaint = NULL;

	if (fallback != NULL)
	{
		refresh_queue(fallback);
		complaint = complain_of_fallback(queue, fallback);
	}
	set_fallback_trouble(queue, complaint);
	queue->fallback = complaint ? NULL : fallback;
	queue->must_release = true;
}

/*
 * Looks up the servers of all queues again if the catalogs have changed.  In a transaction.
 */
void
schedule_refresh(void)
{
	uint64 generation = server_generation();
	bool is_due = generation != refreshed_generation || has_new_queue;

	/* a fallback whose queue is made here may have one itself */
	while (is_due)
	{
		int n;
		ServerQueue **list = list_queues(&n);
		int i;

		has_new_queue = false;
		for (i = 0; i < n; i++)
			refresh_queue(list[i]);
		for (i = 0; i < n; i++)
			find_fallback(list[i]);
		pfree(list);
		is_due = has_new_queue;
	}
	refreshed_generation = generation;
}

/*
 * Forgets all that waits for a server; the table still has it.
 */
void
schedule_drop(ServerQueue *queue)
{
	int64 id;

	turns_drop(&queue->turns);
	while (bound_take(&queue->bound, &id, 1) > 0)
		;
}

/*
 * Forgets what the table has not, at the end of a scan of it.
 */
void
schedule_drop_unseen(void)
{
	int n;
	ServerQueue **list = list_queues(&n);
	int i;

	for (i = 0; i < n; i++)
		turns_drop_unseen(&list[i]->turns);
	pfree(list);
}

/*
 * Obeys the weights of tenants that were read anew.
 */
void
schedule_weights_changed(void)
{
	int n;
	ServerQueue **list = list_queues(&n);
	int i;

	for (i = 0; i < n; i++)
		turns_apply_weights(&list[i]->turns);
	pfree(list);
}

/*
 * A queue whose jobs cannot be run, because the server cannot be used; NULL when there is none.
 */
ServerQueue *
schedule_next_without_server(void)
{
	HASH_SEQ_STATUS scan;
	ServerQueue *queue;

	if (queues == NULL)
		return NULL;
	hash_seq_init(&scan, queues);
	while ((queue = hash_seq_search(&scan)) != NULL)
	{
		if (queue->server == NULL && has_waiting(queue))
		{
			hash_seq_term(&scan);
			return queue;
		}
	}
	return NULL;
}

/* ---------- what may be taken ---------- */

/*
 * When a job that expires then must go to the fallback, for it will hardly be its turn before.
 */
static MonoTime
last_moment(const ServerQueue *queue, TimestampTz expires_at)
{
	double usual = queue->stats ? stats_percentile(queue->stats, 0.5) : 0;

	return clock_mono_at(expires_at) -
		   (usual > 1 ? (int64) (usual * USECS_PER_SEC) : USECS_PER_SEC);
}

/*
 * Whether the queue's next job is one for its fallback: its own server cannot be reached, or could not
 * start it in time.
 */
static bool
needs_fallback(ServerQueue *queue, MonoTime now)
{
	TimestampTz expiry = lanes_next_expiry(&queue->turns.lanes);

	if (queue->fallback == NULL || queue->server->options.paused ||
		limits_room(&queue->limits, now) > 0)
		return false;
	return limits_are_broken(&queue->limits) || (expiry != 0 && last_moment(queue, expiry) <= now);
}

/*
 * Takes the job out of the queue that its fallback is to run.
 */
static bool
pop_for_fallback(ServerQueue *queue, int64 *id)
{
	if (limits_are_broken(&queue->limits))
		return turns_pop(&queue->turns, id);
	return turns_pop_expiring(&queue->turns, DT_NOEND, id);
}

/*
 * Whether the queue's next job might be started if there is memory for it.
 */
static bool
could_take(ServerQueue *queue, MonoTime now)
{
	if (!has_waiting(queue))
		return false;
	return (queue->must_release && !dlist_is_empty(&queue->bound)) ||
		   limits_room(&queue->limits, now) > 0 ||
		   (has_ready(queue) && needs_fallback(queue, now) &&
			limits_room(&queue->fallback->limits, now) > 0);
}

/* ---------- memory ---------- */

/*
 * Takes notice of a claim: queue's next job is not known to want memory any more, and of those that were claimed
 * one takes so many bytes.  One that is large was its turn in the line for memory.
 */
void
schedule_memory_given(ServerQueue *queue, size_t bytes)
{
	queue->wants_memory = 0;
	if (bytes > MEMORY_SMALL)
		queue->waits_for_memory = 0;
}

/*
 * Takes notice that a job of the queue found no room in memory for so many bytes.  What the first of them wants is what
 * the queue waits for.
 */
void
schedule_memory_refused(ServerQueue *queue, size_t bytes)
{
	if (queue->wants_memory != 0)
		return;
	queue->wants_memory = bytes;
	if (queue->waits_for_memory == 0)
		queue->waits_for_memory = ++refused_memory;
}

/*
 * Of the queues that nothing holds back but the memory that others take, the one that has waited longest: others take
 * none before it, or its job might be too large for what they leave for ever.  One that waits for its own calls is in
 * nobody's way.  NULL: there is none.
 */
ServerQueue *
schedule_next_for_memory(MonoTime now)
{
	HASH_SEQ_STATUS scan;
	ServerQueue *queue;
	ServerQueue *first = NULL;

	hash_seq_init(&scan, queues);
	while ((queue = hash_seq_search(&scan)) != NULL)
	{
		if (queue->wants_memory > 0 &&
			(first == NULL || queue->waits_for_memory < first->waits_for_memory) &&
			could_take(queue, now) &&
			memory_has_room_beside(queue->wants_memory, job_request_bytes(queue)))
			first = queue;
	}
	return first;
}

static bool
waits_for_memory(const ServerQueue *queue, const ServerQueue *first)
{
	return queue->wants_memory > 0 &&
		   ((first != NULL && queue != first) || !memory_may_claim(queue->wants_memory));
}

/* ---------- taking ---------- */

/*
 * Whether schedule_take() would take anything now.
 */
bool
schedule_can_take(int room, MonoTime now)
{
	HASH_SEQ_STATUS scan;
	ServerQueue *queue;
	ServerQueue *first;

	if (queues == NULL || room <= 0)
		return false;
	first = schedule_next_for_memory(now);
	hash_seq_init(&scan, queues);
	while ((queue = hash_seq_search(&scan)) != NULL)
	{
		if (!waits_for_memory(queue, first) && could_take(queue, now))
		{
			hash_seq_term(&scan);
			return true;
		}
	}
	return false;
}

static bool
take_one(ServerQueue *queue, Turn *taken, MonoTime now)
{
	taken->home = queue;
	if (limits_room(&queue->limits, now) > 0)
	{
		taken->queue = queue;
		if (!turns_pop(&queue->turns, &taken->id))
			return false;
	}
	else if (needs_fallback(queue, now) && limits_room(&queue->fallback->limits, now) > 0)
	{
		taken->queue = queue->fallback;
		if (!pop_for_fallback(queue, &taken->id))
			return false;
	}
	else
		return false;
	taken->place = limits_take(&taken->queue->limits, now);
	return true;
}

/*
 * Whether one queue comes before another: the one whose next job would go to a server with fewer calls in
 * flight, so that those which share genjob.max_in_flight have even parts of it; of two that go to the same
 * server, as a fallback's guests do, the one that was served longer ago.
 */
static bool
comes_first(ServerQueue *left, ServerQueue *right, MonoTime now)
{
	const ServerQueue *left_runs = needs_fallback(left, now) ? left->fallback : left;
	const ServerQueue *right_runs = needs_fallback(right, now) ? right->fallback : right;

	if (left_runs->limits.in_flight != right_runs->limits.in_flight)
		return left_runs->limits.in_flight < right_runs->limits.in_flight;
	return left->served_at < right->served_at;
}

static int
choose_queue(ServerQueue **list, int n, MonoTime now)
{
	int best = 0;
	int i;

	for (i = 1; i < n; i++)
	{
		if (comes_first(list[i], list[best], now))
			best = i;
	}
	return best;
}

/*
 * Takes the jobs that may be started now off the queues, at most max, and at most room in all;
 * returns their number.
 */
int
schedule_take(Turn *taken, int max, int room, MonoTime now)
{
	int n_queues;
	ServerQueue **list = list_queues(&n_queues);
	ServerQueue *first = n_queues > 0 ? schedule_next_for_memory(now) : NULL;
	int n = 0;

	while (n_queues > 0 && n < Min(max, room))
	{
		int i = choose_queue(list, n_queues, now);

		if (!waits_for_memory(list[i], first) && take_one(list[i], &taken[n], now))
		{
			list[i]->served_at = ++served;
			n++;
		}
		else
			list[i] = list[--n_queues];
	}
	pfree(list);
	return n;
}

/*
 * The addresses of pools that can be reached, at most max; returns their number.
 */
int
schedule_list_usable(const char **urls, int max)
{
	int n_queues;
	ServerQueue **list = list_queues(&n_queues);
	int n = 0;
	int i;
	int j;

	for (i = 0; i < n_queues; i++)
	{
		const Limits *limits = &list[i]->limits;

		for (j = 0; j < limits->n_backends && limits->n_backends > 1 && n < max; j++)
		{
			const Backend *backend = limits->backends[j];

			if (backend->options != NULL && !backend->breaker.is_open)
				urls[n++] = backend->url;
		}
	}
	pfree(list);
	return n;
}

/*
 * When time alone may let more jobs go, of those that are ready; 0: it does not.
 */
MonoTime
schedule_next_change(MonoTime now)
{
	HASH_SEQ_STATUS scan;
	ServerQueue *queue;
	MonoTime next = 0;

	if (queues == NULL)
		return 0;
	hash_seq_init(&scan, queues);
	while ((queue = hash_seq_search(&scan)) != NULL)
	{
		MonoTime change = has_waiting(queue) ? limits_next_change(&queue->limits, now) : 0;
		TimestampTz expiry = queue->fallback ? lanes_next_expiry(&queue->turns.lanes) : 0;
		MonoTime last = expiry != 0 ? last_moment(queue, expiry) : 0;

		if (change != 0)
			schedule_note_time(&next, change);
		if (last > now)
			schedule_note_time(&next, last);
		if (has_ready(queue) && queue->fallback != NULL &&
			(change = limits_next_change(&queue->fallback->limits, now)) != 0)
			schedule_note_time(&next, change);
	}
	return next;
}

/*
 * Shows in genjob.servers and genjob.backends what each server may be given, and why it is not more.
 */
void
schedule_show(int room, MonoTime now)
{
	HASH_SEQ_STATUS scan;
	ServerQueue *queue;

	if (queues == NULL)
		return;
	hash_seq_init(&scan, queues);
	while ((queue = hash_seq_search(&scan)) != NULL)
		limits_say_why(&queue->limits,
					   room <= 0 ? "genjob.max_in_flight is reached"
					   : queue->wants_memory > 0 && has_waiting(queue)
						   ? "genjob.max_memory is reached"
						   : "",
					   queue->fallback_trouble, now);
}

/*
 * Moves a time, of either type, forward to candidate if that comes first.
 */
void
schedule_note_time(int64 *time, int64 candidate)
{
	/* the one time that means "none" is put off by a microsecond */
	if (candidate == 0)
		candidate = 1;
	if (*time == 0 || candidate < *time)
		*time = candidate;
}
