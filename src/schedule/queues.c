/*
 * queues.c
 *		The queues of servers in memory, and the server of each.
 *
 * A queue is created on first use.  It is active while it has something to do
 * or to wait for.  A turn looks at active queues only: ten thousand known
 * servers cost no more than ten.  A queue that has been idle for a while is
 * forgotten, with all that was known of its server.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "schedule/bound.h"
#include "base/clock.h"
#include "schedule/parts.h"
#include "schedule/schedule.h"

#define MAX_IDLE 1000 /* queues; beyond that, the one that is idle for longest is forgotten */
#define FORGET_US (10 * USECS_PER_MINUTE) /* after which an idle queue is forgotten */

static HTAB *queues = NULL;
static dlist_head active = DLIST_STATIC_INIT(active);
static dlist_head idle = DLIST_STATIC_INIT(idle); /* idle for longest first */
static int n_idle = 0;
static int n_stale = 0;
static uint64 refreshed_generation = 0;

/*
 * Returns the queues that have something to do.
 */
dlist_head *
queues_active(void)
{
	return &active;
}

/*
 * True if jobs of the queue are due.
 */
bool
queue_has_waiting(const ServerQueue *queue)
{
	return queue->turns.lanes.n_ready > 0 || queue->turns.lanes.n_unread > 0 ||
		   !dlist_is_empty(unconstify(dlist_head *, &queue->bound));
}

/*
 * Returns a queue whose jobs cannot run because its server cannot be used; NULL when there is none.
 */
ServerQueue *
schedule_next_without_server(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &active)
	{
		ServerQueue *queue = dlist_container(ServerQueue, node, iter.cur);

		if (queue->server == NULL && !queue->is_stale && queue_has_waiting(queue))
			return queue;
	}
	return NULL;
}

static void
mark_stale(ServerQueue *queue)
{
	n_stale += !queue->is_stale;
	queue->is_stale = true;
}

/*
 * Finds the statistics of a queue's server in shared memory.
 */
static void
find_stats(ServerQueue *queue, const Server *server)
{
	if (queue->stats != NULL && (server == NULL || queue->stats->server != server->oid))
	{
		shmem_stats_release(queue->stats);
		queue->stats = NULL;
	}
	if (queue->stats == NULL && server != NULL)
		queue->stats = shmem_stats_find(server->oid);
	queue->limits.stats = queue->stats;
}

/*
 * Makes a queue active, because it gets something to do.
 */
void
queue_touch(ServerQueue *queue)
{
	if (queue->is_active)
		return;
	dlist_delete(&queue->node);
	n_idle--;
	dlist_push_tail(&active, &queue->node);
	queue->is_active = true;
	if (queue->server != NULL)
		find_stats(queue, queue->server);
	mark_stale(queue);
}

/*
 * Returns the queue of a server, created on first use.  The caller is about to give it something to do.
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
		turns_init(&queue->turns, NameStr(queue->name));
		dlist_init(&queue->bound);
		dlist_init(&queue->storing);
		queue->questions.queue = queue->cancels.queue = queue;
		dlist_push_tail(&active, &queue->node);
		queue->is_active = true;
		mark_stale(queue);
	}
	else
		queue_touch(queue);
	return queue;
}

/*
 * Returns the queue of a server, or NULL.
 */
ServerQueue *
schedule_find_queue(const char *server_name)
{
	return queues ? hash_search(queues, server_name, HASH_FIND, NULL) : NULL;
}

/* ---------- what rests ---------- */

static bool
is_at_rest(ServerQueue *queue, MonoTime now)
{
	return !queue->is_stale && queue->n_jobs == 0 && !queue_has_waiting(queue) &&
		   !turns_have_left_out(&queue->turns) && queue->n_stored_cancels == 0 &&
		   !queue->has_unread_cancels && queue->cancels_held_until <= now &&
		   limits_are_at_rest(&queue->limits, now);
}

static void
rest_queue(ServerQueue *queue, MonoTime now)
{
	Assert(queue->is_active && queue->requests.held == 0);
	dlist_delete(&queue->node);
	dlist_push_tail(&idle, &queue->node);
	n_idle++;
	queue->is_active = false;
	queue->idle_since = now;
	if (queue->stats != NULL)
		shmem_stats_release(queue->stats);
	queue->stats = queue->limits.stats = NULL;
}

static void
set_fallback(ServerQueue *queue, ServerQueue *fallback)
{
	Assert(queue->fallback == NULL || queue->fallback->n_guests > 0);
	if (queue->fallback != NULL)
		queue->fallback->n_guests--;
	if (fallback != NULL)
		fallback->n_guests++;
	queue->fallback = fallback;
}

static void
forget_queue(ServerQueue *queue)
{
	Assert(!queue->is_active && queue->n_jobs == 0 && queue->n_guests == 0);
	dlist_delete(&queue->node);
	n_idle--;
	set_fallback(queue, NULL);
	lines_forget(&queue->questions);
	lines_forget(&queue->cancels);
	turns_free(&queue->turns);
	limits_free(&queue->limits);
	memory_set_whole(&queue->requests, NULL);
	memory_set_whole(&queue->answers, NULL);
	server_release(queue->server);
	free(queue->complaint);
	free(queue->fallback_trouble);
	hash_search(queues, NameStr(queue->name), HASH_REMOVE, NULL);
}

