/*
 * hooks.h
 *		What genjob does when others' commands concern it.
 */
#ifndef GENJOB_HOOKS_H
#define GENJOB_HOOKS_H

extern void hooks_install(void);

#endif /* GENJOB_HOOKS_H */
