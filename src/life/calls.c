/*
 * calls.c
 *		A job's calls, one after another, and the memory of each.
 *
 * What a call brings stays until the job is done with it: outputs point into
 * the answers they came in.  A job that only waits keeps nothing of earlier
 * calls.
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/guard.h"
#include "base/marker.h"
#include "life/calls.h"
#include "life/fetch.h"
#include "life/step.h"
#include "life/store.h"
#include "protocol/awsjson.h"
#include "schedule/schedule.h"
#include "http/url.h"

#define CALL_BLOCK ((Size) 2 * 1024) /* most calls fit into one */

/* ---------- secrets ---------- */

static CallsReadSecrets read_in_transaction;

/*
 * Sets the function that reads secrets where no transaction is open.  It must catch its own errors.
 */
void
calls_init(CallsReadSecrets read)
{
	read_in_transaction = read;
}

/*
 * Runs read(arg), which reads secrets, in a transaction.  Errors are caught
 * unless one is open already.
 */
void
calls_transact(void (*read)(void *arg), void *arg)
{
	if (IsTransactionState())
		read(arg);
	else
		read_in_transaction(read, arg);
}

/*
 * Reads the secrets of a job (arg) again, in a transaction.
 */
static void
read_secrets_of(void *arg)
{
	Job *job = arg;
	MappingOptions secrets = {0};
	ServerComplaint complaint;
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	/* if they cannot be read, keep the old ones */
	if (server_read_secrets(job->server, job->owner, &secrets, &complaint))
		job->secrets = secrets;
	if (job->store != NULL)
		store_read(job);
	job->secrets_generation = server_generation();
	MemoryContextSwitchTo(caller);
}

/*
 * Reads the secrets again before the next call, if they may have changed: a
 * replaced key may no longer work.
 */
void
calls_refresh(Job *job)
{
	if (job->server == NULL || job->secrets_generation == server_generation())
		return;
	calls_transact(read_secrets_of, job);
}

/*
 * Marks the secrets for reading again before the next call, because a server refused them.
 */
void
calls_doubt_secrets(Job *job)
{
	job->secrets_generation = 0;
}

/* ---------- building ---------- */

/*
 * Returns what the job's requests are built from; points into the job.
 */
RequestSource
calls_request_source(const Job *job)
{
	RequestSource source = {
		.options = job->options,
		.secrets = &job->secrets,
		.request = job->request,
		.inputs = job->submission.inputs,
		.n_inputs = job->submission.n_inputs,
		.references = job->submission.references,
		.n_references = job->submission.n_references,
		.link_secrets = job->link_secrets,
		.idempotency_key = job->idempotency_key,
		.token = job->submission.token,
		.tenant = job->tenant,
		.sent_bucket = job->submission.sent_bucket,
		.job = job->id,
		.is_literal = job->depth > 0,
		.now_unix = time(NULL),
	};

	return source;
}

/*
 * True if a URL from an answer may get the server's secrets.
 */
static bool
is_trusted(const Job *job, const char *url)
{
	const ServerOptions *options = job->options;

	return url_is_same_origin(url, options->url) ||
		   url_host_is_allowed(url, options->protocol.allow_hosts);
}

/*
 * Builds a call to the first address in text.  The provider's own words may point anywhere, so the caller must not
 * begin the call unless it is trusted.  May raise an error.
 */
AddressedCall
calls_build(const Job *job, const char *text)
{
	AddressedCall call = {NULL};
	RequestSource source = calls_request_source(job);

	call.rest = grammar_read_address(text, &call.address);
	call.http = request_follow(&source, &job->remote, &call.address);
	call.is_trusted = call.http != NULL && is_trusted(job, call.http->url);
	return call;
}

/*
 * Frees what only the submission needs.
 */
