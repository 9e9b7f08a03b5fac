/*
 * pour.c
 *		A download that goes to the object store while it arrives, because it
 *		is too large for memory.
 *
 * http/sluice.c pauses the answer whenever a piece of 8 MB is there.  The
 * piece becomes a part of an upload (upload.c), and the answer goes on.  So a
 * job has at most five pieces in memory, however large its output is and
 * however slow its store.
 *
 *		the first piece is there -> the upload begins, and its id is saved -> piece, piece ... -> the last -> the object
 *
 * A download that was cut off continues where it was, if a strong ETag says
 * that the file is the same; else the download and the upload begin again.
 * After a crash the download begins again, but parts that the store has are
 * not sent again.
 *
 * While the store fails, the output stays at the provider, where it may
 * expire.  So if the table could keep the output (saved.c), we download it
 * whole as soon as the store fails, and treat it like a small one.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/guard.h"
#include "base/media.h"
#include "base/memory.h"
#include "http/header.h"
#include "life/calls.h"
#include "life/leftover.h"
#include "life/pour.h"
#include "life/store.h"
#include "life/upload.h"
#include "protocol/judge.h"
#include "protocol/saved.h"
#include "server/keytemplate.h"

#define NO_PLACE_MS 50
#define LOOK_AGAIN_MS 10000
#define MAX_ETAG 200

typedef struct Pour
{
	MemoryContext context; /* owns this and all below */
	Output *output;
	HttpPour http;
	bool has_ended; /* all of it has come */
	Bytes *last;    /* the rest of the output, at its end; not all given to the upload yet */
	size_t given;   /* bytes of last that the upload has */
} Pour;

/* ---------- beginning ---------- */

/*
 * True if an output may go to the store in pieces: not if its key needs its
 * digest, or if it must come whole.
 */
bool
pour_may(const Job *job, const Output *output)
{
	const JobStore *store = job->store;

	return store != NULL && store->server != NULL && !store->gave_up && store->whole != output &&
		   !keytemplate_needs_digest(store->server->options.key);
}

static void
create_pour(Job *job, Output *output)
{
	MemoryContext context =
		AllocSetContextCreate(job->context, "genjob pour", ALLOCSET_SMALL_SIZES);
	Pour *pour = MemoryContextAllocZero(context, sizeof(Pour));

	pour->context = context;
	pour->output = output;
	pour->http.max = (size_t) job->options->max_output;
	pour->http.total = -1;
	pour->http.is_alone = true;
	pour->http.whole = digest_begin(context);
	pour->http.piece = digest_begin(context);
	pour->http.begun = bytes_create(context, HTTP_PIECE + UPLOAD_PART);
	job->store->pour = pour;
}

/*
 * Makes the download of an output come in pieces if it is large.  Asks only
 * for the rest if a download has begun.  Call it in the memory context of the
 * call; may raise an error.
 */
void
pour_prepare(Job *job, Output *output, HttpRequest *http)
{
	Pour *pour = job->store->pour;

	if (pour != NULL && (pour->output != output || job->store->upload == NULL))
	{
		pour_drop(job, true);
		pour = NULL;
	}
	if (pour == NULL)
		create_pour(job, output);
	http->pour = &job->store->pour->http;
	request_pour(http);
}

/*
 * Frees what we have of a poured output, and its upload.  Its download must
 * have ended.
 */
void
pour_drop(Job *job, bool aborts)
{
	Pour *pour = job->store ? job->store->pour : NULL;

	if (pour == NULL)
		return;
	upload_drop(job, aborts);
	job->store->pour = NULL;
	MemoryContextDelete(pour->context);
}

/*
 * Ends all that a job has begun at its store: what it pours, its uploads, and
 * uploads that only the store knows.  Its calls must have ended.
 */
void
pour_end_uploads(Job *job)
{
	pour_drop(job, true);
	upload_drop(job, true);
	leftover_seek(job);
}

