/*
 * upload.c
 *		An output on its way to an object store, in parts.
 *
 *		begin -> (the id is saved) -> parts, several at a time -> complete
 *		  or, where an earlier process has begun: list -> the parts that are missing -> complete
 *
 * The steps store and download own uploads: they give the parts, wait, and decide what becomes of a failure.  Here is
 * what is asked of the store, and what its answers mean.  The calls go beside the call of the job's step; each takes a
 * place of the store's.
 *
 * The id is in the table before the first part is sent.  After a crash the parts that are there are not sent again, if
 * the bytes are the same as then (the mark).  An upload that is given up is aborted (leftover.c).
 */
#include "postgres.h"

#include <time.h>

#include "utils/memutils.h"

#include "base/clock.h"
#include "base/trace.h"
#include "life/calls.h"
#include "life/leftover.h"
#include "life/store.h"
#include "life/storeline.h"
#include "life/upload.h"
#include "protocol/openupload.h"
#include "protocol/s3answer.h"
#include "protocol/words.h"
#include "schedule/schedule.h"

#define FIRST_PARTS 16 /* for which there is room at first */
#define SLACK_S 2      /* times of objects are whole seconds */

/* ---------- its life ---------- */

/*
 * Begins to upload an output under a key.  mark identifies its bytes: an earlier upload with the same mark is
 * continued.  NULL: unknown.
 */
