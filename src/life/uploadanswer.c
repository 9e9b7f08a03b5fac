/*
 * uploadanswer.c
 *		What the store answers to the calls of an upload (uploadcall.c).
 *
 * An answer changes only the upload.  upload_work() says what comes next.
 */
#include "postgres.h"

#include "base/clock.h"
#include "life/calls.h"
#include "life/store.h"
#include "life/upload.h"
#include "protocol/openupload.h"
#include "protocol/s3answer.h"
#include "protocol/words.h"

#define SLACK_S 2           /* an object's time has whole seconds */
#define MAX_FAILURES_AWAY 5 /* then the output begins again, where the options lead now */

/*
 * Notes the id of the upload.  upload_work() has it saved before anything
 * else.
 */
static void
note_id(Job *job, Upload *upload, const HttpReply *reply)
{
	char *id = s3upload_read_id(reply);
	OpenUpload open = {upload->ordinal, upload->key, id, upload->mark, upload->at};

	if (id == NULL)
	{
		upload_note_trouble(upload, "the store's answer to the beginning of an upload has no id.",
							false);
		return;
	}
	upload->id = MemoryContextStrdup(upload->context, id);
	job->remote.uploads =
		MemoryContextStrdup(job->context, openupload_set(job->remote.uploads, &open,
														 job->store->secrets.secret_access_key));
}

static void
note_parts(Upload *upload, const HttpReply *reply)
{
	int after;
	ListCell *cell;

	foreach(cell, s3upload_read_parts(reply, &after))
	{
		const S3Part *found = lfirst(cell);
		S3Part *part = upload_part(upload, found->number);

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
		upload_note_trouble(upload, "the store's answer to a part has no ETag.", false);
		return;
	}
	upload->parts[slot->number - 1].etag = MemoryContextStrdup(upload->context, etag);
	upload_free_part(slot);
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
read_completion(Upload *upload, const UploadCall *ask, HttpReply *reply)
{
	char *etag;

	if (!s3upload_read_completed(reply, &etag))
	{
		upload_note_trouble(upload, "the store does not say that the object is there.", false);
		return;
	}
	note_object(upload, ask, etag);
}

/*
 * Handles the answer about an object under the key.  The object is ours if it
 * has the right length, and is not older than the upload, by the store's own
 * clock.
 */
static void
judge_object(Upload *upload, const UploadCall *ask, const HttpReply *reply, const char *etag)
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
take_success(Job *job, UploadCall *ask, HttpReply *reply, const char *etag)
{
	Upload *upload = job->store->upload;

	store_note_success(job);
	upload->failures_away = 0;
	switch (ask->ask)
	{
		case UPLOAD_BEGIN:
			note_id(job, upload, reply);
			break;
		case UPLOAD_LIST:
			note_parts(upload, reply);
			break;
		case UPLOAD_PUT_PART:
			part_is_there(upload, ask, etag);
			break;
		case UPLOAD_COMPLETE:
			read_completion(upload, ask, reply);
			break;
		case UPLOAD_HEAD:
			judge_object(upload, ask, reply, etag);
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
 * Notes whether the store may have begun an upload whose id we do not know.
 */
static void
note_beginning(Job *job, const HttpReply *reply)
{
	bool is_refused = reply->error == HTTP_OK && reply->status >= 400 && reply->status < 500;

	if (job->store->upload->id != NULL || is_refused)
		job->store->unnamed--;
}

/*
 * Handles a failure of the store.  If the store does not know an upload that
 * we complete, an earlier try may have made the object.
 */
static void
take_failure(Upload *upload, const UploadCall *ask, const HttpReply *reply,
			 const StoreAnswer *answer, bool is_away)
{
	bool is_complete = ask->ask == UPLOAD_COMPLETE;

	if (!is_unknown(ask, reply))
	{
		upload_note_trouble(upload, answer->error, answer->is_refused);
		if (is_away && ++upload->failures_away >= MAX_FAILURES_AWAY)
			upload->is_left = true;
		return;
	}
	if (is_complete && !upload->in_doubt)
	{
		upload->in_doubt = true;
		return;
	}
	upload->is_gone = true;
}

/* Argument of take_answer(). */
typedef struct Taking
{
	Job *job;
	UploadCall *ask;
	HttpReply *reply;
	StoreAnswer answer;
	bool is_away; /* the call went where the server's options do not lead any more */
} Taking;

static void
take_answer(void *arg)
{
	Taking *taking = arg;

	if (taking->answer.is_done)
		take_success(taking->job, taking->ask, taking->reply, taking->answer.etag);
	else
		take_failure(taking->job->store->upload, taking->ask, taking->reply, &taking->answer,
					 taking->is_away);
}

/*
 * Handles the answer to one of an upload's calls.
 */
void
upload_answered(Call *call, HttpReply *reply)
{
	Job *job = call->job;
	Upload *upload = job->store->upload;
	UploadCall *ask = (UploadCall *) call;
	Taking taking = {job, ask, reply, .is_away = upload_is_away(job)};
	ErrorData *error;

	StaticAssertStmt(offsetof(UploadCall, call) == 0, "a call is the beginning of its UploadCall");
	/* what another host does says nothing about the server's own */
	if (taking.is_away)
		limits_leave(&ask->place);
	taking.answer = store_judge(job, &ask->place, call, reply);
	if (!calls_run(call, take_answer, &taking, &error))
		upload_note_trouble(upload, error->message, false);
	if (ask->ask == UPLOAD_BEGIN)
		note_beginning(job, reply);
	call->transfer = NULL;
	upload_end_call(ask);
}
