/*
 * store.c
 *		The step that puts the outputs of an answer into their object store.
 *
 * An output of more than 8 MB goes there in parts (upload.c).
 *
 * A job succeeds only after the store has confirmed all outputs.  They were
 * paid for: as soon as the store fails, or has no place for a second, the
 * verdict is saved in the table.  From then on a crash costs only another try.
 * A store that is down is retried for a day.  A store that refuses is retried
 * for some minutes, because somebody may correct a key or a permission; then
 * the job fails, with its outputs in the table.
 *
 * The limits of the store's server apply to the calls: places, rate, breaker,
 * holds.  The job leaves its place at its own server first.
 */
#include "postgres.h"

#include <time.h>

#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/guard.h"
#include "base/media.h"
#include "life/calls.h"
#include "life/cuts.h"
#include "life/step.h"
#include "life/store.h"
#include "life/storeline.h"
#include "life/sweeps.h"
#include "life/upload.h"
#include "life/verdict.h"
#include "protocol/openupload.h"
#include "protocol/saved.h"
#include "schedule/schedule.h"
#include "server/keytemplate.h"
#include "server/stores.h"

#define UNSAVED_US USECS_PER_SEC /* how long a verdict may wait for a place without being saved */
#define NO_PLACE_MS 50           /* before the next look for one */
#define NO_PLACE_MAX_MS 1000
#define LOOK_AGAIN_MS 10000 /* at an upload with calls under way; their ends move it on earlier */
#define AGAIN_MS 500        /* after a failure, before a part is sent again */
#define DIGEST_PIECE ((size_t) 4 * 1024 * 1024) /* bytes that are digested in a turn */
#define UNIX_EPOCH ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY)

/* ---------- the store of a job ---------- */

static char *
utf8_of(const char *text)
{
	char *converted = pg_server_to_any(text, (int) strlen(text), PG_UTF8);

	return pstrdup(converted);
}

/*
 * Finds the store's server and the job owner's present secrets for it.  Call
 * it in a transaction.
 */
void
store_read(Job *job)
{
	JobStore *store = job->store;
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	ServerComplaint complaint;
	Server *server;

	if (store->queue->is_stale)
		schedule_refresh();
	server = stores_of(job->server, job->owner, &complaint);
	if (server != NULL && !server_read_secrets(server, job->owner, &store->secrets, &complaint))
		server = NULL;
	if (server != NULL)
		server_hold(server);
	server_release(store->server);
	store->server = server;
	store->trouble = server ? NULL : psprintf("%s. %s", complaint.message, complaint.hint);
	MemoryContextSwitchTo(caller);
}

/*
 * Notes where the job's outputs must go.  Call it in a transaction.
 */
void
store_open(Job *job)
{
	const char *name = job->server ? job->server->options.store : NULL;
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	JobStore *store;
	char *owner;

	if (name != NULL)
	{
		store = job->store = palloc0(sizeof(JobStore));
		store->queue = store->turn.queue = schedule_queue(name);
		store->queue->n_jobs++;
		store->server_name = utf8_of(NameStr(job->server->name));
		owner = GetUserNameFromId(job->owner, true);
		store->owner_name = utf8_of(owner ? owner : "");
		store->database_name = utf8_of(get_database_name(MyDatabaseId));
		store_read(job);
		sweeps_note_store(job);
	}
	MemoryContextSwitchTo(caller);
}

void
store_leave_place(Job *job)
{
	if (job->store != NULL)
		limits_leave(&job->store->place);
}

void
store_close(Job *job)
{
	JobStore *store = job->store;

	if (store == NULL)
		return;
	limits_leave(&store->place);
	storeline_leave(job);
	store->queue->n_jobs--;
	server_release(store->server);
	job->store = NULL;
}

/* ---------- what is to be done ---------- */

static Output *
next_output(const Job *job)
{
	ListCell *cell;

	foreach(cell, job->verdict->outputs)
	{
		Output *output = lfirst(cell);

		if (output->data != NULL && output->object == NULL)
			return output;
	}
	return NULL;
}

