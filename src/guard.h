/*
 * guard.h
 *		Errors that must not end the process.
 */
#ifndef GENJOB_GUARD_H
#define GENJOB_GUARD_H

extern bool guard_run(void (*work)(void *arg), void *arg, char **error);

#endif /* GENJOB_GUARD_H */
