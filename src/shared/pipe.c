/*
 * pipe.c
 *		Parcels of bytes between a dispatcher and a process that it started.
 *
 * A pipe is two shm_mq queues, one for each direction, in a segment of shared
 * memory that ends with the two processes: what goes through may be secret,
 * and is never on disk.  Nothing here waits.  Each call sends or receives a
 * limited number of bytes, so that a large answer takes no more of a loop's
 * turn than a small one.
 *
 * A parcel is one message with its kind and the lengths of its pieces, then
 * the pieces, in messages of CHUNK_BYTES at most.  An empty message says that
 * the rest of the parcel will not come.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"
#include "utils/memutils.h"

#include "shared/pipe.h"

#define QUEUE_BYTES ((Size) 1024 * 1024)
#define CHUNK_BYTES ((Size) 64 * 1024)
#define MAX_PIECES 1000000

/* The segment begins with this; the queues follow. */
typedef struct Shared
{
	pg_atomic_uint32 hurries; /* the other process must finish soon */
} Shared;

#define SHARED_BYTES MAXALIGN(sizeof(Shared))

/* A parcel begins with this, and the lengths of its pieces. */
typedef struct ParcelHead
{
	int32 kind;
	int32 n;
	uint64 lens[FLEXIBLE_ARRAY_MEMBER];
} ParcelHead;

struct Pipe
{
	dsm_segment *segment;
	Shared *shared;
	shm_mq_handle *out;
	shm_mq_handle *in;

	/* What is being sent */
	bool sends;
	ParcelHead *head; /* NULL once it is sent */
	Parcel outgoing;
	int at;      /* index of the piece */
	size_t done; /* bytes of it */
	Size begun;  /* length of a message that is partly in the queue; 0: none */
	bool is_abandoned;

	/* What is being received */
	MemoryContext context; /* NULL: receiving nothing */
	Parcel incoming;
	int in_at;
	size_t in_done;
};

/* ---------- creation ---------- */

static Pipe *
make_pipe(dsm_segment *segment, shm_mq *out, shm_mq *in)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	Pipe *pipe = palloc0(sizeof(Pipe));

	dsm_pin_mapping(segment);
	pipe->segment = segment;
	pipe->shared = dsm_segment_address(segment);
	shm_mq_set_sender(out, MyProc);
	shm_mq_set_receiver(in, MyProc);
	pipe->out = shm_mq_attach(out, segment, NULL);
	pipe->in = shm_mq_attach(in, segment, NULL);
	MemoryContextSwitchTo(caller);
	return pipe;
}

/*
 * Creates a pipe.  Returns our end, and the handle for the process to be
 * started.  Raises an error if there is no shared memory for it.
 */
Pipe *
pipe_create(dsm_handle *handle)
{
	dsm_segment *segment = dsm_create(SHARED_BYTES + 2 * QUEUE_BYTES, 0);
	char *base = dsm_segment_address(segment);
	shm_mq *down = shm_mq_create(base + SHARED_BYTES, QUEUE_BYTES);
	shm_mq *up = shm_mq_create(base + SHARED_BYTES + QUEUE_BYTES, QUEUE_BYTES);

	pg_atomic_init_u32(&((Shared *) base)->hurries, 0);
	*handle = dsm_segment_handle(segment);
	return make_pipe(segment, down, up);
}

/*
 * Sets which process has the other end.  So we notice its death even before it
 * opens that.
 */
void
pipe_set_process(Pipe *pipe, BackgroundWorkerHandle *process)
{
	shm_mq_set_handle(pipe->out, process);
	shm_mq_set_handle(pipe->in, process);
}

/*
 * Opens the other end.  Raises an error if the pipe is gone.
 */
