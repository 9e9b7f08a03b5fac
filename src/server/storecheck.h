/*
 * storecheck.h
 *		What an administrator gets wrong about an object store.
 */
#ifndef GENJOB_STORECHECK_H
#define GENJOB_STORECHECK_H

#include "server/options.h"

extern void storecheck_put_headers(const char *headers);
extern bool storecheck_concerns(const char *option);
extern void storecheck_refuse(const List *defs, const ServerOptions *options);
extern void storecheck_refuse_mapping(const List *defs);

#endif /* GENJOB_STORECHECK_H */
