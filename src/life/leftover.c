/*
 * leftover.c
 *		Uploads that no job continues: tells their stores to abort them and to
 *		delete their parts.
 *
 * There are three kinds.  A job may give up its upload (the job failed, was
 * cancelled, or begins again): we abort it at once, and retry until a sweep
 * would find it.  A job may end that has not learned the ids of all its
 * uploads: the answer to their beginning was lost, or the process that knew
 * them.  We ask the store which uploads are open under the job's keys.  Or
 * nobody knows the upload and its job any more: a restored table does not have
 * them.  A sweep finds these (sweeps.c says when): it asks a store which
 * uploads are open under the keys of our template, and aborts those that are
 * older than LEFTOVER_STALE_S and that no job of this dispatcher has.  Uploads
 * are looked for where they were begun, whatever the options of the store's
 * server say now.
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
#include "life/rowuploads.h"
#include "life/store.h"
#include "protocol/openupload.h"
#include "protocol/s3upload.h"
#include "protocol/words.h"
#include "schedule/schedule.h"
#include "server/keytemplate.h"

#define MAX_LEFTOVERS 2000              /* known at a time; the next sweep finds more */
#define MAX_TRIES 6                     /* of a sweep */
#define MAX_CALLS 4                     /* at a time */
#define MAX_PAGES 1000                  /* of a list */
#define PAGE 1000                       /* uploads that a page may bring, at most */
#define CROWDED_US (10 * USECS_PER_SEC) /* before another look whether there is room for a page */

#define GIVE_UP_US (LEFTOVER_STALE_S * USECS_PER_SEC) /* from then on a sweep finds it */

/*
 * How long a look for the uploads of a job waits, for the job's end or after
 * the look before.  A store may do later what the job has asked for last, and
 * its lists may be older than that.
 */
static const MonoTime looks_us[] = {2 * USECS_PER_SEC, 20 * USECS_PER_SEC, 5 * USECS_PER_MINUTE};

#define UNIX_EPOCH_US ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

static const Backoff again = {1000, 600000}; /* ms */

/* An upload to abort; or, without an id, a store to sweep, or to ask for the uploads of a job. */
typedef struct Leftover
{
	Call call; /* its job is NULL */
	dlist_node node;
	MemoryContext context; /* owns this and all below */
	ServerQueue *queue;    /* of the store */
	Server *server;        /* referenced */
	Oid owner;             /* whose secrets these are */
	MappingOptions secrets;
	uint64 secrets_generation; /* as in Job */
	char *key;                 /* without an id: the prefix of keys */
	char *id;
	StorePlace at;  /* where it is; no bucket: where the server's options lead */
	KeyWords words; /* without an id */
	S3Upload after; /* without an id: where the next page of the list begins */
	int pages;      /* of the list that were read */
	int looks;      /* that have found all uploads of a job */
	MonoTime since;
	Place place;
	HttpMeter meter;
	int failures;
	MonoTime again_at;
} Leftover;

static dlist_head leftovers = DLIST_STATIC_INIT(leftovers);
static int n_leftovers = 0;
static int n_calls = 0;
static bool is_leaving = false;

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
	leftover->owner = job->owner;
	leftover->secrets_generation = server_generation();
	leftover->secrets =
		(MappingOptions){.api_key = copy_text(store->secrets.api_key),
						 .headers = copy_text(store->secrets.headers),
						 .access_key_id = copy_text(store->secrets.access_key_id),
						 .secret_access_key = copy_text(store->secrets.secret_access_key),
						 .session_token = copy_text(store->secrets.session_token)};
	leftover->key = pstrdup(key);
	leftover->id = copy_text(id);
	leftover->at = storeplace_copy(at);
	leftover->again_at = leftover->since = clock_mono();
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
		rowuploads_log_left(job->id, key, id, at);
}

/* ---------- the uploads of a job ---------- */

/*
 * Copies the words of a leftover's keys into its memory context.
 */
static void
set_words(Leftover *leftover, const KeyWords *words)
{
	MemoryContext caller = MemoryContextSwitchTo(leftover->context);

	leftover->words = *words;
	leftover->words.server = pstrdup(words->server);
	leftover->words.database = pstrdup(words->database);
	leftover->words.owner = copy_text(words->owner);
	leftover->words.tenant = copy_text(words->tenant);
	MemoryContextSwitchTo(caller);
}

