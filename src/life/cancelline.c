/*
 * cancelline.c
 *		How many cancelling calls are under way, and which is next.
 *
 * Each server gets a few at a time, within its rate, its holds and its
 * breaker.  Its window grows by one with each answer; each refusal halves it.
 */
#include "postgres.h"

#include "life/cancelline.h"

#define MAX_CALLS 128  /* of all servers; each server may always have one */
#define MAX_WINDOW 16  /* of a server, if it may have that many jobs */
#define FIRST_WINDOW 4 /* of a server that has not answered yet */

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
may_cancel(const Line *line, MonoTime now)
{
	ServerQueue *queue = line->queue;

	/* no job waits for the next token, so a cancelling call may take it */
	if (!queue_has_waiting(queue))
		queue->limits.cancels_next = true;
	return has_window(line) && queue->cancels_held_until <= now &&
		   limits_may_cancel(&queue->limits, now);
}

/*
 * Puts a job whose next call may begin into its server's line.
 * cancelline_next() returns the job when the server may have the call.
 */
void
cancelline_line_up(Job *job)
{
	Assert(job->state == JOB_CANCELLING && !job->is_waking);
	lines_join(&cancels, &job->queue->cancels, &job->waiter);
}

/*
 * Returns the next job whose call may begin now, or NULL.
 */
Job *
cancelline_next(MonoTime now)
{
	LineWaiter *waiter = lines_take(&cancels, may_cancel, now);

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
 * Returns when cancelline_next() will have a job, if no call ends earlier.  0:
 * only after a call ends.
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
		if (may_cancel(line, now))
			return now;
		change = queue->cancels_held_until > now ? queue->cancels_held_until
												 : limits_next_cancel(&queue->limits, now);
		if (change != 0)
			schedule_note_time(&next, change);
	}
	return next;
}

/*
 * Returns how many cancelling calls are under way.
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
