/*
 * job.c
 *		A claimed job in the dispatcher's memory: its memory contexts, its list, its way out.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/trace.h"
#include "life/calls.h"
#include "life/fetch.h"
#include "life/job.h"
#include "life/life.h"
#include "life/store.h"
#include "life/storeline.h"
#include "life/upload.h"
#include "schedule/schedule.h"

/*
 * Tens of thousands of jobs may wait for predictions, so each must fit into
 * its first block.  A chunk larger than a sixteenth of JOB_MAX_BLOCK gets a
 * block of its own: keep sizeof(Job) below that.
 */
#define JOB_BLOCK \
	((Size) 3072) /* a job that waits, its texts and its prediction's name fit into one */
#define JOB_MAX_BLOCK ((Size) 16384)

typedef struct JobEntry
{
	int64 id; /* key */
	Job *job;
} JobEntry;

static dlist_head lists[JOB_STATES] = {
	DLIST_STATIC_INIT(lists[JOB_CLAIMED]),   DLIST_STATIC_INIT(lists[JOB_CALLING]),
	DLIST_STATIC_INIT(lists[JOB_SAVING]),    DLIST_STATIC_INIT(lists[JOB_WAITING]),
	DLIST_STATIC_INIT(lists[JOB_REPORTING]), DLIST_STATIC_INIT(lists[JOB_CANCELLING]),
};
static int counts[JOB_STATES];
static HTAB *jobs = NULL;
static pairingheap *wakes = NULL; /* the job with the earliest alarm on top */

static int
compare_wakes(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Job *left = pairingheap_const_container(Job, wake_node, a);
	const Job *right = pairingheap_const_container(Job, wake_node, b);

	if (left->wake_at == right->wake_at)
		return 0;
	return left->wake_at < right->wake_at ? 1 : -1;
}

static void
create_tables(void)
{
	HASHCTL control = {.keysize = sizeof(int64), .entrysize = sizeof(JobEntry)};
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	jobs = hash_create("genjob jobs", 1024, &control, HASH_ELEM | HASH_BLOBS);
	wakes = pairingheap_allocate(compare_wakes, NULL);
	MemoryContextSwitchTo(caller);
}

/*
 * Creates a job in the state JOB_CLAIMED.  The caller fills in all but its id.
 */
Job *
job_create(int64 id)
{
	MemoryContext context = GenerationContextCreate(TopMemoryContext, "genjob job", JOB_BLOCK,
													ALLOCSET_SMALL_INITSIZE, JOB_MAX_BLOCK);
	Job *job = MemoryContextAllocZero(context, sizeof(Job));
	JobEntry *entry;

	if (jobs == NULL)
		create_tables();
	job->context = context;
	job->submission.context = AllocSetContextCreate(context, "genjob input", ALLOCSET_SMALL_SIZES);
	job->id = id;
	job->call.job = job->beside.job = job;
	http_meter_init(&job->meter);
	dlist_push_tail(&lists[JOB_CLAIMED], &job->node);
	counts[JOB_CLAIMED]++;
	entry = hash_search(jobs, &id, HASH_ENTER, NULL);
	entry->job = job;
	return job;
}

/*
 * Aborts the job's calls and stops its alarm.
 */
void
job_end_calls(Job *job)
{
	if (job->call.transfer != NULL)
		http_abort(job->call.transfer);
	if (job->beside.transfer != NULL)
		http_abort(job->beside.transfer);
	calls_end(&job->call);
	calls_end(&job->beside);
	upload_end_calls(job);
	lines_end_call(&job->waiter);
	job_stop_waking(job);
}

/*
 * Removes the job from the table of ids, so that another attempt may have its id.
 */
void
job_forget_id(Job *job)
{
	if (job_find(job->id) == job)
		hash_search(jobs, &job->id, HASH_REMOVE, NULL);
}

/*
 * Aborts the job's calls and frees the job.
 */
void
job_destroy(Job *job)
{
	job_end_calls(job);
	limits_leave(&job->place);
	store_close(job);
	fetch_close(job);
	Assert(counts[job->state] > 0 && (job->queue == NULL || job->queue->n_jobs > 0));
	if (job->queue != NULL)
		job->queue->n_jobs--;
	if (job->cancel.stored_at != NULL)
		job->cancel.stored_at->n_stored_cancels--;
	dlist_delete(&job->node);
	counts[job->state]--;
	job_forget_id(job);
	if (job->activity != NULL)
		shmem_activity_remove(job->activity);
	server_release(job->server);
	MemoryContextDelete(job->context);
	memory_unfavour(&job->call);
}

/* ---------- the door ---------- */

#ifdef USE_ASSERT_CHECKING

#define BIT(n) (UINT32_C(1) << (n))
/* The steps of a job whose row is running. */
#define RUNNING_STEPS (BIT(JOB_STEPS) - 1 - BIT(STEP_CANCEL) - BIT(STEP_PART) - BIT(STEP_PROGRESS))

