/*
 * guard.c
 *		Errors that must not end the process.
 *
 * What one job's bytes do (memory runs short over them, a column that was written by someone else is not
 * what it should be) is that job's affair: the dispatcher has the calls of all others.
 */
#include "postgres.h"

#include "guard.h"

/*
 * Runs work in the current memory context.  False, and the error's message there, if it raised one.  Work
 * may only compute: nothing is rolled back.
 */
bool
guard_run(void (*work)(void *arg), void *arg, char **error)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool succeeded = false;

	*error = NULL;
	PG_TRY();
	{
		work(arg);
		succeeded = true;
	}
	PG_CATCH();
	{
		ErrorData *data;

		MemoryContextSwitchTo(caller);
		data = CopyErrorData();
		FlushErrorState();
		*error = data->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return succeeded;
}
