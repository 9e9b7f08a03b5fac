/*
 * spoolfields.c
 *		The fields of a job in a spool: counted, written and read by the same list of them.
 */
#include "postgres.h"

#include <unistd.h>

#include "utils/memutils.h"

#include "base/compat.h"
#include "process/spoolfields.h"

#define NO_TEXT PG_UINT64_MAX

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
 * Counts, writes or reads so many bytes.
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
		case STREAM_READS:
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

#define PASS(stream, field) spool_pass(stream, &(field), sizeof(field))

/*
 * Bytes of a length; what is read is followed by a NUL byte, in the current memory context.
 */
static void
pass_bytes(SpoolStream *stream, char **bytes, size_t *len)
{
	uint64 n = *bytes ? *len : NO_TEXT;

	PASS(stream, n);
	if (stream->use != STREAM_READS)
	{
		if (*bytes != NULL)
			spool_pass(stream, *bytes, *len);
		return;
	}
	*bytes = NULL;
	*len = 0;
	if (n == NO_TEXT || stream->failed)
		return;
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
 * A value of a column as it is stored, which only this cluster can read.
 */
static void
pass_value(SpoolStream *stream, struct varlena **value)
{
	size_t len = stream->use != STREAM_READS && *value ? VARSIZE_ANY(*value) : 0;

	pass_bytes(stream, (char **) value, &len);
	if (stream->use == STREAM_READS && *value != NULL)
		stream->failed |= len < VARHDRSZ || !VARATT_IS_4B_U(*value) || VARSIZE(*value) != len;
}

static void
pass_text(SpoolStream *stream, char **text)
{
	size_t len = stream->use != STREAM_READS && *text ? strlen(*text) : 0;

	pass_bytes(stream, text, &len);
}

static void
pass_outputs(SpoolStream *stream, Verdict *verdict)
{
	int32 n = list_length(verdict->outputs);
	int32 i;

	PASS(stream, n);
	for (i = 0; i < n && !stream->failed; i++)
	{
		Output *output =
			stream->use == STREAM_READS ? palloc0(sizeof(Output)) : list_nth(verdict->outputs, i);

		pass_text(stream, (char **) &output->content_type);
		pass_text(stream, &output->url);
		pass_bytes(stream, (char **) &output->data, &output->len);
		if (stream->use == STREAM_READS)
			verdict->outputs = lappend(verdict->outputs, output);
	}
}

static void
pass_verdict(SpoolStream *stream, Verdict *verdict)
{
	PASS(stream, verdict->kind);
	PASS(stream, verdict->unknown);
	PASS(stream, verdict->http_status);
	pass_text(stream, &verdict->error);
	pass_text(stream, &verdict->result);
	pass_text(stream, &verdict->usage);
	pass_text(stream, &verdict->answer);
	pass_outputs(stream, verdict);
}

static void
pass_remote(SpoolStream *stream, Remote *remote)
{
	pass_text(stream, &remote->id);
	pass_text(stream, &remote->urls);
	pass_text(stream, &remote->answer);
	pass_text(stream, &remote->usage);
	PASS(stream, remote->is_private);
	PASS(stream, remote->is_public);
}

/*
 * What is kept of a job besides its id: all that a report or a save would have written, and what follows from that.
 */
void
spool_pass_job(SpoolStream *stream, Job *job, SpooledJob *spooled)
{
	PASS(stream, spooled->id);
	PASS(stream, spooled->is_save);
	pass_text(stream, &spooled->ran_on);
	pass_text(stream, &spooled->backend);
	PASS(stream, job->attempt);
	pass_text(stream, &job->idempotency_key);
	pass_text(stream, &job->server_name);
	pass_text(stream, &job->tenant);
	PASS(stream, job->owner);
	PASS(stream, job->priority);
	PASS(stream, job->failures);
	PASS(stream, job->losses);
	PASS(stream, job->max_attempts);
	PASS(stream, job->expires_at);
	PASS(stream, job->started_at);
	pass_remote(stream, &job->remote);
	pass_verdict(stream, job->verdict);
	pass_value(stream, &job->result);
	pass_text(stream, (char **) &job->new_state);
	PASS(stream, job->run_at);
	PASS(stream, job->counts);
	PASS(stream, job->must_cancel);
}
