/*
 * spoolfields.c
 *		The fields of a job for another process.  One list of fields counts,
 *		writes and reads them.
 *
 * In a spool (spool.c) they are in a file, one after another.  In a parcel
 * (parcels.c) large fields stay where they are.
 */
#include "postgres.h"

#include <unistd.h>

#include "utils/memutils.h"

#include "base/compat.h"
#include "process/spoolfields.h"

#define NO_TEXT PG_UINT64_MAX
#define PIECE_BYTES (8 * 1024) /* a field this large is a piece of its own in a parcel */
#define FIRST_PIECES 16        /* room in a new parcel */

/*
 * Writes what is buffered.
 */
void
spool_flush(SpoolStream *stream)
{
	size_t done = 0;

	while (done < stream->buffered && !stream->failed)
	{
		ssize_t n = write(stream->fd, stream->buffer + done, stream->buffered - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			errno = n == 0 ? ENOSPC : errno;
			stream->failed = true;
		}
		else
			done += n;
	}
	stream->buffered = 0;
}

static void
stream_write(SpoolStream *stream, const char *bytes, size_t len)
{
	while (len > 0 && !stream->failed)
	{
		size_t n = Min(len, SPOOL_BUFFER_BYTES - stream->buffered);

		memcpy(stream->buffer + stream->buffered, bytes, n);
		stream->buffered += n;
		bytes += n;
		len -= n;
		if (stream->buffered == SPOOL_BUFFER_BYTES)
			spool_flush(stream);
	}
}

/*
 * Counts, writes, reads, packs or unpacks bytes.
 */
void
spool_pass(SpoolStream *stream, void *bytes, uint64 len)
{
	switch (stream->use)
	{
		case STREAM_COUNTS:
			COMP_CRC32C(stream->crc, bytes, len);
			break;
		case STREAM_WRITES:
			stream_write(stream, bytes, len);
			break;
		case STREAM_PACKS:
			appendBinaryStringInfo(&stream->packed, bytes, len);
			break;
		case STREAM_READS:
		case STREAM_UNPACKS:
			if (len > stream->left)
			{
				stream->failed = true;
				memset(bytes, 0, len);
				return;
			}
			memcpy(bytes, stream->data, len);
			stream->data += len;
			stream->left -= len;
			break;
	}
	stream->len += len;
}

static bool
is_read(const SpoolStream *stream)
{
	return stream->use == STREAM_READS || stream->use == STREAM_UNPACKS;
}

/* ---------- parcels ---------- */

void
spool_begin_packing(SpoolStream *stream)
{
	*stream = (SpoolStream){.use = STREAM_PACKS};
	initStringInfo(&stream->packed);
	stream->parcel.pieces = palloc(FIRST_PIECES * sizeof(Piece));
	stream->parcel.n = 1;
}

/*
 * Returns what was packed, in the memory context of spool_begin_packing().
 * Large pieces stay where they were.
 */
Parcel
spool_end_packing(SpoolStream *stream, int kind)
{
	stream->parcel.kind = kind;
	stream->parcel.pieces[0] = (Piece){stream->packed.data, stream->packed.len};
	return stream->parcel;
}

/*
 * Begins to read a parcel.  Large pieces become part of what is read; the rest
 * is copied.  False if the parcel is empty.
 */
bool
spool_begin_unpacking(SpoolStream *stream, const Parcel *parcel)
{
	*stream = (SpoolStream){.use = STREAM_UNPACKS, .parcel = *parcel, .at = 1};
	if (parcel->n < 1)
		return false;
	stream->data = parcel->pieces[0].data;
	stream->left = parcel->pieces[0].len;
	return true;
}

static void
add_piece(Parcel *parcel, char *bytes, uint64 len)
{
	/* there is room for FIRST_PIECES, which doubles */
	if (parcel->n >= FIRST_PIECES && (parcel->n & (parcel->n - 1)) == 0)
		parcel->pieces = repalloc_huge(parcel->pieces, 2 * parcel->n * sizeof(Piece));
	parcel->pieces[parcel->n++] = (Piece){bytes, len};
}

/*
 * Passes large bytes into a parcel, or out of it, as a piece.  False if they
 * pass like all others.
 */
static bool
pass_piece(SpoolStream *stream, char **bytes, uint64 len)
{
	Parcel *parcel = &stream->parcel;
	bool is_parcel = stream->use == STREAM_PACKS || stream->use == STREAM_UNPACKS;

	if (!is_parcel || len < PIECE_BYTES)
		return false;
	if (stream->use == STREAM_PACKS)
	{
		add_piece(parcel, *bytes, len);
		return true;
	}
	if (stream->at >= parcel->n || parcel->pieces[stream->at].len != len)
	{
		stream->failed = true;
		return true;
	}
	*bytes = parcel->pieces[stream->at++].data;
	return true;
}

/* ---------- kinds of fields ---------- */

/*
 * Passes bytes and their length.  Bytes that are read have a NUL byte after
 * them, and are in the current memory context, except large pieces.
 */
void
spool_pass_bytes(SpoolStream *stream, char **bytes, size_t *len)
{
	uint64 n = *bytes ? *len : NO_TEXT;

	SPOOL_PASS(stream, n);
	if (!is_read(stream))
	{
		if (*bytes != NULL && !pass_piece(stream, bytes, n))
			spool_pass(stream, *bytes, n);
		return;
	}
	*bytes = NULL;
	*len = 0;
	if (n == NO_TEXT || stream->failed || pass_piece(stream, bytes, n))
	{
		*len = *bytes ? n : 0;
		return;
	}
	if (n > stream->left)
	{
		stream->failed = true;
		return;
	}
	*bytes = MemoryContextAllocHuge(CurrentMemoryContext, n + 1);
	(*bytes)[n] = '\0';
	*len = n;
	spool_pass(stream, *bytes, n);
}

