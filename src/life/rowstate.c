/*
 * rowstate.c
 *		The values of the type gen_job_state.
 */
#include "postgres.h"

#include "life/rowstate.h"

static const char *const names[ROW_STATES + 1] = {
	[ROW_WAITING] = "waiting",     [ROW_QUEUED] = "queued", [ROW_RUNNING] = "running",
	[ROW_SUCCEEDED] = "succeeded", [ROW_FAILED] = "failed", [ROW_CANCELLED] = "cancelled",
	[ROW_GONE] = "gone",
};

const char *
rowstate_name(RowState state)
{
	return names[state];
}

/*
 * Returns the state with that name.  Raises an error if there is none.
 */
RowState
rowstate_parse(const char *name)
{
	int i;

	for (i = 0; i < ROW_STATES; i++)
	{
		if (strcmp(name, names[i]) == 0)
			return i;
	}
	elog(ERROR, "gen_job_state has no value \"%s\"", name);
}

/*
 * True if a job in that state has ended.
 */
bool
rowstate_is_final(RowState state)
{
	return state == ROW_SUCCEEDED || state == ROW_FAILED || state == ROW_CANCELLED;
}