Pipe *
pipe_open(dsm_handle handle)
{
	dsm_segment *segment = dsm_attach(handle);
	char *base;

	if (segment == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the genjob dispatcher that started this process is gone")));
	base = dsm_segment_address(segment);
	return make_pipe(segment, (shm_mq *) (base + SHARED_BYTES + QUEUE_BYTES),
					 (shm_mq *) (base + SHARED_BYTES));
}

/*
 * Tells the process at the other end to finish.
 */
void
pipe_hurry(Pipe *pipe)
{
	pg_atomic_write_u32(&pipe->shared->hurries, 1);
}

bool
pipe_must_hurry(const Pipe *pipe)
{
	return pg_atomic_read_u32(&pipe->shared->hurries) != 0;
}

/*
 * Closes this end, and tells the other process.  What was received stays.
 */
void
pipe_close(Pipe *pipe)
{
	shm_mq_detach(pipe->out);
	shm_mq_detach(pipe->in);
	dsm_detach(pipe->segment);
	if (pipe->head != NULL)
		pfree(pipe->head);
	pfree(pipe);
}

/* ---------- sending ---------- */

/*
 * Begins to send a parcel.  Its pieces must stay until pipe_send() returns
 * PIPE_DONE, or until pipe_abandon().  No piece is empty.
 */
void
pipe_put(Pipe *pipe, const Parcel *parcel)
{
	int i;

	Assert(!pipe->sends);
	pipe->head = MemoryContextAlloc(TopMemoryContext, offsetof(ParcelHead, lens) +
														  Max(parcel->n, 1) * sizeof(uint64));
	pipe->head->kind = parcel->kind;
	pipe->head->n = parcel->n;
	for (i = 0; i < parcel->n; i++)
	{
		Assert(parcel->pieces[i].len > 0);
		pipe->head->lens[i] = parcel->pieces[i].len;
	}
	pipe->outgoing = *parcel;
	pipe->at = 0;
	pipe->done = pipe->begun = 0;
	pipe->is_abandoned = false;
	pipe->sends = true;
}

bool
pipe_is_sending(const Pipe *pipe)
{
	return pipe->sends;
}

/*
 * Cancels the rest of the parcel that is being sent.  Its pieces may be freed
 * at once; still call pipe_send() to the end.
 */
void
pipe_abandon(Pipe *pipe)
{
	pipe->is_abandoned = pipe->sends;
	pipe->outgoing.pieces = NULL;
}

/*
 * True if the rest of the last parcel was cancelled.
 */
bool
pipe_was_abandoned(const Pipe *pipe)
{
	return pipe->is_abandoned;
}

static void
skip_sent(Pipe *pipe)
{
	while (!pipe->is_abandoned && pipe->at < pipe->outgoing.n &&
		   pipe->done == pipe->outgoing.pieces[pipe->at].len)
	{
		pipe->at++;
		pipe->done = 0;
	}
}

/*
 * Returns the next message.  If it is partly in the queue, it keeps its
 * length.
 */
static const char *
next_message(Pipe *pipe, Size *len, bool *is_last)
{
	static const char nothing[CHUNK_BYTES];
	const Piece *piece;

	*is_last = pipe->is_abandoned && pipe->begun == 0;
	if (pipe->head != NULL)
	{
		*len = offsetof(ParcelHead, lens) + pipe->head->n * sizeof(uint64);
		*is_last = false;
		return (char *) pipe->head;
	}
	if (pipe->is_abandoned)
	{
		*len = pipe->begun;
		return nothing;
	}
	piece = &pipe->outgoing.pieces[pipe->at];
	*len = Min(piece->len - pipe->done, CHUNK_BYTES);
	*is_last = pipe->at == pipe->outgoing.n - 1 && pipe->done + *len == piece->len;
	return piece->data + pipe->done;
}

static void
note_sent(Pipe *pipe, Size len, bool is_last)
{
	if (pipe->head != NULL)
	{
		pfree(pipe->head);
		pipe->head = NULL;
	}
	else
		pipe->done += len;
	pipe->begun = 0;
	if (is_last)
		pipe->sends = false;
	else
		skip_sent(pipe);
	/* a parcel without pieces ends with its head */
	if (!pipe->is_abandoned && pipe->at == pipe->outgoing.n)
		pipe->sends = false;
}

/*
 * Sends more of the parcel, until most bytes are exceeded; then sets the latch
 * and returns PIPE_WAITS.
 */
PipeResult
pipe_send(Pipe *pipe, size_t most)
{
	size_t sent = 0;

	while (pipe->sends)
	{
		Size len;
		bool is_last;
		const char *data = next_message(pipe, &len, &is_last);
		bool flush = is_last || pipe->head != NULL;
		shm_mq_result result;

		if (sent >= most)
		{
			SetLatch(MyLatch);
			return PIPE_WAITS;
		}
		result = shm_mq_send(pipe->out, len, data, true, flush);
		if (result == SHM_MQ_DETACHED)
			return PIPE_ENDED;
		if (result == SHM_MQ_WOULD_BLOCK)
		{
			pipe->begun = len;
			return PIPE_WAITS;
		}
		sent += len;
		note_sent(pipe, len, is_last);
	}
	return PIPE_DONE;
}

/* ---------- receiving ---------- */

/*
 * True if part of a parcel has arrived.
 */
bool
pipe_is_receiving(const Pipe *pipe)
{
	return pipe->context != NULL;
}

static void
forget_incoming(Pipe *pipe)
{
	int i;

	for (i = 0; pipe->incoming.pieces != NULL && i < pipe->incoming.n; i++)
		pfree(pipe->incoming.pieces[i].data);
	if (pipe->incoming.pieces != NULL)
		pfree(pipe->incoming.pieces);
	pipe->incoming = (Parcel){0};
	pipe->context = NULL;
}

static void
skip_received(Pipe *pipe)
{
	while (pipe->in_at < pipe->incoming.n && pipe->in_done == pipe->incoming.pieces[pipe->in_at].len)
	{
		pipe->in_at++;
		pipe->in_done = 0;
	}
}

/*
 * False if the head is malformed, or if memory for the parcel is short.
 */
static bool
take_head(Pipe *pipe, const ParcelHead *head, Size len, MemoryContext context)
{
	int i;

	if (len < offsetof(ParcelHead, lens) || head->n < 0 || head->n > MAX_PIECES ||
		len != offsetof(ParcelHead, lens) + head->n * sizeof(uint64))
		return false;
	pipe->incoming = (Parcel){head->kind, 0, NULL};
	pipe->incoming.pieces =
		MemoryContextAllocExtended(context, Max(head->n, 1) * sizeof(Piece), MCXT_ALLOC_NO_OOM);
	if (pipe->incoming.pieces == NULL)
		return false;
	pipe->context = context;
	for (i = 0; i < head->n; i++)
	{
		Piece *piece = &pipe->incoming.pieces[i];

		piece->len = head->lens[i];
		piece->data = piece->len >= MaxAllocHugeSize
						  ? NULL
						  : MemoryContextAllocExtended(context, piece->len + 1,
													   MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
		if (piece->data == NULL)
			return false;
		piece->data[piece->len] = '\0';
		pipe->incoming.n++;
	}
	pipe->in_at = 0;
	pipe->in_done = 0;
	skip_received(pipe);
	return true;
}

static bool
take_bytes(Pipe *pipe, const char *data, Size len)
{
	Piece *piece = &pipe->incoming.pieces[pipe->in_at];

	if (len > piece->len - pipe->in_done)
		return false;
	memcpy(piece->data + pipe->in_done, data, len);
	pipe->in_done += len;
	skip_received(pipe);
	return true;
}

/*
 * Receives more of a parcel, until most bytes are exceeded, into context,
 * which must be the same until PIPE_DONE.
 */
PipeResult
pipe_receive(Pipe *pipe, MemoryContext context, size_t most, Parcel *parcel)
{
	size_t received = 0;

	while (received < most)
	{
		Size len;
		void *data;
		shm_mq_result result = shm_mq_receive(pipe->in, &len, &data, true);
		bool is_sound;

		if (result == SHM_MQ_WOULD_BLOCK)
			return PIPE_WAITS;
		if (result == SHM_MQ_DETACHED)
			return PIPE_ENDED;
		if (len == 0)
		{
			forget_incoming(pipe);
			continue;
		}
		received += len;
		is_sound = pipe->context == NULL ? take_head(pipe, data, len, context)
										 : take_bytes(pipe, data, len);
		if (!is_sound)
			return PIPE_ENDED;
		if (pipe->in_at < pipe->incoming.n)
			continue;
		*parcel = pipe->incoming;
		pipe->incoming = (Parcel){0};
		pipe->context = NULL;
		return PIPE_DONE;
	}
	SetLatch(MyLatch);
	return PIPE_WAITS;
}
