/*
 * guard.c
 *		Errors that must not end the process.
 *
 * One job's bytes may raise an error: memory runs short, or a column that
 * somebody else wrote is not what it should be.  That is this job's affair:
 * the dispatcher has the calls of all other jobs.
 *
 * An error often means that memory is short, so guard_take_error() must need
 * none: it works in a memory context whose first block is never freed.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "base/guard.h"

#define RESERVE_BYTES (32 * 1024)
#define MAX_TEXT 1024 /* bytes kept of each text: message, detail, hint, context */

/* A copy of an error, with its texts. */
typedef struct TakenError
{
	ErrorData data;
	char message[MAX_TEXT];
	char detail[MAX_TEXT];
	char hint[MAX_TEXT];
	char context[MAX_TEXT];
} TakenError;

static MemoryContext reserve = NULL;
static TakenError without_memory; /* the last error, if even its copy found no memory */

/*
 * Reserves memory for guard_take_error(), once.
 */
void
guard_init(void)
{
	if (reserve == NULL)
		reserve = AllocSetContextCreate(TopMemoryContext, "genjob errors", RESERVE_BYTES,
										RESERVE_BYTES, RESERVE_BYTES);
}

static char *
copy_text(char *to, const char *text)
{
	if (text == NULL)
		return NULL;
	strlcpy(to, text, MAX_TEXT);
	if (strlen(text) >= MAX_TEXT)
		to[pg_mbcliplen(text, MAX_TEXT, MAX_TEXT - 1)] = '\0';
	return to;
}

static ErrorData *
keep_error(const ErrorData *error, int sqlerrcode, MemoryContext context)
{
	TakenError *taken = MemoryContextAllocExtended(context, sizeof(TakenError), MCXT_ALLOC_NO_OOM);

	if (taken == NULL)
		taken = &without_memory;
	memset(&taken->data, 0, sizeof(ErrorData));
	taken->data.elevel = ERROR;
	taken->data.sqlerrcode = sqlerrcode;
	taken->data.assoc_context = context;
	taken->data.message = copy_text(taken->message, error ? error->message : "out of memory");
	taken->data.detail = copy_text(taken->detail, error ? error->detail : NULL);
	taken->data.hint = copy_text(taken->hint, error ? error->hint : NULL);
	taken->data.context = copy_text(taken->context, error ? error->context : NULL);
	return &taken->data;
}

/*
 * Call it in PG_CATCH() instead of CopyErrorData() and FlushErrorState().
 * Returns the error's code, message, detail, hint and context, each text cut
 * to MAX_TEXT, in context, which becomes the current memory context.  Never
 * raises an error.  If context has no memory left, the result lasts until the
 * next call.
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
	taken = keep_error(error, sqlerrcode, context);
	MemoryContextReset(reserve);
	return taken;
}

/*
 * Runs work in the current memory context.  If work raises an error, returns
 * false and sets *error, there.  work may only compute: nothing is rolled
 * back.
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
 * As guard_try(), but *error is only the message.
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
 * As guard_try(), but in a new memory context below the current one.  If work
 * raises an error, that context is freed first, so that there is memory to
 * handle the error.  Otherwise it stays.
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
