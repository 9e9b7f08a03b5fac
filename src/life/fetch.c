/*
 * fetch.c
 *		The step that fetches the stored objects that the request needs as
 *		bytes, before the job is sent.
 *
 * It fetches them into memory one after another, each from its store, with the
 * secrets of the job's owner.  Until all are there, nothing is sent to the
 * job's server, and nothing is paid for.  So a job that must wait for a store
 * goes back into the queue, and its place at the server is free meanwhile.  A
 * missing object fails the job.  A store that refuses is retried for some
 * minutes, and a store that is down for a day, as in store.c.
 *
 * The limits of the store's server apply to the calls.  If that is the job's
 * own server, they use the job's place.
 */
#include "postgres.h"

#include <time.h>

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clip.h"
#include "base/clock.h"
#include "base/memory.h"
#include "life/calls.h"
#include "life/fetch.h"
#include "life/postponed.h"
#include "life/step.h"
#include "life/store.h"
#include "life/storeline.h"
#include "protocol/judge.h"
#include "schedule/schedule.h"
#include "server/storeplace.h"

#define MB ((size_t) 1024 * 1024)
#define MAX_BYTES (512 * MB) /* of all that a request refers to */
#define PLACE_US \
	(10 * USECS_PER_SEC) /* how long a job waits for a place at a store and keeps its own */
#define NO_PLACE_MS 50   /* before the next look for one */
#define NO_PLACE_MAX_MS 1000
#define MAX_SHOWN 200 /* bytes of a URL in an error */

/* An object to fetch. */
typedef struct FetchObject
{
	Reference *reference;   /* gets the bytes */
	ServerQueue *queue;     /* of the store's server */
	Server *server;         /* referenced */
	MappingOptions secrets; /* the job owner's */
	char *bucket;           /* the server may have another one now */
	char *key;
} FetchObject;

typedef struct JobFetch
{
	List *left; /* of FetchObject, the present one first */
	bool is_begun;
	size_t taken;   /* bytes of memory in use, with what has come; the share may reserve more */
	Place place;    /* of the call under way; none, if it uses the job's own place */
	StoreTurn turn; /* its wait for a place */
} JobFetch;

static FetchObject *
current_object(const Job *job)
{
	return job->fetch->left == NIL ? NULL : linitial(job->fetch->left);
}

/* ---------- its life ---------- */

/*
 * Notes that the bytes of reference must be fetched from server.  reference
 * and the strings in *secrets must live as long as the job's submission; bucket
 * and key are copied.  Call it in a transaction.
 */
void
fetch_add(Job *job, Reference *reference, Server *server, const MappingOptions *secrets,
		  const char *bucket, const char *key)
{
	MemoryContext caller = MemoryContextSwitchTo(job->submission.context);
	FetchObject *object = palloc0(sizeof(FetchObject));

	if (job->fetch == NULL)
		job->fetch = palloc0(sizeof(JobFetch));
	object->reference = reference;
	object->queue = schedule_queue(NameStr(server->name));
	object->queue->n_jobs++;
	/* the first use of a store by this process: without its limits it would seem to take no calls */
	if (object->queue->is_stale)
		schedule_refresh();
	object->server = server_hold(server);
	object->secrets = *secrets;
	object->bucket = pstrdup(bucket);
	object->key = pstrdup(key);
	job->fetch->left = lappend(job->fetch->left, object);
	MemoryContextSwitchTo(caller);
}

/*
 * Gives up the job's place at a store, and in its line.
 */
void
fetch_leave_place(Job *job)
{
	if (job->fetch == NULL)
		return;
	storeline_leave_fetch(&job->fetch->turn);
	limits_leave(&job->fetch->place);
}

static void
drop_fetched_object(Job *job, FetchObject *object)
{
	job->fetch->left = list_delete_ptr(job->fetch->left, object);
	object->queue->n_jobs--;
	server_release(object->server);
}

/*
 * Ends all fetching of the job.
 */
void
fetch_close(Job *job)
{
	FetchObject *object;

	if (job->fetch == NULL)
		return;
	fetch_leave_place(job);
	while ((object = current_object(job)) != NULL)
		drop_fetched_object(job, object);
	job->fetch = NULL;
}

/* ---------- what becomes of it ---------- */

static char *
shown_url(const FetchObject *object)
{
	return clip_line(object->reference->url, strlen(object->reference->url), MAX_SHOWN);
}

/*
 * Fails a job whose object cannot be had.  Nothing was sent for it.
 */
