/*
 * target.c
 *		The one function that libFuzzer calls; FUZZ_TARGET is the harness.
 */
#include "fuzz.h"

extern const FuzzHarness FUZZ_TARGET;

extern int LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	fuzz_run(&FUZZ_TARGET, (const char *) data, size);
	return 0;
}
