/*
 * pour.c
 *		A download that goes on to the object store while it comes, since it is too large to be in memory.
 *
 * libcurl holds the answer back whenever 8 MB of it are there (http/sluice.c); these become a part of an upload
 * (upload.c), and what is behind them comes.  So a job has five pieces in memory at most, however large its output is
 * and however slow its store.
 *
 *		the first piece is there -> the upload begins, and its id is saved -> piece, piece ... -> the last -> the object
 *
 * A download that is cut off is gone on with from where it was, if the server says that it is the same by a strong ETag;
 * else it begins again, and the upload with it.  So does it after a crash, but then the parts that are there are not
 * sent again.
 *
 * What the store does not take stays at the provider, where it may expire.  So an output that could be kept in the table
 * (saved.c) is fetched whole as soon as the store fails, and goes the way of a small one.
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
	MemoryContext context; /* holds this and all below */
	Output *output;
	HttpPour http;
	bool has_ended; /* all of it has come */
	Bytes *last;    /* the piece that is taken last, and is not given to the upload yet */
	size_t given;   /* bytes of it that are */
} Pour;

/* ---------- beginning ---------- */

/*
 * Whether an output may go to the store in pieces: not if its key needs its digest, nor if it is to be in memory.
 */
bool
pour_may(const Job *job, const Output *output)
{
	const JobStore *store = job->store;

	return store != NULL && store->server != NULL && !store->gave_up && store->whole != output &&
		   !keytemplate_needs_digest(store->server->options.key);
}

static void
begin(Job *job, Output *output)
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
 * Has the download of an output come in pieces if it is large; or the rest of it, if it has begun.  In the memory
 * context of the call; may raise an error.
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
		begin(job, output);
	http->pour = &job->store->pour->http;
	request_pour(http);
}

/*
 * Lets go of all that there is of an output that was to go to the store in pieces.  No call may bring more of it.
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
 * Whether an upload has begun of an output that comes.
 */
bool
pour_is_under_way(const Job *job)
{
	return job->store != NULL && job->store->pour != NULL && job->store->upload != NULL;
}

/*
 * Whether all of it has come, and is on its way to the store.
 */
bool
pour_has_ended(const Job *job)
{
	return pour_is_under_way(job) && job->store->pour->has_ended;
}

/* ---------- pieces ---------- */

/*
 * Whether the answer may repeat a secret, which would have to be masked: it is no picture nor the like, and the request
 * had one.
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
 * The ETag of an answer if it is a strong one, palloc'd; NULL: nothing tells whether two answers are the same.
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
 * The first piece is there: the upload begins.
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
	upload_open(job, output, store_ordinal(job, output), store_key(job, output), type,
				etag ? psprintf("%s " INT64_FORMAT, etag, pour->http.total) : NULL);
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
	job->download.failures = 0;
	upload_add(upload, context, piece->data, piece->len, digest_hex(digest));
}

/*
 * Gives the upload the next part of what came last: one, or two if that is a little more than a piece.
 */
static void
give_last(void *arg)
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
 * Where memory is short, a job that has none of it may have a piece; and others, once the store has that.
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
 * Gives the upload what there is, as far as it has room.
 */
static bool
give(Job *job, char **error)
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
		if (!guard_run(give_last, job, error))
			return false;
	}
	return true;
}

/* ---------- what comes next ---------- */

/*
 * Goes on as it is until then, or until something happens.  A download that is to be tried again has its own alarm.
 */
static Next
stay(const Job *job, int64 ms)
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
begin_again(Job *job)
{
	HttpTransfer *transfer = job->call.transfer;

	if (transfer != NULL)
	{
		http_abort(transfer);
		/* the memory of a call stays as long as its job has outputs */
		bytes_clear(http_so_far(transfer)->body);
	}
	job->call.transfer = NULL;
	memory_unfavour(&job->call);
	pour_drop(job, true);
	return next_call(STEP_DOWNLOAD);
}

/*
 * The store does not take the output.
 */
static Next
give_up(Job *job, const char *why)
{
	job->store->pour->output->fault =
		MemoryContextStrdup(job->context, store_describe_refusal(job, why));
	return begin_again(job);
}

/*
 * The store has failed.
 */
