/*
 * pipe.h
 *		Parcels of bytes between a dispatcher and a process that it started.
 */
#ifndef GENJOB_PIPE_H
#define GENJOB_PIPE_H

#include "postmaster/bgworker.h"
#include "storage/dsm.h"

typedef struct Pipe Pipe;

/*
 * Bytes of a parcel.  In a received parcel, each data is a palloc'd chunk of
 * its own, with a NUL byte behind it.
 */
typedef struct Piece
{
	char *data;
	size_t len;
} Piece;

typedef struct Parcel
{
	int32 kind; /* the two processes choose it */
	int32 n;
	Piece *pieces;
} Parcel;

typedef enum PipeResult
{
	PIPE_WAITS, /* not complete yet; the latch is set when it can go on */
	PIPE_DONE,
	PIPE_ENDED /* the other process is gone, or its parcel is malformed or too large */
} PipeResult;

/* The dispatcher's end */
extern Pipe *pipe_create(dsm_handle *handle);
extern void pipe_set_process(Pipe *pipe, BackgroundWorkerHandle *process);
extern void pipe_hurry(Pipe *pipe);

/* The other end */
extern Pipe *pipe_open(dsm_handle handle);
extern bool pipe_must_hurry(const Pipe *pipe);

/* Both */
extern void pipe_close(Pipe *pipe);
extern void pipe_put(Pipe *pipe, const Parcel *parcel);
extern PipeResult pipe_send(Pipe *pipe, size_t most);
extern void pipe_abandon(Pipe *pipe);
extern bool pipe_was_abandoned(const Pipe *pipe);
extern bool pipe_is_sending(const Pipe *pipe);
extern bool pipe_is_receiving(const Pipe *pipe);
extern PipeResult pipe_receive(Pipe *pipe, MemoryContext context, size_t most, Parcel *parcel);

#endif /* GENJOB_PIPE_H */
