/*
 * fetch.h
 *		The stored objects that a job's request needs as bytes.
 */
#ifndef GENJOB_FETCH_H
#define GENJOB_FETCH_H

#include "life/job.h"

extern void fetch_add(Job *job, Reference *reference, Server *server, const MappingOptions *secrets,
					  const char *bucket, const char *key);
extern void fetch_leave_place(Job *job);
extern void fetch_close(Job *job);

extern ReplySource fetch_source(const Job *job);

#endif /* GENJOB_FETCH_H */