static Next
fail_job(Job *job, char *error)
{
	fetch_leave_place(job);
	limits_give_back(&job->place);
	return next_fail(job, error);
}

/*
 * Puts the job back into the queue, for some seconds.
 */
static Next
postpone_job(Job *job, const char *why)
{
	fetch_leave_place(job);
	job->waits_for = pstrdup(why);
	return next_report(postponed_verdict(job));
}

/*
 * Puts the job back into the queue until that many bytes of memory are free.
 * 0: for some seconds.
 */
static Next
put_off_for_memory(Job *job, size_t bytes)
{
	job->wants_memory = bytes;
	return postpone_job(job,
						"the memory for requests is full (genjob.max_memory), so genjob cannot fetch the objects of this request. The job waits for memory.");
}

/*
 * Raises the job's share of memory to that many bytes, unless it is larger.
 * False if other requests leave no room.
 */
static bool
reserve_memory(Job *job, size_t bytes)
{
	MemoryShare *share = job->submission.share;
	size_t had = share ? share->bytes : 0;

	if (bytes <= had)
		return true;
	if (!memory_may_read(bytes - had, share))
		return false;
	memory_hold(&job->submission.share, job->submission.context, MEMORY_REQUESTS,
				&job->queue->requests, bytes);
	return true;
}

/*
 * Handles a call to the store that did not bring the object.
 */
static Next
handle_failure(Job *job, const char *why, bool is_refused)
{
	FetchObject *object = current_object(job);
	TimestampTz now = clock_now();
	char *words = psprintf("%s could not be fetched from the store \"%s\": %s", shown_url(object),
						   NameStr(object->queue->name), why);

	if (object->queue->stats != NULL)
		stats_note_trouble(object->queue->stats, job->id, why, now);
	if (job->put_off_since == 0)
		job->put_off_since = now;
	if (!store_is_worth_a_try(postponed_times(job->id), now - job->put_off_since, is_refused))
		return fail_job(job, words);
	return postpone_job(job,
						psprintf("%s genjob will try again; nothing was sent to the job's server.",
								 words));
}

/*
 * Waits for a place at the store.  After PLACE_US, puts the job back into the
 * queue, which frees its own place.
 */
static Next
wait_for_place(Job *job)
{
	FetchObject *object = current_object(job);
	MonoTime now = clock_mono();
	int64 waited = now - job->fetch->turn.waiting_since;

	if (waited < PLACE_US && storeline_is_open(object->queue))
		return next_wait(STEP_FETCH,
						 now + Min(Max(NO_PLACE_MS, waited / 1000), NO_PLACE_MAX_MS) * 1000);
	return postpone_job(job,
						psprintf("%s must come from the store \"%s\", which takes no call now: see held_reason in genjob.servers. The job waits for the store.",
								 shown_url(object), NameStr(object->queue->name)));
}

/*
 * Begins to fetch the next object, if its store has a place.  Sends the job if
 * no object is left.
 */
static Next
fetch_next_object(Job *job)
{
	FetchObject *object = current_object(job);

	if (object == NULL && job->remote.is_unsent)
		return next_save(STEP_FETCH, palloc0(sizeof(Verdict)));
	if (object == NULL)
	{
		fetch_close(job);
		postponed_forget(job->id);
		/* its time starts now */
		job->started_at = clock_now();
		job->began_at = clock_mono();
		return next_call(STEP_SUBMIT);
	}
	job->fetch->turn.queue = object->queue;
	if (object->queue != job->queue && !storeline_take_turn_to_fetch(job, &job->fetch->turn))
		return wait_for_place(job);
	return next_call(STEP_FETCH);
}

/*
 * Begins to fetch.  A job that once found no memory for its objects reserves what it lacked.
 */
Next
fetch_woken(Job *job)
{
	JobFetch *fetch = job->fetch;
	size_t lacked = postponed_bytes(job->id);

	if (fetch->is_begun)
		return fetch_next_object(job);
	fetch->is_begun = true;
	fetch->taken = job->submission.share ? job->submission.share->bytes : 0;
	return reserve_memory(job, lacked) ? fetch_next_object(job) : put_off_for_memory(job, lacked);
}

/*
 * The row no longer says that nothing was sent.  The job is sent when it is
 * woken, unless this process ends first.
 */
Next
fetch_saved(Job *job)
{
	job->verdict = NULL;
	if (job->write.outcome == WRITE_FENCED)
		return cancel_begin(job);
	job->remote.is_unsent = false;
	return next_wait(STEP_FETCH, clock_mono());
}

