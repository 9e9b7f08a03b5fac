/*
 * spoolfields.h
 *		The fields of a job in a spool.
 */
#ifndef GENJOB_SPOOLFIELDS_H
#define GENJOB_SPOOLFIELDS_H

#include "port/pg_crc32c.h"

#include "life/job.h"
#include "queue/queue.h"

#define SPOOL_BUFFER_BYTES 65536

/*
 * What a job's fields pass through: they are counted, written or read, by the same list of them.
 */
typedef struct SpoolStream
{
	enum
	{
		STREAM_COUNTS,
		STREAM_WRITES,
		STREAM_READS
	} use;
	uint64 len; /* so far */
	pg_crc32c crc;
	bool failed;

	int fd; /* STREAM_WRITES */
	char *buffer;
	size_t buffered;

	const char *data; /* STREAM_READS: what is left of the fields */
	uint64 left;
} SpoolStream;

extern void spool_pass(SpoolStream *stream, void *bytes, uint64 len);
extern void spool_flush(SpoolStream *stream);
extern void spool_pass_job(SpoolStream *stream, Job *job, SpooledJob *spooled);

#endif /* GENJOB_SPOOLFIELDS_H */