void
calls_forget_input(Job *job)
{
	if (job->submission.context == NULL)
		return;
	fetch_close(job);
	MemoryContextDelete(job->submission.context);
	job->submission.context = NULL;
	job->submission.share = NULL;
	job->request = NULL;
	job->submission.inputs = NULL;
	job->submission.n_inputs = 0;
	job->submission.references = NULL;
	job->submission.n_references = 0;
	job->submission.sent_bucket = NULL;
}

/*
 * Counts the memory of the present call's request, once it is built.
 */
void
calls_hold_request(Job *job)
{
	memory_hold(&job->request_share, job->call.context, MEMORY_REQUESTS, &job->queue->requests,
				MemoryContextMemAllocated(job->call.context, true));
}

/*
 * Counts the memory of what was made from the answer.  The answer itself is counted by bytes.c.
 */
void
calls_hold_answer(Job *job)
{
	size_t request = job->request_share ? job->request_share->bytes : 0;
	size_t all = MemoryContextMemAllocated(job->call.context, true);

	memory_hold(&job->answer_share, job->call.context, MEMORY_ANSWERS, NULL,
				all - Min(request, all));
}

/* ---------- calls ---------- */

/*
 * Frees the present call, and what it brought unless the verdict points to it.
 */
void
calls_forget(Job *job)
{
	bool keeps_answer = job->verdict != NULL && job->verdict->outputs != NIL;

	Assert(job->call.context == NULL || CurrentMemoryContext != job->call.context);
	Assert(job->call.transfer == NULL);
	if (job->call.context != NULL && !keeps_answer)
		MemoryContextDelete(job->call.context);
	job->call.context = NULL;
	job->call.http = NULL;
	job->call.peek = NULL;
	job->request_share = job->answer_share = NULL;
	job->spare = NULL;
	if (keeps_answer)
		return;
	job->verdict = NULL;
	memory_unfavour(&job->call); /* the owner that http_start() got */
}

/*
 * Keeps the present call, and all that it brought, as long as owner lives.
 */
void
calls_keep(Job *job, MemoryContext owner)
{
	Assert(job->call.transfer == NULL && job->verdict == NULL);
	MemoryContextSetParent(job->call.context, owner);
	job->call.context = NULL;
	calls_forget(job);
}

static void
prepare_call(void *arg)
{
	Call *call = arg;
	Job *job = call->job;

	if (call == &job->beside)
	{
		if (call->context == NULL)
			call->context =
				AllocSetContextCreate(job->context, "genjob progress", ALLOCSET_SMALL_SIZES);
		return;
	}
	Assert(call == &job->call);
	calls_forget(job);
	calls_refresh(job);
	call->context = GenerationContextCreate(job->context, "genjob call", CALL_BLOCK, CALL_BLOCK,
											ALLOCSET_SMALL_MAXSIZE);
}

/*
 * Frees the previous call, reads the secrets again if they changed, and
 * creates the call's memory context.  False when memory is short.
 */
bool
calls_prepare(Call *call, JobStep step)
{
	ErrorData *error;

	Assert(call->transfer == NULL);
	call->step = step;
	call->peek = NULL;
	return guard_try(prepare_call, call, &error);
}

/*
 * Runs work in the memory context of a call.  False if work raised an error;
 * *error is then in that context.
 */
bool
calls_run(Call *call, void (*work)(void *arg), void *arg, ErrorData **error)
{
	MemoryContext caller = MemoryContextSwitchTo(call->context);
	bool succeeded = guard_try(work, arg, error);

	MemoryContextSwitchTo(caller);
	return succeeded;
}

/*
 * Like calls_run(), but after an error all memory that work took is freed.
 */
bool
calls_run_apart(Call *call, void (*work)(void *arg), void *arg, ErrorData **error)
{
	MemoryContext caller = MemoryContextSwitchTo(call->context);
	bool succeeded = guard_try_apart(work, arg, error);

	MemoryContextSwitchTo(caller);
	return succeeded;
}

/* Argument of settle_status(). */
typedef struct Settling
{
	const ServerOptions *options;
	HttpReply *reply;
} Settling;

