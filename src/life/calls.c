/*
 * calls.c
 *		A job's calls, one after another, and the memory that each holds.
 *
 * What a call brings stays until the job is done with it: outputs point into the answers they came in.
 * A job that only waits holds nothing of the calls before.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "life/job.h"
#include "schedule/schedule.h"
#include "life/steps.h"
#include "http/url.h"

#define CALL_BLOCK ((Size) 2 * 1024) /* most calls fit into one */

/*
 * Lets go of the present call, and of what it brought unless the verdict points to it.  The current memory
 * context may be the call's; it is the job's afterwards.
 */
void
calls_forget(Job *job)
{
	bool keeps_answer = job->verdict != NULL && job->verdict->outputs != NIL;

	if (CurrentMemoryContext == job->call_context)
		MemoryContextSwitchTo(job->context);
	if (job->call_context != NULL && !keeps_answer)
		MemoryContextDelete(job->call_context);
	job->call_context = NULL;
	job->request_share = job->answer_share = NULL;
	job->transfer = NULL;
	job->spare = NULL;
	if (keeps_answer)
		return;
	job->verdict = NULL;
	memory_unfavour(job);
}

/*
 * Counts what the present call takes of the memory: its request, once it is built.
 */
void
calls_hold_request(Job *job)
{
	memory_hold(&job->request_share, job->call_context, MEMORY_REQUESTS, &job->queue->requests,
				MemoryContextMemAllocated(job->call_context, false));
}

/*
 * The same of what was made of its answer; the answer itself is counted where it is (bytes.c).
 */
void
calls_hold_answer(Job *job)
{
	size_t request = job->request_share ? job->request_share->bytes : 0;
	size_t all = MemoryContextMemAllocated(job->call_context, true);

	memory_hold(&job->answer_share, job->call_context, MEMORY_ANSWERS, NULL,
				all - Min(request, all));
}

/* ---------- secrets ---------- */

static CallsReadSecrets read_in_transaction;

/*
 * Says how to run calls_read_secrets() where no transaction is open: what read raises is its own affair.
 */
void
calls_init(CallsReadSecrets read)
{
	read_in_transaction = read;
}

/*
 * Reads the secrets of a job (arg) again, in a transaction.
 */
void
calls_read_secrets(void *arg)
{
	Job *job = arg;
	MappingOptions secrets = {0};
	ServerComplaint complaint;
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	/* those that cannot be read are no better than the old ones */
	if (server_read_secrets(job->server, job->owner, &secrets, &complaint))
		job->secrets = secrets;
	job->secrets_generation = server_generation();
	MemoryContextSwitchTo(caller);
}

/*
 * Has the next call go with the secrets that there are now, if they may have changed since they were read: a key that
 * was replaced while the provider works is of no use any more.
 */
static void
refresh_secrets(Job *job)
{
	if (job->server == NULL || job->secrets_generation == server_generation())
		return;
	if (IsTransactionState())
		calls_read_secrets(job);
	else
		read_in_transaction(job);
}

/*
 * Has the secrets read again before the next call, for a server did not take them.
 */
void
calls_doubt_secrets(Job *job)
{
	job->secrets_generation = 0;
}

/* ---------- calls ---------- */

/*
 * Makes room for another call, in whose memory context the caller then is to build it.
 */
void
calls_prepare(Job *job)
{
	calls_forget(job);
	refresh_secrets(job);
	job->call_context = GenerationContextCreate(job->context, "genjob call", CALL_BLOCK, CALL_BLOCK,
												ALLOCSET_SMALL_MAXSIZE);
}

/*
 * Shows in genjob.activity what the job does.
 */
void
calls_show(Job *job, ActivityPhase phase)
{
	if (job->activity != NULL)
		pg_atomic_write_u32(&job->activity->phase, phase);
}

/*
 * Begins a call that was built in job->call_context.  False when memory is short.
 */
bool
calls_begin(Job *job, JobStep step, HttpRequest *http)
{
	job->step = step;
	job->http = http;
	job->spare = MemoryContextAllocZero(job->call_context, sizeof(Verdict));
	http->account = &job->queue->answers;
	/* a name that leads elsewhere since must not take our secrets with it */
	if (step != STEP_SUBMIT)
		http->public_only |= job->remote.is_public && !job->remote.is_private;
	job->transfer = http_start(http, job->activity ? &job->activity->meter : &job->meter,
							   job->call_context, job);
	return job->transfer != NULL;
}

/*
 * Whether a URL that an answer gave may be given the server's secrets.
 */
static bool
is_trusted(const Job *job, const char *url)
{
	const ServerOptions *options = job->options;

	return url_is_same_origin(url, options->url) ||
		   url_host_is_allowed(url, options->protocol.allow_hosts);
}

/*
 * Builds a call, in the current memory context, that the provider's own words may lead anywhere: it must not
 * be begun unless it is trusted.  For guard_run(): arg is a Building.
 */
void
calls_build(void *arg)
{
	Building *building = arg;
	RequestSource source = steps_request_source(building->job);

	building->http = NULL;
	building->rest = grammar_read_address(building->text, &building->address);
	building->http = request_follow(&source, &building->job->remote, &building->address);
	building->is_trusted = building->http != NULL && is_trusted(building->job, building->http->url);
}
