/*
 * shim.h
 *		What the driver asks of the PostgreSQL that is played here.
 */
#ifndef FUZZ_SHIM_H
#define FUZZ_SHIM_H

#include "utils/palloc.h"

/* memory.c */
extern void shim_memory_begin(size_t budget, long failing);
extern void shim_memory_end(void);
extern size_t shim_memory_peak(void);

/* server.c */
extern void shim_stack_begin(void);

#endif /* FUZZ_SHIM_H */