/*
 * True if the output that arrives has an upload.
 */
bool
pour_is_under_way(const Job *job)
{
	return job->store != NULL && job->store->pour != NULL && job->store->upload != NULL;
}

/*
 * True if all of the output has come, and goes to the store.
 */
bool
pour_has_ended(const Job *job)
{
	return pour_is_under_way(job) && job->store->pour->has_ended;
}

/* ---------- pieces ---------- */

/*
 * True if the answer may repeat a secret, which we would have to mask: the
 * request had one, and the answer has text.
 */
static bool
may_repeat_secret(const HttpRequest *http, const char *type)
{
	ListCell *cell;

	foreach(cell, http->headers)
	{
		if (((HttpHeader *) lfirst(cell))->shown != NULL)
			return media_has_text(type);
	}
	return false;
}

/*
 * Returns the answer's strong ETag, palloc'd.  NULL: it has none, so nobody
 * can tell whether two answers are the same.
 */
static char *
strong_etag(const HttpReply *reply)
{
	char *etag = header_find(reply, "ETag");
	size_t len = etag ? strlen(etag) : 0;

	return len > 2 && len <= MAX_ETAG && etag[0] == '"' && etag[len - 1] == '"' &&
				   header_is_value(etag)
			   ? etag
			   : NULL;
}

/*
 * Begins the upload, when the first piece is there.
 */
static void
open_upload(void *arg)
{
	Job *job = arg;
	Pour *pour = job->store->pour;
	Output *output = pour->output;
	HttpReply *reply = http_so_far(job->call.transfer);
	const char *type = answer_body_type(reply);
	char *etag = strong_etag(reply);

	if (may_repeat_secret(job->call.http, type))
	{
		job->store->whole = output;
		http_keep_whole(job->call.transfer);
		return;
	}
	output->content_type = MemoryContextStrdup(job->context, type);
	pour->http.etag = etag ? MemoryContextStrdup(pour->context, etag) : NULL;
	job->download.has_worked = true;
	upload_open(job, output, store_ordinal(job, output), store_key(job, output), type,
				etag ? psprintf("%s " INT64_FORMAT, etag, pour->http.total) : NULL);
}

/*
 * Ends the count of failures, if the download has come further than ever: a
 * server that always cuts it at the same place must not have it again and
 * again for ever.
 */
static void
note_progress(Job *job)
{
	uint64 received = job->store->pour->http.received;

	if (received <= job->download.furthest)
		return;
	job->download.furthest = received;
	job->download.failures = 0;
}

/*
 * Gives the upload the piece that is complete.
 */
