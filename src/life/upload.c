/*
 * upload.c
 *		An output on its way to an object store, in parts: its data.
 *
 *		begin -> (the id is saved) -> parts, several at a time -> complete
 *		  or, where an earlier process has begun: list -> the missing parts -> complete
 *
 * The steps store and download own uploads: they give the parts, wait, and
 * decide what follows a failure.  uploadcall.c calls the store, uploadanswer.c
 * reads its answers.
 *
 * The id is in the table before the first part is sent.  After a crash, parts
 * that the store has are not sent again if the bytes have not changed (the
 * mark).  leftover.c aborts an upload that its job gives up.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/clock.h"
#include "base/trace.h"
#include "life/leftover.h"
#include "life/store.h"
#include "life/calls.h"
#include "life/upload.h"
#include "protocol/openupload.h"
#include "schedule/schedule.h"

#define FIRST_PARTS 16 /* entries of parts at first */

/* ---------- its life ---------- */

/*
 * True if the job's upload was begun where the options of the store's server
 * do not lead any more: they have changed since.
 */
bool
upload_is_away(const Job *job)
{
	const JobStore *store = job->store;
	const Server *server = store->queue->limits.server;

	return server != NULL && !storeplace_is_of(&store->upload->at, server);
}

/*
 * Continues what an earlier process has begun, if the bytes are the same; else
 * aborts it.  The row may name another key or place than the server's options
 * do: they have changed, or somebody else wrote the row.  Without proof,
 * nothing is sent there.
 */
static void
take_earlier(Job *job, Upload *upload, const OpenUpload *earlier)
{
	const char *mark = upload->mark;
	bool is_same = mark != NULL && earlier->mark != NULL && strcmp(mark, earlier->mark) == 0;

	upload->at = earlier->at;
	if ((strcmp(earlier->key, upload->key) != 0 || upload_is_away(job)) &&
		!openupload_is_proven(job->remote.uploads, earlier->ordinal,
							  job->store->secrets.secret_access_key))
	{
		upload->at = (StorePlace){NULL};
		ereport(LOG,
				(errmsg("genjob does not continue an upload of job " INT64_FORMAT
						": the options or the keys of its store have changed",
						job->id),
				 errhint("Abort it in the store: %s.", openupload_describe(job->remote.uploads))));
		return;
	}
	if (!is_same)
	{
		leftover_add(job, earlier->key, earlier->id, &earlier->at);
		upload->at = (StorePlace){NULL};
		return;
	}
	upload->key = earlier->key;
	upload->id = earlier->id;
	upload->is_saved = true;
	upload->is_listed = false;
}

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
	/* an earlier attempt, or under another key: its id is lost */
	if (job->attempt > 1 || job->store->is_resumed)
		job->store->unnamed++;
	job->store->upload = upload;
	if (earlier != NULL)
		take_earlier(job, upload, earlier);
	MemoryContextSwitchTo(caller);
	trace("job " INT64_FORMAT " attempt %d: output %d goes to its store in parts%s", job->id,
		  job->attempt, ordinal, upload->id ? ", some of which may be there" : "");
}

/*
 * Ends one call, under way or not, and frees its memory and its place.
 */
void
upload_end_call(UploadCall *ask)
{
	if (ask->call.transfer != NULL)
		http_abort(ask->call.transfer);
	calls_end(&ask->call);
	ask->call.http = NULL;
	limits_leave(&ask->place);
	if (ask->call.context != NULL)
		MemoryContextDelete(ask->call.context);
	ask->call.context = NULL;
}

/*
 * Aborts the calls of a job's upload, if it has one.  They may be repeated.
 */
void
upload_end_calls(Job *job)
{
	Upload *upload = job->store ? job->store->upload : NULL;
	int i;

	if (upload == NULL)
		return;
	for (i = 0; i < UPLOAD_SLOTS; i++)
		upload_end_call(&upload->slots[i]);
	upload_end_call(&upload->control);
}

/*
 * Ends a job's upload, if it has one.  If aborts, the store is told to abort
 * an open upload; else the next process may continue it.
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
		leftover_add(job, upload->key, upload->id, &upload->at);
	if (aborts || upload->is_done)
		job->remote.uploads = openupload_remove(job->remote.uploads, upload->ordinal);
	job->store->upload = NULL;
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(upload->context);
}

/*
 * Notes that a call of the upload failed.  why is copied.  is_refused: the
 * store refused, or we made a mistake; false for an outage.
 */
void
upload_note_trouble(Upload *upload, const char *why, bool is_refused)
{
	if (upload->trouble != NULL)
		pfree(upload->trouble);
	upload->trouble = MemoryContextStrdup(upload->context, why);
	upload->is_refused = is_refused;
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

/*
 * True if parts may be sent: the id is saved, and we know which parts the
 * store has.
 */
bool
upload_is_open(const Upload *upload)
{
	return upload->id != NULL && upload->is_saved && upload->is_listed && !upload->is_gone &&
		   !upload->is_done;
}

/*
 * True if upload_add() may give the next part.
 */
bool
upload_has_room(const Upload *upload)
{
	return upload_is_open(upload) && !upload->is_whole && free_slot(upload) != NULL;
}

/*
 * True if there are parts that the store has not confirmed.
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
 * Returns the entry of a part; numbers begin at 1.  Valid until the next call.
 */
S3Part *
upload_part(Upload *upload, int number)
{
	while (number > upload->n_parts_max)
	{
		upload->parts = repalloc(upload->parts, 2 * upload->n_parts_max * sizeof(S3Part));
		memset(upload->parts + upload->n_parts_max, 0, upload->n_parts_max * sizeof(S3Part));
		upload->n_parts_max *= 2;
	}
	return &upload->parts[number - 1];
}

/*
 * Frees the data and the slot of a part that need not be sent any more.
 */
void
upload_free_part(UploadCall *slot)
{
	if (slot->context != NULL)
		MemoryContextDelete(slot->context);
	slot->context = NULL;
	slot->number = 0;
	slot->data = NULL;
	slot->sha256 = NULL;
}

/*
 * Adds the next part; there must be room.  Takes over context, which owns
 * data; NULL: data outlives the upload.  sha256: hexadecimal, copied.
 */
void
upload_add(Upload *upload, MemoryContext context, const char *data, size_t len, const char *sha256)
{
	UploadCall *slot = free_slot(upload);
	S3Part *part = upload_part(upload, upload->n_taken + 1);

	Assert(upload_has_room(upload));
	upload->n_taken++;
	upload->bytes += len;
	slot->number = upload->n_taken;
	slot->context = context;
	if (part->etag != NULL && part->bytes == len)
	{
		upload_free_part(slot);
		return;
	}
	part->number = upload->n_taken;
	part->bytes = len;
	part->etag = NULL;
	slot->data = data;
	slot->len = len;
	slot->sha256 = MemoryContextStrdup(context ? context : upload->context, sha256);
}
