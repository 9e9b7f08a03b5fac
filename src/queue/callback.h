/*
 * callback.h
 *		Calls on_done functions, in a process connected as the jobs' owner.
 */
#ifndef GENJOB_CALLBACK_H
#define GENJOB_CALLBACK_H

#include "datatype/timestamp.h"

extern void callback_init(TimestampTz dispatcher_started_at);
extern bool callback_call_some(void);

#endif /* GENJOB_CALLBACK_H */
