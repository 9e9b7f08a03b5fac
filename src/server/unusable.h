/*
 * unusable.h
 *		Combinations of a server's options that can never work.
 */
#ifndef GENJOB_UNUSABLE_H
#define GENJOB_UNUSABLE_H

#include "server/options.h"

extern bool unusable_concerns(const char *option);
extern void unusable_refuse(const List *defs, const ServerOptions *options);

#endif /* GENJOB_UNUSABLE_H */
