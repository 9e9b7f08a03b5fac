/*
 * driver.c
 *		Runs a harness on one input, and holds it to its bounds.
 *
 * An error that the harness raises is an answer like any other.  What ends the process is a finding: a
 * report of a sanitizer, memory or time out of proportion, memory of malloc() that is counted still when
 * the input's contexts have gone, an assertion of the harness.
 *
 * An input that begins with "!n" and a line break has its n-th allocation fail.
 */
#include "postgres.h"

#include <time.h>

#include "utils/memutils.h"

#include "fuzz.h"
#include "base/memory.h"
#include "shim/shim.h"

#define MEMORY_FIXED (8 * 1024 * 1024) /* bytes that any input may hold, */
#define MEMORY_PER_BYTE 4              /* and more for each of its own */
#define SECONDS_FIXED 2.0              /* of processor time that any input may take, */
#define SECONDS_PER_BYTE 20e-6         /* and more for each of its own */

static double
processor_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static long
read_failing(FuzzInput *input)
{
	const char *newline = memchr(input->data, '\n', input->len);
	long failing = 0;
	const char *p;

	if (input->len < 3 || *input->data != '!' || newline == NULL)
		return 0;
	for (p = input->data + 1; p < newline && *p >= '0' && *p <= '9' && failing < 1000000; p++)
		failing = failing * 10 + *p - '0';
	if (p != newline)
		return 0;
	input->len -= newline + 1 - input->data;
	input->data = newline + 1;
	return failing;
}

static void
run_guarded(const FuzzHarness *harness, FuzzInput *input)
{
	PG_TRY();
	{
		harness->run(input);
	}
	PG_CATCH();
	{
		FlushErrorState();
	}
	PG_END_TRY();
}

/*
 * Runs one input; comes back only if there is nothing to be found in it.
 */
void
fuzz_run(const FuzzHarness *harness, const char *data, size_t len)
{
	FuzzInput input = {len > 0 ? data : "", len};
	double began = processor_seconds();
	double took;

	shim_stack_begin();
	shim_memory_begin(MEMORY_FIXED + MEMORY_PER_BYTE * len, read_failing(&input));
	run_guarded(harness, &input);
	shim_memory_end();
	must_be(memory_held() == 0, "all memory that was counted has been given back", NULL);
	took = processor_seconds() - began;
	if (took > SECONDS_FIXED + SECONDS_PER_BYTE * len)
	{
		fprintf(stderr, "time out of proportion: %.1f s for %zu bytes\n", took, len);
		abort();
	}
}