static void
settle_status(void *arg)
{
	Settling *settling = arg;

	awsjson_read_status(settling->options, settling->reply);
}

/*
 * Sets the status that the body of an answer means, if the server's protocol
 * sends one status for most errors.
 */
void
calls_read_status(Call *call, HttpReply *reply)
{
	Settling settling = {call->job->options, reply};
	ErrorData *error;

	if (settling.options == NULL || !awsjson_types_count(settling.options) || call->http == NULL ||
		call->http->is_download)
		return;
	(void) calls_run(call, settle_status, &settling, &error);
}

static void
begin_transfer(void *arg)
{
	Call *call = arg;
	Job *job = call->job;
	HttpMeter *meter = &job->meter;

	if (call == &job->call)
	{
		job->spare = MemoryContextAllocZero(call->context, sizeof(Verdict));
		call->http->account = &job->queue->answers;
		if (job->activity != NULL)
			meter = &job->activity->meter;
	}
	/* a host name that now has a private address must not get our secrets */
	if (call->step != STEP_SUBMIT && call->step != STEP_STORE && call->step != STEP_FETCH)
		call->http->public_only |= job->remote.is_public && !job->remote.is_private;
	call->transfer = http_start(call->http, meter, call->context, call);
}

/*
 * Begins a call, built in its memory context.  False when memory is short.
 */
bool
calls_begin(Call *call, HttpRequest *http)
{
	ErrorData *error;

	Assert(call->transfer == NULL);
	call->http = http;
	if (!guard_try(begin_transfer, call, &error) || call->transfer == NULL)
		return false;
	if (steps_table[call->step].counts_crashes)
		call->noted = marker_begin_call(call->job->id, call->job->attempt, call->step);
	return true;
}

/*
 * Notes that a call is not under way any more.
 */
void
calls_end(Call *call)
{
	call->transfer = NULL;
	marker_end_call(call->noted);
	call->noted = 0;
}

/* ---------- what is shown ---------- */

/*
 * Shows the job in genjob.activity from now on.
 */
void
calls_appear(Job *job)
{
	if (job->activity == NULL)
		job->activity =
			shmem_activity_add(job->owner, job->id, job->attempt, NameStr(job->queue->name));
}

void
calls_show(Job *job, ActivityPhase phase)
{
	if (job->activity != NULL)
		pg_atomic_write_u32(&job->activity->phase, phase);
}

/*
 * Shows the progress of a prediction, from 0 to 1.  Negative: not known.
 */
void
calls_show_progress(Job *job, double progress)
{
	if (job->activity != NULL && progress >= 0)
		pg_atomic_write_u64(&job->activity->progress, (uint64) (progress * 1000000));
}

/* A look at a stream while it arrives. */
typedef struct Look
{
	Call *call;
	const char *body;
	size_t len;
} Look;

static void
show_stream(void *arg)
{
	Look *look = arg;
	Call *call = look->call;
	char *text;

	if (call->peek == NULL)
		call->peek = stream_peek_begin(&call->job->options->protocol);
	stream_peek(call->peek, look->body, look->len);
	if (stream_peek_pieces(call->peek) == 0)
		return;
	text = stream_peek_text(call->peek, call->http);
	shmem_activity_show(call->job->activity, text, stream_peek_pieces(call->peek));
}

/*
 * Shows the last text of streams in genjob.activity, if it is time to.  Leaves
 * out text that cannot be shown: no job depends on it.
 */
void
calls_show_streams(void)
{
	Look look;
	void *tag;

	while (http_take_stream(&tag, &look.body, &look.len))
	{
		ErrorData *error;

		look.call = tag;
		if (look.call->job != NULL && look.call == &look.call->job->call &&
			look.call->job->activity != NULL && look.call->job->options != NULL)
			(void) calls_run(look.call, show_stream, &look, &error);
	}
}
