/*
 * leftover.c
 *		Uploads that no job continues: tells their stores to abort them and to
 *		delete their parts.
 *
 * There are two kinds.  A job may give up its upload (the job failed, was
 * cancelled, or begins again): we abort it at once, and retry a few times.  Or
 * nobody knows the upload any more: a crash came before its id was in the
 * table, or a restored table does not have it.  A sweep finds these.  While
 * jobs use a store, every SWEEP_US a sweep asks it which uploads are open
 * under the keys of our template, and aborts those that are older than STALE_S
 * and that no job of this dispatcher has.  Both kinds are looked for where they
 * were begun, whatever the options of the store's server say now.
 *
 * The calls have no job.  They use the secrets of the job that gave up the
 * upload or started the sweep, and take places at the store like other calls.
 * Nothing depends on them: the next sweep finds what failed.
 */
#include "postgres.h"

#include <time.h>

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/guard.h"
#include "base/trace.h"
#include "life/calls.h"
#include "life/leftover.h"
#include "life/store.h"
#include "protocol/openupload.h"
#include "protocol/s3upload.h"
#include "protocol/words.h"
#include "schedule/schedule.h"
#include "server/keytemplate.h"

#define MAX_LEFTOVERS 2000 /* known at a time; the next sweep finds more */
#define MAX_TRIES 6
#define MAX_CALLS 4 /* at a time */
#define MAX_STORES 64

/*
 * Between two sweeps of a store.  The first must come after the jobs of an
 * earlier process were taken up.
 */
#define FIRST_SWEEP_US (10 * USECS_PER_MINUTE)
#define SWEEP_US (4 * USECS_PER_HOUR)
#define STALE_S (12 * 3600) /* no upload may take longer */
#define PAST_US (2 * STALE_S * USECS_PER_SEC)

#define UNIX_EPOCH_US ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

static const Backoff again = {1000, 60000}; /* ms */

/* An upload to abort; or, without an id, a store to sweep. */
typedef struct Leftover
{
	Call call; /* its job is NULL */
	dlist_node node;
	MemoryContext context; /* owns this and all below */
	ServerQueue *queue;    /* of the store */
	Server *server;        /* referenced */
	MappingOptions secrets;
	char *key; /* of a sweep: the prefix of keys */
	char *id;
	StorePlace at;  /* where it is; no bucket: where the server's options lead */
	KeyWords words; /* of a sweep */
	Place place;
	HttpMeter meter;
	int failures;
	MonoTime again_at;
} Leftover;

/*
 * When the next sweep of a store is due.  If the store's options change, the
 * place where uploads were begun before is swept for another PAST_US.
 */
typedef struct Sweep
{
	NameData store;
	NameData server; /* whose outputs go there */
	Server *seen;    /* the store's server, with the options of then; referenced */
	MonoTime due;
	MonoTime until; /* 0: seen has the present options */
} Sweep;

static dlist_head leftovers = DLIST_STATIC_INIT(leftovers);
static int n_leftovers = 0;
static int n_calls = 0;
static Sweep sweeps[MAX_STORES];
static int n_sweeps = 0;

/* ---------- their lives ---------- */

