/*
 * spoolfields.h
 *		The fields of a job in a spool.
 */
#ifndef GENJOB_SPOOLFIELDS_H
#define GENJOB_SPOOLFIELDS_H

#include "lib/stringinfo.h"
#include "port/pg_crc32c.h"

#include "life/job.h"
#include "queue/queue.h"
#include "shared/pipe.h"

#define SPOOL_BUFFER_BYTES 65536

/*
 * What a job's fields pass through.  One list of fields counts, writes and
 * reads them.
 */
typedef struct SpoolStream
{
	enum
	{
		STREAM_COUNTS,
		STREAM_WRITES,
		STREAM_READS,
		STREAM_PACKS,  /* into a parcel; a large field is a piece of its own, and not copied */
		STREAM_UNPACKS /* large pieces become the reader's */
	} use;
	uint64 len; /* so far */
	pg_crc32c crc;
	bool failed;

	int fd; /* STREAM_WRITES */
	char *buffer;
	size_t buffered;

	const char *data; /* STREAM_READS, STREAM_UNPACKS: what is left of the fields */
	uint64 left;

	StringInfoData packed; /* STREAM_PACKS: what is not large */
	Parcel parcel;         /* STREAM_PACKS, STREAM_UNPACKS */
	int at;                /* STREAM_UNPACKS: its next piece */
} SpoolStream;

extern void spool_pass(SpoolStream *stream, void *bytes, uint64 len);
extern void spool_flush(SpoolStream *stream);
extern void spool_pass_bytes(SpoolStream *stream, char **bytes, size_t *len);
extern void spool_pass_text(SpoolStream *stream, char **text);
extern void spool_pass_verdict(SpoolStream *stream, Verdict *verdict);
extern void spool_pass_remote(SpoolStream *stream, Remote *remote);
extern void spool_pass_job(SpoolStream *stream, Job *job, SpooledJob *spooled);

/* A field that is no pointer */
#define SPOOL_PASS(stream, field) spool_pass(stream, &(field), sizeof(field))

extern void spool_begin_packing(SpoolStream *stream);
extern Parcel spool_end_packing(SpoolStream *stream, int kind);
extern bool spool_begin_unpacking(SpoolStream *stream, const Parcel *parcel);

#endif /* GENJOB_SPOOLFIELDS_H */
