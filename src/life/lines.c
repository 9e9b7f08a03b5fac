/*
 * lines.c
 *		Jobs of each server that wait for a call of one kind: a line for each server, and the lines by turns.
 *
 * So a server that answers none of its calls keeps its own jobs waiting, and nobody else's.
 */
#include "postgres.h"

#include "life/job.h"
#include "life/lines.h"

/*
 * Puts a job, which waits for nothing else, at the end of a line.
 */
void
lines_join(Lines *lines, Line *line, Job *job)
{
	Assert(job->line == NULL);
	dlist_push_tail(&line->jobs, &job->line_node);
	job->line = line;
	if (!line->is_listed)
		dlist_push_tail(&lines->waiting, &line->node);
	line->is_listed = true;
}

/*
 * Forgets a line without jobs.
 */
void
lines_forget(Line *line)
{
	Assert(dlist_is_empty(&line->jobs) && line->n_calls == 0);
	if (line->is_listed)
		dlist_delete(&line->node);
	line->is_listed = false;
}

/*
 * Takes a job off its line, if it is on one.
 */
void
lines_leave(Job *job)
{
	if (job->line != NULL)
		dlist_delete(&job->line_node);
	job->line = NULL;
}

/*
 * Takes the next job that may have its call now; NULL when there is none.
 */
Job *
lines_take(Lines *lines, LineMayGo may_go, MonoTime now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &lines->waiting)
	{
		Line *line = dlist_container(Line, node, iter.cur);
		Job *job;

		if (dlist_is_empty(&line->jobs))
		{
			dlist_delete(&line->node);
			line->is_listed = false;
			continue;
		}
		if (!may_go(line, now))
			continue;
		job = dlist_container(Job, line_node, dlist_head_node(&line->jobs));
		lines_leave(job);
		dlist_delete(&line->node);
		dlist_push_tail(&lines->waiting, &line->node);
		return job;
	}
	return NULL;
}

/*
 * Counts a job's call until lines_end_call().
 */
void
lines_begin_call(Lines *lines, Line *line, Job *job)
{
	lines_end_call(job);
	lines->n_calls++;
	line->n_calls++;
	job->counted_by = lines;
	job->counted_in = line;
}

/*
 * Takes notice that the job's call is over, if it was counted.
 */
void
lines_end_call(Job *job)
{
	if (job->counted_by == NULL)
		return;
	job->counted_by->n_calls--;
	job->counted_in->n_calls--;
	job->counted_by = NULL;
	job->counted_in = NULL;
}