void
upload_open(Job *job, Output *output, int ordinal, const char *key, const char *content_type,
			const char *mark)
{
	MemoryContext context =
		AllocSetContextCreate(job->context, "genjob upload", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Upload *upload = palloc0(sizeof(Upload));
	OpenUpload *earlier = openupload_find(job->remote.uploads, ordinal);
	int i;

	Assert(job->store->upload == NULL);
	upload->context = context;
	upload->output = output;
	upload->ordinal = ordinal;
	upload->key = pstrdup(key);
	upload->content_type = pstrdup(content_type);
	upload->mark = mark ? pstrdup(mark) : NULL;
	upload->n_parts_max = FIRST_PARTS;
	upload->parts = palloc0(FIRST_PARTS * sizeof(S3Part));
	upload->is_listed = true;
	upload->opened_at = clock_mono();
	for (i = 0; i < UPLOAD_SLOTS; i++)
		upload->slots[i].call.job = job;
	upload->control.call.job = job;
	if (earlier != NULL && strcmp(earlier->key, key) == 0)
	{
		bool is_same = mark != NULL && earlier->mark != NULL && strcmp(mark, earlier->mark) == 0;

		if (is_same)
			upload->id = earlier->id;
		else
			leftover_add(job, key, earlier->id);
		upload->is_saved = is_same;
		upload->is_listed = !is_same;
	}
	job->store->upload = upload;
	MemoryContextSwitchTo(caller);
	trace("job " INT64_FORMAT " attempt %d: output %d goes to its store in parts%s", job->id,
		  job->attempt, ordinal, upload->id ? ", some of which may be there" : "");
}

static void
end_call(UploadCall *ask)
{
	if (ask->call.transfer != NULL)
		http_abort(ask->call.transfer);
	ask->call.transfer = NULL;
	ask->call.http = NULL;
	limits_leave(&ask->place);
	if (ask->call.context != NULL)
		MemoryContextDelete(ask->call.context);
	ask->call.context = NULL;
}

/*
 * Cuts the calls of a job's upload, if it has one: they may be made again.
 */
void
upload_end_calls(Job *job)
{
	Upload *upload = job->store ? job->store->upload : NULL;
	int i;

	if (upload == NULL)
		return;
	for (i = 0; i < UPLOAD_SLOTS; i++)
		end_call(&upload->slots[i]);
	end_call(&upload->control);
}

/*
 * Ends a job's upload, if it has one.  An open one is aborted if the caller wants that; else the next process may
 * continue it.
 */
void
upload_drop(Job *job, bool aborts)
{
	Upload *upload = job->store ? job->store->upload : NULL;
	MemoryContext caller;

	if (upload == NULL)
		return;
	upload_end_calls(job);
	caller = MemoryContextSwitchTo(job->context);
	if (aborts && upload->id != NULL && !upload->is_done && !upload->is_gone)
		leftover_add(job, upload->key, upload->id);
	if (aborts || upload->is_done)
		job->remote.uploads = openupload_remove(job->remote.uploads, upload->ordinal);
	job->store->upload = NULL;
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(upload->context);
}

/* ---------- parts ---------- */

static UploadCall *
free_slot(const Upload *upload)
{
	int i;

	for (i = 0; i < UPLOAD_SLOTS; i++)
	{
		if (upload->slots[i].number == 0)
			return (UploadCall *) &upload->slots[i];
	}
	return NULL;
}

static bool
is_open(const Upload *upload)
{
	return upload->id != NULL && upload->is_saved && upload->is_listed && !upload->is_gone &&
		   !upload->is_done;
}

/*
 * Whether the next part may be given.
 */
bool
upload_has_room(const Upload *upload)
{
	return is_open(upload) && !upload->is_whole && free_slot(upload) != NULL;
}

/*
 * Whether there are parts that the store has not confirmed.
 */
bool
upload_holds_parts(const Upload *upload)
{
	int i;

	for (i = 0; i < UPLOAD_SLOTS; i++)
	{
		if (upload->slots[i].number != 0)
			return true;
	}
	return false;
}

/*
 * Returns the entry for a part.
 */
static S3Part *
part_of(Upload *upload, int number)
{
	while (number > upload->n_parts_max)
	{
		upload->parts = repalloc(upload->parts, 2 * upload->n_parts_max * sizeof(S3Part));
		memset(upload->parts + upload->n_parts_max, 0, upload->n_parts_max * sizeof(S3Part));
		upload->n_parts_max *= 2;
	}
	return &upload->parts[number - 1];
}

static void
free_part(UploadCall *slot)
{
	if (slot->context != NULL)
		MemoryContextDelete(slot->context);
	slot->context = NULL;
	slot->number = 0;
	slot->data = NULL;
	slot->sha256 = NULL;
}

/*
 * Adds the next part; there must be room.  Takes over the memory context that holds the data, unless it is NULL.
 * sha256: hexadecimal, copied.
 */
void
upload_add(Upload *upload, MemoryContext context, const char *data, size_t len, const char *sha256)
{
	UploadCall *slot = free_slot(upload);
	S3Part *part = part_of(upload, upload->n_taken + 1);

	Assert(upload_has_room(upload));
	upload->n_taken++;
	upload->bytes += len;
	slot->number = upload->n_taken;
	slot->context = context;
	if (part->etag != NULL && part->bytes == len)
	{
		free_part(slot);
		return;
	}
	part->number = upload->n_taken;
	part->bytes = len;
	part->etag = NULL;
	slot->data = data;
	slot->len = len;
	slot->sha256 = MemoryContextStrdup(context ? context : upload->context, sha256);
}

/* ---------- calls ---------- */

/* A call that is built. */
typedef struct Asking
{
	Job *job;
	UploadCall *ask;
	RequestSource source;
	HttpRequest *http;
} Asking;

static void
build(void *arg)
{
	Asking *asking = arg;
	UploadCall *ask = asking->ask;
	const Upload *upload = asking->job->store->upload;
	const RequestSource *source = &asking->source;
	S3Upload known = {upload->key, upload->id};

	switch (ask->ask)
	{
		case UPLOAD_BEGIN:
			asking->http = s3upload_begin(source, upload->key, upload->content_type);
			break;
		case UPLOAD_LIST:
			asking->http = s3upload_list_parts(source, &known, upload->listed_after);
			break;
		case UPLOAD_PUT_PART:
			asking->http =
				s3upload_put_part(source, &known, ask->number, ask->data, ask->len, ask->sha256);
			break;
		case UPLOAD_COMPLETE:
			asking->http = s3upload_complete(source, &known, upload->parts, upload->n_taken);
			break;
		case UPLOAD_HEAD:
			asking->http = s3upload_head(source, upload->key);
			break;
	}
	asking->http->account = NULL;
	ask->call.http = asking->http;
	ask->call.transfer = http_start(asking->http, &ask->meter, ask->call.context, &ask->call);
}

static void
note_trouble(Upload *upload, const char *why, bool is_refused)
{
	if (upload->trouble != NULL)
		pfree(upload->trouble);
	upload->trouble = MemoryContextStrdup(upload->context, why);
	upload->is_refused = is_refused;
}

/*
 * Begins a call; the store has a place for it.
 */
static void
begin(Job *job, UploadCall *ask, UploadAsk what)
{
	JobStore *store = job->store;
	Upload *upload = store->upload;
	Asking asking = {.job = job, .ask = ask};
	ErrorData *error = NULL;

	ask->ask = what;
	ask->place = limits_take(&store->queue->limits, clock_mono());
	limits_started(&ask->place);
	asking.source = (RequestSource){.options = ask->place.backend->options,
									.secrets = &store->secrets,
									.now_unix = time(NULL)};
	ask->call.step = STEP_PART;
	ask->call.context =
		AllocSetContextCreate(upload->context, "genjob upload call", ALLOCSET_SMALL_SIZES);
	http_meter_init(&ask->meter);
	if (calls_run(&ask->call, build, &asking, &error) && ask->call.transfer != NULL)
	{
		trace("job " INT64_FORMAT " attempt %d: part calls %s %s", job->id, job->attempt,
			  asking.http->method, trace_name(asking.http->shown_url));
		return;
	}
	limits_give_back(&ask->place);
	note_trouble(upload, error ? error->message : "no memory was left to call the store.",
				 error != NULL);
	end_call(ask);
}

static bool
is_calling(const Upload *upload)
{
	int i;

	for (i = 0; i < UPLOAD_SLOTS; i++)
	{
		if (upload->slots[i].call.transfer != NULL)
			return true;
	}
	return upload->control.call.transfer != NULL;
}

/*
 * Returns the next call that can be made, and what it is for; NULL: none.
 */
static UploadCall *
next_call_of(Upload *upload, UploadAsk *what)
{
	bool has_parts = false;
	int i;

	if (upload->control.call.transfer != NULL)
		return NULL;
	*what = UPLOAD_BEGIN;
	if (upload->id == NULL)
		return &upload->control;
	*what = UPLOAD_LIST;
	if (upload->is_saved && !upload->is_listed)
		return &upload->control;
	if (!is_open(upload))
		return NULL;
	*what = UPLOAD_PUT_PART;
	for (i = 0; i < UPLOAD_SLOTS; i++)
	{
		if (upload->slots[i].number != 0 && upload->slots[i].call.transfer == NULL)
			return &upload->slots[i];
		has_parts |= upload->slots[i].number != 0;
	}
	*what = upload->in_doubt ? UPLOAD_HEAD : UPLOAD_COMPLETE;
	return upload->is_whole && !has_parts ? &upload->control : NULL;
}

/*
 * Moves a job's upload on: begins the calls for which the store has a place.
 */
UploadNews
upload_work(Job *job)
{
	JobStore *store = job->store;
	Upload *upload = store->upload;
	MonoTime now = clock_mono();
	UploadCall *ask;
	UploadAsk what;

	if (upload->is_done)
		return UPLOAD_DONE;
	if (upload->is_gone)
		return UPLOAD_GONE;
	if (upload->trouble != NULL)
		return UPLOAD_FAILED;
	if (upload->id != NULL && !upload->is_saved)
		return UPLOAD_SAVES;
	if (now < upload->again_at)
		return UPLOAD_WAITS;
	calls_refresh(job);
	while (upload->trouble == NULL && (ask = next_call_of(upload, &what)) != NULL)
	{
		if (store->server == NULL)
			note_trouble(upload, store->trouble, true);
		else if (!storeline_take_turn(job, is_calling(upload)))
			return is_calling(upload) ? UPLOAD_BUSY : UPLOAD_NO_PLACE;
		else
			begin(job, ask, what);
	}
	return upload->trouble != NULL ? UPLOAD_FAILED : UPLOAD_BUSY;
}

/* ---------- answers ---------- */

/*
 * Saves the id of the upload in the row, before anything else.
 */
static void
begun(Job *job, Upload *upload, const HttpReply *reply)
{
	char *id = s3upload_read_id(reply);
	OpenUpload open = {upload->ordinal, upload->key, id, upload->mark};

	if (id == NULL)
	{
		note_trouble(upload, "the store's answer to the beginning of an upload has no id.", false);
		return;
	}
	upload->id = MemoryContextStrdup(upload->context, id);
	job->remote.uploads =
		MemoryContextStrdup(job->context, openupload_set(job->remote.uploads, &open));
}

static void
listed(Upload *upload, const HttpReply *reply)
{
	int after;
	ListCell *cell;

	foreach(cell, s3upload_read_parts(reply, &after))
	{
		const S3Part *found = lfirst(cell);
		S3Part *part = part_of(upload, found->number);

		*part = *found;
		part->etag = MemoryContextStrdup(upload->context, found->etag);
	}
	upload->is_listed = after <= upload->listed_after;
	upload->listed_after = after;
}

static void
part_is_there(Upload *upload, UploadCall *slot, const char *etag)
{
	if (etag == NULL)
	{
		note_trouble(upload, "the store's answer to a part has no ETag.", false);
		return;
	}
	upload->parts[slot->number - 1].etag = MemoryContextStrdup(upload->context, etag);
	free_part(slot);
}

static void
note_object(Upload *upload, const UploadCall *ask, const char *etag)
{
	char *copy = etag ? MemoryContextStrdup(upload->context, etag) : NULL;

	if (copy != NULL)
		words_mask(ask->call.http, copy, strlen(copy));
	upload->etag = copy;
	upload->object = MemoryContextStrdup(upload->context, ask->call.http->object);
	upload->is_done = true;
}

static void
completed(Upload *upload, const UploadCall *ask, HttpReply *reply)
{
	char *etag;

	if (!s3upload_read_completed(reply, &etag))
	{
		note_trouble(upload, "the store does not say that the object is there.", false);
		return;
	}
	note_object(upload, ask, etag);
}

/*
 * Handles the answer about an object under the key.  It is ours if it has the right length, and was made after the
 * upload began, by the store's own clock.
 */
static void
looked(Upload *upload, const UploadCall *ask, const HttpReply *reply, const char *etag)
{
	int64 elapsed = (clock_mono() - upload->opened_at) / USECS_PER_SEC + SLACK_S;
	int64 age = s3upload_read_age(reply);

	if (s3upload_read_length(reply) == (int64) upload->bytes && age >= 0 && age <= elapsed)
		note_object(upload, ask, etag);
	else
		upload->is_gone = true;
}

/*
 * Handles a success of the store.
 */
static void
take(Job *job, UploadCall *ask, HttpReply *reply, const char *etag)
{
	Upload *upload = job->store->upload;

	store_note_success(job);
	switch (ask->ask)
	{
		case UPLOAD_BEGIN:
			begun(job, upload, reply);
			break;
		case UPLOAD_LIST:
			listed(upload, reply);
			break;
		case UPLOAD_PUT_PART:
			part_is_there(upload, ask, etag);
			break;
		case UPLOAD_COMPLETE:
			completed(upload, ask, reply);
			break;
		case UPLOAD_HEAD:
			looked(upload, ask, reply, etag);
			break;
	}
}

/*
 * True if the store does not know the upload any more: it was completed or aborted.
 */
static bool
is_unknown(const UploadCall *ask, const HttpReply *reply)
{
	char *code;

	if (reply->error != HTTP_OK || reply->status != 404 || ask->ask == UPLOAD_BEGIN)
		return false;
	code = s3upload_read_code(reply);
	return ask->ask == UPLOAD_HEAD || (code != NULL && strcmp(code, "NoSuchUpload") == 0);
}

/*
 * Handles a failure of the store.  If the upload was to be completed, and the store does not know it, the try before
 * may have made the object.
 */
static void
fail(Upload *upload, const UploadCall *ask, const HttpReply *reply, const StoreAnswer *answer)
{
	bool is_complete = ask->ask == UPLOAD_COMPLETE;

	if (!is_unknown(ask, reply))
	{
		note_trouble(upload, answer->error, answer->is_refused);
		return;
	}
	if (is_complete && !upload->in_doubt)
	{
		upload->in_doubt = true;
		return;
	}
	upload->is_gone = true;
}

/* An answer that is dealt with. */
typedef struct Taking
{
	Job *job;
	UploadCall *ask;
	HttpReply *reply;
	StoreAnswer answer;
} Taking;

static void
deal_with(void *arg)
{
	Taking *taking = arg;

	if (taking->answer.is_done)
		take(taking->job, taking->ask, taking->reply, taking->answer.etag);
	else
		fail(taking->job->store->upload, taking->ask, taking->reply, &taking->answer);
}

/*
 * Handles the answer to one of an upload's calls.  upload_work() says what comes next.
 */
void
upload_answered(Call *call, HttpReply *reply)
{
	Job *job = call->job;
	Upload *upload = job->store->upload;
	UploadCall *ask = (UploadCall *) call;
	Taking taking = {job, ask, reply};
	ErrorData *error;

	StaticAssertStmt(offsetof(UploadCall, call) == 0, "a call is the beginning of its UploadCall");
	taking.answer = store_judge(job, &ask->place, call, reply);
	if (!calls_run(call, deal_with, &taking, &error))
		note_trouble(upload, error->message, false);
	call->transfer = NULL;
	end_call(ask);
}