static Next
failed(Job *job, const char *why, bool is_refused)
{
	JobStore *store = job->store;
	Pour *pour = store->pour;
	Upload *upload = store->upload;
	int64 total = pour->http.total;

	memory_unfavour(&job->call);
	/* who waits for the store takes no place at the server that has brought the answer */
	limits_note_result(&job->place, clock_mono());
	limits_leave(&job->place);
	if (!store_bears(job, why, is_refused))
		return give_up(job, why);
	if (store->pours != pour->output && total <= SAVED_MOST &&
		(total < 0 || total <= job->options->max_response))
	{
		store->whole = pour->output;
		return begin_again(job);
	}
	upload->again_at = clock_mono() + store_pause(job) * 1000;
	return stay(job, store_pause(job));
}

static Next
finish(Job *job)
{
	JobStore *store = job->store;
	Pour *pour = store->pour;
	Upload *upload = store->upload;
	Output *output = pour->output;
	uint8 digest[DIGEST_BYTES];

	if (!digest_end(pour->http.whole, digest))
		return begin_again(job);
	output->sha256 = MemoryContextStrdup(job->context, digest_hex(digest));
	output->len = upload->bytes;
	store_take_object(job, output, upload->object, upload->etag);
	pour_drop(job, false);
	memory_unfavour(&job->call);
	job->download.failures = job->download.redirects = 0;
	return next_call(STEP_DOWNLOAD);
}

/*
 * Something has happened to an output that goes to the store while it comes: a piece is complete, the end has come, the
 * store has answered, or it is time to look.
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
	if (!give(job, &error))
		return failed(job, error, false);
	switch (upload_work(job))
	{
		case UPLOAD_BUSY:
			return stay(job, LOOK_AGAIN_MS);
		case UPLOAD_SAVES:
			upload->is_saved = true;
			return next_save(STEP_DOWNLOAD, job->verdict);
		case UPLOAD_NO_PLACE:
			return stay(job, NO_PLACE_MS);
		case UPLOAD_WAITS:
			return stay(job, Max(upload->again_at - clock_mono(), 0) / 1000 + 1);
		case UPLOAD_FAILED:
			why = MemoryContextStrdup(job->context, upload->trouble);
			pfree(upload->trouble);
			upload->trouble = NULL;
			return failed(job, why, upload->is_refused);
		case UPLOAD_GONE:
			why = "the store does not know the upload any more.";
			return store_bears(job, why, false) ? begin_again(job) : give_up(job, why);
		case UPLOAD_DONE:
			return finish(job);
	}
	pg_unreachable();
}

/* ---------- the end of a call ---------- */

/*
 * Whether an answer has brought all that was missing of an output.  One that has no body has brought nothing, whatever
 * its status says.
 */
static bool
is_end(const Job *job, const HttpReply *reply)
{
	const Pour *pour = job->store->pour;

	return reply_is_success(reply) && reply->is_pieces && !reply->is_elsewhere &&
		   job->store->upload->bytes + reply->body->len == pour->http.received &&
		   (pour->http.total < 0 || pour->http.received == (uint64) pour->http.total);
}

/*
 * Takes what came last of an output of which pieces are on their way already.  False where there are none, or it is not
 * the end.
 */
bool
pour_take_end(Job *job, HttpReply *reply)
{
	Pour *pour = job->store ? job->store->pour : NULL;

	if (!pour_is_under_way(job) || !is_end(job, reply))
		return false;
	pour->has_ended = true;
	pour->last = bytes_create(pour->context, reply->body->limit);
	bytes_move(pour->last, reply->body);
	return true;
}

/*
 * Keeps what a call has brought that was cut off, if the rest can be asked for; else all begins again.  False where no
 * pieces are on their way.  What then comes next is up to the caller.
 */
bool
pour_take_failure(Job *job, HttpReply *reply)
{
	Pour *pour = job->store ? job->store->pour : NULL;
	bool is_rest;

	if (pour == NULL || job->store->upload == NULL)
	{
		/* what has come of it is nothing that could be gone on with */
		pour_drop(job, true);
		return false;
	}
	/* a success that is not the end is nothing that could be used */
	reply->is_elsewhere |= reply_is_success(reply);
	is_rest = pour->http.etag != NULL && !reply->is_elsewhere && reply->status != 416;
	if (is_rest && reply->is_pieces)
		bytes_move(pour->http.begun, reply->body);
	if (!is_rest)
		pour_drop(job, true);
	return true;
}

/*
 * Whether an output that was to come whole, because the store failed, turned out to be too large for that: then it
 * comes in pieces, however long the store takes.
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
