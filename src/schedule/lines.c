/*
 * lines.c
 *		Who waits, at each server, for a call of one kind: one line for each
 *		server, and the lines take turns.
 *
 * So a server that answers none of its calls keeps its own jobs waiting, and
 * nobody else's.
 */
#include "postgres.h"

#include "schedule/lines.h"

bool
line_has_waiters(const Line *line)
{
	return !dlist_is_empty(unconstify(dlist_head *, &line->waiters));
}

/*
 * Puts a waiter at the end of a line.
 */
void
lines_join(Lines *lines, Line *line, LineWaiter *waiter)
{
	Assert(waiter->line == NULL);
	dlist_push_tail(&line->waiters, &waiter->node);
	waiter->line = line;
	if (!line->is_listed)
		dlist_push_tail(&lines->waiting, &line->node);
	line->is_listed = true;
}

/*
 * Forgets a line without waiters.
 */
void
lines_forget(Line *line)
{
	Assert(!line_has_waiters(line) && line->n_calls == 0);
	if (line->is_listed)
		dlist_delete(&line->node);
	line->is_listed = false;
}

/*
 * Takes a waiter off its line, if it is on one.
 */
void
lines_leave(LineWaiter *waiter)
{
	if (waiter->line != NULL)
		dlist_delete(&waiter->node);
	waiter->line = NULL;
}

/*
 * Takes the next waiter that may have its call now off its line; NULL when there is none.
 */
LineWaiter *
lines_take(Lines *lines, LineMayGo may_go, MonoTime now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &lines->waiting)
	{
		Line *line = dlist_container(Line, node, iter.cur);
		LineWaiter *waiter;

		Assert(line->is_listed);
		if (!line_has_waiters(line))
		{
			dlist_delete(&line->node);
			line->is_listed = false;
			continue;
		}
		if (!may_go(line, now))
			continue;
		waiter = dlist_container(LineWaiter, node, dlist_head_node(&line->waiters));
		Assert(waiter->line == line);
		lines_leave(waiter);
		dlist_delete(&line->node);
		dlist_push_tail(&lines->waiting, &line->node);
		return waiter;
	}
	return NULL;
}

/*
 * Counts a waiter's call until lines_end_call().
 */
void
lines_begin_call(Lines *lines, Line *line, LineWaiter *waiter)
{
	lines_end_call(waiter);
	lines->n_calls++;
	line->n_calls++;
	waiter->counted_by = lines;
	waiter->counted_in = line;
}

/*
 * Ends the waiter's call, if it was counted.
 */
void
lines_end_call(LineWaiter *waiter)
{
	if (waiter->counted_by == NULL)
		return;
	Assert(waiter->counted_by->n_calls > 0 && waiter->counted_in->n_calls > 0);
	waiter->counted_by->n_calls--;
	waiter->counted_in->n_calls--;
	waiter->counted_by = NULL;
	waiter->counted_in = NULL;
}
