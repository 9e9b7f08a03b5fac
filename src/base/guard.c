/*
 * guard.c
 *		Errors that must not end the process.
 *
 * What one job's bytes do (memory runs short over them, a column that was written by someone else is not
 * what it should be) is that job's affair: the dispatcher has the calls of all others.
 *
 * An error often means that memory is short, so to take it over must need none: it goes through a memory
 * context whose first block is never given back.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "base/guard.h"

#define RESERVE_BYTES (32 * 1024)
#define MAX_TEXT 1024 /* bytes that are kept of a message, a detail, a hint and a context */

/* An error that was taken over, with its texts. */
typedef struct TakenError
{
	ErrorData data;
	char message[MAX_TEXT];
	char detail[MAX_TEXT];
	char hint[MAX_TEXT];
	char context[MAX_TEXT];
} TakenError;

static MemoryContext reserve = NULL;
static TakenError without_memory; /* of the last error, where there was not even room for that */

/*
 * Reserves memory for guard_take_error(); once, while there is some.
 */
void
guard_init(void)
{
	if (reserve == NULL)
		reserve = AllocSetContextCreate(TopMemoryContext, "genjob errors", RESERVE_BYTES,
										RESERVE_BYTES, RESERVE_BYTES);
}

static char *
clip(char *to, const char *text)
{
	if (text == NULL)
		return NULL;
	strlcpy(to, text, MAX_TEXT);
	if (strlen(text) >= MAX_TEXT)
		to[pg_mbcliplen(text, MAX_TEXT, MAX_TEXT - 1)] = '\0';
	return to;
}

static ErrorData *
keep(const ErrorData *error, int sqlerrcode, MemoryContext context)
{
	TakenError *taken = MemoryContextAllocExtended(context, sizeof(TakenError), MCXT_ALLOC_NO_OOM);

	if (taken == NULL)
		taken = &without_memory;
	memset(&taken->data, 0, sizeof(ErrorData));
	taken->data.elevel = ERROR;
	taken->data.sqlerrcode = sqlerrcode;
	taken->data.assoc_context = context;
	taken->data.message = clip(taken->message, error ? error->message : "out of memory");
	taken->data.detail = clip(taken->detail, error ? error->detail : NULL);
	taken->data.hint = clip(taken->hint, error ? error->hint : NULL);
	taken->data.context = clip(taken->context, error ? error->context : NULL);
	return &taken->data;
}

/*
 * Call it in PG_CATCH() instead of CopyErrorData() and FlushErrorState().  Returns the error's code, message, detail,
 * hint and context, the texts cut to MAX_TEXT, in a memory context, which becomes the current one.  Never raises an
 * error.  If context has no memory left, the result lasts until the next call.
 */
ErrorData *
guard_take_error(MemoryContext context)
{
	ErrorData *volatile error = NULL;
	int sqlerrcode = geterrcode();
	ErrorData *taken;

	guard_init();
	MemoryContextReset(reserve);
	MemoryContextSwitchTo(reserve);
	PG_TRY();
	{
		error = CopyErrorData();
	}
	PG_CATCH();
	{
		error = NULL;
	}
	PG_END_TRY();
	FlushErrorState();
	MemoryContextSwitchTo(context);
	taken = keep(error, sqlerrcode, context);
	MemoryContextReset(reserve);
	return taken;
}

/*
 * Runs work in the current memory context.  False, and the error there, if it raised one.  Work may only compute:
 * nothing is rolled back.
 */
bool
guard_try(void (*work)(void *arg), void *arg, ErrorData **error)
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
		*error = guard_take_error(caller);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return succeeded;
}

/*
 * As guard_try(), when only the error's message is wanted.
 */
bool
guard_run(void (*work)(void *arg), void *arg, char **error)
{
	ErrorData *data;
	bool succeeded = guard_try(work, arg, &data);

	*error = succeeded ? NULL : data->message;
	return succeeded;
}

/*
 * As guard_try(), in a memory context below the current one, which is freed if work raised an error, so that there is
 * memory to deal with it.  It stays if work raised none.
 */
bool
guard_try_apart(void (*work)(void *arg), void *arg, ErrorData **error)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext volatile apart = NULL;
	volatile bool succeeded = false;

	*error = NULL;
	PG_TRY();
	{
		apart = AllocSetContextCreate(caller, "genjob guarded", ALLOCSET_SMALL_SIZES);
		MemoryContextSwitchTo(apart);
		work(arg);
		succeeded = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		if (apart != NULL)
			MemoryContextDelete(apart);
		*error = guard_take_error(caller);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return succeeded;
}