/* ---------- the call ---------- */

/*
 * Returns how many more bytes the job may fetch: all that its request refers
 * to may fill half of the memory, as claims may.
 */
static size_t
room_for_bytes(const Job *job)
{
	size_t room = Min(MAX_BYTES, memory_limit() / 2);
	int i;

	for (i = 0; i < job->submission.n_references; i++)
		room -= Min(room, job->submission.references[i].len);
	return room;
}

HttpRequest *
fetch_build(Job *job, char **why)
{
	FetchObject *object = current_object(job);
	RequestSource source = {.options = &object->server->options,
							.secrets = &object->secrets,
							.now_unix = time(NULL)};
	HttpRequest *http;

	if (object->queue != job->queue)
	{
		job->fetch->place = limits_take(&object->queue->limits, clock_mono());
		limits_started(&job->fetch->place);
		source.options = job->fetch->place.backend->options;
	}
	source.options = storeplace_bucket(source.options, object->bucket);
	http = request_get_object(&source, object->key);
	http->max_response = Min(http->max_response, room_for_bytes(job));
	return http;
}

/*
 * Returns what an answer to the call is judged by: the store's options, not
 * the job's server's.
 */
ReplySource
fetch_source(const Job *job)
{
	const FetchObject *object = current_object(job);

	return store_source(object->queue, object->server, &job->fetch->place, &job->call);
}

Next
fetch_unbuilt(Job *job, const char *why, const ErrorData *error)
{
	limits_give_back(&job->fetch->place);
	return handle_failure(job, error ? error->message : why, true);
}

Next
fetch_starved(Job *job)
{
	limits_give_back(&job->fetch->place);
	return put_off_for_memory(job, 0);
}

/*
 * Returns the error that says which limit an object exceeds.
 */
static char *
describe_too_large(const Job *job)
{
	const FetchObject *object = current_object(job);
	size_t room = room_for_bytes(job);
	size_t most = object->server->options.max_response;

	if (most <= room)
		return psprintf("%s is larger than the option max_response of its store's server \"%s\" allows, %zu MB. Raise it, or give a link, where the api takes one (option links_as).",
						shown_url(object), NameStr(object->server->name), most / MB);
	return psprintf("%s is too large to be sent as bytes: a request may have %zu MB of what it refers to, half of genjob.max_memory and at most %zu MB. Raise that, or give a link, where the api takes one (option links_as).",
					shown_url(object), Min(MAX_BYTES, memory_limit() / 2) / MB, MAX_BYTES / MB);
}

/*
 * Keeps what has come, with its memory context, until the request is built.
 */
static void
keep_object(Job *job, const Output *output)
{
	FetchObject *object = current_object(job);
	Reference *reference = object->reference;

	if (object->queue->stats != NULL)
		stats_end_trouble(object->queue->stats, job->id);
	reference->data = output->data != NULL ? output->data : "";
	reference->len = output->len;
	if (reference->content_type == NULL)
		reference->content_type =
			MemoryContextStrdup(job->submission.context, output->content_type);
	calls_keep(job, job->submission.context);
	fetch_leave_place(job);
	drop_fetched_object(job, object);
}

Next
fetch_answered(Job *job, HttpReply *reply)
{
	FetchObject *object = current_object(job);
	StoreAnswer answer =
		store_judge_at(job, object->queue, object->server, &job->fetch->place, &job->call, reply);
	size_t taken;

	if (reply->error == HTTP_TOO_LARGE)
		return fail_job(job, describe_too_large(job));
	if (answer.is_missing)
		return fail_job(job, psprintf("%s is not there, so the job was not sent: %s",
									  shown_url(object), answer.error));
	if (!answer.is_done)
		return handle_failure(job, answer.error, answer.is_refused);
	if (answer.object == NULL)
		return handle_failure(job, "genjob cannot understand its answer.", false);
	taken = job->fetch->taken + memory_body_size(0, answer.object->len);
	if (!reserve_memory(job, taken))
		return put_off_for_memory(job, taken);
	job->fetch->taken = taken;
	keep_object(job, answer.object);
	return fetch_next_object(job);
}

/*
 * Puts a job back into the queue, because this process ends.
 */
Next
fetch_give_back(Job *job)
{
	Verdict *verdict = palloc0(sizeof(Verdict));

	job_end_calls(job);
	verdict->kind = VERDICT_POSTPONE;
	return next_report(verdict);
}
