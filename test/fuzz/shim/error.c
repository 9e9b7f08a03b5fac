/*
 * error.c
 *		ereport() and PG_TRY() as the server has them: an error is a longjmp.
 *
 * As in the server, whoever catches an error finds himself in ErrorContext.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "shim.h"

#define MAX_ERRORS 5 /* that may be under way at once; in the server more than that are a PANIC */

sigjmp_buf *PG_exception_stack = NULL;
ErrorContextCallback *error_context_stack = NULL;

static ErrorData errors[MAX_ERRORS];
static int depth = -1;

bool
errstart(int elevel, const char *domain)
{
	if (elevel < LOG)
		return false;
	if (++depth == MAX_ERRORS)
	{
		fprintf(stderr, "errors within errors: the server would end with a PANIC\n");
		abort();
	}
	memset(&errors[depth], 0, sizeof(ErrorData));
	errors[depth].elevel = elevel;
	errors[depth].sqlerrcode = ERRCODE_INTERNAL_ERROR;
	errors[depth].assoc_context = ErrorContext;
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	errors[depth].filename = filename;
	errors[depth].lineno = lineno;
	errors[depth].funcname = funcname;
	if (errors[depth].elevel < ERROR)
	{
		depth--;
		return;
	}
	if (errors[depth].elevel > ERROR)
	{
		fprintf(stderr, "%s:%d: an error that ends the process: %s\n", filename, lineno,
				errors[depth].message);
		abort();
	}
	MemoryContextSwitchTo(ErrorContext);
	pg_re_throw();
}

void
pg_re_throw(void)
{
	if (PG_exception_stack == NULL)
		abort();
	siglongjmp(*PG_exception_stack, 1);
}

int
errcode(int sqlerrcode)
{
	errors[depth].sqlerrcode = sqlerrcode;
	return 0;
}

static char *
format(const char *fmt, va_list args)
{
	MemoryContext caller = MemoryContextSwitchTo(ErrorContext);
	StringInfoData text;
	int needed;

	initStringInfo(&text);
	for (;;)
	{
		va_list copy;

		va_copy(copy, args);
		needed = appendStringInfoVA(&text, fmt, copy);
		va_end(copy);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	MemoryContextSwitchTo(caller);
	return text.data;
}

#define FORMAT_INTO(field, fmt, last) \
	do \
	{ \
		va_list args; \
		va_start(args, last); \
		errors[depth].field = format(fmt, args); \
		va_end(args); \
		return 0; \
	} while (0)

int
errmsg(const char *fmt, ...)
{
	FORMAT_INTO(message, fmt, fmt);
}

int
errmsg_internal(const char *fmt, ...)
{
	FORMAT_INTO(message, fmt, fmt);
}

int
errmsg_plural(const char *fmt_singular, const char *fmt_plural, unsigned long n, ...)
{
	FORMAT_INTO(message, n == 1 ? fmt_singular : fmt_plural, n);
}

int
errdetail(const char *fmt, ...)
{
	FORMAT_INTO(detail, fmt, fmt);
}

int
errdetail_internal(const char *fmt, ...)
{
	FORMAT_INTO(detail, fmt, fmt);
}

int
errdetail_plural(const char *fmt_singular, const char *fmt_plural, unsigned long n, ...)
{
	FORMAT_INTO(detail, n == 1 ? fmt_singular : fmt_plural, n);
}

int
errhint(const char *fmt, ...)
{
	FORMAT_INTO(hint, fmt, fmt);
}

int
errhint_plural(const char *fmt_singular, const char *fmt_plural, unsigned long n, ...)
{
	FORMAT_INTO(hint, n == 1 ? fmt_singular : fmt_plural, n);
}

int
geterrcode(void)
{
	return errors[depth].sqlerrcode;
}

static char *
copy_text(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

ErrorData *
CopyErrorData(void)
{
	ErrorData *copy;

	if (CurrentMemoryContext == ErrorContext || depth < 0)
		abort(); /* the server asserts it */
	copy = palloc(sizeof(ErrorData));
	*copy = errors[depth];
	copy->message = copy_text(copy->message);
	copy->detail = copy_text(copy->detail);
	copy->hint = copy_text(copy->hint);
	copy->assoc_context = CurrentMemoryContext;
	return copy;
}

static void
free_text(char *text)
{
	if (text != NULL)
		pfree(text);
}

void
FreeErrorData(ErrorData *error)
{
	free_text(error->message);
	free_text(error->detail);
	free_text(error->hint);
	pfree(error);
}

void
FlushErrorState(void)
{
	depth = -1;
	MemoryContextReset(ErrorContext);
}

void
EmitErrorReport(void)
{
}

/*
 * Where the headers are of a server with assertions.
 */
#if PG_VERSION_NUM >= 160000
void
ExceptionalCondition(const char *condition, const char *file, int line)
#else
void
ExceptionalCondition(const char *condition, const char *type, const char *file, int line)
#endif
{
	fprintf(stderr, "%s:%d: failed assertion: %s\n", file, line, condition);
	abort();
}
