/*
 * storeline.c
 *		Jobs that wait for a place at an object store: first come, first served.
 *
 * Each store's queue has a line.  When a call to the store ends, the first
 * jobs of the line are woken.  A job also looks by itself from time to time
 * (store.c, pour.c), because nobody wakes it when a cancel frees a place, or a
 * hold ends.
 *
 * While several of a server's jobs wait for a healthy store, the server gets
 * no more jobs.  Their answers would only pile up, and would have to be saved
 * in the table.
 */
#include "postgres.h"

#include "base/clock.h"
#include "life/store.h"
#include "life/storeline.h"
#include "schedule/schedule.h"

static StoreTurn *
turn_of(dlist_node *node)
{
	return dlist_container(StoreTurn, node, node);
}

/*
 * True if turn is one of the first n in its line.
 */
static bool
is_among_first(const StoreTurn *turn, int n)
{
	dlist_iter iter;

	dlist_foreach(iter, &turn->queue->storing)
	{
		if (n-- <= 0)
			break;
		if (turn_of(iter.cur) == turn)
			return true;
	}
	return false;
}

static int
length_up_to(ServerQueue *queue, int most)
{
	dlist_iter iter;
	int n = 0;

	dlist_foreach(iter, &queue->storing)
	{
		if (++n >= most)
			break;
	}
	return n;
}

/*
 * True if a job may begin a call to its store now.  Jobs that have waited
 * longer go first, and are woken.
 */
static bool
has_place(const StoreTurn *turn)
{
	ServerQueue *queue = turn->queue;
	int room = limits_room(&queue->limits, clock_mono());

	if (room <= 0)
		return false;
	if (turn->is_in_line ? is_among_first(turn, room) : length_up_to(queue, room) < room)
		return true;
	storeline_wake(queue);
	return false;
}

/*
 * True if calls to the store lack nothing but places.
 */
bool
storeline_is_open(const ServerQueue *queue)
{
	const Limits *limits = &queue->limits;

	return limits->server != NULL && !limits->server->options.paused &&
		   limits->held_until <= clock_mono() && !limits_are_broken(limits);
}

/*
 * True if a job waits only because the store has no free place.
 */
static bool
is_well(const JobStore *store)
{
	return store->failures == 0 && storeline_is_open(store->queue);
}

static void
count_unstored(Job *job, bool counts)
{
	JobStore *store = job->store;

	if (store->is_counted == counts || job->queue == NULL)
		return;
	job->queue->limits.n_unstored += counts ? 1 : -1;
	store->is_counted = counts;
}

static void
join_line(Job *job, StoreTurn *turn)
{
	if (!turn->is_in_line)
	{
		dlist_push_tail(&turn->queue->storing, &turn->node);
		turn->waiting_since = clock_mono();
	}
	turn->is_in_line = true;
	turn->job = job;
}

static void
leave_line(StoreTurn *turn)
{
	if (turn->is_in_line)
		dlist_delete(&turn->node);
	turn->is_in_line = false;
}

/*
 * True if a job that fetches an object may call now; else it waits in line.
 */
bool
storeline_take_turn_to_fetch(Job *job, StoreTurn *turn)
{
	if (!has_place(turn))
	{
		join_line(job, turn);
		return false;
	}
	leave_line(turn);
	return true;
}

/*
 * Takes a job that fetches an object out of its line, if it is in one.
 */
void
storeline_leave_fetch(StoreTurn *turn)
{
	leave_line(turn);
}

/*
 * True if a job may call its store now; else it waits in line.  has_another:
 * it has other calls there under way.  Then it begins no more while another
 * job waits, and does not join the line.
 */
bool
storeline_take_turn(Job *job, bool has_another)
{
	JobStore *store = job->store;

	if (has_another && !dlist_is_empty(&store->queue->storing))
		return false;
	if (has_place(&store->turn))
	{
		storeline_leave(job);
		return true;
	}
	if (!has_another)
	{
		join_line(job, &store->turn);
		count_unstored(job, is_well(store));
	}
	return false;
}

/*
 * Takes a job out of its line, if it is in one, while its row is written.  It
 * still counts in n_unstored, so its server gets no other job in its place.
 */
void
storeline_step_out(Job *job)
{
	if (job->store != NULL)
		leave_line(&job->store->turn);
}

/*
 * Takes a job out of its line, if it is in one.
 */
void
storeline_leave(Job *job)
{
	storeline_step_out(job);
	if (job->store != NULL)
		count_unstored(job, false);
}

/*
 * Wakes the jobs that may call the store now.
 */
void
storeline_wake(ServerQueue *queue)
{
	MonoTime now = clock_mono();
	int room = dlist_is_empty(&queue->storing) ? 0 : limits_room(&queue->limits, now);
	dlist_iter iter;

	dlist_foreach(iter, &queue->storing)
	{
		if (room-- <= 0)
			break;
		job_wake_at(turn_of(iter.cur)->job, now);
	}
}
