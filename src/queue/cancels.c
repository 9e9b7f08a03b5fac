/*
 * cancels.c
 *		Reads, after a restart, the predictions that providers must still
 *		cancel.
 *
 * There may be very many.  So the dispatcher reads a batch for each server,
 * and the next batch when half of it is left.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/hsearch.h"

#include "base/marker.h"
#include "queue/jobrow.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/trouble.h"

#define READ_CANCELS 500  /* a batch */
#define MAX_CANCELS 10000 /* in memory; from then on, a batch is FEW_CANCELS */
#define FEW_CANCELS 20

static bool look_for_servers = true;
static dlist_head unread = DLIST_STATIC_INIT(unread); /* queues with unread cancels */

/*
 * Makes the next queue_read_cancels() look at all servers again.
 */
void
queue_forget_cancels(void)
{
	look_for_servers = true;
}

/*
 * Returns how many cancels to read at a time for each server.
 */
static int
batch_size(void)
{
	return job_count(JOB_CANCELLING) + job_count(JOB_CLAIMED) < MAX_CANCELS ? READ_CANCELS
																			: FEW_CANCELS;
}

static bool
needs_cancels(const ServerQueue *queue)
{
	return queue->n_stored_cancels <= batch_size() / 2;
}

/*
 * True if queue_read_cancels() would read some.
 */
bool
queue_must_read_cancels(void)
{
	dlist_iter iter;

	if (look_for_servers)
		return true;
	dlist_foreach(iter, &unread)
	{
		if (needs_cancels(dlist_container(ServerQueue, unread_node, iter.cur)))
			return true;
	}
	return false;
}

static void
find_servers(void)
{
	Datum args[1] = {CStringGetTextDatum("")};

	while (statement_run(FIND_CANCELLING, args, NULL) > 0)
	{
		ServerQueue *queue = schedule_queue(statement_name(0, 1));

		args[0] = CStringGetTextDatum(NameStr(queue->name));
		queue->cancels_read_to = PG_INT64_MIN;
		if (!queue->has_unread_cancels)
			dlist_push_tail(&unread, &queue->unread_node);
		queue->has_unread_cancels = true;
	}
	look_for_servers = false;
}

/*
 * Lists the ids of jobs that are being cancelled.  job_find() does not find these.
 */
static HTAB *
list_known(void)
{
	static const JobState states[] = {JOB_CANCELLING, JOB_SAVING};
	HASHCTL by_id = {.keysize = sizeof(int64), .entrysize = sizeof(int64)};
	HTAB *known;
	dlist_iter iter;
	int i;

	by_id.hcxt = CurrentMemoryContext;
	known =
		hash_create("genjob known cancels", 1024, &by_id, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (i = 0; i < lengthof(states); i++)
	{
		dlist_foreach(iter, job_list(states[i]))
			(void) hash_search(known, &dlist_container(Job, node, iter.cur)->id, HASH_ENTER, NULL);
	}
	return known;
}

static void
take_cancel_row(uint64 row, ServerQueue *home)
{
	Place none = {NULL, NULL, false, false, 0};
	ErrorData *error;
	Job *job;

	/* it is being put aside */
	if (marker_is_condemned(DatumGetInt64(statement_not_null(row, 1))))
		return;
	if (!jobrow_try(row, true, &job, &error))
	{
		trouble_show_job(TROUBLE_CLAIM, DatumGetInt64(statement_not_null(row, 1)), NULL, error);
		return;
	}
	job_forget_id(job);
	job->is_saved = true;
	job->cancel.stored_at = home;
	home->n_stored_cancels++;
	jobrow_assign(job, jobrow_queue(row, job), none);
}

static void
read_unread(ServerQueue *home, HTAB *known)
{
	int size = batch_size();
	Datum args[3] = {CStringGetTextDatum(NameStr(home->name)), Int64GetDatum(home->cancels_read_to),
					 Int32GetDatum(size)};
	uint64 rows = statement_run(FIND_CANCELS, args, NULL);
	uint64 row;

	for (row = 0; row < rows; row++)
	{
		int64 id = DatumGetInt64(statement_not_null(row, 1));

		home->cancels_read_to = id;
		if (job_find(id) == NULL && hash_search(known, &id, HASH_FIND, NULL) == NULL)
			take_cancel_row(row, home);
	}
	if (rows == size)
		return;
	dlist_delete(&home->unread_node);
	home->has_unread_cancels = false;
}

/*
 * Reads some rows whose predictions must still be cancelled, and makes Jobs of
 * them in the state JOB_CLAIMED.
 */
void
queue_read_cancels(void)
{
	HTAB *known;
	dlist_mutable_iter iter;

	if (look_for_servers)
		find_servers();
	if (!queue_must_read_cancels())
		return;
	schedule_refresh();
	known = list_known();
	dlist_foreach_modify(iter, &unread)
	{
		ServerQueue *queue = dlist_container(ServerQueue, unread_node, iter.cur);

		if (needs_cancels(queue))
			read_unread(queue, known);
	}
	hash_destroy(known);
}
