/*
 * ended.c
 *		The one door for every way that a row of gen_jobs becomes final.
 *
 * Whoever ends a row calls job_ended() in the same transaction: the dispatcher for what it reports, has expired, can
 * never run or is put aside; sessions, in the triggers of the table, for what is cancelled or deleted.  A job that is
 * queued again does not pass here, nor does a row that comes in final (a restore).  All that follows an end hangs here.
 */
#include "postgres.h"

#include "queue/dependency.h"
#include "queue/ended.h"
#include "shared/commit.h"

/*
 * A row becomes final: from a state in which it had not ended to one in which it has, or to no row.  Those who wait for
 * the job are woken if and when the transaction commits.
 */
void
job_ended(const JobEnd *end)
{
	Assert(!rowstate_is_final(end->from) && end->from != ROW_GONE);
	Assert(rowstate_is_final(end->to) || end->to == ROW_GONE);
	elog(DEBUG1, "genjob: job " INT64_FORMAT " of server \"%s\" ends: %s -> %s", end->id,
		 end->server, rowstate_name(end->from), rowstate_name(end->to));
	commit_note_ended(end->id);
	dependency_note_end(end->id);
}