/*
 * Aborts the uploads of a job that has none any more: those that its row
 * names, and those that it may have begun without learning their ids.  Forgets
 * the ids that it knows.
 */
void
leftover_seek(Job *job)
{
	JobStore *store = job->store;
	const char *pattern = store && store->server ? store->server->options.key : NULL;
	KeyWords words = {.job = job->id, .tenant = job->tenant ? job->tenant : "", .of_job = true};
	bool may_look =
		pattern != NULL && keytemplate_names_job(pattern); /* else others have its key */
	Leftover *leftover;

	if ((store == NULL || store->unnamed == 0) && job->remote.uploads == NULL)
		return;
	if (store != NULL)
	{
		store->unnamed = 0;
		words.server = store->server_name;
		words.database = store->database_name;
		words.owner = store->owner_name;
	}
	rowuploads_abort(job, may_look ? &words : NULL);
	job->remote.uploads = NULL;
	if (!may_look)
		return;
	leftover = create_leftover(job, keytemplate_prefix(pattern, &words), NULL, &(StorePlace){NULL});
	if (leftover == NULL)
		return;
	set_words(leftover, &words);
	leftover->again_at += is_leaving ? 0 : looks_us[0];
}

/*
 * True if the job runs again, and will look for its uploads itself.
 */
static bool
runs_again(const Leftover *leftover)
{
	const Job *job = job_find(leftover->words.job);

	return leftover->words.of_job && job != NULL && job->store != NULL && job->store->unnamed > 0;
}

/*
 * Ends a look for the uploads of a job.  There is another one later.
 */
static void
end_look(Leftover *leftover)
{
	leftover->failures = 0;
	if (++leftover->looks == lengthof(looks_us))
		free_leftover(leftover);
	else
		leftover->again_at = clock_mono() + looks_us[leftover->looks];
}

static bool
is_of_job(const Leftover *leftover)
{
	return leftover->id != NULL || leftover->words.of_job;
}

/*
 * Looks for the uploads of jobs at once, because this process is to end.
 */
void
leftover_hurry(void)
{
	dlist_iter iter;

	is_leaving = true;
	dlist_foreach(iter, &leftovers)
	{
		Leftover *leftover = dlist_container(Leftover, node, iter.cur);

		if (is_of_job(leftover) && leftover->failures == 0)
			leftover->again_at = clock_mono();
	}
}

/*
 * Returns how many leftovers this process must not leave now.  A store that
 * fails is not waited for.
 */
int
leftover_count_unfinished(void)
{
	int n = 0;
	dlist_iter iter;

	dlist_foreach(iter, &leftovers)
	{
		const Leftover *leftover = dlist_container(Leftover, node, iter.cur);

		n += is_of_job(leftover) && leftover->failures == 0 && leftover->looks == 0;
	}
	return n;
}

/* ---------- sweeps ---------- */

/*
 * Sweeps a job's store with the job's secrets, where the options of seen lead.
 */
void
leftover_sweep(const Job *job, Server *seen)
{
	KeyWords words = {.server = job->store->server_name, .database = job->store->database_name};
	StorePlace at = storeplace_of(&seen->options);
	Leftover *leftover =
		create_leftover(job, keytemplate_prefix(seen->options.key, &words), NULL, &at);

	if (leftover == NULL)
		return;
	server_release(leftover->server);
	leftover->server = server_hold(seen);
	set_words(leftover, &words);
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
	Job job = {.store = &store, .owner = sweep->owner};

	(void) create_leftover(&job, open->key, open->id, &sweep->at);
}

/*
 * True if an open upload is old enough that no job can be at work on it.
 */
static bool
is_stale(const S3Open *open)
{
	int64 now = (clock_now() + UNIX_EPOCH_US) / USECS_PER_SEC;

	return open->begun_unix != 0 && now - open->begun_unix >= LEFTOVER_STALE_S;
}

/*
 * Sets where the next page of a list begins.  A store that gives the same page
 * again has no more.
 */
