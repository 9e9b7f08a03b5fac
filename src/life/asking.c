/*
 * asking.c
 *		How many questions about predictions are under way, and which is next.
 *
 * Each server may always have OWN_ASKING questions under way, so that servers
 * that never answer cannot take all of MAX_ASKING.  A question that may not
 * begin yet waits in the line of its server.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "life/asking.h"
#include "schedule/schedule.h"

#define MAX_ASKING 512            /* questions under way, of all servers */
#define OWN_ASKING 4              /* of each server: these may always begin */
#define MAX_POLLS_PER_SECOND 2000 /* begun, of all servers */

static Lines questions = {.waiting = DLIST_STATIC_INIT(questions.waiting)};
static int64 poll_second = 0;
static int polls_in_second = 0;

/*
 * True if another question may begin in this second.
 */
static bool
second_has_room(MonoTime now)
{
	int64 second = now / USECS_PER_SEC;

	if (second != poll_second)
		polls_in_second = 0;
	poll_second = second;
	return polls_in_second < MAX_POLLS_PER_SECOND;
}

static bool
may_ask(const Line *line, MonoTime now)
{
	int window = pace_window(&line->queue->pace);

	return line->n_calls < Min(OWN_ASKING, window) ||
		   (line->n_calls < window && questions.n_calls < MAX_ASKING);
}

/*
 * Puts a job that is due to ask into its server's line.  asking_next() returns it when it may ask.
 */
void
asking_line_up(Job *job)
{
	Assert(job->state == JOB_WAITING && !job->is_waking);
	lines_join(&questions, &job->queue->questions, &job->waiter);
}

/*
 * Returns the next job that may ask now, or NULL.
 */
Job *
asking_next(MonoTime now)
{
	LineWaiter *waiter = second_has_room(now) ? lines_take(&questions, may_ask, now) : NULL;

	if (waiter == NULL)
		return NULL;
	polls_in_second++;
	return job_of_waiter(waiter);
}

/*
 * Returns when asking_next() will have a job, if no question ends earlier.  0:
 * only after a question ends.
 */
MonoTime
asking_next_time(MonoTime now)
{
	dlist_iter iter;

	dlist_foreach(iter, &questions.waiting)
	{
		const Line *line = dlist_container(Line, node, iter.cur);

		if (line_has_waiters(line) && may_ask(line, now))
			return second_has_room(now) ? now : (now / USECS_PER_SEC + 1) * USECS_PER_SEC;
	}
	return 0;
}

/*
 * Counts a question that begins, until its call ends.
 */
void
asking_begin(Job *job)
{
	lines_begin_call(&questions, &job->queue->questions, &job->waiter);
}

/*
 * Notes how a question about a prediction ended.  Call it before lines_end_call().
 */
void
asking_note_end(Job *job)
{
	ServerQueue *queue = job->queue;
	bool was_full = queue->questions.n_calls + 1 >= pace_window(&queue->pace);

	if (job->call_outcome == CALL_ANSWERED)
		pace_answered(&queue->pace, was_full);
	else
		pace_refused(&queue->pace);
}

/*
 * Returns how many calls under way only ask.  Cutting them loses nothing.
 */
int
asking_count(void)
{
	return questions.n_calls;
}
