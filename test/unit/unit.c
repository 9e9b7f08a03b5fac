/*
 * unit.c
 *		Runs the tests of one file and counts what holds: the program's main().
 *
 * An assertion that fails is printed, with what was got and what was expected. The last line is
 * `N passed, N failed`, and the exit status is 0 if none failed.
 */
#include "postgres.h"

#include <stdarg.h>

#include "utils/memutils.h"

#include "shim/shim.h"
#include "unit.h"

#define MEMORY ((size_t) 1024 * 1024 * 1024) /* bytes that a file's tests may hold at once */

static int passed = 0;
static int failed = 0;

/*
 * Counts an assertion; true if it failed, in which case its name has been printed.
 */
static bool
has_failed(bool holds, const char *what, va_list args)
{
	if (holds)
	{
		passed++;
		return false;
	}
	failed++;
	fputs("not ok - ", stdout);
	vprintf(what, args);
	putchar('\n');
	return true;
}

void
unit_ok(bool holds, const char *what, ...)
{
	va_list args;

	va_start(args, what);
	has_failed(holds, what, args);
	va_end(args);
}

void
unit_is_int(int64 got, int64 expected, const char *what, ...)
{
	va_list args;

	va_start(args, what);
	if (has_failed(got == expected, what, args))
		printf("#   got %lld, expected %lld\n", (long long) got, (long long) expected);
	va_end(args);
}

void
unit_is_near(double got, double expected, double tolerance, const char *what, ...)
{
	va_list args;
	double off = got > expected ? got - expected : expected - got;

	va_start(args, what);
	if (has_failed(off <= tolerance, what, args))
		printf("#   got %g, expected %g (give or take %g)\n", got, expected, tolerance);
	va_end(args);
}

void
unit_is_text(const char *got, const char *expected, const char *what, ...)
{
	bool same = got == NULL || expected == NULL ? got == expected : strcmp(got, expected) == 0;
	va_list args;

	va_start(args, what);
	if (has_failed(same, what, args))
		printf("#   got      %s\n#   expected %s\n", got ? got : "(null)",
			   expected ? expected : "(null)");
	va_end(args);
}

const char *
unit_error_of(void (*function)(void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	const char *volatile message = NULL;

	PG_TRY();
	{
		function(arg);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		message = error->message;
		FlushErrorState();
	}
	PG_END_TRY();
	return message;
}

static void
run_all(void *arg)
{
	unit_run();
}

int
main(void)
{
	const char *error;

	setvbuf(stdout, NULL, _IOLBF, 0);
	shim_stack_begin();
	shim_memory_begin(MEMORY, 0);
	error = unit_error_of(run_all, NULL);
	if (error != NULL)
	{
		failed++;
		printf("not ok - the tests went on to their end\n#   %s\n", error);
	}
	shim_memory_end();
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0 || passed == 0;
}
