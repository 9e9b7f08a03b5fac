/*
 * guard.h
 *		Errors that must not end the process.
 */
#ifndef GENJOB_GUARD_H
#define GENJOB_GUARD_H

extern void guard_init(void);
extern bool guard_try(void (*work)(void *arg), void *arg, ErrorData **error);
extern bool guard_try_apart(void (*work)(void *arg), void *arg, ErrorData **error);
extern bool guard_run(void (*work)(void *arg), void *arg, char **error);
extern ErrorData *guard_take_error(MemoryContext context);

#endif /* GENJOB_GUARD_H */