/*
 * Returns the number of an output in the job's verdict, from 1.
 */
int
store_ordinal(const Job *job, const Output *output)
{
	int ordinal = 1;
	ListCell *cell;

	foreach(cell, job->verdict->outputs)
	{
		if (lfirst(cell) == output)
			break;
		ordinal++;
	}
	return ordinal;
}

/*
 * True if outputs that were paid for are only in memory.
 */
bool
store_holds_unsaved(const Job *job)
{
	return job->step == STEP_STORE && job->store != NULL &&
		   (!job->store->is_saved || !job->remote.has_verdict) &&
		   (job->state == JOB_CALLING || job->state == JOB_WAITING);
}

/*
 * True if a row cannot keep the outputs, and nothing keeps their store from taking them.
 */
bool
store_may_finish(const Job *job)
{
	return store_holds_unsaved(job) && job->store->failures == 0 &&
		   storeline_is_open(job->store->queue) && !saved_fits(job->verdict);
}

bool
store_is_due(const Job *job)
{
	return job->store != NULL && !job->store->gave_up && job->verdict->kind == VERDICT_DONE &&
		   next_output(job) != NULL;
}

/* ---------- waiting ---------- */

/*
 * Saves the verdict in the table.  A verdict that is too large stays in
 * memory.
 */
static Next
save_verdict(Job *job)
{
	job->store->is_saved = true;
	if (!saved_fits(job->verdict))
		return next_verdict(job->verdict);
	job->remote.answer = NULL;
	job->remote.has_verdict = true;
	job->is_saved = false;
	return next_save(STEP_STORE, job->verdict);
}

static Next
wait_ms(int64 ms)
{
	return next_wait(STEP_STORE, clock_mono() + ms * 1000);
}

/*
 * Waits for a place at the store.
 */
static Next
wait_for_place(Job *job)
{
	JobStore *store = job->store;
	MonoTime now = clock_mono();
	int64 waited;

	waited = now - store->turn.waiting_since;
	if (waited >= UNSAVED_US && !store->is_saved)
		return save_verdict(job);
	return wait_ms(Min(Max(NO_PLACE_MS, waited / 1000), NO_PLACE_MAX_MS));
}

/*
 * Returns a sentence after a blank that says which parts stay in the store, if
 * nobody can call it any more to abort them; else "".
 */
const char *
store_describe_left_parts(const Job *job)
{
	if ((job->store != NULL && job->store->server != NULL) || job->remote.uploads == NULL)
		return "";
	return psprintf(" Parts of outputs stay in the store, which may cost money: abort there %s.",
					openupload_describe(job->remote.uploads));
}

/*
 * Fails a job because the store does not take its outputs; they go into the table.
 */
static Next
fail_outputs(Job *job, const char *why)
{
	job->store->gave_up = true;
	return next_fail(job,
					 psprintf("the outputs could not be put into the store \"%s\": %s They are in gen_outputs.data: when the store works again, copy them into it with jobs of that server. Do not use genjob.retry(): it would pay again.%s",
							  NameStr(job->store->queue->name), why,
							  store_describe_left_parts(job)));
}

/*
 * Returns what comes next after a failed try.
 */
static Next
handle_failure(Job *job, const char *why, bool is_refused)
{
	if (!store_bears(job, why, is_refused))
		return fail_outputs(job, why);
	if (!job->store->is_saved)
		return save_verdict(job);
	return wait_ms(store_pause(job));
}

/*
 * Computes the digest of the job's next output, unless it is known.
 */
static void
know_digest(void *arg)
{
	Job *job = arg;
	Output *output = next_output(job);

	if (output->sha256 == NULL)
		output->sha256 =
			MemoryContextStrdup(job->context, digest_sha256_hex(output->data, output->len));
}

static Next store_in_parts(Job *job);

/*
 * Begins the next call, if the store has a place for it.
 */
