/*
 * storeheaders.h
 *		Which headers an administrator may add to the calls of an object store.
 */
#ifndef GENJOB_STOREHEADERS_H
#define GENJOB_STOREHEADERS_H

#include "server/options.h"

extern void storeheaders_check(const ServerOptions *options);

#endif /* GENJOB_STOREHEADERS_H */
