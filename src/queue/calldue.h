/*
 * calldue.h
 *		Which calls of on_done are due, and as whom: what a dispatcher reads and writes of genjob.callbacks.
 */
#ifndef GENJOB_CALLDUE_H
#define GENJOB_CALLDUE_H

#include "datatype/timestamp.h"

/* A role of which there are calls to be made. */
typedef struct CallbackRole
{
	Oid role;
	TimestampTz due; /* the first of them */
	int room;        /* connections that it may still have */
} CallbackRole;

/* In queue_transact() */
extern int queue_find_callbacks(TimestampTz now, CallbackRole **roles);
extern bool queue_fail_callback(int64 callback, const char *error, TimestampTz now);
extern void queue_block_callbacks(Oid role, const char *error, TimestampTz now);

#endif /* GENJOB_CALLDUE_H */