static Next
begin_output(Job *job)
{
	JobStore *store = job->store;
	char *error;
	Next next;

	if (cuts_prevent(job, STEP_STORE, &next))
		return next;
	if (next_output(job)->len > UPLOAD_PART)
		return store_in_parts(job);
	if (store->server == NULL)
	{
		/* it may be valid now; without a transaction this process does not learn of a GRANT */
		calls_doubt_secrets(job);
		calls_refresh(job);
	}
	if (store->server == NULL)
		return handle_failure(job, store->trouble, true);
	/* now, not when a place is free: it would stay free so long; store_build() says what is wrong */
	(void) guard_run(know_digest, job, &error);
	if (!storeline_take_turn(job, false))
		return wait_for_place(job);
	return next_call(STEP_STORE);
}

/*
 * Begins to store.  If an earlier try failed, the verdict was just saved, and the next try waits.
 */
Next
store_begin(Job *job)
{
	/* an earlier dispatcher may have saved the verdict */
	job->store->is_saved |= job->is_saved && job->remote.has_verdict;
	limits_note_result(&job->place, clock_mono());
	limits_leave(&job->place);
	if (job->store->failures > 0)
		return wait_ms(500);
	return begin_output(job);
}

Next
store_woken(Job *job)
{
	return begin_output(job);
}

/*
 * Saves a verdict that is only in memory, because this process ends.  If the
 * column remote cannot keep it, its outputs go into the table of outputs.
 */
Next
store_rescue(Job *job)
{
	job_end_calls(job);
	limits_leave(&job->store->place);
	if (job->store->is_saved || !saved_fits(job->verdict))
		return fail_outputs(job,
							"genjob or the database server stopped, and the job's row cannot keep so much until the next start.");
	return save_verdict(job);
}

/* ---------- the call ---------- */

/*
 * Returns the key of an output, palloc'd.
 */
char *
store_key(const Job *job, const Output *output)
{
	const JobStore *store = job->store;
	KeyWords words = {
		.server = store->server_name,
		.database = store->database_name,
		.owner = store->owner_name,
		.tenant = job->tenant ? job->tenant : "",
		.job = job->id,
		.attempt = job->attempt,
		.ordinal = store_ordinal(job, output),
		.sha256 = output->sha256 ? output->sha256 : "",
		.extension = media_extension_of(output->content_type),
		.started_unix = job->started_at / USECS_PER_SEC + UNIX_EPOCH,
	};

	return keytemplate_fill(store->server->options.key, &words);
}

HttpRequest *
store_build(Job *job, char **why)
{
	JobStore *store = job->store;
	Output *output = next_output(job);
	RequestSource source = {.secrets = &store->secrets, .now_unix = time(NULL)};
	HttpRequest *http;

	if (store->server == NULL)
	{
		*why = store->trouble;
		return NULL;
	}
	store->place = limits_take(&store->queue->limits, clock_mono());
	limits_started(&store->place);
	source.options = store->place.backend->options;
	know_digest(job);
	http = request_put_object(&source, store_key(job, output), output->content_type, output->data,
							  output->len, output->sha256);
	return http;
}

Next
store_unbuilt(Job *job, const char *why, const ErrorData *error)
{
	limits_give_back(&job->store->place);
	return handle_failure(job, error ? error->message : why, true);
}

Next
store_given_up(Job *job, const char *why)
{
	limits_leave(&job->store->place);
	return fail_outputs(job, why);
}

Next
store_starved(Job *job)
{
	limits_give_back(&job->store->place);
	return wait_ms(1000);
}

/*
 * Notes where an output is now.  Its data is no longer needed.
 */
void
store_take_object(Job *job, Output *output, const char *object, const char *etag)
{
	output->object = MemoryContextStrdup(job->context, object);
	output->etag = etag ? MemoryContextStrdup(job->context, etag) : NULL;
	output->store = MemoryContextStrdup(job->context, NameStr(job->store->queue->name));
	output->store_oid = job->store->server ? job->store->server->oid : InvalidOid;
	output->data = NULL;
	job->store->losses = 0;
}

static Next
continue_outputs(Job *job)
{
	return next_output(job) ? begin_output(job) : next_verdict(job->verdict);
}

