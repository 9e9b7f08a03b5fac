/*
 * addressing.h
 *		Where in a URL the bucket of an object store is.
 */
#ifndef GENJOB_ADDRESSING_H
#define GENJOB_ADDRESSING_H

#include "server/options.h"

extern void addressing_complete(ServerOptions *options);

#endif /* GENJOB_ADDRESSING_H */
