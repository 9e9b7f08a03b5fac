/*
 * hooks.h
 *		Hooks for commands of others that concern genjob.
 */
#ifndef GENJOB_HOOKS_H
#define GENJOB_HOOKS_H

extern void hooks_install(void);

#endif /* GENJOB_HOOKS_H */