/* The steps that each state may have. */
static const struct
{
	uint32 steps;
	uint32 from; /* the states from which a job may come */
} legal[JOB_STATES] = {
	[JOB_CLAIMED] = {BIT(STEP_SUBMIT), 0},
	[JOB_CALLING] = {RUNNING_STEPS,
					 BIT(JOB_CLAIMED) | BIT(JOB_CALLING) | BIT(JOB_SAVING) | BIT(JOB_WAITING)},
	[JOB_SAVING] = {RUNNING_STEPS | BIT(STEP_CANCEL),
					BIT(JOB_CLAIMED) | BIT(JOB_CALLING) | BIT(JOB_WAITING) | BIT(JOB_CANCELLING)},
	[JOB_WAITING] = {RUNNING_STEPS - BIT(STEP_SUBMIT),
					 BIT(JOB_CLAIMED) | BIT(JOB_CALLING) | BIT(JOB_SAVING) | BIT(JOB_WAITING)},
	[JOB_REPORTING] = {RUNNING_STEPS,
					   BIT(JOB_CLAIMED) | BIT(JOB_CALLING) | BIT(JOB_SAVING) | BIT(JOB_WAITING)},
	[JOB_CANCELLING] = {BIT(STEP_CANCEL), BIT(JOB_STATES) - 1},
};

/*
 * True if the job may go to that state and step.  A job whose prediction is being cancelled never does anything else.
 */
static bool
may_enter(const Job *job, JobState state, JobStep step)
{
	if (job->step == STEP_CANCEL && step != STEP_CANCEL)
		return false;
	return (legal[state].steps & BIT(step)) != 0 && (legal[state].from & BIT(job->state)) != 0;
}

#endif

static void
trace_enter(const Job *job, JobState state, JobStep step)
{
	static const char *const names[JOB_STATES] = {
		[JOB_CLAIMED] = "claimed", [JOB_CALLING] = "calling",     [JOB_SAVING] = "saving",
		[JOB_WAITING] = "waiting", [JOB_REPORTING] = "reporting", [JOB_CANCELLING] = "cancelling",
	};

	trace("job " INT64_FORMAT " attempt %d: %s %s -> %s %s%s", job->id, job->attempt,
		  names[job->state], life_step_name(job->step), names[state], life_step_name(step),
		  state == JOB_SAVING && job->remote.id
			  ? psprintf(", named \"%s\"", trace_name(job->remote.id))
			  : "");
}

/*
 * Moves the job to another state and step.  No other function does.  A job
 * whose calls are over, or only cancel, leaves its place at the server.
 */
void
job_enter(Job *job, JobState state, JobStep step)
{
	Assert(may_enter(job, state, step));
	trace_enter(job, state, step);
	if (state == JOB_SAVING)
		storeline_step_out(job);
	else if (state == JOB_REPORTING || state == JOB_CANCELLING)
		storeline_leave(job);
	if (state != job->state && (state == JOB_REPORTING || state == JOB_CANCELLING))
	{
		limits_leave(&job->place);
		store_leave_place(job);
		fetch_leave_place(job);
	}
	dlist_delete(&job->node);
	counts[job->state]--;
	job->state = state;
	job->step = step;
	dlist_push_tail(&lists[state], &job->node);
	counts[state]++;
}

/*
 * Moves the job to the end of the list of its state.
 */
void
job_requeue(Job *job)
{
	dlist_delete(&job->node);
	dlist_push_tail(&lists[job->state], &job->node);
}

/*
 * Returns the job with that id, or NULL.
 */
Job *
job_find(int64 id)
{
	JobEntry *entry = jobs ? hash_search(jobs, &id, HASH_FIND, NULL) : NULL;

	return entry ? entry->job : NULL;
}

/*
 * Returns the job that contains waiter.
 */
Job *
job_of_waiter(LineWaiter *waiter)
{
	return (Job *) ((char *) waiter - offsetof(Job, waiter));
}

int
job_count(JobState state)
{
	return counts[state];
}

/*
 * True if nothing of the job was sent: its request is not built yet.
 */
bool
job_is_unsent(const Job *job)
{
	return job->request != NULL &&
		   (job->state == JOB_CLAIMED || (job->state == JOB_CALLING && job->step == STEP_SUBMIT));
}

int
job_count_in_flight(void)
{
	return counts[JOB_CALLING] + counts[JOB_SAVING] + counts[JOB_WAITING];
}

dlist_head *
job_list(JobState state)
{
	return &lists[state];
}

/* ---------- alarms ---------- */

/*
 * Sets the job's alarm, in place of an earlier one or of its place in a line.
 */
void
job_wake_at(Job *job, MonoTime when)
{
	Assert(job->state == JOB_CALLING || job->state == JOB_WAITING || job->state == JOB_CANCELLING);
	job_stop_waking(job);
	job->wake_at = when;
	job->is_waking = true;
	pairingheap_add(wakes, &job->wake_node);
}

void
job_stop_waking(Job *job)
{
	if (job->is_waking)
		pairingheap_remove(wakes, &job->wake_node);
	job->is_waking = false;
	lines_leave(&job->waiter);
}

/*
 * Returns the job with the earliest alarm, or NULL.
 */
Job *
job_next_to_wake(void)
{
	if (wakes == NULL || pairingheap_is_empty(wakes))
		return NULL;
	return pairingheap_container(Job, wake_node, pairingheap_first(wakes));
}
