/*
 * calldue.h
 *		The dispatcher's side of genjob.callbacks: which calls of on_done are
 *		due, and as which role.
 */
#ifndef GENJOB_CALLDUE_H
#define GENJOB_CALLDUE_H

#include "datatype/timestamp.h"

/* A role with calls to make. */
typedef struct CallbackRole
{
	Oid role;
	TimestampTz due; /* when the first call is due */
	int room;        /* its connection limit less its client sessions */
} CallbackRole;

/* In queue_transact() */
extern int queue_find_callbacks(TimestampTz now, CallbackRole **roles);
extern bool queue_fail_callback(int64 callback, const char *error, TimestampTz now);
extern void queue_block_callbacks(Oid role, const char *error, TimestampTz now);

#endif /* GENJOB_CALLDUE_H */
