/*
 * schedule.c
 *		Which job runs next, and where: the queues of all servers, in memory.
 *
 * The table is the queue; this is only a picture of its front, and can be
 * thrown away and read again at any time.  Each server has its own queue
 * (queues.c), so that a server that is slow, full, paused or gone delays
 * nobody else's jobs.  turns.c decides whose turn it is at a server, and
 * limits.c how much the server may be given; this file matches one with the
 * other.  It looks only at queues that have something to do.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "schedule/bound.h"
#include "base/clock.h"
#include "base/memory.h"
#include "schedule/memoryline.h"
#include "schedule/parts.h"
#include "schedule/putoff.h"
#include "schedule/schedule.h"

ScheduleTimes schedule_times = {0, 0, 0};

static uint64 served = 0; /* jobs so far, of all servers */

static bool
has_ready(const ServerQueue *queue)
{
	return queue->turns.lanes.n_ready > 0 || queue->turns.lanes.n_unread > 0;
}

static ServerQueue *
queue_of(dlist_node *node)
{
	return dlist_container(ServerQueue, node, node);
}

/* ---------- jobs ---------- */

/*
 * Takes a job off the schedule until a time, when it is looked at again.  A
 * job that is not shunned comes back sooner if a commit reports it.
 */
void
schedule_put_off(int64 id, MonoTime until, bool is_shunned)
{
	schedule_remove(id);
	if (!putoff_add(id, until, is_shunned, 0))
		schedule_note_time(&schedule_times.rescan, until);
}

/*
 * Takes a job off the schedule until this many bytes of memory are free for
 * it, or until a time.
 */
void
schedule_put_off_for_memory(int64 id, MonoTime until, size_t bytes)
{
	schedule_remove(id);
	if (!putoff_add(id, until, true, bytes))
		schedule_note_time(&schedule_times.rescan, until);
}

/*
 * Notes that a job is queued in the table and due, or that what decides its turn has changed.  expires_at is 0 if it
 * does not expire.
 */
void
schedule_add(int64 id, const char *server_name, Oid owner, const char *tenant, int priority,
			 TimestampTz run_at, TimestampTz expires_at)
{
	ServerQueue *queue = schedule_queue(server_name);
	Lane *lane;

	schedule_remove(id);
	if (putoff_is_shunned(id))
		return;
	lane = turns_lane(&queue->turns, owner, tenant, priority);
	if (lane != NULL)
		lane_add(lane, id, run_at, expires_at);
}

/*
 * True if a job is on the schedule, or kept for its own server.
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

/*
 * Keeps a job for its own server, because the fallback may not run it; why
 * says why not.  The job must be off the queue.
 */
void
schedule_bind(int64 id, ServerQueue *home, const char *why)
{
	queue_set_fallback_trouble(home,
							   psprintf("Its fallback \"%s\" takes no jobs of some owners: %s",
										home->server->options.fallback, why));
	bound_add(&home->bound, id);
}

/*
 * Releases jobs that were kept for their own servers: as many as a server has
 * room for, or all if servers have changed; at most max.  The caller looks at
 * them again.  Returns their number.
 */
int
schedule_release(int64 *ids, int max, MonoTime now)
{
	dlist_iter iter;
	int n = 0;

	dlist_foreach(iter, queues_active())
	{
		ServerQueue *queue = queue_of(iter.cur);
		int room = queue->must_release ? max : limits_room(&queue->limits, now);

		n += bound_take(&queue->bound, ids + n, Min(room, max - n));
		queue->must_release &= !dlist_is_empty(&queue->bound);
		if (dlist_is_empty(&queue->bound) && queue->fallback != NULL)
			queue_set_fallback_trouble(queue, NULL);
	}
	return n;
}

/* ---------- servers ---------- */

/*
 * Forgets all jobs that wait for a server.  The table still has them.
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
 * Returns a queue whose server has refused for longer than max_wait, and whose jobs were not looked at since the last
 * refusal; NULL if there is none.
 */
ServerQueue *
schedule_next_stuck(TimestampTz now)
{
	dlist_iter iter;

	dlist_foreach(iter, queues_active())
	{
		ServerQueue *queue = queue_of(iter.cur);

		if (!queue->limits.fails_overdue)
			continue;
		if (limits_are_stuck(&queue->limits, now))
			return queue;
		queue->limits.fails_overdue = false;
	}
	return NULL;
}

/* ---------- what may be taken ---------- */