Next
store_answered(Job *job, HttpReply *reply)
{
	StoreAnswer answer = store_judge(job, &job->store->place, &job->call, reply);

	if (!answer.is_done)
		return handle_failure(job, answer.error, answer.is_refused);
	store_note_success(job);
	store_take_object(job, next_output(job), job->call.http->object, answer.etag);
	return continue_outputs(job);
}

/* ---------- large outputs: in parts ---------- */

/*
 * Computes the digest of the next piece of a large output.  True at its end.
 */
static bool
digest_piece(Job *job, Output *output)
{
	JobStore *store = job->store;
	size_t len = Min(output->len - store->digested, DIGEST_PIECE);
	uint8 result[DIGEST_BYTES];

	if (output->sha256 != NULL)
		return true;
	if (store->digest == NULL)
		store->digest = digest_begin(job->context);
	(void) digest_add(store->digest, output->data + store->digested, len);
	store->digested += len;
	if (store->digested < output->len)
		return false;
	store->digested = 0;
	if (!digest_end(store->digest, result))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a SHA-256")));
	output->sha256 = MemoryContextStrdup(job->context, digest_hex(result));
	return true;
}

/*
 * Gives an upload its next part.
 */
static void
give_next_part(Upload *upload)
{
	const Output *output = upload->output;
	size_t len = Min(output->len - upload->bytes, UPLOAD_PART);
	const char *data = output->data + upload->bytes;

	upload_add(upload, NULL, data, len, digest_sha256_hex(data, len));
	upload->is_whole = upload->bytes == output->len;
}

/*
 * Prepares the next piece of the job's next output for the store: a few milliseconds of work.
 */
static void
prepare_piece(void *arg)
{
	Job *job = arg;
	JobStore *store = job->store;
	Output *output = next_output(job);

	if (!digest_piece(job, output))
		return;
	if (store->upload == NULL)
		upload_open(job, output, store_ordinal(job, output), store_key(job, output),
					output->content_type, output->sha256);
	else if (upload_has_room(store->upload))
		give_next_part(store->upload);
}

/*
 * Handles a failed call of an upload.  The upload makes no call before the
 * next try.
 */
static Next
upload_failed(Job *job)
{
	Upload *upload = job->store->upload;
	Next next = handle_failure(job, upload->trouble, upload->is_refused);

	upload->trouble = NULL;
	upload->again_at =
		next.kind == NEXT_WAIT ? next.until : clock_mono() + AGAIN_MS * INT64CONST(1000);
	return next;
}

/*
 * Sends an output again from its beginning, after a while, because the store
 * has forgotten the upload.
 */
static Next
upload_again(Job *job)
{
	int64 delay = store_note_loss(job, STORE_FORGETS);

	upload_drop(job, true);
	if (delay < 0)
		return fail_outputs(job, STORE_FORGETS);
	return job->store->is_saved ? wait_ms(delay) : save_verdict(job);
}

/*
 * Returns what comes next for a large output.  Works on one piece at a time,
 * because other jobs wait.
 */
static Next
store_in_parts(Job *job)
{
	Upload *upload;
	char *error;

	if (!guard_run(prepare_piece, job, &error))
		return handle_failure(job, error, false);
	upload = job->store->upload;
	if (upload == NULL)
		return wait_ms(0);
	switch (upload_work(job))
	{
		case UPLOAD_BUSY:
			return wait_ms(upload_has_room(upload) ? 0 : LOOK_AGAIN_MS);
		case UPLOAD_SAVES:
			upload->is_saved = true;
			return next_save(STEP_STORE, job->verdict);
		case UPLOAD_NO_PLACE:
			return wait_for_place(job);
		case UPLOAD_WAITS:
			return next_wait(STEP_STORE, upload->again_at);
		case UPLOAD_FAILED:
			return upload_failed(job);
		case UPLOAD_GONE:
			return upload_again(job);
		case UPLOAD_DONE:
			store_take_object(job, upload->output, upload->object, upload->etag);
			upload_drop(job, false);
			return continue_outputs(job);
	}
	pg_unreachable();
}

/*
 * Handles the end of a call of the job's upload.
 */
Next
store_uploaded(Job *job)
{
	return begin_output(job);
}