static void
set_page(Leftover *sweep, const S3Upload *after)
{
	const S3Upload before = sweep->after;
	MemoryContext caller = MemoryContextSwitchTo(sweep->context);
	bool is_same = before.key != NULL && after->key != NULL &&
				   strcmp(before.key, after->key) == 0 &&
				   strcmp(before.id ? before.id : "", after->id ? after->id : "") == 0;

	sweep->after = (S3Upload){NULL};
	if (!is_same && ++sweep->pages < MAX_PAGES)
		sweep->after = (S3Upload){copy_text(after->key), copy_text(after->id)};
	if (sweep->after.key == NULL)
		sweep->pages = 0;
	MemoryContextSwitchTo(caller);
	if (before.key != NULL)
		pfree(unconstify(char *, before.key));
	if (before.id != NULL)
		pfree(unconstify(char *, before.id));
}

/*
 * Aborts those open uploads of a page of a list that are under our keys and
 * belong to no job.
 */
static void
take_list(Leftover *sweep, const HttpReply *reply)
{
	const char *pattern = sweep->server->options.key;
	S3Upload after;
	ListCell *cell;

	foreach(cell, s3upload_read_open(reply, &after))
	{
		const S3Open *open = lfirst(cell);

		if (!(sweep->words.of_job || is_stale(open)) ||
			!keytemplate_may_be(pattern, open->key, &sweep->words) || is_owned(open->id))
			continue;
		trace("upload of %s was left open, and is aborted", trace_name(open->key));
		abort_found(sweep, open);
	}
	set_page(sweep, &after);
}

/*
 * True if a leftover asks for another page, and there may be no room for what
 * that brings.
 */
static bool
is_crowded(const Leftover *leftover)
{
	return leftover->after.key != NULL && n_leftovers + PAGE > MAX_LEFTOVERS;
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
	call->http = leftover->id ? s3upload_abort(&source, &upload)
							  : s3upload_list(&source, leftover->key, &leftover->after);
	call->transfer = http_start(call->http, &leftover->meter, call->context, call);
}

/*
 * Notes that a call has failed.  Gives up when a sweep may find the upload.
 */
static void
note_failure(Leftover *leftover)
{
	if (leftover->failures++ >= MAX_TRIES &&
		(!is_of_job(leftover) || clock_mono() - leftover->since >= GIVE_UP_US))
		free_leftover(leftover);
	else
		leftover->again_at = clock_mono() + backoff_delay(&again, leftover->failures - 1) * 1000;
}

/*
 * Reads the secrets of a leftover (arg) again, if its store is still there.
 * Call it in a transaction.
 */
static void
read_secrets(void *arg)
{
	Leftover *leftover = arg;
	MemoryContext caller = MemoryContextSwitchTo(leftover->context);
	MappingOptions secrets = {0};
	ServerComplaint complaint;
	Server *server = server_get(NameStr(leftover->queue->name), &complaint);

	/* if they cannot be read, keep the old ones */
	if (server != NULL && server->oid == leftover->server->oid &&
		server_check_role(server, leftover->owner, &complaint) &&
		server_read_secrets(server, leftover->owner, &secrets, &complaint))
		leftover->secrets = secrets;
	leftover->secrets_generation = server_generation();
	MemoryContextSwitchTo(caller);
}

static void
begin_call(Leftover *leftover, MonoTime now)
{
	Call *call = &leftover->call;
	ErrorData *error;

	if (leftover->secrets_generation != server_generation())
		calls_transact(read_secrets, leftover);
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
		if (is_crowded(leftover))
			leftover->again_at = now + CROWDED_US;
		else if (limits_room(&leftover->queue->limits, now) > 0)
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
	if (reply->status == 401 || reply->status == 403)
		leftover->secrets_generation = 0;
	if (is_home(leftover))
		limits_note(&leftover->place,
					&(CallEnd){.outcome = limits_outcome(reply), .error = reply->error_text},
					clock_mono());
	limits_leave(&leftover->place);
	if (is_done && leftover->id == NULL && runs_again(leftover))
		set_page(leftover, &(S3Upload){NULL});
	else if (is_done && leftover->id == NULL)
		is_done = calls_run(call, take_reply, &taking, &error);
	MemoryContextDelete(call->context);
	call->context = NULL;
	call->http = NULL;
	if (is_done && leftover->after.key != NULL)
		leftover->failures = 0; /* there is another page */
	else if (is_done && leftover->words.of_job)
		end_look(leftover);
	else if (is_done || (reply->error == HTTP_OK && reply->status == 404))
		free_leftover(leftover);
	else
		note_failure(leftover);
}
