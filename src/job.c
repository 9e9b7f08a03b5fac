/*
 * job.c
 *		A claimed job in the dispatcher's memory: its one memory context, its list, its way out.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "job.h"
#include "schedule.h"

typedef struct JobEntry
{
	int64 id; /* key */
	Job *job;
} JobEntry;

static dlist_head lists[JOB_STATES] = {
	DLIST_STATIC_INIT(lists[JOB_CLAIMED]),
	DLIST_STATIC_INIT(lists[JOB_CALLING]),
	DLIST_STATIC_INIT(lists[JOB_REPORTING]),
};
static int counts[JOB_STATES];
static HTAB *jobs = NULL;

/*
 * A new job in the state JOB_CLAIMED; all but its id is the caller's to fill in.
 */
Job *
job_create(int64 id)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "genjob job", ALLOCSET_SMALL_SIZES);
	Job *job = MemoryContextAllocZero(context, sizeof(Job));
	JobEntry *entry;

	if (jobs == NULL)
	{
		HASHCTL control = {.keysize = sizeof(int64), .entrysize = sizeof(JobEntry)};

		jobs = hash_create("genjob jobs", 1024, &control, HASH_ELEM | HASH_BLOBS);
	}
	job->context = context;
	job->id = id;
	http_meter_init(&job->meter);
	dlist_push_tail(&lists[JOB_CLAIMED], &job->node);
	counts[JOB_CLAIMED]++;
	entry = hash_search(jobs, &id, HASH_ENTER, NULL);
	entry->job = job;
	return job;
}

/*
 * Ends what the job still has under way and frees it.
 */
void
job_destroy(Job *job)
{
	dlist_delete(&job->node);
	counts[job->state]--;
	hash_search(jobs, &job->id, HASH_REMOVE, NULL);
	if (job->transfer != NULL)
		http_abort(job->transfer);
	if (job->activity != NULL)
		shmem_activity_remove(job->activity);
	if (job->state == JOB_CALLING)
		schedule_call_ended(job->queue);
	server_release(job->server);
	MemoryContextDelete(job->context);
}

/*
 * Moves the job to another state: the only way to do so.  Keeps the server's count of calls.
 */
void
job_enter(Job *job, JobState state)
{
	if (job->state == JOB_CALLING)
		schedule_call_ended(job->queue);
	if (state == JOB_CALLING)
		schedule_call_begun(job->queue);
	dlist_delete(&job->node);
	counts[job->state]--;
	job->state = state;
	dlist_push_tail(&lists[state], &job->node);
	counts[state]++;
}

/*
 * The claimed job of that id, or NULL.
 */
Job *
job_find(int64 id)
{
	JobEntry *entry = jobs ? hash_search(jobs, &id, HASH_FIND, NULL) : NULL;

	return entry ? entry->job : NULL;
}

int
job_count(JobState state)
{
	return counts[state];
}

dlist_head *
job_list(JobState state)
{
	return &lists[state];
}