/*
 * Takes queues that have nothing to do off the active list, and forgets those
 * that were idle for long.
 */
void
queues_rest(MonoTime now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &active)
	{
		ServerQueue *queue = dlist_container(ServerQueue, node, iter.cur);

		if (is_at_rest(queue, now))
			rest_queue(queue, now);
	}
	dlist_foreach_modify(iter, &idle)
	{
		ServerQueue *queue = dlist_container(ServerQueue, node, iter.cur);

		if (n_idle <= MAX_IDLE && queue->idle_since + FORGET_US > now)
			break;
		if (queue->n_guests == 0)
			forget_queue(queue);
	}
}

/* ---------- servers ---------- */

/*
 * Sets why a queue's fallback does not take its jobs, or not all of them;
 * NULL: it takes them.
 */
void
queue_set_fallback_trouble(ServerQueue *queue, const char *why)
{
	if (why != NULL && queue->fallback_trouble != NULL && strcmp(why, queue->fallback_trouble) == 0)
		return;
	free(queue->fallback_trouble);
	queue->fallback_trouble = why ? strdup(why) : NULL;
}

static void
refresh_queue(ServerQueue *queue)
{
	ServerComplaint complaint;
	Server *server = server_get(NameStr(queue->name), &complaint);

	n_stale -= queue->is_stale;
	Assert(n_stale >= 0);
	queue->is_stale = false;
	queue->lacks_fallback = true;
	find_stats(queue, server);
	if (server == queue->server && server != NULL)
		return;
	/* what another server of this name did says nothing of this one */
	if (server != NULL && queue->server != NULL && server->oid != queue->server->oid)
	{
		limits_apply(&queue->limits, NULL, NULL, clock_mono());
		queue->limits.held_until = 0;
	}
	if (server != NULL)
		server_hold(server);
	limits_apply(&queue->limits, server, queue->stats, clock_mono());
	server_release(queue->server);
	queue->server = server;
	if (server != NULL)
		parts_join_account(queue);
	free(queue->complaint);
	queue->complaint =
		server ? NULL : strdup(psprintf("%s. %s", complaint.message, complaint.hint));
}

/*
 * Returns why a fallback cannot be used, or NULL.
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
 * Finds the queue of the fallback, which must speak the same api.  Jobs that
 * the fallback did not take are looked at again, because the fallback may be
 * another server now, or may run more.
 */
static void
find_fallback(ServerQueue *queue)
{
	const char *name = queue->server ? queue->server->options.fallback : NULL;
	ServerQueue *fallback = name ? schedule_queue(name) : NULL;
	char *complaint = NULL;

	queue->lacks_fallback = false;
	if (fallback != NULL)
	{
		if (fallback->is_stale)
			refresh_queue(fallback);
		complaint = complain_of_fallback(queue, fallback);
	}
	queue_set_fallback_trouble(queue, complaint);
	set_fallback(queue, complaint ? NULL : fallback);
	queue->must_release = true;
}

/*
 * Forgets the statistics of dropped servers.
 */
static void
forget_dropped_servers(void)
{
	Oid *servers;
	int n = shmem_stats_list(&servers);
	int i;

	for (i = 0; i < n; i++)
	{
		if (!server_exists(servers[i]))
			shmem_stats_forget(servers[i]);
	}
	pfree(servers);
}

/*
 * Looks up the servers of active queues, if that was not done yet or the
 * catalogs have changed.  Call it in a transaction.
 */
void
schedule_refresh(void)
{
	uint64 generation = server_generation();
	dlist_iter iter;

	if (generation != refreshed_generation)
	{
		dlist_foreach(iter, &active)
			mark_stale(dlist_container(ServerQueue, node, iter.cur));
		forget_dropped_servers();
		refreshed_generation = generation;
	}
	if (n_stale == 0)
		return;
	/* fallbacks that become active here come later in this loop */
	dlist_foreach(iter, &active)
	{
		ServerQueue *queue = dlist_container(ServerQueue, node, iter.cur);

		if (queue->is_stale)
			refresh_queue(queue);
		if (queue->lacks_fallback)
			find_fallback(queue);
	}
}

/* ---------- all ---------- */

static void
each_queue(void (*work)(Turns *turns))
{
	dlist_iter iter;

	dlist_foreach(iter, &active)
		work(&dlist_container(ServerQueue, node, iter.cur)->turns);
	dlist_foreach(iter, &idle)
		work(&dlist_container(ServerQueue, node, iter.cur)->turns);
}

/*
 * Forgets, at the end of a scan, what the scan did not find in the table.
 */
void
schedule_drop_unseen(void)
{
	each_queue(turns_drop_unseen);
}

/*
 * Applies the weights of owners and tenants that were just read.
 */
void
schedule_weights_changed(void)
{
	each_queue(turns_apply_weights);
}
