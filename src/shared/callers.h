/*
 * callers.h
 *		Callers (processes that call on_done), as their dispatcher sees them.
 */
#ifndef GENJOB_CALLERS_H
#define GENJOB_CALLERS_H

#include "datatype/timestamp.h"

#define CALLERS_ERROR_LEN 256

/* The states of a caller. */
typedef enum CallerState
{
	CALLER_STARTING,   /* not running yet */
	CALLER_CONNECTING, /* PostgreSQL may refuse the connection */
	CALLER_BUSY,
	CALLER_IDLE /* it last found nothing to call */
} CallerState;

/* A caller. */
typedef struct CallerInfo
{
	Oid database; /* invalid: none */
	Oid role;     /* of its connection */
	CallerState state;
	int64 callback;                /* row of genjob.callbacks that it calls now; 0: none */
	uint64 n_calls;                /* that it has begun */
	bool is_overdue;               /* the call did not stop in time */
	bool has_failed;               /* it ended by an error that it could not report */
	char error[CALLERS_ERROR_LEN]; /* why it ends; or "" */
} CallerInfo;

extern Size callers_size(void);
extern void callers_startup(void);

/* For a dispatcher */
extern void callers_disown(Oid database);
extern int callers_count_disowned(Oid database);
extern int callers_reserve(Oid database, Oid role, uint32 *generation);
extern void callers_release(int slot);
extern void callers_read(int slot, CallerInfo *info);
extern void callers_wake(int slot);
extern void callers_dismiss(int slot);

/* For a caller */
extern bool callers_attach(int slot, uint32 generation);
extern void callers_set_state(CallerState state);
extern void callers_begin_call(int64 callback);
extern void callers_end_call(void);
extern void callers_note_overdue(void);
extern void callers_note_told(void);
extern void callers_set_error(const char *message);
extern bool callers_must_leave(void);

#endif /* GENJOB_CALLERS_H */
