/*
 * cancelline.c
 *		How many calls that cancel are under way, and which is next.
 *
 * They go out a few at a time for each server, with its rate, its holds and its breaker: a window that grows with each
 * answer, and is halved by each refusal.
 */
#include "postgres.h"

#include "life/cancelline.h"

#define MAX_CALLS 128  /* that cancel, of all servers; one of each may always begin */
#define MAX_WINDOW 16  /* of a server, and no more than it may have jobs */
#define FIRST_WINDOW 4 /* which grows with each answer, and is halved by each refusal */

static Lines cancels = {.waiting = DLIST_STATIC_INIT(cancels.waiting)};

/*
 * Returns how many cancelling calls a server may have now.
 */
static int
window_of(const ServerQueue *queue)
{
	double window = queue->cancel_window > 0 ? queue->cancel_window : FIRST_WINDOW;

	return Min((int) window, limits_cancels(&queue->limits, MAX_WINDOW));
}

static bool
has_window(const Line *line)
{
	return line->n_calls < window_of(line->queue) &&
		   (line->n_calls == 0 || cancels.n_calls < MAX_CALLS);
}

static bool
may_go(const Line *line, MonoTime now)
{
	ServerQueue *queue = line->queue;

	/* no job waits for the token that is not theirs */
	if (!queue_has_waiting(queue))
		queue->limits.cancels_next = true;
	return has_window(line) && queue->cancels_held_until <= now &&
		   limits_may_cancel(&queue->limits, now);
}

/*
 * Puts a job whose next call may begin into its server's line.  cancelline_next() returns it when the server may have
 * the call.
 */
void
cancelline_line_up(Job *job)
{
	Assert(job->state == JOB_CANCELLING && !job->is_waking);
	lines_join(&cancels, &job->queue->cancels, &job->waiter);
}

/*
 * The next job whose call may begin now, or NULL.
 */
Job *
cancelline_next(MonoTime now)
{
	LineWaiter *waiter = lines_take(&cancels, may_go, now);

	return waiter ? job_of_waiter(waiter) : NULL;
}

/*
 * Counts a job among those with a cancelling call, until lines_end_call().
 */
void
cancelline_begin(Job *job)
{
	lines_begin_call(&cancels, &job->queue->cancels, &job->waiter);
}

/*
 * Marks the servers whose cancelling calls wait only for a token of the rate.
 */
void
cancelline_note_waiting(MonoTime now)
{
	dlist_iter iter;

	dlist_foreach(iter, &cancels.waiting)
	{
		const Line *line = dlist_container(Line, node, iter.cur);

		line->queue->limits.cancels_wait =
			line_has_waiters(line) && has_window(line) && line->queue->cancels_held_until <= now;
	}
}

/*
 * Returns when cancelline_next() will have a job, unless a call ends before; 0: not before one ends.
 */
MonoTime
cancelline_next_time(MonoTime now)
{
	MonoTime next = 0;
	dlist_iter iter;

	dlist_foreach(iter, &cancels.waiting)
	{
		const Line *line = dlist_container(Line, node, iter.cur);
		ServerQueue *queue = line->queue;
		MonoTime change;

		if (!line_has_waiters(line) || !has_window(line))
			continue;
		if (may_go(line, now))
			return now;
		change = queue->cancels_held_until > now ? queue->cancels_held_until
												 : limits_next_cancel(&queue->limits, now);
		if (change != 0)
			schedule_note_time(&next, change);
	}
	return next;
}

/*
 * How many calls are under way.
 */
int
cancelline_count(void)
{
	return cancels.n_calls;
}

void
cancelline_widen(ServerQueue *queue)
{
	queue->cancel_window = Min(MAX_WINDOW, window_of(queue) + 1);
}

void
cancelline_narrow(ServerQueue *queue)
{
	queue->cancel_window = Max(1, window_of(queue) / 2);
}