/*
 * Passes a value of a column as it is stored.  Only this cluster can read it.
 */
static void
pass_value(SpoolStream *stream, struct varlena **value)
{
	size_t len = !is_read(stream) && *value ? VARSIZE_ANY(*value) : 0;

	spool_pass_bytes(stream, (char **) value, &len);
	if (is_read(stream) && *value != NULL)
		stream->failed |= len < VARHDRSZ || !VARATT_IS_4B_U(*value) || VARSIZE(*value) != len;
}

void
spool_pass_text(SpoolStream *stream, char **text)
{
	size_t len = !is_read(stream) && *text ? strlen(*text) : 0;

	spool_pass_bytes(stream, text, &len);
}

/*
 * The other process lacks each field that is not passed.
 */
#define PASSES_ALL(type, bytes) \
	StaticAssertDecl(sizeof(void *) != 8 || sizeof(type) == (bytes), \
					 "pass the new field of " #type ", and then say how large it is")

PASSES_ALL(Output, 104);
PASSES_ALL(Verdict, 104);
PASSES_ALL(Remote, 64);

static void
pass_outputs(SpoolStream *stream, Verdict *verdict)
{
	int32 n = list_length(verdict->outputs);
	int32 i;

	SPOOL_PASS(stream, n);
	for (i = 0; i < n && !stream->failed; i++)
	{
		Output *output = is_read(stream) ? palloc0(sizeof(Output)) : list_nth(verdict->outputs, i);
		uint64 len = output->len;

		SPOOL_PASS(stream, len);
		spool_pass_text(stream, (char **) &output->content_type);
		spool_pass_text(stream, &output->url);
		spool_pass_bytes(stream, (char **) &output->data, &output->len);
		if (output->data == NULL)
			output->len = len; /* of what is in a store */
		spool_pass_text(stream, &output->object);
		spool_pass_text(stream, &output->etag);
		spool_pass_text(stream, &output->store);
		SPOOL_PASS(stream, output->store_oid);
		spool_pass_text(stream, &output->sha256);
		spool_pass_text(stream, &output->original);
		SPOOL_PASS(stream, output->reference);
		spool_pass_text(stream, &output->fault);
		if (is_read(stream))
			verdict->outputs = lappend(verdict->outputs, output);
	}
}

void
spool_pass_verdict(SpoolStream *stream, Verdict *verdict)
{
	SPOOL_PASS(stream, verdict->kind);
	SPOOL_PASS(stream, verdict->unknown);
	SPOOL_PASS(stream, verdict->http_status);
	spool_pass_text(stream, &verdict->error);
	spool_pass_text(stream, &verdict->note);
	spool_pass_text(stream, &verdict->remote_state);
	spool_pass_text(stream, &verdict->body);
	spool_pass_text(stream, &verdict->result);
	spool_pass_text(stream, &verdict->usage);
	spool_pass_text(stream, &verdict->answer);
	pass_outputs(stream, verdict);
}

void
spool_pass_remote(SpoolStream *stream, Remote *remote)
{
	spool_pass_text(stream, &remote->id);
	spool_pass_text(stream, &remote->urls);
	spool_pass_text(stream, &remote->answer);
	spool_pass_text(stream, &remote->usage);
	spool_pass_text(stream, &remote->note);
	spool_pass_text(stream, &remote->token_digest);
	spool_pass_text(stream, &remote->uploads);
	SPOOL_PASS(stream, remote->has_verdict);
	SPOOL_PASS(stream, remote->is_unsent);
	SPOOL_PASS(stream, remote->is_private);
	SPOOL_PASS(stream, remote->is_public);
}

/*
 * Passes what a report or a save writes of a job, and what must follow that.
 */
void
spool_pass_job(SpoolStream *stream, Job *job, SpooledJob *spooled)
{
	SPOOL_PASS(stream, spooled->id);
	SPOOL_PASS(stream, spooled->is_save);
	spool_pass_text(stream, &spooled->ran_on);
	spool_pass_text(stream, &spooled->backend);
	SPOOL_PASS(stream, job->attempt);
	spool_pass_text(stream, &job->idempotency_key);
	spool_pass_text(stream, &job->sent);
	spool_pass_text(stream, &job->server_name);
	spool_pass_text(stream, &job->tenant);
	SPOOL_PASS(stream, job->owner);
	SPOOL_PASS(stream, job->priority);
	SPOOL_PASS(stream, job->failures);
	SPOOL_PASS(stream, job->losses);
	SPOOL_PASS(stream, job->unknown_ends);
	SPOOL_PASS(stream, job->put_off_since);
	SPOOL_PASS(stream, job->max_attempts);
	SPOOL_PASS(stream, job->expires_at);
	SPOOL_PASS(stream, job->started_at);
	spool_pass_remote(stream, &job->remote);
	spool_pass_verdict(stream, job->verdict);
	pass_value(stream, &job->report.result);
	SPOOL_PASS(stream, job->report.new_state);
	SPOOL_PASS(stream, job->report.run_at);
	SPOOL_PASS(stream, job->report.counts);
	SPOOL_PASS(stream, job->report.must_cancel);
}
