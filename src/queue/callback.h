/*
 * callback.h
 *		Calling on_done: what a caller does, connected as the owner of the jobs.
 */
#ifndef GENJOB_CALLBACK_H
#define GENJOB_CALLBACK_H

#include "datatype/timestamp.h"

extern void callback_init(TimestampTz dispatcher_started_at);
extern bool callback_call_some(void);

#endif /* GENJOB_CALLBACK_H */