/*
 * Returns when a job must go to the fallback, because its turn will hardly come before it expires.
 */
static MonoTime
last_moment(const ServerQueue *queue, TimestampTz expires_at)
{
	double usual = queue->stats ? stats_percentile(queue->stats, 0.5) : 0;

	return clock_mono_at(expires_at) -
		   (usual > 1 ? (int64) (usual * USECS_PER_SEC) : USECS_PER_SEC);
}

/*
 * True if the queue's next job is for its fallback: its own server cannot be reached, or could not start it in time.
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
 * Takes the job that the fallback will run off the queue.  *is_paid: it was
 * its turn.
 */
static bool
pop_for_fallback(ServerQueue *queue, int64 *id, bool *is_paid)
{
	*is_paid = limits_are_broken(&queue->limits);
	if (*is_paid)
		return turns_pop(&queue->turns, id);
	return turns_pop_expiring(&queue->turns, DT_NOEND, id);
}

/*
 * True if the queue's next job could start, if there was memory for it.
 */
bool
schedule_could_take(ServerQueue *queue, MonoTime now)
{
	if (!queue_has_waiting(queue))
		return false;
	return queue->is_stale || (queue->must_release && !dlist_is_empty(&queue->bound)) ||
		   limits_room(&queue->limits, now) > 0 ||
		   (has_ready(queue) && needs_fallback(queue, now) &&
			limits_room(&queue->fallback->limits, now) > 0);
}

/*
 * Returns the queue whose server would run the queue's next job.
 */
static ServerQueue *
next_target(ServerQueue *queue, MonoTime now)
{
	return needs_fallback(queue, now) ? queue->fallback : queue;
}

/*
 * True if the server that would run the queue's next job may have one of room
 * places.  Call it between parts_begin() and parts_end().
 */
static bool
may_have_place(ServerQueue *queue, int room, MonoTime now)
{
	/* a stale queue has to be looked at, whatever runs its jobs */
	return queue->is_stale || parts_may_take(next_target(queue, now), room);
}

/* ---------- taking ---------- */

/*
 * True if schedule_take() would take something now.
 */
bool
schedule_can_take(int room, MonoTime now)
{
	bool can_take = false;
	ServerQueue *first;
	dlist_iter iter;

	if (room <= 0)
		return false;
	first = memoryline_first(now);
	parts_begin();
	dlist_foreach(iter, queues_active())
	{
		ServerQueue *queue = queue_of(iter.cur);

		if (!memoryline_holds_back(queue, first) && schedule_could_take(queue, now) &&
			may_have_place(queue, room, now))
		{
			can_take = true;
			break;
		}
	}
	parts_end();
	return can_take;
}

static bool
take_job(ServerQueue *queue, Turn *taken, MonoTime now)
{
	taken->home = queue;
	taken->is_paid = true;
	if (queue->is_stale)
		return false;
	if (limits_room(&queue->limits, now) > 0)
	{
		taken->queue = queue;
		if (!turns_pop(&queue->turns, &taken->id))
			return false;
	}
	else if (needs_fallback(queue, now) && limits_room(&queue->fallback->limits, now) > 0)
	{
		taken->queue = queue->fallback;
		if (!pop_for_fallback(queue, &taken->id, &taken->is_paid))
			return false;
		queue_touch(taken->queue);
	}
	else
		return false;
	taken->place = limits_take(&taken->queue->limits, now);
	Assert(taken->place.limits == &taken->queue->limits && taken->queue->server != NULL);
	return true;
}

/* A queue that may have a job to be taken, and where it stands among the others. */
typedef struct Candidate
{
	pairingheap_node node;
	ServerQueue *queue;
	int in_flight; /* at the server to which its next job would go */
} Candidate;

/*
 * Orders queues.  First comes the queue whose next job would go to the server
 * with the fewest calls in flight, so that servers have equal parts of
 * genjob.max_in_flight.  Of two whose next jobs go to the same server, as with
 * a fallback, the one that was served longer ago comes first.
 */
static int
compare_candidates(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Candidate *left = pairingheap_const_container(Candidate, node, a);
	const Candidate *right = pairingheap_const_container(Candidate, node, b);

	if (left->in_flight != right->in_flight)
		return left->in_flight < right->in_flight ? 1 : -1;
	return left->queue->served_at < right->queue->served_at ? 1 : -1;
}