static void
give_piece(void *arg)
{
	Job *job = arg;
	Upload *upload = job->store->upload;
	MemoryContext context =
		AllocSetContextCreate(upload->context, "genjob piece", ALLOCSET_SMALL_SIZES);
	uint8 digest[DIGEST_BYTES];
	Bytes *piece = http_take_piece(job->call.transfer, context, digest);

	if (piece == NULL)
	{
		MemoryContextDelete(context);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	note_progress(job);
	upload_add(upload, context, piece->data, piece->len, digest_hex(digest));
}

/*
 * Gives the upload the next part of pour->last, at most HTTP_PIECE bytes.
 */
static void
give_last_part(void *arg)
{
	Job *job = arg;
	Upload *upload = job->store->upload;
	Pour *pour = job->store->pour;
	size_t len = Min(pour->last->len - pour->given, HTTP_PIECE);
	const char *data = pour->last->data + pour->given;

	if (len > 0)
		upload_add(upload, NULL, data, len, digest_sha256_hex(data, len));
	pour->given += len;
	upload->is_whole = pour->given == pour->last->len;
}

/*
 * If memory is short, a job without a piece may take one piece; other jobs
 * follow once the store has it.
 */
static void
note_memory(Job *job)
{
	HttpPour *http = &job->store->pour->http;

	http->is_alone = !upload_holds_parts(job->store->upload);
	if (http->is_alone && (job->call.transfer == NULL || !http_is_full(job->call.transfer)))
		memory_unfavour(&job->call);
}

/*
 * Gives the upload all pieces that are there, as far as it has room.
 */
static bool
give_pieces(Job *job, char **error)
{
	Pour *pour = job->store->pour;
	Upload *upload = job->store->upload;
	HttpTransfer *transfer = job->call.transfer;

	while (upload_has_room(upload) && transfer != NULL && http_is_full(transfer))
	{
		if (!guard_run(give_piece, job, error))
			return false;
		pour->http.is_alone = !upload_holds_parts(upload);
	}
	while (pour->has_ended && upload_has_room(upload))
	{
		if (!guard_run(give_last_part, job, error))
			return false;
	}
	return true;
}

/* ---------- what comes next ---------- */

/*
 * Stays as it is for ms, or until something happens.  A download that waits
 * for a retry keeps its own alarm.
 */
static Next
keep_waiting(const Job *job, int64 ms)
{
	MonoTime until = clock_mono() + ms * 1000;

	if (job->call.transfer != NULL)
		return next_stay_until(until);
	return job->store->pour->has_ended ? next_wait(STEP_DOWNLOAD, until) : next_stay();
}

/*
 * Begins the download again.
 */
static Next
repeat_download(Job *job)
{
	HttpTransfer *transfer = job->call.transfer;

	if (transfer != NULL)
	{
		http_abort(transfer);
		/* the memory of a call stays as long as its job has outputs */
		bytes_clear(http_so_far(transfer)->body);
	}
	calls_end(&job->call);
	memory_unfavour(&job->call);
	pour_drop(job, true);
	return next_call(STEP_DOWNLOAD);
}

/*
 * Gives up the output, because the store does not take it.
 */
static Next
abandon_output(Job *job, const char *why)
{
	job->store->pour->output->fault =
		MemoryContextStrdup(job->context, store_describe_refusal(job, why));
	return repeat_download(job);
}

/*
 * Handles a failure of the store.
 */
static Next
handle_failure(Job *job, const char *why, bool is_refused)
{
	JobStore *store = job->store;
	Pour *pour = store->pour;
	Upload *upload = store->upload;
	int64 total = pour->http.total;

	memory_unfavour(&job->call);
	/* a job that waits for its store must not occupy a place at its server */
	limits_note_result(&job->place, clock_mono());
	limits_leave(&job->place);
	if (!store_bears(job, why, is_refused))
		return abandon_output(job, why);
	if (store->pours != pour->output && total <= SAVED_MOST &&
		(total < 0 || total <= job->options->max_response))
	{
		store->whole = pour->output;
		return repeat_download(job);
	}
	upload->again_at = clock_mono() + store_pause(job) * 1000;
	return keep_waiting(job, store_pause(job));
}

/*
 * Downloads the output again, after a while, because the store has forgotten
 * the upload.
 */
static Next
pour_again(Job *job)
{
	int64 delay = store_note_loss(job, STORE_FORGETS);

	if (delay < 0)
		return abandon_output(job, STORE_FORGETS);
	(void) repeat_download(job);
	return next_wait(STEP_DOWNLOAD, clock_mono() + delay * 1000);
}

static Next
finish_output(Job *job)
{
	JobStore *store = job->store;
	Pour *pour = store->pour;
	Upload *upload = store->upload;
	Output *output = pour->output;
	uint8 digest[DIGEST_BYTES];

	if (!digest_end(pour->http.whole, digest))
		return repeat_download(job);
	output->sha256 = MemoryContextStrdup(job->context, digest_hex(digest));
	output->len = upload->bytes;
	store_take_object(job, output, upload->object, upload->etag);
	pour_drop(job, false);
	memory_unfavour(&job->call);
	job->download.failures = job->download.redirects = job->download.furthest = 0;
	return next_call(STEP_DOWNLOAD);
}

/*
 * Moves a poured output on: a piece is complete, the download has ended, the
 * store has answered, or the alarm has come.
 */
Next
pour_go_on(Job *job)
{
	JobStore *store = job->store;
	Upload *upload;
	char *error = NULL;
	char *why;

	if (store->upload == NULL && job->call.transfer != NULL && http_is_full(job->call.transfer) &&
		!guard_run(open_upload, job, &error))
		http_keep_whole(job->call.transfer);
	upload = store->upload;
	if (upload == NULL)
		return next_stay();
	note_memory(job);
	if (!give_pieces(job, &error))
		return handle_failure(job, error, false);
	switch (upload_work(job))
	{
		case UPLOAD_BUSY:
			return keep_waiting(job, LOOK_AGAIN_MS);
		case UPLOAD_SAVES:
			upload->is_saved = true;
			return next_save(STEP_DOWNLOAD, job->verdict);
		case UPLOAD_NO_PLACE:
			return keep_waiting(job, NO_PLACE_MS);
		case UPLOAD_WAITS:
			return keep_waiting(job, Max(upload->again_at - clock_mono(), 0) / 1000 + 1);
		case UPLOAD_FAILED:
			why = MemoryContextStrdup(job->context, upload->trouble);
			pfree(upload->trouble);
			upload->trouble = NULL;
			return handle_failure(job, why, upload->is_refused);
		case UPLOAD_GONE:
			return pour_again(job);
		case UPLOAD_DONE:
			return finish_output(job);
	}
	pg_unreachable();
}

/* ---------- the end of a call ---------- */

/*
 * True if an answer has brought all that was missing of an output.  An answer
 * without a body brought nothing, whatever its status says.
 */
static bool
brings_rest(const Job *job, const HttpReply *reply)
{
	const Pour *pour = job->store->pour;

	return reply_is_success(reply) && reply->is_pieces && !reply->is_elsewhere &&
		   job->store->upload->bytes + reply->body->len == pour->http.received &&
		   (pour->http.total < 0 || pour->http.received == (uint64) pour->http.total);
}

/*
 * Takes the rest of an output whose pieces have begun to go to the store.
 * False if no upload has begun, or this is not the end.
 */
bool
pour_take_end(Job *job, HttpReply *reply)
{
	Pour *pour = job->store ? job->store->pour : NULL;

	if (!pour_is_under_way(job) || !brings_rest(job, reply))
		return false;
	pour->has_ended = true;
	pour->last = bytes_create(pour->context, reply->body->limit);
	bytes_move(pour->last, reply->body);
	return true;
}

/*
 * Keeps what a call that was cut off has brought, if we can ask for the rest;
 * else drops the upload.  False if no upload has begun.  The caller decides
 * what comes next.
 */
bool
pour_take_failure(Job *job, HttpReply *reply)
{
	Pour *pour = job->store ? job->store->pour : NULL;
	bool is_rest;

	if (pour == NULL || job->store->upload == NULL)
	{
		/* nothing has come that could be continued */
		pour_drop(job, true);
		return false;
	}
	/* a success that is not the end is useless */
	reply->is_elsewhere |= reply_is_success(reply);
	is_rest = pour->http.etag != NULL && !reply->is_elsewhere && reply->status != 416;
	if (is_rest && reply->is_pieces)
		bytes_move(pour->http.begun, reply->body);
	if (!is_rest)
		pour_drop(job, true);
	return true;
}

/*
 * True if an output had to come whole, because the store failed, but is too
 * large for that.  From then on it comes in pieces, however long the store
 * fails.
 */
bool
pour_take_too_large(Job *job, Output *output, const HttpReply *reply)
{
	JobStore *store = job->store;

	if (store == NULL || reply->error != HTTP_TOO_LARGE || store->whole != output ||
		store->pours == output)
		return false;
	store->pours = output;
	store->whole = NULL;
	return true;
}
