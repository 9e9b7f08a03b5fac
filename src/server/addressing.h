/*
 * addressing.h
 *		Where in a URL the bucket of an object store is.
 */
#ifndef GENJOB_ADDRESSING_H
#define GENJOB_ADDRESSING_H

#include "server/options.h"

extern void addressing_complete(ServerOptions *options);
extern const char *addressing_of(const char *url, const char *bucket, const char *chosen);

#endif /* GENJOB_ADDRESSING_H */