static char *
copy_text(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

/*
 * Creates a leftover with the store and the secrets of a job; NULL if there is
 * no room.
 */
static Leftover *
create_leftover(const Job *job, const char *key, const char *id, const StorePlace *at)
{
	const JobStore *store = job->store;
	MemoryContext context;
	MemoryContext caller;
	Leftover *leftover;

	if (store == NULL || store->server == NULL || n_leftovers >= MAX_LEFTOVERS)
		return NULL;
	context = AllocSetContextCreate(TopMemoryContext, "genjob leftover", ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(context);
	leftover = palloc0(sizeof(Leftover));
	leftover->context = context;
	leftover->queue = store->queue;
	leftover->queue->n_jobs++;
	leftover->server = server_hold(store->server);
	leftover->secrets =
		(MappingOptions){.api_key = copy_text(store->secrets.api_key),
						 .headers = copy_text(store->secrets.headers),
						 .access_key_id = copy_text(store->secrets.access_key_id),
						 .secret_access_key = copy_text(store->secrets.secret_access_key),
						 .session_token = copy_text(store->secrets.session_token)};
	leftover->key = pstrdup(key);
	leftover->id = copy_text(id);
	leftover->at = storeplace_copy(at);
	leftover->again_at = clock_mono();
	MemoryContextSwitchTo(caller);
	dlist_push_tail(&leftovers, &leftover->node);
	n_leftovers++;
	return leftover;
}

static void
free_leftover(Leftover *leftover)
{
	dlist_delete(&leftover->node);
	n_leftovers--;
	leftover->queue->n_jobs--;
	server_release(leftover->server);
	MemoryContextDelete(leftover->context);
}

/*
 * Aborts an upload that a job gives up, where it was begun.
 */
void
leftover_add(const Job *job, const char *key, const char *id, const StorePlace *at)
{
	if (create_leftover(job, key, id, at) == NULL)
		ereport(LOG, (errmsg("genjob cannot abort an upload of job " INT64_FORMAT, job->id),
					  errhint("Abort it in the store: s3://%s/%s (upload %s).",
							  at->bucket ? at->bucket : "...", trace_name(key), id)));
}

/* ---------- sweeps ---------- */

static bool
is_sweep_of(const Sweep *sweep, const Job *job)
{
	return strcmp(NameStr(sweep->store), NameStr(job->store->queue->name)) == 0 &&
		   strcmp(NameStr(sweep->server), NameStr(job->server->name)) == 0;
}

/*
 * True if a sweep by the options of a looks at the same uploads as one by
 * those of b.
 */
static bool
are_swept_alike(const Server *a, const Server *b)
{
	StorePlace place = storeplace_of(&a->options);

	return a == b || (storeplace_is_of(&place, b) && strcmp(a->options.key, b->options.key) == 0);
}

/*
 * Marks which sweeps of the job's store are by its present options; adds one
 * if none is, and there is room.
 */
static void
note_present(const Job *job, MonoTime now)
{
	Server *present = job->store->server;
	bool found = false;
	int i;

	for (i = 0; i < n_sweeps; i++)
	{
		Sweep *sweep = &sweeps[i];

		if (!is_sweep_of(sweep, job))
			continue;
		if (are_swept_alike(sweep->seen, present))
		{
			sweep->until = 0;
			found = true;
		}
		else if (sweep->until == 0)
			sweep->until = now + PAST_US;
	}
	if (found || n_sweeps == MAX_STORES)
		return;
	sweeps[n_sweeps] = (Sweep){.store = job->store->queue->name,
							   .server = job->server->name,
							   .seen = server_hold(present),
							   .due = now + FIRST_SWEEP_US};
	n_sweeps++;
}

/*
 * Sweeps a store with the secrets of a job.
 */
static void
begin_sweep(const Job *job, const Sweep *sweep)
{
	KeyWords words = {.server = job->store->server_name, .database = job->store->database_name};
	const ServerOptions *options = &sweep->seen->options;
	StorePlace at = storeplace_of(options);
	Leftover *leftover = create_leftover(job, keytemplate_prefix(options->key, &words), NULL, &at);
	MemoryContext caller;

	if (leftover == NULL)
		return;
	server_release(leftover->server);
	leftover->server = server_hold(sweep->seen);
	caller = MemoryContextSwitchTo(leftover->context);
	leftover->words.server = pstrdup(words.server);
	leftover->words.database = pstrdup(words.database);
	MemoryContextSwitchTo(caller);
}

/*
 * Notes that a job uses its store.  Sweeps the store, if it is time.
 */
void
leftover_note_store(const Job *job)
{
	const JobStore *store = job->store;
	MonoTime now = clock_mono();
	int i;

	if (store == NULL || store->server == NULL || store->server->options.key == NULL)
		return;
	note_present(job, now);
	for (i = n_sweeps - 1; i >= 0; i--)
	{
		Sweep *sweep = &sweeps[i];

		if (!is_sweep_of(sweep, job) || now < sweep->due)
			continue;
		sweep->due = now + SWEEP_US;
		begin_sweep(job, sweep);
		if (sweep->until != 0 && sweep->until < now)
		{
			server_release(sweep->seen);
			*sweep = sweeps[--n_sweeps];
		}
	}
}

/*
 * True if the row of a job of this dispatcher names the upload: then it must not be aborted.
 */
static bool
is_owned(const char *id)
{
	JobState state;
	char *quoted = psprintf("\"%s\"", json_escape(id));

	for (state = 0; state < JOB_STATES; state++)
	{
		dlist_iter iter;

		dlist_foreach(iter, job_list(state))
		{
			const Job *job = dlist_container(Job, node, iter.cur);

			if (job->remote.uploads != NULL && strstr(job->remote.uploads, quoted) != NULL)
				return true;
		}
	}
	return false;
}

static void
abort_found(const Leftover *sweep, const S3Open *open)
{
	JobStore store = {.queue = sweep->queue, .server = sweep->server, .secrets = sweep->secrets};
	Job job = {.store = &store};

	(void) create_leftover(&job, open->key, open->id, &sweep->at);
}

/*
 * Aborts those open uploads of a store that are under our keys and belong to no job.
 */
static void
take_list(const Leftover *sweep, const HttpReply *reply)
{
	int64 now = (clock_now() + UNIX_EPOCH_US) / USECS_PER_SEC;
	const char *pattern = sweep->server->options.key;
	ListCell *cell;

	foreach(cell, s3upload_read_open(reply))
	{
		const S3Open *open = lfirst(cell);

		if (open->begun_unix == 0 || now - open->begun_unix < STALE_S ||
			!keytemplate_may_be(pattern, open->key, &sweep->words) || is_owned(open->id))
			continue;
		trace("upload of %s was left open, and is aborted", trace_name(open->key));
		abort_found(sweep, open);
	}
}

/* ---------- calls ---------- */

/*
 * True if the options of the store's server lead to where the leftover is.
 */
static bool
is_home(const Leftover *leftover)
{
	const Server *server = leftover->queue->limits.server;

	return server != NULL && storeplace_is_of(&leftover->at, server);
}

static void
build_request(void *arg)
{
	Leftover *leftover = arg;
	S3Upload upload = {leftover->key, leftover->id};
	RequestSource source = {.options = leftover->place.backend->options,
							.secrets = &leftover->secrets,
							.now_unix = time(NULL)};
	Call *call = &leftover->call;

	if (!is_home(leftover))
		source.options = storeplace_options(source.options, &leftover->at);
	call->http =
		leftover->id ? s3upload_abort(&source, &upload) : s3upload_list(&source, leftover->key);
	call->transfer = http_start(call->http, &leftover->meter, call->context, call);
}

/*
 * Notes that a call has failed.  Gives up after MAX_TRIES retries: a later
 * sweep may find the upload.
 */
static void
note_failure(Leftover *leftover)
{
	if (leftover->failures++ >= MAX_TRIES)
		free_leftover(leftover);
	else
		leftover->again_at = clock_mono() + backoff_delay(&again, leftover->failures - 1) * 1000;
}

static void
begin_call(Leftover *leftover, MonoTime now)
{
	Call *call = &leftover->call;
	ErrorData *error;

	leftover->place = limits_take(&leftover->queue->limits, now);
	limits_started(&leftover->place);
	call->step = STEP_PART;
	call->context =
		AllocSetContextCreate(leftover->context, "genjob leftover call", ALLOCSET_SMALL_SIZES);
	http_meter_init(&leftover->meter);
	if (calls_run(call, build_request, leftover, &error) && call->transfer != NULL)
	{
		n_calls++;
		return;
	}
	limits_give_back(&leftover->place);
	MemoryContextDelete(call->context);
	call->context = NULL;
	note_failure(leftover);
}

/*
 * Begins the calls that are due, if their stores have places.
 */
void
leftover_work(MonoTime now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &leftovers)
	{
		Leftover *leftover = dlist_container(Leftover, node, iter.cur);

		if (n_calls >= MAX_CALLS)
			break;
		if (leftover->call.transfer != NULL || leftover->again_at > now)
			continue;
		if (limits_room(&leftover->queue->limits, now) > 0)
			begin_call(leftover, now);
		else if (leftover->queue->limits.server == NULL)
			note_failure(leftover); /* dropped, or not looked up yet */
		else
			leftover->again_at = now + USECS_PER_SEC;
	}
}

/*
 * Returns when leftover_work() has something to do; 0: not before a call ends
 * or a leftover is added.
 */
MonoTime
leftover_next(void)
{
	MonoTime next = 0;
	dlist_iter iter;

	if (n_calls >= MAX_CALLS)
		return 0;
	dlist_foreach(iter, &leftovers)
	{
		Leftover *leftover = dlist_container(Leftover, node, iter.cur);

		if (leftover->call.transfer == NULL)
			schedule_note_time(&next, leftover->again_at);
	}
	return next;
}

/* Argument of take_reply(). */
typedef struct Taking
{
	Leftover *leftover;
	const HttpReply *reply;
} Taking;

static void
take_reply(void *arg)
{
	Taking *taking = arg;

	take_list(taking->leftover, taking->reply);
}

/*
 * Handles the end of a call.  An upload that the store does not know is done.
 */
void
leftover_answered(Call *call, HttpReply *reply)
{
	Leftover *leftover = (Leftover *) call;
	Taking taking = {leftover, reply};
	bool is_done = reply->error == HTTP_OK && reply->status >= 200 && reply->status < 300;
	ErrorData *error;

	StaticAssertStmt(offsetof(Leftover, call) == 0, "a call is the beginning of its Leftover");
	trace("leftover %s: status %d", leftover->id ? "upload" : "list", reply->status);
	call->transfer = NULL;
	n_calls--;
	words_mask_reply(call->http, reply);
	if (is_home(leftover))
		limits_note(&leftover->place,
					&(CallEnd){.outcome = limits_outcome(reply), .error = reply->error_text},
					clock_mono());
	limits_leave(&leftover->place);
	if (is_done && leftover->id == NULL)
		(void) calls_run(call, take_reply, &taking, &error);
	MemoryContextDelete(call->context);
	call->context = NULL;
	call->http = NULL;
	if (is_done || (reply->error == HTTP_OK && reply->status == 404))
		free_leftover(leftover);
	else
		note_failure(leftover);
}