static int
calls_at_next_server(ServerQueue *queue, MonoTime now)
{
	return next_target(queue, now)->limits.in_flight;
}

/*
 * Puts the queues from which schedule_take() may take a job into a heap with the first on top.
 */
static pairingheap *
line_up_candidates(MonoTime now)
{
	pairingheap *line = pairingheap_allocate(compare_candidates, NULL);
	ServerQueue *first = memoryline_first(now);
	dlist_iter iter;

	dlist_foreach(iter, queues_active())
	{
		ServerQueue *queue = queue_of(iter.cur);
		Candidate *candidate;

		if (memoryline_holds_back(queue, first) || !schedule_could_take(queue, now))
			continue;
		candidate = palloc(sizeof(Candidate));
		candidate->queue = queue;
		candidate->in_flight = calls_at_next_server(queue, now);
		pairingheap_add(line, &candidate->node);
	}
	return line;
}

/*
 * Takes jobs that may start now off the queues: at most max, and at most room in all.  Returns their number.
 */
int
schedule_take(Turn *taken, int max, int room, MonoTime now)
{
	pairingheap *line = line_up_candidates(now);
	int n = 0;

	parts_begin();
	while (!pairingheap_is_empty(line) && n < Min(max, room))
	{
		Candidate *candidate =
			pairingheap_container(Candidate, node, pairingheap_remove_first(line));
		int in_flight = calls_at_next_server(candidate->queue, now);

		/*
		 * another queue may have used the same server since: then this one
		 * goes back in line
		 */
		if (in_flight <= candidate->in_flight)
		{
			if (!may_have_place(candidate->queue, room - n, now) ||
				!take_job(candidate->queue, &taken[n], now))
				continue;
			parts_note_taken(taken[n].queue);
			candidate->queue->served_at = ++served;
			n++;
			in_flight = calls_at_next_server(candidate->queue, now);
		}
		candidate->in_flight = in_flight;
		pairingheap_add(line, &candidate->node);
	}
	parts_end();
	pairingheap_free(line);
	return n;
}

/*
 * Lists the addresses that can be reached, busy or not, of servers that have
 * several and run these turns; at most max.  Returns their number.
 */
int
schedule_list_usable(Turn *const *turns, int n_turns, const char **urls, int max)
{
	static uint64 lists = 0;
	int n = 0;
	int i;
	int j;

	lists++;
	for (i = 0; i < n_turns; i++)
	{
		ServerQueue *queue = turns[i]->queue;
		const Limits *limits = &queue->limits;

		if (queue->listed == lists)
			continue;
		queue->listed = lists;
		for (j = 0; j < limits->n_backends && limits->n_backends > 1 && n < max; j++)
		{
			const Backend *backend = limits->backends[j];

			if (backend->options != NULL &&
				(!backend->breaker.is_open || backend->breaker.reason != BREAKER_UNREACHABLE))
				urls[n++] = backend->url;
		}
	}
	return n;
}

/*
 * Returns when time alone may let more ready jobs start; 0: it does not.
 */
MonoTime
schedule_next_change(MonoTime now)
{
	MonoTime next = 0;
	dlist_iter iter;

	dlist_foreach(iter, queues_active())
	{
		ServerQueue *queue = queue_of(iter.cur);
		MonoTime change = queue_has_waiting(queue) ? limits_next_change(&queue->limits, now) : 0;
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
 * Shows in genjob.servers and genjob.backends what each server may be given,
 * and why not more.  Lets queues rest that have nothing to do.
 */
void
schedule_show(int room, MonoTime now)
{
	dlist_iter iter;

	parts_begin();
	dlist_foreach(iter, queues_active())
	{
		ServerQueue *queue = queue_of(iter.cur);

		limits_say_why(&queue->limits,
					   room <= 0 ? "genjob.max_in_flight is reached"
					   : !parts_may_take(queue, room)
						   ? "the servers of its owner have their part of genjob.max_in_flight"
					   : queue->wants_memory > 0 && queue_has_waiting(queue)
						   ? "genjob.max_memory is reached"
						   : "",
					   queue->fallback_trouble, now);
	}
	parts_end();
	queues_rest(now);
}

/*
 * Sets *time to candidate if that is earlier.  For both types of time.
 */
void
schedule_note_time(int64 *time, int64 candidate)
{
	/* the one time that means "none" becomes a microsecond later */
	if (candidate == 0)
		candidate = 1;
	if (*time == 0 || candidate < *time)
		*time = candidate;
}
